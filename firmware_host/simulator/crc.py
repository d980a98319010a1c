"""The checksum unit of an STM32: a CRC over 32-bit words, the highest bit first (RM0008 section 4)."""

from __future__ import annotations

TOP, ALL = 0x8000_0000, 0xFFFF_FFFF


def crc32_of_words(data: bytes, *, polynomial: int = 0x04C1_1DB7, initial: int = ALL) -> int:
    """Return the CRC of little-endian words; nothing is reflected, nor is the result inverted.

    Args:
        data: whole words.
        polynomial: without its highest term.
        initial: what the register holds first.
    """
    table = [_shifted(byte << 24, polynomial) for byte in range(256)]
    crc = initial
    for at in range(0, len(data), 4):
        for byte in reversed(data[at : at + 4]):
            crc = crc << 8 & ALL ^ table[crc >> 24 ^ byte]
    return crc


def _shifted(value: int, polynomial: int) -> int:
    for _ in range(8):
        value = (value << 1 ^ (polynomial if value & TOP else 0)) & ALL
    return value
