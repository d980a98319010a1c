"""How the control lines of an adapter are wired to a simulated board's NRST and BOOT0.

An adapter inverts: a line that is asserted pulls its pin low. So with DTR on NRST and RTS on BOOT0, the board is held
in reset while DTR is asserted, and starts its boot ROM while RTS is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmware_host.simulator.device import SimulatedBoard


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What drives the two pins.

    Attributes:
        reset: ``dtr``, ``rts``, ``break``, or empty where a person presses the button.
        boot0: ``dtr``, ``rts``, or empty where the jumper stays as it is.
        invert_reset: NRST is low while the line is not asserted.
        invert_boot0: BOOT0 is high while the line is asserted.
    """

    reset: str = ""
    boot0: str = ""
    invert_reset: bool = False
    invert_boot0: bool = False


BY_HAND = Wiring()
DTR_RTS = Wiring(reset="dtr", boot0="rts")
WIRINGS = {
    "none": BY_HAND,
    "dtr-rts": DTR_RTS,
    "rts-dtr": Wiring(reset="rts", boot0="dtr"),
    "dtr": Wiring(reset="dtr"),
    "rts": Wiring(reset="rts"),
    "break": Wiring(reset="break"),
}
"""Wirings by name: what resets the board, then what drives BOOT0."""


class ControlLines:
    """The adapter's lines, and the pins they drive.

    Args:
        board: whose pins.
        wiring: which lines drive them.
    """

    def __init__(self, board: SimulatedBoard, wiring: Wiring) -> None:
        """Assert nothing; the pins follow from the first change on."""
        self._board, self._wiring = board, wiring
        self._asserted = {"dtr": False, "rts": False, "break": False}

    def is_asserted(self, line: str) -> bool:
        """Return whether that line is."""
        return self._asserted[line]

    def set(self, line: str, *, asserted: bool) -> None:
        """Assert a line, or do not; NRST falls or rises at once, BOOT0 counts at the next reset."""
        self._asserted[line] = asserted
        wiring = self._wiring
        if wiring.boot0:
            self._board.boot0 = self._asserted[wiring.boot0] == wiring.invert_boot0
        if line == wiring.reset:
            self._board.hold_reset(low=asserted != wiring.invert_reset)
        elif line == "break" and asserted:
            self._board.hear_break()
