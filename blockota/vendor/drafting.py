"""Makes drafts from files: image and release notes. Used by the command line and by Ape scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from blockota.errors import ImageError, UsageError
from blockota.files import read_input
from blockota.formats.firmware_image import FirmwareImage, open_image
from blockota.model.draft import SRAM, Draft
from blockota.model.manifest import MAX_NOTES_SIZE, notes_from
from blockota.model.release import Product, Region


def with_image(draft: Draft, path: Path, *, product: Product, ram: Region | None) -> Draft:
    """Add the image of a file to a draft, with its load address and the RAM of the product's chip.

    Args:
        draft: a draft without an image.
        path: .bin, Intel HEX or ELF.
        product: the product that the draft is for.
        ram: the RAM of the product's chip; None if the chip is unknown, which allows all of a Cortex-M's SRAM.

    Raises:
        UsageError: the file does not exist, or it contains another load address than the draft.
        ImageError: the file is not an image.
    """
    start = product.region.start if draft.load_address is None else draft.load_address
    with naming_image(path):
        firmware = open_image(path, load_address=start)
    if draft.load_address not in (None, firmware.load_address):
        raise UsageError(
            "the load address contradicts the image",
            why=f"the {firmware.format} file has the load address 0x{firmware.load_address:08x}",
            remedy="omit the load address, or give a .bin file",
        )
    image = firmware.data if isinstance(firmware, FirmwareImage) else firmware
    return replace(draft, image=image, load_address=firmware.load_address, ram=ram or SRAM)


@contextmanager
def naming_image(path: Path) -> Iterator[None]:
    """Add the file's name to errors: commands read several images."""
    try:
        yield
    except ImageError as error:
        what = error.what if str(path) in error.what else f"{path} cannot be used, {error.what}"
        raise ImageError(what, why=error.why, remedy=error.remedy, action=error.action, values=error.values) from error


def read_notes(path: Path | None) -> str:
    """Read release notes from a text file; empty without one.

    Raises:
        UsageError: the file cannot be read, or is larger than 64 KiB.
        RefusedError: the file is not UTF-8.
    """
    return notes_from(read_input(path, limit=MAX_NOTES_SIZE)) if path else ""
