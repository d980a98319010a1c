"""The supply of a simulated board: it can fail before or within a given operation of the flash controller.

What a broken-off operation leaves follows from the fault's seed alone, so that a failure can be had again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmware_host.simulator.faults import Faults


class PowerCutError(Exception):
    """The supply failed; nothing runs until power is back."""


class Supply:
    """Counts the operations of the flash controller since the board was made, and fails when told to.

    Args:
        faults: at which operation.
    """

    def __init__(self, faults: Faults) -> None:
        """Start with nothing programmed or erased."""
        self._faults, self._programs, self._erases = faults, 0, 0

    def is_plain_for(self, programs: int) -> bool:
        """Return whether power lasts through that many more program operations."""
        cuts = (self._faults.power_cut_before_program, self._faults.power_cut_in_program)
        return not any(cut is not None and self._programs < cut <= self._programs + programs for cut in cuts)

    def count(self, programs: int) -> None:
        """Let that many program operations pass, through which power lasts."""
        self._programs += programs

    def program(self, old: bytes, new: bytes) -> tuple[bytes, bool]:
        """Count one program operation; return what its cells hold, and whether power failed within it.

        Raises:
            PowerCutError: power failed before it.
        """
        self._programs += 1
        if self._programs == self._faults.power_cut_before_program:
            raise PowerCutError(f"before program operation {self._programs}")
        if self._programs != self._faults.power_cut_in_program:
            return new, False
        return self._between(old, new, name=f"program {self._programs}"), True

    def erase(self, old: bytes, new: bytes) -> tuple[bytes, bool]:
        """Count one erase operation; return what its cells hold, and whether power failed within it."""
        self._erases += 1
        if self._erases != self._faults.power_cut_in_erase:
            return new, False
        return self._between(old, new, name=f"erase {self._erases}"), True

    def _between(self, old: bytes, new: bytes, *, name: str) -> bytes:
        """Return a mixture: some bits have changed already."""
        size = len(old)
        seed = hashlib.shake_128(f"{self._faults.seed} {name}".encode()).digest(2 * size + 1)
        first, second = int.from_bytes(seed[:size]), int.from_bytes(seed[size : 2 * size])
        # A quarter, a half or three quarters of the bits.
        changed = (first & second, first, first | second)[seed[-1] % 3]
        before = int.from_bytes(old)
        return (before ^ (before ^ int.from_bytes(new)) & changed).to_bytes(size)
