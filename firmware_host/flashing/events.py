"""Events of a flashing, and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_host.bootloader.chips import EraseUnit
from firmware_host.flashing.plan import Preserved, Work


@dataclass(frozen=True)
class _Counted:
    done: int
    total: int


class Erased(_Counted):
    """Bytes erased so far, and bytes to erase in total."""


class Programmed(_Counted):
    """Bytes written so far, and bytes to write in total; blocks that stay erased do not count."""


class Checked(_Counted):
    """Bytes proven so far, and bytes to prove in total."""


@dataclass(frozen=True)
class Repeated:
    """The proof failed, so everything is written once more.

    Attributes:
        why: the difference that was found.
    """

    why: str


@dataclass(frozen=True)
class Part:
    """A number of pages or sectors.

    Attributes:
        units: how many.
        size: their size in bytes; for programmed units, the bytes that were sent.
    """

    units: int = 0
    size: int = 0

    def __str__(self) -> str:
        """``3 pages (3,072 bytes)``."""
        return f"{self.units} {'page' if self.units == 1 else 'pages'} ({self.size:,} bytes)"


@dataclass(frozen=True)
class Summary:
    """The work of all passes of a flashing.

    Attributes:
        erased: units that were erased.
        programmed: units that were written.
        identical: units that held the image already and were left alone.
    """

    erased: Part = Part()
    programmed: Part = Part()
    identical: Part = Part()

    def __str__(self) -> str:
        """``erased 4 pages (4,096 bytes), programmed 4 pages (4,000 bytes), identical 60 pages (61,440 bytes)``."""
        return f"erased {self.erased}, programmed {self.programmed}, identical {self.identical}"

    def plus(self, work: Work, *, written: int) -> Summary:
        """The summary after one more pass, which sends `written` bytes."""
        more = _part(work.erase)
        return Summary(
            Part(self.erased.units + more.units, self.erased.size + more.size),
            Part(self.programmed.units + len(work.write), self.programmed.size + written),
            _part(work.identical),
        )


@dataclass(frozen=True)
class Finished:
    """The flash holds the image, and this is proven.

    Attributes:
        sha256: the digest of the flash over exactly the image's addresses.
        method: the proof: ``read-back`` of every byte, or ``stub`` for a SHA-256 computed on the chip.
        summary: what was done.
    """

    sha256: bytes
    method: str
    summary: Summary


Event = Preserved | Erased | Programmed | Checked | Repeated | Finished
"""What `flasher.carry_out` yields."""


def _part(units: Sequence[EraseUnit]) -> Part:
    return Part(len(units), sum(unit.size for unit in units))
