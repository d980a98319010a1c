"""What flashing an image comes to: which pages are erased, which blocks are written, and in which order.

The order is what makes a half written image harmless. Whenever anything at all has to change, the page with the
image's vector table is erased first and written last, and its first words, the stack pointer and the reset vector,
are written by themselves at the very end, when all the rest was proven: until then there is nothing that the board
could start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from blockota.errors import ImageError
from blockota.formats.firmware_image import FirmwareImage
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import Chip, EraseUnit

VECTOR_WORDS = 8
"""Bytes of the initial stack pointer and the reset vector, without which a Cortex-M does not start."""


@dataclass(frozen=True)
class FlashPlan:
    """Where one image goes in the flash of one chip.

    Attributes:
        chip: what is written.
        flash_size: bytes of flash that it has.
        image: what is written to it.
        units: the pages or sectors that hold any of it, in order of address; the first holds its start.
        seal: addresses of the image's first words, to be written at the very end.
        may_erase_all: whether a person said that the chip holds nothing else, beyond the flash that it reports.
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
        """Addresses in the units that are not the image's: whatever happens, they keep what they hold."""
        return without(self.span, self.image.span)

    @property
    def body(self) -> tuple[range, ...]:
        """The image's addresses without the seal; empty for an image that is no longer than that."""
        return without(self.image.span, self.seal)


@dataclass(frozen=True)
class Found:
    """What a unit was found to hold before anything is done.

    Attributes:
        as_wanted: what it shall hold.
        blank: nothing.
    """

    as_wanted: bool
    blank: bool


@dataclass(frozen=True)
class Work:
    """What is to be done to the units of a plan; nothing where none is written.

    Attributes:
        erase: the units to erase, the one with the seal before all others.
        write: the units to write, in order of address.
        identical: the units that stay as they are.
        at_once: whether all but the first are erased by one command: the chip has no other unit that holds anything.
    """

    erase: tuple[EraseUnit, ...]
    write: tuple[EraseUnit, ...]
    identical: tuple[EraseUnit, ...]
    at_once: bool


def plan(chip: Chip, image: FirmwareImage, *, flash_size: int, may_erase_all: bool = False) -> FlashPlan:
    """Lay an image out over a chip's flash.

    Args:
        chip: the chip's row in the table.
        image: what is to be written.
        flash_size: in bytes, as the board says it.
        may_erase_all: whether a person said that the chip holds nothing else; only then is it erased by one command
            where its family has parts with more flash than it reports.

    Raises:
        ImageError: the image does not lie within the flash.
    """
    flash = chip.flash(flash_size)
    if not image.data or image.span[0] not in flash or image.span[-1] not in flash:
        raise ImageError(
            "the image does not lie within the board's flash",
            why=f"it takes {image.span.start:#010x} to {image.span.stop:#010x}, "
            f"the flash {flash.start:#010x} to {flash.stop:#010x}",
            remedy="choose the image that was built for this board",
        )
    units = tuple(unit for unit in chip.erase_units(flash_size) if overlap(unit.span, image.span))
    seal = _seal(image.span.start, max(VECTOR_WORDS, chip.write_alignment))
    return FlashPlan(chip, flash_size, image, units, seal, may_erase_all)


def work(plan: FlashPlan, found: Sequence[Found]) -> Work:
    """Say which units change, given what they hold.

    Args:
        plan: where the image goes.
        found: what each unit of the plan holds, in the same order.
    """
    if all(state.as_wanted for state in found):
        return Work((), (), plan.units, at_once=False)
    # The first unit is written even where it is as wanted: an image that is not whole must not have its start.
    first, *others = zip(plan.units, found, strict=True)
    written = [first, *(pair for pair in others if not pair[1].as_wanted)]
    erase = tuple(unit for unit, state in written if not state.blank)
    identical = tuple(unit for unit, state in others if state.as_wanted)
    # What stays must have nothing to lose.
    empty = all(state.blank for _, state in others if state.as_wanted)
    at_once = empty and _covers_chip(plan) and _is_shorter(plan.chip, len(erase) - 1)
    return Work(erase, tuple(unit for unit, _ in written), identical, at_once)


def blocks(plan: FlashPlan, units: Sequence[EraseUnit]) -> tuple[range, ...]:
    """The blocks that write units, in this order; the seal comes last, by itself.

    Args:
        plan: where the image goes.
        units: those to write; the first of the plan is among them.
    """
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
    """Whether two ranges of addresses have one in common."""
    return one.start < other.stop and other.start < one.stop


def common(one: range, other: range) -> range:
    """The addresses that two ranges have in common."""
    start = max(one.start, other.start)
    return range(start, max(start, min(one.stop, other.stop)))


def without(span: range, hole: range) -> tuple[range, ...]:
    """What is left of a range of addresses beside a hole in it, in order, nothing empty."""
    before = range(span.start, min(span.stop, hole.start))
    after = range(max(span.start, hole.stop), span.stop)
    return tuple(part for part in (before, after) if part)


def _seal(start: int, size: int) -> range:
    aligned = start - start % size
    return range(aligned, aligned + size)


def _covers_chip(plan: FlashPlan) -> bool:
    # Parts that report 64 KiB and have 128 are common, and a mass erase takes the half that is not reported as well.
    # Reading there to find out would hang the bootloaders of true 64 KiB parts.
    is_reported = plan.flash_size >= plan.chip.flash_limit or plan.may_erase_all
    return is_reported and len(plan.units) == len(plan.chip.erase_units(plan.flash_size))


def _is_shorter(chip: Chip, units: int) -> bool:
    """Whether erasing everything takes less time than so many units; 0 stands for no such command."""
    return 0 < chip.mass_erase_seconds < chip.unit_erase_seconds * units
