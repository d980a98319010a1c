"""The flash of a simulated chip, with its controller and a power supply that can fail.

Addresses are absolute. A page or sector is identified by its number.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

from blockota.errors import LinkError, UsageError
from firmware_host.simulator.faults import Faults
from firmware_host.simulator.profiles import BoardProfile

Cells = bytearray | mmap.mmap


class PowerCutError(Exception):
    """The power supply failed, so the chip stops until power returns."""


class Supply:
    """The power supply; it counts the flash controller's operations, and raises PowerCutError at the one in `faults`.

    The result of an interrupted operation depends only on the seed in `faults`, so that a failure can be reproduced.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults, self._programs, self._erases = faults, 0, 0

    def count_programs(self, count: int) -> bool:
        """Return whether power lasts for that many more program operations; if it does, add them to those performed."""
        cuts = (self._faults.power_cut_before_program, self._faults.power_cut_in_program)
        lasts = not any(cut is not None and self._programs < cut <= self._programs + count for cut in cuts)
        self._programs += count * lasts
        return lasts

    def program(self, cells: Cells, at: int, new: bytes, *, what: str) -> None:
        """Program one unit of flash cells in one operation, or fail."""
        self._programs += 1
        if self._programs == self._faults.power_cut_before_program:
            raise PowerCutError(f"before program operation {self._programs}")
        span, fails = slice(at, at + len(new)), self._programs == self._faults.power_cut_in_program
        if fails:
            new = self._interrupted(bytes(cells[span]), new, operation=f"program {self._programs}")
        cells[span] = new
        if fails:
            raise PowerCutError(f"while programming {what}")

    def erase(self, cells: Cells, spans: Sequence[range], *, erased: bytes, what: str = "") -> None:
        """Erase spans of flash cells in one operation, or fail within it."""
        self._erases += 1
        fails = self._erases == self._faults.power_cut_in_erase
        old = b"".join(cells[span.start : span.stop] for span in spans)
        new = erased * len(old)
        if fails:
            new = self._interrupted(old, new, operation=f"erase {self._erases}")
        for span in spans:
            cells[span.start : span.stop], new = new[: len(span)], new[len(span) :]
        if fails:
            raise PowerCutError(f"while erasing{what}")

    def _interrupted(self, old: bytes, new: bytes, *, operation: str) -> bytes:
        """Return contents in which a quarter, a half or three quarters of the bits have changed."""
        size = len(old)
        seed = hashlib.shake_128(f"{self._faults.seed} {operation}".encode()).digest(2 * size + 1)
        first, second = int.from_bytes(seed[:size]), int.from_bytes(seed[size : 2 * size])
        changed = (first & second, first, first | second)[seed[-1] % 3]
        before = int.from_bytes(old)
        return (before ^ (before ^ int.from_bytes(new)) & changed).to_bytes(size)


class Flash:
    """The cells and the controller of the main flash.

    All changes raise PowerCutError if `supply` fails before or within an operation.

    Args:
        profile: the simulated chip.
        contents: the initial contents, or the file that stores the flash (created if absent).
        faults: the faults, of which worn-out cells and pages are used.
        supply: the power supply of the flash controller.

    Attributes:
        busy_seconds: the time that all programming and erasing so far would have taken on the chip.
        protected: the numbers of the pages that can be neither programmed nor erased.

    Raises:
        UsageError: the initial contents are larger than the flash.
        LinkError: the file cannot be used.
    """

    def __init__(self, profile: BoardProfile, contents: bytes | Path, *, faults: Faults, supply: Supply) -> None:
        self._profile, self._faults, self._supply = profile, faults, supply
        self.busy_seconds = 0.0
        self.protected: frozenset[int] = frozenset()
        self.cells = _cells(contents, profile)

    def program(self, address: int, data: bytes) -> bool:
        """Program data unit by unit; return False if the controller refused to program cells that are not erased.

        Protected pages and addresses after the end of the flash do not change, and are not reported.
        """
        profile, first = self._profile, address - self._profile.flash_start
        end, count = first + len(data), len(data) // profile.program_unit
        # The common case in one step: erased cells that are neither worn out nor protected, and no power cut.
        worn = self._faults.flipped_bit
        is_worn = worn is not None and first <= worn - profile.flash_start < end
        is_erased = end <= len(self.cells) and self.cells[first:end] == profile.erased * len(data)
        if is_erased and not is_worn and not self.protected and self._supply.count_programs(count):
            self.busy_seconds += count * profile.program_time
            self.cells[first:end] = data
            return True
        whole = True
        for at in range(0, len(data), profile.program_unit):
            whole &= self._program_unit(first + at, data[at : at + profile.program_unit])
        return whole

    def erase_page(self, page: int) -> None:
        """Erase one page. A protected page does not change. A protected or missing page is not reported."""
        profile = self._profile
        self.busy_seconds += profile.erase_time(page)
        if page < profile.page_count and page not in self.protected:
            self._erase((page,))

    def erase_at_once(self, pages: range, *, despite_protection: bool = False) -> None:
        """Erase a bank or the whole flash in one operation; does nothing if one of the pages is protected.

        The removal of readout protection erases protected pages as well (`despite_protection`).
        """
        self.busy_seconds += self._profile.mass_erase
        if despite_protection or not self.protected.intersection(pages):
            self._erase(pages)

    def _program_unit(self, offset: int, value: bytes) -> bool:
        self.busy_seconds += self._profile.program_time
        if offset >= len(self.cells) or self._profile.page_at(offset) in self.protected:
            return True
        old = bytes(self.cells[offset : offset + len(value)])
        # PM0075 section 2.3.3, "Main Flash memory programming": a cell that is not erased takes only zero.
        if self._profile.blank_only and any(value) and old != self._profile.erased * len(value):
            return False
        # Bits change only away from the erased state.
        before, wanted = int.from_bytes(old, "little"), int.from_bytes(value, "little")
        merged = before & wanted if self._profile.erased == b"\xff" else before | wanted
        # A worn-out cell: one of its bits is always programmed wrong.
        worn = (self._faults.flipped_bit or 0) - self._profile.flash_start - offset
        if 0 <= worn < len(value):
            merged ^= 1 << 8 * worn
        what = f"{self._profile.flash_start + offset:#010x}"
        self._supply.program(self.cells, offset, merged.to_bytes(len(value), "little"), what=what)
        return True

    def _erase(self, pages: Iterable[int]) -> None:
        spans = [self._profile.page_span(page) for page in pages if page != self._faults.sticky_page]
        self._supply.erase(self.cells, spans, erased=self._profile.erased)


def _cells(contents: bytes | Path, profile: BoardProfile) -> Cells:
    if isinstance(contents, bytes):
        return bytearray(contents + _rest(len(contents), profile))
    try:
        with contents.open("a+b") as file:
            file.write(_rest(file.tell(), profile))
        with contents.open("r+b") as file:
            return mmap.mmap(file.fileno(), profile.flash_size)
    except OSError as error:
        raise LinkError(
            f"the flash file {contents} cannot be used",
            why=error.strerror or str(error),
            remedy="choose a file that can be written",
        ) from error


def _rest(length: int, profile: BoardProfile) -> bytes:
    """The erased cells behind initial contents of this length."""
    if length > profile.flash_size:
        why = f"they have {length} bytes, but the chip's flash has {profile.flash_size} bytes"
        raise UsageError("the initial flash contents are too large", why=why, remedy="choose a smaller image")
    return profile.erased * (profile.flash_size - length)
