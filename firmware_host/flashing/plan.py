"""The plan and the events of flashing an image.

The plan has the pages to erase and the blocks to write, in order. The order of the steps makes a half written image
harmless (see `flasher`). The page with the vector table is erased first and written last. The image's first words, the
*seal*, are written after the rest of the image is proven.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

from blockota.errors import ImageError
from blockota.formats.firmware_image import FirmwareImage
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import Chip, EraseUnit

LOOK_SECONDS = 0.5
"""Seconds to verify on the chip that the rest of its flash is erased. A mass erase that needs this check must save more
time."""
VECTOR_WORDS = 8
"""The size in bytes of the initial stack pointer and the reset vector (ARMv7-M, B1.5.3)."""


@dataclass(frozen=True)
class Preserved:
    """Bytes beside the image in one of its erase units. A run erases these bytes and writes them back."""

    address: int
    data: bytes

    @property
    def span(self) -> range:
        """The addresses of the preserved bytes."""
        return range(self.address, self.address + len(self.data))


@dataclass(frozen=True)
class FlashPlan:
    """The place of one image in the flash of one chip.

    Attributes:
        units: the pages or sectors that the image occupies, by address. The first unit contains the start of the image.
        seal: the addresses of the image's first words, which are written last.
        may_erase_all: whether the operator confirmed that the chip has no more flash than it reports.
    """

    chip: Chip
    flash_size: int
    image: FirmwareImage
    units: tuple[EraseUnit, ...]
    seal: range
    may_erase_all: bool = False

    @property
    def span(self) -> range:
        """The addresses of all erase units of the plan."""
        return range(self.units[0].span.start, self.units[-1].span.stop)

    @property
    def beside(self) -> tuple[range, ...]:
        """The addresses in the plan's erase units that are not part of the image.

        Their contents are preserved.
        """
        return without(self.span, self.image.span)

    @property
    def rest(self) -> tuple[range, ...]:
        """The addresses of the flash outside the plan's erase units."""
        return without(self.chip.flash(self.flash_size), self.span)

    @property
    def body(self) -> tuple[range, ...]:
        """The image's addresses without its first words; empty if the image has only these words."""
        return without(self.image.span, self.seal)

    def mass_erase_saving(self, units: Sequence[EraseUnit]) -> float:
        """Return the seconds that a mass erase saves, compared with separate erases of the units after the first."""
        mass = self.chip.mass_erase_seconds  # 0 for a chip without a mass erase
        return self.chip.unit_erase_seconds * (len(units) - 1) - mass if mass else 0.0


class FlashBuffer:
    """The contents of a range of flash, indexed by ranges of addresses.

    Initially, all bytes are erased.
    """

    def __init__(self, span: range, blank: int) -> None:
        self._start, self._blank = span.start, bytes((blank,))
        self._bytes = bytearray(self._blank * len(span))

    def __getitem__(self, span: range) -> bytes:
        """Return the bytes at these addresses."""
        return bytes(self._bytes[span.start - self._start : span.stop - self._start])

    def __setitem__(self, span: range, data: bytes) -> None:
        """Replace the bytes at these addresses."""
        self._bytes[span.start - self._start : span.stop - self._start] = data

    def is_blank(self, span: range) -> bool:
        """Whether all bytes at these addresses are erased."""
        return not self[span].strip(self._blank)

    def restore(self, kept: Iterable[Preserved], *, within: range) -> None:
        """Copy the preserved bytes that lie within the range `within` into the buffer."""
        for one in kept:
            if part := common(one.span, within):
                self[part] = one.data[part.start - one.address : part.stop - one.address]

    def checksum(self, span: range) -> int:
        """Return the CRC-32 (zlib's) of the bytes at these addresses."""
        return zlib.crc32(self[span])


@dataclass(frozen=True)
class UnitState:
    """The state of an erase unit before a pass: whether it has its wanted contents, and whether it is erased."""

    as_wanted: bool
    blank: bool


@dataclass(frozen=True)
class Work:
    """The work of one pass: the units to erase, the units to write, and the unchanged units, sorted by address.

    If any unit must change, the unit with the image's first words is always the first unit of `write`. It is also the
    first unit of `erase`, unless it is blank. With `at_once`, a mass erase replaces the erases of the units after the
    first.
    """

    erase: tuple[EraseUnit, ...]
    write: tuple[EraseUnit, ...]
    identical: tuple[EraseUnit, ...]
    at_once: bool


def plan(chip: Chip, image: FirmwareImage, *, flash_size: int, may_erase_all: bool = False) -> FlashPlan:
    """Plan which erase units of a chip's flash an image occupies.

    An image outside the flash is refused. `may_erase_all` allows a mass erase although larger chips with the same
    product id exist, which may have unreported flash.
    """
    flash = chip.flash(flash_size)
    if not image.data or image.span[0] not in flash or image.span[-1] not in flash:
        raise ImageError(
            "the image does not lie within the board's flash",
            why=f"the image covers {image.span.start:#010x} to {image.span.stop:#010x}, "
            f"but the flash covers {flash.start:#010x} to {flash.stop:#010x}",
            remedy="choose the image that was built for this board",
        )

    units = tuple(unit for unit in chip.erase_units(flash_size) if common(unit.span, image.span))
    size = max(VECTOR_WORDS, chip.write_alignment)
    start = image.span.start - image.span.start % size
    return FlashPlan(chip, flash_size, image, units, range(start, start + size), may_erase_all)


