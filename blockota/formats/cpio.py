"""Reads the first header of a cpio archive in the "newc" or "crc" format (cpio(5)).

A .swu file is a cpio archive.
"""

from __future__ import annotations

import re

MAGICS = (b"070701", b"070702")
"""The first six bytes of an archive, without checksums and with checksums. SWUpdate reads both kinds."""
_HEADER = re.compile(rb"07070[12](?:[0-9A-Fa-f]{8}){13}")
_HEADER_SIZE, _NAME_SIZE_AT, _FIELD = 110, 94, 8


def first_name(head: bytes) -> str | None:
    """Return the name of the first file in an archive.

    Returns None if the bytes do not begin with a complete header.

    Args:
        head: the first bytes of the archive.
    """
    if not _HEADER.match(head):
        return None
    size = int(head[_NAME_SIZE_AT : _NAME_SIZE_AT + _FIELD], 16)
    name = head[_HEADER_SIZE : _HEADER_SIZE + size]
    if len(name) != size or not name.endswith(b"\0"):
        return None
    return name[:-1].decode("utf-8", "backslashreplace")
