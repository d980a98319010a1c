"""Reads firmware images from raw, Intel HEX and ELF files.

The format is recognised by content, not by file name, so that an ELF header is never flashed as raw bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from blockota.errors import ImageError, UsageError
from blockota.formats.elf import MAGIC as ELF_MAGIC
from blockota.formats.elf import parse_elf
from blockota.formats.intel_hex import parse_intel_hex

MAX_IMAGE_SIZE = 16 * 1024 * 1024
"""Default limit in bytes for a file and for the image in it."""
MAX_GAP = 1024 * 1024
"""Largest gap, in bytes, that is filled between two parts of an image."""
GAP_FILL = b"\xff"
"""Fill byte of gaps: the value of erased flash."""

Format = Literal["bin", "hex", "elf"]
"""Raw bytes, Intel HEX, or an ELF executable."""

# Some editors put a byte order mark or blank lines before the first record.
_HEX_START = re.compile(rb"(?:\xef\xbb\xbf|\s)*:[0-9A-Fa-f]{2}")
_FOREIGN = (
    (re.compile(rb"S[0-9][0-9A-Fa-f]{8}"), "a Motorola S-record file"),
    (re.compile(rb"UF2\n"), "a UF2 file"),
    (re.compile(rb"DfuSe"), "a DfuSe file"),
)


@dataclass(frozen=True)
class FirmwareImage:
    """A firmware image: contiguous bytes for the flash.

    Attributes:
        data: the bytes, with gaps filled.
        load_address: address of the first byte.
        format: the format of the file.
    """

    data: bytes
    load_address: int
    format: Format

    @property
    def span(self) -> range:
        """The addresses of the image."""
        return range(self.load_address, self.load_address + len(self.data))

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.data)

    def open(self) -> io.BytesIO | io.BufferedReader:
        """The bytes as a stream."""
        return io.BytesIO(self.data)


def read_image(content: bytes, *, load_address: int | None = None, limit: int = MAX_IMAGE_SIZE) -> FirmwareImage:
    """Read a firmware image: raw, Intel HEX or ELF.

    Args:
        content: the whole file.
        load_address: address of the first byte of a raw image; ignored for HEX and ELF files, which contain addresses.
        limit: largest size in bytes of the file, and of the image in it.

    Raises:
        UsageError: a raw image was given without a load address.
        ImageError: the content is empty, too large, damaged, or for another machine.
    """
    if not content:
        raise ImageError("the image is empty", remedy="build or fetch it again")
    if len(content) > limit:
        raise too_large(len(content), limit)
    if content.startswith(ELF_MAGIC):
        return _assemble(parse_elf(content), "elf", limit=limit)
    if _HEX_START.match(content):
        return _assemble(parse_intel_hex(content), "hex", limit=limit)
    if load_address is None:
        _refuse_foreign(content)
        raise UsageError("a raw image contains no load address", remedy="give its load address")
    image = FirmwareImage(content, load_address, "bin")
    check_raw(content, image.span)
    return image


def check_raw(head: bytes, span: range) -> None:
    """Check from the first bytes of a file that it can be used as a raw image.

    Args:
        head: the first bytes of the file.
        span: the addresses that the image would occupy.

    Raises:
        ImageError: the file has another format, or does not fit into the address space.
    """
    if is_container(head):
        raise ImageError("the file is not a raw image", why="the format is ELF or Intel HEX", remedy="check the file")
    _refuse_foreign(head)
    _check_address_space(span)


def is_container(head: bytes) -> bool:
    """Whether a file begins like an ELF or Intel HEX file."""
    return head.startswith(ELF_MAGIC) or _HEX_START.match(head) is not None


def too_large(size: int, limit: int) -> ImageError:
    """Return the error for a file or image of `size` bytes that exceeds `limit` bytes."""
    return ImageError(
        "the image is too large", why=f"the size is {size:,} bytes, the limit is {limit:,}", remedy="check the file"
    )


def _refuse_foreign(content: bytes) -> None:
    for pattern, what in _FOREIGN:
        if pattern.match(content):
            raise ImageError(
                "the file is not a raw image",
                why=f"the file is {what}, which BlockOTA does not read",
                remedy="convert the file to Intel HEX or raw bytes",
            )


def _assemble(pieces: Iterable[tuple[int, bytes]], what: Format, *, limit: int) -> FirmwareImage:
    """Join the parts of an image in order of address, and fill the gaps between them."""
    ordered = sorted(pieces)
    if not ordered:
        raise ImageError("the image is empty", why=f"the {what} file contains no data", remedy="build it again")
    for (address, data), (following, _) in pairwise(ordered):
        end = address + len(data)
        if following < end:
            raise ImageError("the image is ambiguous", why=f"two parts of the image overlap at {following:#010x}")
        if following - end > MAX_GAP:
            raise ImageError(
                "the image is in two places",
                why=f"no data lies between {end:#010x} and {following:#010x}, more than {MAX_GAP:,} bytes",
                remedy="build one image for each place, and publish them as two products",
            )
    first, (last, tail) = ordered[0][0], ordered[-1]

    # The size is checked before memory is allocated for it.
    size = last + len(tail) - first
    if size > limit:
        raise too_large(size, limit)
    content = bytearray(GAP_FILL * size)
    for address, data in ordered:
        content[address - first : address - first + len(data)] = data

    image = FirmwareImage(bytes(content), first, what)
    _check_address_space(image.span)
    return image


def _check_address_space(span: range) -> None:
    if not 0 <= span.start < span.stop <= 1 << 32:
        raise ImageError(
            "the image lies outside the address space",
            why=f"the image would occupy {span.start:#x} to {span.stop:#x}",
            remedy="check its load address",
        )
