"""From an image's file to a draft: what the product and its chip say about it. For commands and Ape's scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from blockota.bindings.block_ota import BlockOTAContract
from blockota.errors import ImageError, UsageError
from blockota.files import read_input
from blockota.formats.firmware_image import FirmwareImage, open_image
from blockota.model.draft import SRAM, Draft
from blockota.model.manifest import MAX_NOTES_SIZE, notes_from
from blockota.model.release import Region
from blockota.vendor.publish import paired_product
from firmware_host.bootloader.chips import find_chip


def with_image(draft: Draft, path: Path, *, contract: BlockOTAContract) -> Draft:
    """A draft with the image of a file, its address, and the RAM of the product's chip.

    Args:
        draft: without an image yet.
        path: .bin, Intel HEX or ELF.
        contract: knows the product.

    Raises:
        UsageError: there is no such file, or it says itself that it goes to another address.
        RefusedError: the product is not paired, or the file is no image.
    """
    product = paired_product(contract, draft.product)
    start = product.region.start if draft.load_address is None else draft.load_address
    with naming_image(path):
        firmware = open_image(path, load_address=start)
    if draft.load_address not in (None, firmware.load_address):
        why = f"the {firmware.format} file says itself that it goes to 0x{firmware.load_address:08x}"
        raise UsageError("--load-address contradicts the image", why=why, remedy="leave it out, or give a .bin")
    chip = find_chip(product.chip_id)
    ram = Region(chip.ram.start, len(chip.ram)) if chip else SRAM
    image = firmware.data if isinstance(firmware, FirmwareImage) else firmware
    return replace(draft, image=image, load_address=firmware.load_address, ram=ram)


@contextmanager
def naming_image(path: Path) -> Iterator[None]:
    """Say of which file an error is: commands take several images."""
    try:
        yield
    except ImageError as error:
        what = error.what if str(path) in error.what else f"{path} cannot be used, {error.what}"
        raise ImageError(what, why=error.why, remedy=error.remedy) from error


def read_notes(path: Path | None) -> str:
    """Release notes of a text file; none without one.

    Raises:
        UsageError: it cannot be read, or has more than 64 KiB.
        RefusedError: it is no UTF-8.
    """
    return notes_from(read_input(path, limit=MAX_NOTES_SIZE)) if path else ""
