"""Keccak-256 and checksummed addresses (EIP-55), without eth-utils, whose import takes longer than most commands."""

from __future__ import annotations

import re

from Crypto.Hash import keccak as _keccak

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_CHECKSUM_RAISES = 8
"""A letter is upper case where the hash's hexadecimal digit is at least this (EIP-55)."""


def keccak(data: bytes = b"", *, text: str = "") -> bytes:
    """The Keccak-256 digest of bytes, or of a text in UTF-8; 32 bytes."""
    return _keccak.new(digest_bits=256, data=data or text.encode()).digest()


def is_address(value: str) -> bool:
    """Whether a text is 0x and 40 hexadecimal digits, in any case."""
    return _ADDRESS.fullmatch(value) is not None


def is_checksum_address(value: str) -> bool:
    """Whether a text is an address with the right checksum."""
    return is_address(value) and to_checksum_address(value) == value


def to_checksum_address(value: str | bytes) -> str:
    """An address with its checksum in the case of the letters.

    Args:
        value: 0x and 40 hexadecimal digits in any case, or 20 bytes.

    Raises:
        ValueError: it is not an address.
    """
    text = f"0x{value.hex()}" if isinstance(value, bytes) else value
    if not is_address(text):
        raise ValueError(f"{text!r:.60} is not an address")
    # What is hashed is the text in lower case, without 0x (EIP-55).
    digits = text[2:].lower()
    checksum = keccak(text=digits).hex()
    return "0x" + "".join(
        digit.upper() if int(check, 16) >= _CHECKSUM_RAISES else digit
        for digit, check in zip(digits, checksum, strict=False)
    )
