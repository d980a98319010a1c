"""Reads firmware images from raw, Intel HEX, Motorola S-record, UF2, DfuSe and ELF files.

The content of a file determines its format; the file name is ignored. An ELF header is therefore never flashed as raw
bytes. Other known kinds of files, such as archives, are refused with an error that names the kind (`formats.foreign`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from blockota.errors import ImageError, UsageError
from blockota.formats import dfuse, srecord, uf2
from blockota.formats.elf import MAGIC as ELF_MAGIC
from blockota.formats.elf import parse_elf
from blockota.formats.foreign import refuse_foreign
from blockota.formats.intel_hex import parse_intel_hex
from blockota.formats.stm32_memory import ANY_FLASH, ChipFlash, find_memory

MAX_IMAGE_SIZE = 16 * 1024 * 1024
"""Default maximum size in bytes of a file, and of the image in it."""
MAX_GAP = 1024 * 1024
"""Largest gap, in bytes, that is filled between two parts of an image."""
GAP_FILL = b"\xff"
"""Fill byte of gaps: the value of erased flash on most chips."""

Format = Literal["bin", "hex", "srec", "uf2", "dfuse", "elf"]
"""Raw bytes, Intel HEX, Motorola S-records, UF2, DfuSe, or an ELF executable."""
Pieces = tuple[tuple[int, bytes], ...]
"""Pairs of an address and the bytes at that address."""

# Blank lines may precede the first record of a text format.
_HEX_START = re.compile(rb"\s*:[0-9A-Fa-f]{2}")
_READERS: tuple[tuple[Callable[[bytes], bool], Format, Callable[[bytes], Pieces]], ...] = (
    (lambda head: head.startswith(ELF_MAGIC), "elf", parse_elf),
    (lambda head: _HEX_START.match(head) is not None, "hex", parse_intel_hex),
    (lambda head: srecord.START.match(head) is not None, "srec", srecord.parse_srecord),
    (lambda head: head.startswith(uf2.MAGIC), "uf2", uf2.parse_uf2),
    (lambda head: head.startswith(dfuse.MAGIC), "dfuse", dfuse.parse_dfuse),
)
"""The formats that contain addresses. Each row has the test of a file's first bytes, the format's name, and its reader.
"""


@dataclass(frozen=True)
class FirmwareImage:
    """A firmware image: contiguous bytes for the flash.

    Attributes:
        data: the bytes, with gaps filled.
        load_address: address of the first byte.
        format: the format of the file.
        gaps: address ranges inside the image for which the file does not contain bytes.
        family: the chip family that the file names, such as ``STM32F4``; empty if the file does not name a family.
    """

    data: bytes
    load_address: int
    format: Format
    gaps: tuple[range, ...] = field(default=(), compare=False)
    family: str = field(default="", compare=False)

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


def read_image(
    content: bytes, *, load_address: int | None = None, limit: int = MAX_IMAGE_SIZE, flash: ChipFlash = ANY_FLASH
) -> FirmwareImage:
    """Read a firmware image in any of the known formats.

    Args:
        content: the whole file.
        load_address: address of the first byte of a raw image; ignored for the other formats, which contain addresses.
        limit: maximum size in bytes, both for the file and for the image.
        flash: the flash of the chip. If the file contains addresses, each part of the image must lie in the flash.

    Raises:
        UsageError: a raw image was given without a load address.
        ImageError: the content is empty, too large, damaged, of another kind, or for another machine or memory.
    """
    if not content:
        raise ImageError("the image is empty", remedy="build or fetch the image again")
    if len(content) > limit:
        raise too_large(len(content), limit)

    for is_format, name, read in _READERS:
        if is_format(content):
            image = _assemble(read(content), name, limit=limit, flash=flash)
            return replace(image, family=uf2.family_of(content)) if name == "uf2" else image

    # A raw image has no mark of its own, so files of other known kinds are refused before.
    refuse_foreign(content)
    if load_address is None:
        raise UsageError("a raw image contains no load address", remedy="give the load address")
    image = FirmwareImage(content, load_address, "bin")
    _check_address_space(image.span)
    return image


def check_raw(head: bytes, span: range) -> None:
    """Check the first bytes and the addresses of a file that is to be used as a raw image.

    Args:
        head: the first bytes of the file.
        span: the addresses that the image would occupy.

    Raises:
        ImageError: the file has another format, or does not fit into the address space.
    """
    if is_container(head):
        raise ImageError("the file is not a raw image", why="its format contains addresses", remedy="check the file")
    refuse_foreign(head)
    _check_address_space(span)


def is_container(head: bytes) -> bool:
    """Whether a file begins like one of the formats that contain addresses."""
    return any(is_format(head) for is_format, _, _ in _READERS)


def too_large(size: int, limit: int) -> ImageError:
    """Return the error for a file or image of `size` bytes that exceeds `limit` bytes."""
    return ImageError(
        "the image is too large", why=f"the size is {size:,} bytes, the limit is {limit:,}", remedy="check the file"
    )


def show_span(span: range) -> str:
    """Return addresses as ``0x08000000-0x0800ffff (65,536 bytes)``."""
    return f"{span.start:#010x}-{span.stop - 1:#010x} ({len(span):,} bytes)"


def _assemble(pieces: Iterable[tuple[int, bytes]], what: Format, *, limit: int, flash: ChipFlash) -> FirmwareImage:
    """Join the parts of an image in order of address, and fill the gaps between them."""
    parts = _join(pieces)
    if not parts:
        raise ImageError("the image is empty", why=f"the {what} file contains no data", remedy="build it again")
    spans = [range(start, start + len(data)) for start, data in parts]
    _require_flash(spans, what, flash)
    gaps = tuple(range(before.stop, after.start) for before, after in pairwise(spans))
    for gap in gaps:
        if len(gap) > MAX_GAP:
            raise ImageError(
                "the image is in two places",
                why=f"the gap from {gap.start:#010x} to {gap.stop:#010x} has more than {MAX_GAP:,} bytes",
                remedy="build one image for each place, and publish them as two products",
            )

    # The size is checked before memory is allocated for the image.
    first, size = spans[0].start, spans[-1].stop - spans[0].start
    if size > limit:
        raise too_large(size, limit)
    content = bytearray(GAP_FILL * size)
    for address, data in parts:
        content[address - first : address - first + len(data)] = data

    image = FirmwareImage(bytes(content), first, what, gaps)
    _check_address_space(image.span)
    return image


def _join(pieces: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytearray]]:
    """Join adjacent pieces. Pieces may repeat the same bytes, but different bytes at one address are refused."""
    parts: list[tuple[int, bytearray]] = []
    for address, data in sorted((address, data) for address, data in pieces if data):
        if not parts or address > parts[-1][0] + len(parts[-1][1]):
            parts.append((address, bytearray(data)))
            continue

        start, joined = parts[-1]
        twice = joined[address - start : address - start + len(data)]
        if data[: len(twice)] != twice:
            at = address + next(index for index, (old, new) in enumerate(zip(twice, data, strict=False)) if old != new)
            raise ImageError(
                "the image is ambiguous",
                why=f"two parts of the image overlap at {at:#010x} with different bytes",
                remedy="build the file again; if it was merged from two files, merge files that do not overlap",
            )
        joined += data[len(twice) :]
    return parts


def _require_flash(spans: list[range], what: Format, flash: ChipFlash) -> None:
    """Refuse an image with a part outside the chip's flash, for example in the option bytes."""
    for span in spans:
        if memory := find_memory(span.start, flash.family):
            raise ImageError(
                f"the {what} file has a part that is not in the flash",
                why=f"{show_span(span)} lies in {memory.name}",
                remedy=memory.remedy,
                action=memory.action,
            )

        if not flash.span.start <= span.start < span.stop <= flash.span.stop:
            raise ImageError(
                f"the {what} file has a part outside the chip's flash",
                why=f"{show_span(span)} is not inside the largest flash of the chip, {show_span(flash.span)}",
                remedy="check the addresses in the linker script, and that the product has the right chip",
            )


def _check_address_space(span: range) -> None:
    if not 0 <= span.start < span.stop <= 1 << 32:
        raise ImageError(
            "the image lies outside the address space",
            why=f"the image would occupy {span.start:#x} to {span.stop:#x}",
            remedy="check its load address",
        )