def wanted_contents(plan: FlashPlan) -> FlashBuffer:
    """Return the wanted contents of a plan's erase units: the image, and erased bytes beside the image."""
    wanted = FlashBuffer(plan.span, plan.chip.erased_byte)
    wanted[plan.image.span] = plan.image.data
    return wanted


def work(plan: FlashPlan, states: Sequence[UnitState], *, is_rest_blank: Callable[[], bool] = lambda: False) -> Work:
    """Decide which erase units are erased and written, from the state of each unit of the plan.

    `is_rest_blank` returns whether all flash outside the plan, including unreported flash, is erased. Because the check
    takes time, it is called only if a mass erase is faster.
    """
    if all(state.as_wanted for state in states):
        return Work((), (), plan.units, at_once=False)

    # The first unit is rewritten even if it is as wanted, because an incomplete image must not have its seal.
    first, *others = zip(plan.units, states, strict=True)
    written = [first, *(pair for pair in others if not pair[1].as_wanted)]
    erase = tuple(unit for unit, state in written if not state.blank)
    identical = tuple(unit for unit, state in others if state.as_wanted)

    # A mass erase also erases the identical units, so these must be blank.
    is_empty = all(state.blank for _, state in others if state.as_wanted)
    # Many chips report 64 KiB but have 128 KiB, and a mass erase also erases the half that is not reported.
    is_reported = plan.flash_size >= plan.chip.flash_limit or plan.may_erase_all
    covers_chip = is_reported and not plan.rest
    saved = plan.mass_erase_saving(erase)
    at_once = is_empty and saved > 0 and (covers_chip or (saved > LOOK_SECONDS and is_rest_blank()))
    return Work(erase, tuple(unit for unit, _ in written), identical, at_once)


def blocks(plan: FlashPlan, units: Sequence[EraseUnit]) -> tuple[range, ...]:
    """Return the blocks to write for `units`.

    `units` must begin with the plan's first unit. The last returned block is the seal.
    """
    first, *others = units
    return (
        *chain.from_iterable(chunks(unit.span) for unit in others),
        *chain.from_iterable(without(block, plan.seal) for block in reversed(tuple(chunks(first.span)))),
        plan.seal,
    )


def chunks(span: range, size: int = MAX_BLOCK) -> Iterator[range]:
    """Split a range of addresses into ranges of at most `size` addresses."""
    return (span[start : start + size] for start in range(0, len(span), size))


def common(one: range, other: range) -> range:
    """Return the addresses that two ranges have in common."""
    start = max(one.start, other.start)
    return range(start, max(start, min(one.stop, other.stop)))


def without(span: range, hole: range) -> tuple[range, ...]:
    """Return the non-empty parts of a range before and after a hole in that range."""
    before = range(span.start, min(span.stop, hole.start))
    after = range(max(span.start, hole.stop), span.stop)
    return tuple(part for part in (before, after) if part)


@dataclass(frozen=True)
class _Counted:
    done: int
    total: int


class Erased(_Counted):
    """Progress of erasing: the number of bytes erased so far, and the total."""


class Programmed(_Counted):
    """Progress of writing: the number of bytes written so far, and the total.

    Blank blocks do not count.
    """


class Checked(_Counted):
    """Progress of the proof: the number of bytes proven so far, and the total."""


@dataclass(frozen=True)
class Repeated:
    """The proof failed for the reason `why`.

    Every erase unit is therefore written once more.
    """

    why: str


@dataclass(frozen=True)
class Part:
    """A number of pages or sectors, and their size in bytes.

    For programmed pages or sectors, the size is the number of bytes that were sent.
    """

    units: int = 0
    size: int = 0

    @classmethod
    def of(cls, units: Sequence[EraseUnit]) -> Self:
        """Return the number and the size of erase units."""
        return cls(len(units), sum(unit.size for unit in units))

    def __str__(self) -> str:
        """The part in words, such as ``3 pages (3,072 bytes)``."""
        return f"{self.units} {'page' if self.units == 1 else 'pages'} ({self.size:,} bytes)"


@dataclass(frozen=True)
class Summary:
    """The work of all passes of a flashing run.

    `identical` counts the units that already had their wanted contents, and were not changed.
    """

    erased: Part = Part()
    programmed: Part = Part()
    identical: Part = Part()

    def __str__(self) -> str:
        """The summary, such as ``erased 4 pages (4,096 bytes), programmed ..., identical 60 pages (61,440 bytes)``."""
        return f"erased {self.erased}, programmed {self.programmed}, identical {self.identical}"

    def plus(self, work: Work, *, written: int) -> Summary:
        """Return the summary with the work of one more pass added.

        The pass sends `written` bytes.
        """
        more = Part.of(work.erase)
        return Summary(
            Part(self.erased.units + more.units, self.erased.size + more.size),
            Part(self.programmed.units + len(work.write), self.programmed.size + written),
            Part.of(work.identical),
        )


@dataclass(frozen=True)
class Finished:
    """The flash is proven to contain the image.

    The digest covers exactly the image's addresses. The `method` is ``read-back`` if every byte was read, or ``stub``
    if the chip computed the SHA-256.
    """

    sha256: bytes
    method: str
    summary: Summary


Event = Preserved | Erased | Programmed | Checked | Repeated | Finished
"""The events that `flasher.carry_out` yields."""
