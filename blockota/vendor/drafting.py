"""Reads image files and release notes into drafts of releases, for the command line and for Ape scripts."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blockota.errors import Action, ImageError, UsageError, shortened
from blockota.files import find_similar, naming_file, read_input
from blockota.formats.firmware_image import (
    GAP_FILL,
    MAX_IMAGE_SIZE,
    FirmwareImage,
    Format,
    check_raw,
    is_container,
    read_image,
    show_span,
    too_large,
)
from blockota.formats.stm32_memory import ANY_FLASH, ChipFlash
from blockota.formats.vector_table import FLASH
from blockota.model.draft import Draft
from blockota.model.manifest import MAX_NOTES_SIZE, notes_from
from blockota.model.release import Product, Region

MAX_RAW_SIZE = 1 << 30
"""Maximum size of a raw image that is read from its file in parts, in bytes."""
_HEAD_SIZE = 4096
_FAMILY_LENGTH = 2
"""Length of a family's name. The chip table divides some families, such as L4 into L4 and L4P."""


@dataclass(frozen=True)
class RawFile:
    """A raw image that is read from its file in parts, because it is too large for memory.

    Attributes:
        size: size of the file when it was first opened, in bytes.
        load_address: address of the image's first byte.
    """

    path: Path
    size: int
    load_address: int
    format: Format = "bin"

    def open(self) -> io.BytesIO | io.BufferedReader:
        """Open the file as a stream, which the caller must close.

        Raises:
            UsageError: the file does not exist any more, or cannot be read.
        """
        with _translated(self.path):
            return self.path.open("rb")


def open_image(path: Path, *, load_address: int, flash: ChipFlash = ANY_FLASH) -> FirmwareImage | RawFile:
    """Read a firmware image. A raw image larger than `MAX_IMAGE_SIZE` is not read into memory.

    Args:
        path: image file: raw (.bin), Intel HEX, S-record, UF2, DfuSe or ELF.
        load_address: address of a raw image's first byte; the other formats contain the address.
        flash: the flash of the chip. If the file contains addresses, each part of the image must lie in the flash.

    Raises:
        UsageError: the file does not exist or cannot be read.
        ImageError: the file is not a firmware image, or is larger than allowed.
    """
    size = _file_size(path, limit=MAX_RAW_SIZE)
    if size <= MAX_IMAGE_SIZE:
        return read_image_file(path, load_address=load_address, flash=flash)
    # Only raw bytes can be read in parts. The first bytes show whether the file has another format.
    raw = RawFile(path, size, load_address)
    with raw.open() as file:
        head = file.read(_HEAD_SIZE)
    if is_container(head):
        raise too_large(size, MAX_IMAGE_SIZE)
    check_raw(head, range(load_address, load_address + size))
    return raw


def read_image_file(path: Path, *, load_address: int, flash: ChipFlash = ANY_FLASH) -> FirmwareImage:
    """Read a firmware image file with `read_image`. The file's size is checked before the file is read.

    Raises:
        UsageError: the file does not exist or cannot be read.
        ImageError: the file is not a firmware image, or is too large.
    """
    _file_size(path, limit=MAX_IMAGE_SIZE)
    with _translated(path):
        content = path.read_bytes()
    return read_image(content, load_address=load_address, flash=flash)


@dataclass(frozen=True)
class ChipMemory:
    """The properties of a chip's memory, for reading and checking an image for the chip.

    Attributes:
        ram: the ranges of RAM.
        erase_units: the erase units of the flash, in order of address.
        erased_byte: the value of an erased byte.
        family: the chip's family without ``STM32``, such as ``F4``; empty if it is not known.
    """

    ram: tuple[Region, ...]
    erase_units: tuple[Region, ...]
    erased_byte: int = GAP_FILL[0]
    family: str = ""

    @property
    def flash(self) -> ChipFlash:
        """The flash from the first erase unit to the last; all addresses in `FLASH` if no erase units are known."""
        units = self.erase_units
        return ChipFlash(range(units[0].start, units[-1].end) if units else FLASH, self.family)


