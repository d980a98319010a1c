"""The events and the summary of a flashing run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from firmware_host.bootloader.chips import EraseUnit
from firmware_host.flashing.plan import Preserved, Work


@dataclass(frozen=True)
class _Counted:
    done: int
    total: int


class Erased(_Counted):
    """Progress of erasing: the bytes erased so far, and the bytes to erase in total."""


class Programmed(_Counted):
    """Progress of writing: the bytes written so far, and the bytes to write in total. Blank blocks do not count."""


class Checked(_Counted):
    """Progress of the proof: the bytes proven so far, and the bytes to prove in total."""


@dataclass(frozen=True)
class Repeated:
    """The proof failed, for the reason `why`, so every erase unit is written once more."""

    why: str


@dataclass(frozen=True)
class Part:
    """A number of pages or sectors, and their size in bytes; for programmed units, the number of bytes sent."""

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
    """The work of all passes of a flashing run; identical units had their wanted contents and were not changed."""

    erased: Part = Part()
    programmed: Part = Part()
    identical: Part = Part()

    def __str__(self) -> str:
        """The summary, such as ``erased 4 pages (4,096 bytes), programmed ..., identical 60 pages (61,440 bytes)``."""
        return f"erased {self.erased}, programmed {self.programmed}, identical {self.identical}"

    def plus(self, work: Work, *, written: int) -> Summary:
        """Return the summary with one more pass, which sends `written` bytes."""
        more = Part.of(work.erase)
        return Summary(
            Part(self.erased.units + more.units, self.erased.size + more.size),
            Part(self.programmed.units + len(work.write), self.programmed.size + written),
            Part.of(work.identical),
        )


@dataclass(frozen=True)
class Finished:
    """The flash is proven to contain the image.

    Attributes:
        sha256: the digest of the flash over exactly the image's addresses.
        method: the method of the proof: ``read-back`` of every byte, or ``stub`` for a SHA-256 computed on the chip.
    """

    sha256: bytes
    method: str
    summary: Summary


Event = Preserved | Erased | Programmed | Checked | Repeated | Finished
"""The events that `flasher.carry_out` yields."""
