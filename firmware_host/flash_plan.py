"""What flashing an image comes to: which pages are erased, which blocks are written, and in which order.

The order is what makes a half written image harmless. The page with the image's vector table is erased first
and written last, and its first words, the stack pointer and the reset vector, are written by themselves at the
very end, when all the rest was read back and found right: until then there is nothing that the board could
start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blockota.errors import ImageError
from firmware_host.an3155 import MAX_BLOCK
from firmware_host.chips import Chip, EraseUnit
from firmware_host.image import FirmwareImage

VECTOR_WORDS = 8
"""Bytes of the initial stack pointer and the reset vector, without which a Cortex-M does not start."""


@dataclass(frozen=True)
class FlashPlan:
    """How one image goes into the flash of one chip.

    Attributes:
        chip: what is written.
        flash_size: bytes of flash that it has.
        image: what is written to it.
        units: the pages or sectors to erase, in this order; the first holds the image's start.
        preserved: addresses in those units that are not the image's: read first, and written back.
        blocks: addresses of the blocks to write, in this order, all but the seal.
        seal: addresses of the image's first words, to be written at the very end.
    """

    chip: Chip
    flash_size: int
    image: FirmwareImage
    units: tuple[EraseUnit, ...]
    preserved: tuple[range, ...]
    blocks: tuple[range, ...]
    seal: range

    @property
    def span(self) -> range:
        """All addresses that are erased."""
        return range(self.units[0].span.start, self.units[-1].span.stop)


def plan(chip: Chip, image: FirmwareImage, *, flash_size: int) -> FlashPlan:
    """Lay an image out over a chip's flash.

    Only the units that the image touches are erased, and what else they hold is preserved.

    Args:
        chip: the chip's row in the table.
        image: what is to be written.
        flash_size: in bytes, as the board says it.

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
    sides = (range(units[0].span.start, image.span.start), range(image.span.stop, units[-1].span.stop))
    seal = _seal(image.span.start, max(VECTOR_WORDS, chip.write_alignment))
    return FlashPlan(
        chip=chip,
        flash_size=flash_size,
        image=image,
        units=units,
        preserved=tuple(side for side in sides if side),
        blocks=tuple(_blocks_in_order(units, seal)),
        seal=seal,
    )


def chunks(span: range, size: int = MAX_BLOCK) -> Iterator[range]:
    """Cut a range of addresses into ranges of at most `size`."""
    return (span[start : start + size] for start in range(0, len(span), size))


def overlap(one: range, other: range) -> bool:
    """Whether two ranges of addresses have one in common."""
    return one.start < other.stop and other.start < one.stop


def without(span: range, hole: range) -> tuple[range, ...]:
    """What is left of a range of addresses beside a hole in it, in order, nothing empty."""
    before = range(span.start, min(span.stop, hole.start))
    after = range(max(span.start, hole.stop), span.stop)
    return tuple(part for part in (before, after) if part)


def _seal(start: int, size: int) -> range:
    aligned = start - start % size
    return range(aligned, aligned + size)


def _blocks_in_order(units: tuple[EraseUnit, ...], seal: range) -> Iterator[range]:
    first, *others = units
    for unit in others:
        yield from chunks(unit.span)
    for block in reversed(tuple(chunks(first.span))):
        yield from without(block, seal)
