"""Reads the header and the digest of an MCUboot image (MCUboot, docs/design.md, "Image format").

A signed image begins with a header, which is usually padded to 0x200 bytes or more. The program follows the header and
begins with its vector table. Tag-length-value items (TLVs) with a hash and signatures follow the program. The image
lies in a flash slot, and the header is at the beginning of the slot.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from blockota.errors import ImageError

MAGIC = struct.pack("<I", 0x96F3_B83D)
"""The first four bytes of every MCUboot image."""
HEADER_SIZE = 32
"""Number of bytes that `read_header` needs."""
_HEADER = struct.Struct("<IIHHII")
_ENCRYPTED, _COMPRESSED = 0x4 | 0x8, 0x200 | 0x400
_WORD = 4
_ITEMS_MAGIC = 0x6907
_HEAD = struct.Struct("<HH")
"""The start of two structures. For a list of TLVs: the magic and the size of the list. For a TLV: its type and the
length of its value."""
_HASHES = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}
"""The types of TLVs with the hash of the image."""


@dataclass(frozen=True)
class McubootHeader:
    """The fields of an MCUboot header that show where the program is in the image.

    Attributes:
        size: size of the header with its padding, in bytes (``ih_hdr_size``). The vector table follows the header.
        image_size: size of the program, in bytes (``ih_img_size``).
        flags: the flags of the image (``ih_flags``).
        protected_size: size in bytes of the protected TLVs, which follow the program (``ih_protect_tlv_size``).
    """

    size: int
    image_size: int
    flags: int
    protected_size: int = 0

    @property
    def is_opaque(self) -> bool:
        """Whether the program is encrypted or compressed."""
        return bool(self.flags & (_ENCRYPTED | _COMPRESSED))

    @property
    def hashed_size(self) -> int:
        """The number of bytes that the digest covers: header, program and protected TLVs."""
        return self.size + self.image_size + self.protected_size

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
    """Read the header of an MCUboot image from its first `HEADER_SIZE` bytes.

    Returns None for other images.
    """
    if not head.startswith(MAGIC) or len(head) < HEADER_SIZE:
        return None
    _, _, size, protected_size, image_size, flags = _HEADER.unpack_from(head)
    return McubootHeader(size, image_size, flags, protected_size)


def program_offset(head: bytes) -> int:
    """Return the offset of the vector table in an image: the size of the MCUboot header, or 0 without one."""
    header = read_header(head)
    return header.size if header else 0


def image_digest(image: bytes) -> bytes:
    """Return the digest by which MCUboot and MCUmgr name an image: the hash of header, program and protected TLVs.

    The caller must have proven the image. In an encrypted image, the hash covers the decrypted program, so it is not
    recomputed here.

    Raises:
        ImageError: the image is not a complete MCUboot image, or its hash is wrong.
    """
    if fault := find_digest_fault(image):
        raise ImageError("the image has no MCUboot digest", why=fault, remedy="build and sign the image with imgtool")
    return next(value for kind, value in _items(image) if kind in _HASHES)


def find_digest_fault(image: bytes) -> str:
    """Return why an image has no digest (`image_digest`).

    The text is empty if the image has one.
    """
    header = read_header(image)
    if header is None:
        return "it does not begin with an MCUboot header"
    if not header.is_opaque and (trouble := header.trouble(len(image))):
        return trouble
    kind, stated = next(((kind, value) for kind, value in _items(image) if kind in _HASHES), (0, b""))
    if not stated:
        return "no hash follows its program"
    is_wrong = stated != hashlib.new(_HASHES[kind], image[: header.hashed_size]).digest()
    if is_wrong and not header.flags & _ENCRYPTED:
        return "the hash after its program is not the hash of its header and program"
    return ""


def _items(image: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the TLVs that follow the protected TLVs.

    The first incomplete TLV ends the list.
    """
    header = read_header(image)
    at = header.hashed_size if header else 0
    if len(image) < at + _HEAD.size:
        return
    magic, size = _HEAD.unpack_from(image, at)
    items = image[at + _HEAD.size : at + size] if magic == _ITEMS_MAGIC else b""
    while len(items) >= _HEAD.size:
        kind, length = _HEAD.unpack_from(items)
        value, items = items[_HEAD.size : _HEAD.size + length], items[_HEAD.size + length :]
        if len(value) == length:
            yield kind, value
