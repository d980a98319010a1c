"""Encode raw AN3155 frames independently of the client's encoder."""

from __future__ import annotations

from functools import reduce
from operator import xor

ACK, NACK, SILENCE = b"\x79", b"\x1f", b""
READ, WRITE = b"\x11\xee", b"\x31\xce"


def summed(payload: bytes) -> bytes:
    """Return the payload followed by the XOR of its bytes."""
    return payload + bytes([reduce(xor, payload)])


def at(address: int) -> bytes:
    """Return the address frame, with its checksum."""
    return summed(address.to_bytes(4, "big"))


def counted(data: bytes) -> bytes:
    """Return the data frame: the number of bytes less one, the bytes, and the checksum."""
    return summed(bytes([len(data) - 1]) + data)


def writing(address: int, data: bytes) -> bytes:
    """Return the frames of a Write Memory command."""
    return WRITE + at(address) + counted(data)


def reading(address: int, length: int) -> bytes:
    """Return the frames of a Read Memory command."""
    return READ + at(address) + bytes((length - 1, (length - 1) ^ 0xFF))
