"""The flash memory of a simulated chip, and the controller that programs and erases it.

Addresses are absolute; a page or sector is given by its number.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from blockota.errors import LinkError, UsageError
from firmware_host.simulator.power import PowerCutError, Supply

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from firmware_host.simulator.faults import Faults
    from firmware_host.simulator.profiles import BoardProfile


class Flash:
    """All cells of the main flash.

    Args:
        profile: the chip.
        contents: what the cells hold first, or a file that keeps them (made where it is absent).
        faults: cells that are worn out.
        supply: what feeds the controller.

    Attributes:
        cells: what they hold.
        busy_seconds: time that programming and erasing would have taken since power-on.
        protected: numbers of the pages that neither program nor erase.

    Raises:
        UsageError: the first contents are larger than the flash.
        LinkError: the file cannot be used.
    """

    def __init__(self, profile: BoardProfile, contents: bytes | Path, *, faults: Faults, supply: Supply) -> None:
        """Keep the parts."""
        self._profile, self._faults, self._supply = profile, faults, supply
        self.busy_seconds = 0.0
        self.protected: frozenset[int] = frozenset()
        self.cells = _cells(contents, profile)

    def holds(self, address: int) -> bool:
        """Return whether that is the address of a cell."""
        return 0 <= address - self._profile.flash_start < self._profile.flash_size

    def program(self, address: int, data: bytes) -> bool:
        """Program unit by unit; return whether every unit could be programmed.

        Protected pages and addresses past the end stay as they are, without an error.

        Raises:
            PowerCutError: power failed on the way.
        """
        profile, first = self._profile, address - self._profile.flash_start
        count = len(data) // profile.program_unit
        if self._is_plain(first, len(data)) and self._supply.is_plain_for(count):
            self._supply.count(count)
            self.busy_seconds += count * profile.program_time
            self.cells[first : first + len(data)] = data
            return True
        whole = True
        for at in range(0, len(data), profile.program_unit):
            whole &= self._program_unit(first + at, data[at : at + profile.program_unit])
        return whole

    def _is_plain(self, first: int, length: int) -> bool:
        """Return whether nothing can go wrong with these cells: they are erased, whole and free."""
        flipped, end = self._faults.flipped_bit, first + length
        worn = flipped is not None and first <= flipped - self._profile.flash_start < end
        erased = self.cells[first:end] == self._profile.erased * length
        return erased and end <= len(self.cells) and not worn and not self.protected

    def _program_unit(self, offset: int, value: bytes) -> bool:
        self.busy_seconds += self._profile.program_time
        if offset >= len(self.cells) or self._profile.page_at(offset) in self.protected:
            return True
        old = bytes(self.cells[offset : offset + len(value)])
        if self._profile.blank_only and any(value) and old != self._profile.erased * len(value):
            return False
        new, power_failed = self._supply.program(old, self._worn(offset, self._merged(old, value)))
        self.cells[offset : offset + len(value)] = new
        if power_failed:
            raise PowerCutError(f"while programming {self._profile.flash_start + offset:#010x}")
        return True

    def _merged(self, old: bytes, value: bytes) -> bytes:
        """Return the cells as programming leaves them: bits only change away from the erased state."""
        if self._profile.erased == b"\xff":
            return bytes(a & b for a, b in zip(old, value, strict=True))
        return bytes(a | b for a, b in zip(old, value, strict=True))

    def _worn(self, offset: int, value: bytes) -> bytes:
        flipped = self._faults.flipped_bit
        at = -1 if flipped is None else flipped - self._profile.flash_start - offset
        return bytes(byte ^ (index == at) for index, byte in enumerate(value))

    def erase_page(self, page: int) -> None:
        """Erase one page; one that is protected or does not exist stays, without an error.

        Raises:
            PowerCutError: power failed on the way.
        """
        profile = self._profile
        self.busy_seconds += profile.erase_time(page)
        if page < profile.page_count and page not in self.protected:
            self._erase((page,))

    def erase_pages_at_once(self, pages: range) -> None:
        """Erase a bank, or everything; the controller refuses where a page is protected.

        Raises:
            PowerCutError: power failed on the way.
        """
        self.busy_seconds += self._profile.mass_erase
        if not self.protected.intersection(pages):
            self._erase(pages)

    def forget(self) -> None:
        """Erase everything, protected or not: what lifting readout protection does.

        Raises:
            PowerCutError: power failed on the way.
        """
        self.busy_seconds += self._profile.mass_erase
        self._erase(range(self._profile.page_count))

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
            f"The flash file {contents} cannot be used",
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
            "The flash contents do not fit",
            why=f"{length} bytes, but the chip has {size}",
            remedy="choose a smaller image",
        )
