"""Keccak-256 and checksummed addresses (EIP-55). eth-utils is not used: its import takes longer than most commands."""

from __future__ import annotations

import re

from Crypto.Hash import keccak as _keccak

ZERO_ADDRESS = "0x" + "00" * 20
"""The address that means "no address" in calls and records."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_CHECKSUM_RAISES = 8
"""The smallest digit of the hash that makes the letter at the same position upper case (EIP-55)."""


def keccak(data: bytes = b"", *, text: str = "") -> bytes:
    """Return the 32-byte Keccak-256 digest of bytes, or of a text in UTF-8."""
    return _keccak.new(digest_bits=256, data=data or text.encode()).digest()


def is_address(value: str) -> bool:
    """Whether a text has the form of an address, which is 0x and 40 hexadecimal digits in any case."""
    return _ADDRESS.fullmatch(value) is not None


def is_checksum_address(value: str) -> bool:
    """Whether a text is an address with a valid checksum (EIP-55)."""
    return is_address(value) and to_checksum_address(value) == value


def to_checksum_address(value: str | bytes) -> str:
    """Return a checksummed address: the case of its letters encodes the checksum (EIP-55).

    Args:
        value: the address as 0x and 40 hexadecimal digits in any case, or as 20 bytes.

    Raises:
        ValueError: the value is not an address.
    """
    text = f"0x{value.hex()}" if isinstance(value, bytes) else value
    if not is_address(text):
        raise ValueError(f"{text!r:.60} is not an address")
    # The checksum is the hash of the lower-case digits without 0x (EIP-55).
    digits = text[2:].lower()
    checksum = keccak(text=digits).hex()
    return "0x" + "".join(
        digit.upper() if int(check, 16) >= _CHECKSUM_RAISES else digit
        for digit, check in zip(digits, checksum, strict=False)
    )
