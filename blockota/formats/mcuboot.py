"""Reads the header, the TLVs and the digest of an MCUboot image (MCUboot, docs/design.md, "Image format").

A signed image begins with a header, which is usually padded to 0x200 bytes or more. The program follows the header and
begins with its vector table. Tag-length-value items (TLVs) with a hash and signatures follow the program. The image
lies in a flash slot, and the header is at the beginning of the slot.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
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
HASHES = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}
"""The types of TLVs with the hash of the image."""
SECURITY_COUNTER = 0x50
"""The type of the protected TLV with the security counter."""
_PROTECTED_MAGIC = 0x6908
_COUNTER = struct.Struct("<I")


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
    def is_encrypted(self) -> bool:
        """Whether the program is encrypted."""
        return bool(self.flags & _ENCRYPTED)

    @property
    def is_opaque(self) -> bool:
        """Whether the program is encrypted or compressed."""
        return bool(self.flags & (_ENCRYPTED | _COMPRESSED))

    @property
    def hashed_size(self) -> int:
        """The number of bytes that the digest covers: header, program and protected TLVs."""
        return self.size + self.image_size + self.protected_size

    def trouble(self, size: int) -> str:
        """Return why the program after the header cannot be examined; empty if the program can be examined.

        Args:
            size: size of the whole image, in bytes.
        """
        if self.is_encrypted:
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
    """Return the offset of the vector table in an image: the size of the MCUboot header, or 0 without a header."""
    header = read_header(head)
    return header.size if header else 0


def image_digest(image: bytes) -> bytes:
    """Return the digest by which MCUboot and MCUmgr name an image: the hash of header, program and protected TLVs.

    The caller must already have checked the SHA-256 of the image. This function cannot check the hash in an encrypted
    image, because that hash covers the decrypted program.

    Raises:
        ImageError: the image is not a complete MCUboot image, or its hash is wrong.
    """
    return read_items(image).digest[1]


def find_digest_fault(image: bytes) -> str:
    """Return why `image_digest` refuses an image.

    The text is empty if the image has a digest.
    """
    try:
        read_items(image)
    except ImageError as error:
        return error.why
    return ""


def security_counter(image: bytes) -> int | None:
    """Return the security counter of an image.

    Returns None for an image without a counter, and for bytes that are not a complete MCUboot image.
    """
    try:
        return read_items(image).security_counter
    except ImageError:
        return None


@dataclass(frozen=True)
class McubootItems:
    """The TLVs of a complete image with a correct hash.

    Attributes:
        protected: type and value of each protected TLV, which the hash covers.
        unprotected: type and value of each other TLV.
        end: number of bytes from the start of the image to the end of its TLVs. Padding up to the slot's size may
            follow.
    """

    protected: tuple[tuple[int, bytes], ...]
    unprotected: tuple[tuple[int, bytes], ...]
    end: int

    @property
    def digest(self) -> tuple[str, bytes]:
        """The name of the hash function in hashlib, and the hash."""
        return next((HASHES[kind], value) for kind, value in self.unprotected if kind in HASHES)

    @property
    def security_counter(self) -> int | None:
        """The security counter, or None for an image without one.

        A boot loader refuses an image if it has run an image with a higher counter before.
        """
        return next((_COUNTER.unpack(value)[0] for kind, value in self.protected if kind == SECURITY_COUNTER), None)


def read_items(image: bytes) -> McubootItems:
    """Read the TLVs of an image, and check its hash.

    The hash in an encrypted image is not checked, because it covers the decrypted program.

    Raises:
        ImageError: the image is not a complete MCUboot image, has several hashes or several security counters, or its
            hash is wrong.
    """
    header = read_header(image)
    if header is None:
        raise _no_digest("it does not begin with an MCUboot header")
    if not header.is_opaque and (trouble := header.trouble(len(image))):
        raise _no_digest(trouble)
    # (1) Both lists are complete: a loader refuses an image whose lists are not.
    protected: tuple[tuple[int, bytes], ...] = ()
    if header.protected_size:
        start = header.hashed_size - header.protected_size
        protected, end = _read_list(image[: header.hashed_size], start, _PROTECTED_MAGIC)
        if end != header.hashed_size:
            raise _no_digest("its protected TLVs have another size than its header states")
    unprotected, end = _read_list(image, header.hashed_size, _ITEMS_MAGIC)

    # (2) Of two hashes or counters, one loader takes the first and another the last.
    if (hashes := sum(kind in HASHES for kind, _ in unprotected)) != 1:
        raise _no_digest("two hashes follow its program" if hashes else "no hash follows its program")
    counters = [value for kind, value in protected if kind == SECURITY_COUNTER]
    if len(counters) > 1 or any(len(value) != _COUNTER.size for value in counters):
        raise _no_digest("its security counter is not one number of four bytes")

    items = McubootItems(protected, unprotected, end)
    # (3) The hash
    name, stated = items.digest
    if stated != hashlib.new(name, image[: header.hashed_size]).digest() and not header.is_encrypted:
        raise _no_digest("the hash after its program is not the hash of its header and program")
    return items


def write_list(items: Iterable[tuple[int, bytes]]) -> bytes:
    """Encode a list of unprotected TLVs."""
    body = b"".join(_HEAD.pack(kind, len(value)) + value for kind, value in items)
    return _HEAD.pack(_ITEMS_MAGIC, _HEAD.size + len(body)) + body


def _read_list(image: bytes, at: int, magic: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Return the TLVs of the list that begins at an offset, and the offset at which the list ends."""
    if len(image) < at + _HEAD.size:
        raise _no_digest("no hash follows its program")
    incomplete = _no_digest("the TLVs after its program are not complete")

    found, size = _HEAD.unpack_from(image, at)
    end = at + size
    if found != magic or size < _HEAD.size or end > len(image):
        raise incomplete

    items = list[tuple[int, bytes]]()
    at += _HEAD.size
    while at < end:
        if end - at < _HEAD.size:
            raise incomplete
        kind, length = _HEAD.unpack_from(image, at)
        at += _HEAD.size
        if length > end - at:
            raise incomplete
        items.append((kind, image[at : at + length]))
        at += length
    return tuple(items), end


def _no_digest(why: str) -> ImageError:
    return ImageError("the image has no MCUboot digest", why=why, remedy="build and sign the image with imgtool")
