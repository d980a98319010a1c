"""Reads the header of an MCUboot image (MCUboot, docs/design.md, "Image format").

A signed image begins with a header, which is usually padded to 0x200 bytes or more. The program follows the header and
begins with its vector table, and signatures follow the program. The image lies in a slot, which begins at the header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = struct.pack("<I", 0x96F3_B83D)
"""The first four bytes of every MCUboot image."""
HEADER_SIZE = 32
"""Number of bytes that `read_header` needs."""
_HEADER = struct.Struct("<IIHHII")
_ENCRYPTED, _COMPRESSED = 0x4 | 0x8, 0x200 | 0x400
_WORD = 4


@dataclass(frozen=True)
class McubootHeader:
    """The fields of an MCUboot header that show where the program is in the image.

    Attributes:
        size: size of the header with its padding, in bytes (``ih_hdr_size``). The vector table follows the header.
        image_size: size of the program, in bytes (``ih_img_size``).
        flags: the flags (``ih_flags``).
    """

    size: int
    image_size: int
    flags: int

    def trouble(self, size: int) -> str:
        """Return why the program after the header cannot be examined; empty if it can.

        Args:
            size: size of the whole image, in bytes.
        """
        if self.flags & _ENCRYPTED:
            return "its MCUboot header states that the program is encrypted"
        if self.flags & _COMPRESSED:
            return "its MCUboot header states that the program is compressed"
        if self.size < HEADER_SIZE or self.size % _WORD:
            return f"its MCUboot header states a header size of {self.size} bytes, which is not possible"
        if self.size + self.image_size > size:
            stated = f"{self.size:,} bytes of header and {self.image_size:,} bytes of program"
            return f"its MCUboot header states {stated}, but the image has {size:,} bytes"
        return ""


def read_header(head: bytes) -> McubootHeader | None:
    """Read the header of an MCUboot image from its first `HEADER_SIZE` bytes; None if the image has no such header."""
    if not head.startswith(MAGIC) or len(head) < HEADER_SIZE:
        return None
    _, _, size, _, image_size, flags = _HEADER.unpack_from(head)
    return McubootHeader(size, image_size, flags)


def program_offset(head: bytes) -> int:
    """Return the offset of the vector table in an image: the size of the MCUboot header, or 0 without one."""
    header = read_header(head)
    return header.size if header else 0
