"""Decides whether an image is a plausible program for its addresses. Pure.

Publication and check 9 of `model.verification` both use these functions, and therefore follow the same rules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from blockota.errors import Action
from blockota.formats import mcuboot
from blockota.model.release import Region, is_stack_top, show_ranges

BOOT_ADDRESS = 0x0800_0000
"""Start address of the main flash, from which an STM32 boots (AN2606)."""
SRAM = (Region(0x2000_0000, 0x2000_0000),)
"""Address range of the RAM of every Cortex-M (ARMv7-M Architecture Reference Manual, B3.1)."""
_START_SIZE = 8
_NO_PROGRAM = "publish the linked image of a program"


@dataclass(frozen=True)
class Vectors:
    """The first two words of a vector table (ARMv7-M Architecture Reference Manual, B1.5.3).

    Attributes:
        offset: offset of the vector table in the image; not 0 after an MCUboot header.
        stack: the initial stack pointer.
        reset: the reset vector. Bit 0 must be set. It selects the Thumb state, and a Cortex-M does not support another
            state.
    """

    offset: int
    stack: int
    reset: int

    def __str__(self) -> str:
        """A description of the vectors, for the result of check 9."""
        header = f", after an MCUboot header of {self.offset} bytes" if self.offset else ""
        return f"stack pointer 0x{self.stack:08x} in RAM, reset vector 0x{self.reset:08x} inside the image{header}"


def program_remedy(*, is_boot: bool) -> tuple[str, Action | None]:
    """Return the remedy, and its action, for an image that is not a plausible program.

    If `is_boot` is False, the image is not at the address from which the chip boots, and may also be data.
    """
    if is_boot:
        return _NO_PROGRAM, None
    return f"{_NO_PROGRAM}, or declare the image as data", Action.PUBLISH_AS_CONFIGURATION


def read_vectors(image: bytes) -> Vectors | None:
    """Read the vector table of an image.

    Returns None if the image is too short for a vector table.
    """
    offset = mcuboot.program_offset(image)
    if len(image) < offset + _START_SIZE:
        return None
    return Vectors(offset, *struct.unpack_from("<II", image, offset))


def find_fault(image: bytes, region: Region, ram: Iterable[Region]) -> str:
    """Return why an image is not a program that can start at its addresses; empty if the program can start.

    Args:
        image: the whole image.
        region: the addresses of the image.
        ram: the ranges of RAM of the chip.
    """
    header = mcuboot.read_header(image)
    if header and region.start == BOOT_ADDRESS:
        return f"it begins with an MCUboot header, and the chip needs a vector table at 0x{BOOT_ADDRESS:08x} to boot"
    if header and (trouble := header.trouble(len(image))):
        return trouble

    vectors = read_vectors(image)
    if vectors is None:
        return f"its {len(image)} bytes are too short for a vector table"
    ram = tuple(ram)
    if not is_stack_top(vectors.stack, ram):
        return f"the initial stack pointer 0x{vectors.stack:08x} is not in RAM, {show_ranges(ram)}"

    # Bit 0 of the reset vector selects the Thumb state, and is not part of the address.
    program = Region(region.start + vectors.offset, region.size - vectors.offset)
    if not (vectors.reset & 1 and program.contains(Region(vectors.reset & ~1, 2))):
        return f"the reset vector 0x{vectors.reset:08x} is not a Thumb address inside the image, {region}"
    return ""
