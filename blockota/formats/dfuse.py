"""A strict reader of DfuSe files (ST UM0391, "DfuSe file format specification"; suffix: USB DFU 1.1, appendix B).

A DfuSe file has a prefix, one or more targets, and a suffix with a checksum over the whole file. A target is an
alternate setting of the USB device, usually one for each memory, and contains elements: an address, a size and bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from blockota.errors import ImageError

MAGIC = b"DfuSe"
"""The first five bytes of every DfuSe file."""
_VERSION = 1
_PREFIX = struct.Struct("<5sBIB")
_TARGET = struct.Struct("<6sBI255sII")
_ELEMENT = struct.Struct("<II")
_SUFFIX = struct.Struct("<4H3sBI")
_DFU_VERSION = 0x011A


def parse_dfuse(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the elements of all targets of a DfuSe file, in file order.

    Args:
        content: the whole file.

    Returns:
        Pairs of an address and the bytes at that address.

    Raises:
        ImageError: the file is truncated, its checksum is wrong, or it violates the specification.
    """
    body = _check_suffix(content)
    magic, version, size, count = _unpack(_PREFIX, body, 0)
    if magic != MAGIC or version != _VERSION:
        raise _damaged(f"its prefix has version {version}, and only version {_VERSION} is supported")
    # UM0391 does not define whether the size includes the suffix, and tools disagree.
    if size not in (len(body), len(content)):
        raise _damaged(f"its prefix states {size:,} bytes, but {len(body):,} bytes precede the suffix")

    pieces: list[tuple[int, bytes]] = []
    at = _PREFIX.size
    for number in range(count):
        signature, _, _, _, target_size, elements = _unpack(_TARGET, body, at)
        if signature != b"Target":
            raise _damaged(f"target {number} does not begin with its signature")
        at += _TARGET.size
        end = at + target_size
        for _ in range(elements):
            address, length = _unpack(_ELEMENT, body, at)
            at += _ELEMENT.size
            if at + length > min(end, len(body)):
                raise _damaged(f"an element of target {number} at {address:#010x} is longer than the target")
            pieces += [(address, body[at : at + length])] if length else []
            at += length
        if at != end:
            raise _damaged(f"target {number} states {target_size:,} bytes, but its elements have another total size")
    if at != len(body):
        raise _damaged(f"{len(body) - at:,} bytes follow its last target")
    return tuple(pieces)


def _check_suffix(content: bytes) -> bytes:
    """Check the suffix of the file, and return the bytes before it."""
    if len(content) < _PREFIX.size + _SUFFIX.size:
        raise _damaged("it is truncated")
    _, _, _, version, signature, size, checksum = _SUFFIX.unpack(content[-_SUFFIX.size :])
    if (version, signature, size) != (_DFU_VERSION, b"UFD", _SUFFIX.size):
        raise _damaged("it has no DfuSe suffix, so it is probably truncated")
    found = zlib.crc32(content[:-4]) ^ 0xFFFF_FFFF
    if found != checksum:
        raise _damaged(f"its contents have the checksum {found:#010x}, but the suffix states {checksum:#010x}")
    return content[: -_SUFFIX.size]


def _unpack(form: struct.Struct, body: bytes, at: int) -> tuple[Any, ...]:
    try:
        return form.unpack_from(body, at)
    except struct.error as error:
        raise _damaged("a header is truncated") from error


def _damaged(why: str) -> ImageError:
    return ImageError("the DfuSe file is damaged", why=why, remedy="fetch or build the file again")
