"""What a flashing tells of while it goes on, and at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_host.bootloader.chips import EraseUnit
from firmware_host.flashing.memory import Preserved
from firmware_host.flashing.plan import Work


@dataclass(frozen=True)
class Erased:
    """Bytes erased so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True)
class Written:
    """Bytes written so far, of how many; blocks that stay as erased do not count."""

    done: int
    total: int


@dataclass(frozen=True)
class Checked:
    """Bytes proven so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True)
class Repeated:
    """The flash did not hold what it should, so everything is written once more.

    Attributes:
        why: what was wrong.
    """

    why: str


@dataclass(frozen=True)
class Part:
    """Some of an image's pages or sectors.

    Attributes:
        units: how many.
        size: their bytes; of those that were programmed, the bytes that were sent.
    """

    units: int = 0
    size: int = 0

    def __str__(self) -> str:
        """``3 pages (3,072 bytes)``."""
        return f"{self.units} {'page' if self.units == 1 else 'pages'} ({self.size:,} bytes)"


@dataclass(frozen=True)
class Summary:
    """What a flashing came to, all its passes together.

    Attributes:
        erased: what was erased.
        programmed: what was written.
        identical: what held the image already, and was left as it was.
    """

    erased: Part = Part()
    programmed: Part = Part()
    identical: Part = Part()

    def __str__(self) -> str:
        """``erased 4 pages (4,096 bytes), programmed 4 pages (4,000 bytes), identical 60 pages (61,440 bytes)``."""
        return f"erased {self.erased}, programmed {self.programmed}, identical {self.identical}"

    def plus(self, work: Work, *, written: int) -> Summary:
        """The same after one more pass.

        Args:
            work: what the pass does.
            written: bytes that it sends.
        """
        more = _part(work.erase)
        return Summary(
            Part(self.erased.units + more.units, self.erased.size + more.size),
            Part(self.programmed.units + len(work.write), self.programmed.size + written),
            _part(work.identical),
        )


@dataclass(frozen=True)
class Finished:
    """The flash holds the image, and that is proven.

    Attributes:
        sha256: the digest of what the flash holds over exactly the image's addresses.
        method: how that is known: ``read-back`` for every byte, or ``stub`` for a SHA-256 made on the chip.
        summary: what was done.
    """

    sha256: bytes
    method: str
    summary: Summary

    @property
    def erased(self) -> int:
        """Bytes erased."""
        return self.summary.erased.size

    @property
    def written(self) -> int:
        """Bytes written."""
        return self.summary.programmed.size


Event = Preserved | Erased | Written | Checked | Repeated | Finished
"""What `flasher.carry_out` tells of."""


def _part(units: Sequence[EraseUnit]) -> Part:
    return Part(len(units), sum(unit.size for unit in units))
