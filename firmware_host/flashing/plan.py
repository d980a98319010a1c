"""What flashing an image involves: which pages are erased, which blocks are written, in which order.

The order makes a half written image harmless. Whenever anything has to change, the page with the vector table is
erased first and written last. The image's first words (initial stack pointer and reset vector) form the *seal*. They
are written by themselves at the very end, when everything else is proven: until then a Cortex-M has nothing to start.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from blockota.errors import ImageError
from blockota.formats.firmware_image import FirmwareImage
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import Chip, EraseUnit

VECTOR_WORDS = 8
"""Bytes of the initial stack pointer and the reset vector (ARMv7-M, B1.5.3)."""


@dataclass(frozen=True)
class Preserved:
    """Bytes beside the image in a unit that is erased; they are written back with it.

    Attributes:
        address: address of the first byte.
        data: the bytes.
    """

    address: int
    data: bytes

    @property
    def span(self) -> range:
        """The addresses of the bytes."""
        return range(self.address, self.address + len(self.data))


@dataclass(frozen=True)
class FlashPlan:
    """The place of one image in the flash of one chip.

    Attributes:
        chip: the chip's table row.
        flash_size: size of its flash in bytes.
        image: the image to write.
        units: the pages or sectors that the image touches, by address; the first one contains the image's start.
        seal: addresses of the image's first words, written last.
        may_erase_all: whether the operator confirmed that no flash lies beyond the reported size.
    """

    chip: Chip
    flash_size: int
    image: FirmwareImage
    units: tuple[EraseUnit, ...]
    seal: range
    may_erase_all: bool = False

    @property
    def span(self) -> range:
        """All addresses of the units."""
        return range(self.units[0].span.start, self.units[-1].span.stop)

    @property
    def beside(self) -> tuple[range, ...]:
        """Addresses in the units that are not the image's; their contents are preserved."""
        return without(self.span, self.image.span)

    @property
    def body(self) -> tuple[range, ...]:
        """The image's addresses without the seal; empty for an image that is not longer than the seal."""
        return without(self.image.span, self.seal)


class FlashBuffer:
    """Contents of a stretch of flash, indexed by ranges of addresses; initially erased."""

    def __init__(self, span: range, blank: int) -> None:
        self._start, self._blank = span.start, bytes((blank,))
        self._bytes = bytearray(self._blank * len(span))

    def __getitem__(self, span: range) -> bytes:
        """The bytes at these addresses."""
        return bytes(self._bytes[span.start - self._start : span.stop - self._start])

    def __setitem__(self, span: range, data: bytes) -> None:
        """Replace the bytes at these addresses."""
        self._bytes[span.start - self._start : span.stop - self._start] = data

    def is_blank(self, span: range) -> bool:
        """Whether these addresses are erased."""
        return not self[span].strip(self._blank)

    def restore(self, kept: Iterable[Preserved], *, within: range) -> None:
        """Copy preserved bytes in, as far as they lie within `within`."""
        for one in kept:
            if part := common(one.span, within):
                self[part] = one.data[part.start - one.address : part.stop - one.address]

    def checksum(self, span: range) -> int:
        """The CRC-32 (zlib's) of these addresses."""
        return zlib.crc32(self[span])


@dataclass(frozen=True)
class UnitState:
    """The state of a unit before anything is done.

    Attributes:
        as_wanted: the unit already has its wanted contents.
        blank: the unit is erased.
    """

    as_wanted: bool
    blank: bool


@dataclass(frozen=True)
class Work:
    """The actions on the units of a plan.

    Attributes:
        erase: units to erase; the one with the seal comes first.
        write: units to write, by address; empty if nothing has to change.
        identical: units that stay as they are.
        at_once: erase all but the first with one mass erase, because every unit that stays is blank.
    """

    erase: tuple[EraseUnit, ...]
    write: tuple[EraseUnit, ...]
    identical: tuple[EraseUnit, ...]
    at_once: bool


