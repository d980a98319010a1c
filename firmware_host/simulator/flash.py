"""The flash of a simulated chip, the controller that programs and erases it, and the supply that can fail.

Addresses are absolute; a page or sector is given by its number.
"""

from __future__ import annotations

import hashlib
import mmap
from typing import TYPE_CHECKING

from blockota.errors import LinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from firmware_host.simulator.faults import Faults
    from firmware_host.simulator.profiles import BoardProfile


class PowerCutError(Exception):
    """The supply failed; nothing runs until power returns."""


class Supply:
    """Counts the operations of the flash controller since the board was made, and fails at the one in `faults`.

    What an interrupted operation leaves depends only on the fault's seed, so that a failure can be reproduced.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults, self._programs, self._erases = faults, 0, 0

    def lasts_for(self, programs: int) -> bool:
        """Whether power lasts through this many more program operations."""
        cuts = (self._faults.power_cut_before_program, self._faults.power_cut_in_program)
        return not any(cut is not None and self._programs < cut <= self._programs + programs for cut in cuts)

    def count(self, programs: int) -> None:
        """Count program operations through which power lasts."""
        self._programs += programs

    def program(self, old: bytes, new: bytes) -> tuple[bytes, bool]:
        """Count one program operation; return the contents of its cells, and whether power failed within it.

        Raises:
            PowerCutError: power failed before it.
        """
        self._programs += 1
        if self._programs == self._faults.power_cut_before_program:
            raise PowerCutError(f"before program operation {self._programs}")
        if self._programs != self._faults.power_cut_in_program:
            return new, False
        return self._interrupted(old, new, operation=f"program {self._programs}"), True

    def erase(self, old: bytes, new: bytes) -> tuple[bytes, bool]:
        """Count one erase operation; return the contents of its cells, and whether power failed within it."""
        self._erases += 1
        if self._erases != self._faults.power_cut_in_erase:
            return new, False
        return self._interrupted(old, new, operation=f"erase {self._erases}"), True

    def _interrupted(self, old: bytes, new: bytes, *, operation: str) -> bytes:
        """Return contents in which a quarter, a half or three quarters of the bits have changed."""
        size = len(old)
        seed = hashlib.shake_128(f"{self._faults.seed} {operation}".encode()).digest(2 * size + 1)
        first, second = int.from_bytes(seed[:size]), int.from_bytes(seed[size : 2 * size])
        changed = (first & second, first, first | second)[seed[-1] % 3]
        before = int.from_bytes(old)
        return (before ^ (before ^ int.from_bytes(new)) & changed).to_bytes(size)


class Flash:
    """All cells of the main flash.

    Args:
        profile: the chip.
        contents: the first contents, or a file that keeps them (created if absent).
        faults: cells that are worn out.
        supply: of the controller.

    Attributes:
        cells: the contents.
        busy_seconds: time that programming and erasing would have taken since power-on.
        protected: numbers of the pages that can be neither programmed nor erased.

    Raises:
        UsageError: the first contents are larger than the flash.
        LinkError: the file cannot be used.
    """

    def __init__(self, profile: BoardProfile, contents: bytes | Path, *, faults: Faults, supply: Supply) -> None:
        self._profile, self._faults, self._supply = profile, faults, supply
        self.busy_seconds = 0.0
        self.protected: frozenset[int] = frozenset()
        self.cells = _cells(contents, profile)

    def contains(self, address: int) -> bool:
        """Whether this is the address of a cell."""
        return 0 <= address - self._profile.flash_start < self._profile.flash_size

    def program(self, address: int, data: bytes) -> bool:
        """Program unit by unit; return whether every unit could be programmed.

        Protected pages and addresses past the end do not change, which is not reported.

        Raises:
            PowerCutError: power failed.
        """
        profile, first = self._profile, address - self._profile.flash_start
        count = len(data) // profile.program_unit
        # The common case in one step: nothing can go wrong.
        if self._is_plain(first, len(data)) and self._supply.lasts_for(count):
            self._supply.count(count)
            self.busy_seconds += count * profile.program_time
            self.cells[first : first + len(data)] = data
            return True
        whole = True
        for at in range(0, len(data), profile.program_unit):
            whole &= self._program_unit(first + at, data[at : at + profile.program_unit])
        return whole

    def erase_page(self, page: int) -> None:
        """Erase one page. A page that is protected or does not exist does not change, which is not reported.

        Raises:
            PowerCutError: power failed.
        """
        profile = self._profile
        self.busy_seconds += profile.erase_time(page)
        if page < profile.page_count and page not in self.protected:
            self._erase((page,))

    def erase_pages_at_once(self, pages: range) -> None:
        """Erase a bank, or everything; the controller does nothing if one of the pages is protected.

        Raises:
            PowerCutError: power failed.
        """
        self.busy_seconds += self._profile.mass_erase
        if not self.protected.intersection(pages):
            self._erase(pages)

    def erase_despite_protection(self) -> None:
        """Erase everything, as the removal of readout protection does.

        Raises:
            PowerCutError: power failed.
        """
        self.busy_seconds += self._profile.mass_erase
        self._erase(range(self._profile.page_count))

    def _is_plain(self, first: int, length: int) -> bool:
        """Whether these cells are erased, not worn out and not protected."""
        flipped, end = self._faults.flipped_bit, first + length
        worn = flipped is not None and first <= flipped - self._profile.flash_start < end
        erased = self.cells[first:end] == self._profile.erased * length
        return erased and end <= len(self.cells) and not worn and not self.protected

    def _program_unit(self, offset: int, value: bytes) -> bool:
        self.busy_seconds += self._profile.program_time
        if offset >= len(self.cells) or self._profile.page_at(offset) in self.protected:
            return True
        old = bytes(self.cells[offset : offset + len(value)])
        # PM0075 section 2.3.3: cells that are not erased are programmed only to zero.
        if self._profile.blank_only and any(value) and old != self._profile.erased * len(value):
            return False
        # A worn-out cell: one of its bits is always programmed wrong.
        flipped = self._faults.flipped_bit
        worn = -1 if flipped is None else flipped - self._profile.flash_start - offset
        merged = bytes(byte ^ (index == worn) for index, byte in enumerate(self._merged(old, value)))
        new, power_failed = self._supply.program(old, merged)
        self.cells[offset : offset + len(value)] = new
        if power_failed:
            raise PowerCutError(f"while programming {self._profile.flash_start + offset:#010x}")
        return True

    def _merged(self, old: bytes, value: bytes) -> bytes:
        """Return the cells after programming: bits change only away from the erased state."""
        if self._profile.erased == b"\xff":
            return bytes(a & b for a, b in zip(old, value, strict=True))
        return bytes(a | b for a, b in zip(old, value, strict=True))

    def _erase(self, pages: Iterable[int]) -> None:
        spans = [self._profile.page_span(page) for page in pages if page != self._faults.sticky_page]
        old = b"".join(self.cells[span.start : span.stop] for span in spans)
        new, power_failed = self._supply.erase(old, self._profile.erased * len(old))
        for span in spans:
            self.cells[span.start : span.stop] = new[: len(span)]
            new = new[len(span) :]
        if power_failed:
            raise PowerCutError("while erasing")


def _cells(contents: bytes | Path, profile: BoardProfile) -> bytearray | mmap.mmap:
    if isinstance(contents, bytes):
        _check_size(len(contents), profile.flash_size)
        return bytearray(contents.ljust(profile.flash_size, profile.erased))
    try:
        return _file_cells(contents, profile)
    except OSError as error:
        raise LinkError(
            f"the flash file {contents} cannot be used",
            why=error.strerror or str(error),
            remedy="name a file that can be written",
        ) from error


def _file_cells(path: Path, profile: BoardProfile) -> mmap.mmap:
    with path.open("a+b") as file:
        length = file.tell()
        _check_size(length, profile.flash_size)
        file.write(profile.erased * (profile.flash_size - length))
        file.flush()
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), profile.flash_size)


def _check_size(length: int, size: int) -> None:
    if length > size:
        raise UsageError(
            "the flash contents do not fit",
            why=f"{length} bytes, but the chip has {size}",
            remedy="choose a smaller image",
        )
