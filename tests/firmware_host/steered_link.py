"""A link to a simulated board in the same process, with control lines and a speed."""

from __future__ import annotations

from firmware_host.bootloader.entry import BoardWiring, ControlSignal
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.direct_link import DirectLink

GLITCH = b"\0"
"""The byte that the boot ROM receives instead of 0x7F if the line is too fast."""


class SteeredLink(DirectLink):
    """A link on which an asserted control line pulls the board's pin low.

    Args:
        board: the simulated board.
        wiring: the control lines that drive NRST and BOOT0.

    Attributes:
        can_steer: whether the port has control lines.
        baud: the current speed of the line.
        resets: number of times that the board has left reset.
    """

    can_steer = True

    def __init__(self, board: SimulatedBoard, wiring: BoardWiring) -> None:
        super().__init__(board)
        self.baud, self.resets = 115200, 0
        self._wiring, self._pins = wiring, {ControlSignal.DTR: True, ControlSignal.RTS: True}
        self._measured = 0
        self._follow()

    @property
    def _in_reset(self) -> bool:
        return self._pins.get(self._wiring.reset, True) is self._wiring.invert_reset

    def set_baud(self, baud: int, /) -> None:
        """Change the speed."""
        self.baud = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set the pins; if the board leaves reset, BOOT0 selects boot ROM or application."""
        was_in_reset = self._in_reset
        self._pins = {ControlSignal.DTR: not dtr, ControlSignal.RTS: not rts}
        self._follow()
        if was_in_reset and not self._in_reset:
            self._reset()

    def send_break(self, seconds: float, /) -> None:
        """Reset the board if its wiring maps a break to a reset."""
        assert seconds > 0
        if self._wiring.reset is ControlSignal.BREAK:
            self._reset()

    def write(self, data: bytes, /) -> None:
        """Send a frame to a board that is not in reset; garble the frame if the board does not support the speed."""
        if self._in_reset:
            return
        self._measured = self._measured or self.baud
        is_understood = self._measured == self.baud <= self._board.profile.max_baud
        super().write(data if is_understood or self._board.application else GLITCH * len(data))

    def _follow(self) -> None:
        if self._wiring.boot0 in self._pins:
            self._board.boot0 = self._pins[self._wiring.boot0] is not self._wiring.invert_boot0

    def _reset(self) -> None:
        self.resets += 1
        self._measured, self._received = 0, b""
        self._board.reset()
        self._received += self._board.idle(0.01)