def plan(chip: Chip, image: FirmwareImage, *, flash_size: int, may_erase_all: bool = False) -> FlashPlan:
    """Lay an image out over a chip's flash.

    Parts whose family has larger members are mass-erased only if the operator confirmed, by `may_erase_all`, that no
    flash lies beyond the reported size.

    Raises:
        ImageError: the image does not lie within the flash.
    """
    flash = chip.flash(flash_size)
    if not image.data or image.span[0] not in flash or image.span[-1] not in flash:
        raise ImageError(
            "the image does not lie within the board's flash",
            why=f"it covers {image.span.start:#010x} to {image.span.stop:#010x}, "
            f"the flash is {flash.start:#010x} to {flash.stop:#010x}",
            remedy="choose the image that was built for this board",
        )
    units = tuple(unit for unit in chip.erase_units(flash_size) if overlap(unit.span, image.span))
    size = max(VECTOR_WORDS, chip.write_alignment)
    start = image.span.start - image.span.start % size
    return FlashPlan(chip, flash_size, image, units, range(start, start + size), may_erase_all)


def wanted_contents(plan: FlashPlan) -> FlashBuffer:
    """The contents that a plan's units are to have: the image, and erased bytes beside it."""
    wanted = FlashBuffer(plan.span, plan.chip.erased_byte)
    wanted[plan.image.span] = plan.image.data
    return wanted


def work(plan: FlashPlan, states: Sequence[UnitState]) -> Work:
    """Decide which units change."""
    if all(state.as_wanted for state in states):
        return Work((), (), plan.units, at_once=False)

    # The first unit is written even if it is as wanted: an image that is not whole must not have its seal.
    first, *others = zip(plan.units, states, strict=True)
    written = [first, *(pair for pair in others if not pair[1].as_wanted)]
    erase = tuple(unit for unit, state in written if not state.blank)
    identical = tuple(unit for unit, state in others if state.as_wanted)

    # A mass erase takes the units that stay as well, so those must be blank.
    is_empty = all(state.blank for _, state in others if state.as_wanted)
    # Parts that report 64 KiB and have 128 are common, and a mass erase takes the half that is not reported as well.
    # Reading there to find out would hang the bootloaders of true 64 KiB parts.
    is_reported = plan.flash_size >= plan.chip.flash_limit or plan.may_erase_all
    covers_chip = is_reported and len(plan.units) == len(plan.chip.erase_units(plan.flash_size))
    # 0 s stands for a chip without a mass erase.
    is_shorter = 0 < plan.chip.mass_erase_seconds < plan.chip.unit_erase_seconds * (len(erase) - 1)
    at_once = is_empty and covers_chip and is_shorter
    return Work(erase, tuple(unit for unit, _ in written), identical, at_once)


def blocks(plan: FlashPlan, units: Sequence[EraseUnit]) -> tuple[range, ...]:
    """The blocks that write units, the plan's first one among them; the seal comes last, by itself."""
    first, *others = units
    return (
        *chain.from_iterable(chunks(unit.span) for unit in others),
        *chain.from_iterable(without(block, plan.seal) for block in reversed(tuple(chunks(first.span)))),
        plan.seal,
    )


def chunks(span: range, size: int = MAX_BLOCK) -> Iterator[range]:
    """Cut a range of addresses into ranges of at most `size`."""
    return (span[start : start + size] for start in range(0, len(span), size))


def overlap(one: range, other: range) -> bool:
    """Whether two ranges of addresses overlap."""
    return one.start < other.stop and other.start < one.stop


def common(one: range, other: range) -> range:
    """The addresses that two ranges have in common."""
    start = max(one.start, other.start)
    return range(start, max(start, min(one.stop, other.stop)))


def without(span: range, hole: range) -> tuple[range, ...]:
    """The non-empty parts of a range that lie before and after a hole in it."""
    before = range(span.start, min(span.stop, hole.start))
    after = range(max(span.start, hole.stop), span.stop)
    return tuple(part for part in (before, after) if part)