def with_image(draft: Draft, path: Path, *, product: Product, chip: ChipMemory) -> Draft:
    """Add the image of a file to a draft, with its load address and the memory of the product's chip.

    If `draft.fill` is false, gaps of at least an erase unit are refused.

    Raises:
        UsageError: the file does not exist, cannot be read, or contains another load address than the draft.
        ImageError: the file is not an image, has a part outside the chip's flash, or has large gaps.
    """
    start = product.region.start if draft.load_address is None else draft.load_address
    with naming_file(path):
        firmware = open_image(path, load_address=start, flash=chip.flash)
        if isinstance(firmware, FirmwareImage):
            _require_family(firmware, chip)

    if draft.load_address not in (None, firmware.load_address):
        raise UsageError(
            "the load address contradicts the image",
            why=f"the {firmware.format} file has the load address 0x{firmware.load_address:08x}",
            remedy="omit the load address, or give a .bin file",
        )

    gaps = _large_gaps(firmware, chip) if isinstance(firmware, FirmwareImage) else ()
    if gaps and not draft.fill:
        raise _has_gaps(path, gaps, chip)

    return replace(
        draft,
        image=firmware.data if isinstance(firmware, FirmwareImage) else firmware,
        load_address=firmware.load_address,
        region=product.region,
        ram=chip.ram,
        flash_end=chip.flash.span.stop,
        has_address=firmware.format != "bin",
        filled=tuple(Region(gap.start, len(gap)) for gap in gaps),
    )


def with_file(draft: Draft, path: Path, *, product: Product) -> Draft:
    """Add a file in any format to a draft for devices other than an STM32; the whole file is the image.

    Raises:
        UsageError: the file does not exist or cannot be read, or the draft has a load address.
        ImageError: the file is empty or too large.
    """
    if draft.load_address not in (None, product.region.start):
        raise UsageError(
            "the load address cannot be used",
            why=f"an image with the container {draft.container} has no address in a flash",
            remedy="omit the load address",
        )
    with naming_file(path):
        size = _file_size(path, limit=MAX_RAW_SIZE)
    return replace(draft, image=RawFile(path, size, product.region.start), region=product.region)


def read_notes(path: Path | None) -> str:
    """Read release notes from a text file; empty if `path` is None.

    Raises:
        UsageError: the file cannot be read, or is larger than 64 KiB.
        RefusedError: the file is not UTF-8.
    """
    return notes_from(read_input(path, limit=MAX_NOTES_SIZE)) if path else ""


def _require_family(firmware: FirmwareImage, chip: ChipMemory) -> None:
    """Refuse an image for another family of chips. The file can name a whole family or a single chip."""
    wanted = f"STM32{chip.family[:_FAMILY_LENGTH]}"
    if chip.family and firmware.family and not firmware.family.startswith(wanted):
        raise ImageError(
            f"the {firmware.format} file is for another chip",
            why=f"its family is {firmware.family}, and the product's chip is an {wanted}",
            remedy="give the file for the product's chip",
        )


def _large_gaps(firmware: FirmwareImage, chip: ChipMemory) -> tuple[range, ...]:
    """Return each gap that is at least as large as the smallest erase unit that it touches."""
    large = []
    for gap in firmware.gaps:
        units = [unit.size for unit in chip.erase_units if unit.start < gap.stop and gap.start < unit.end]
        if len(gap) >= min(units, default=0):
            large.append(gap)
    return tuple(large)


def _has_gaps(path: Path, gaps: tuple[range, ...], chip: ChipMemory) -> ImageError:
    consequence = "every board would lose its contents at these addresses"
    if chip.erased_byte != GAP_FILL[0]:
        consequence += f", and 0xFF is not blank on this chip: its erased bytes are 0x{chip.erased_byte:02X}"
    return ImageError(
        f"the image {path} has a gap of at least an erase unit",
        why=f"the file has no bytes for {shortened(map(show_span, gaps))}; {consequence}",
        remedy="publish one product for each part, or have the gaps filled with 0xFF",
        action=Action.FILL_GAPS,
    )


def _file_size(path: Path, *, limit: int) -> int:
    with _translated(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is not a regular file", remedy="give an image: a .bin, .hex or .elf file")
    if status.st_size > limit:
        raise too_large(status.st_size, limit)
    return status.st_size


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        remedy = find_similar(path, remedy="check the image's name and folder")
        raise UsageError(f"file {path} does not exist", remedy=remedy) from error
    except (OSError, ValueError) as error:
        # A null byte in the path is a ValueError.
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path} cannot be read", why=reason, remedy="check the file's permissions") from error
