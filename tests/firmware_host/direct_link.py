"""A link without a wire, for tests of what goes over it."""

from __future__ import annotations

from blockota.errors import NoAnswerError
from firmware_host.simulator import SimulatedBoard


class DirectLink:
    """A link to a simulated board in the same process: silence is known at once, and costs no time."""

    name, baud, notes = "the simulated board", 115200, ()
    can_steer = False

    def __init__(self, board: SimulatedBoard) -> None:
        """Plug the board in."""
        self._board, self._received = board, board.connect()

    def write(self, data: bytes, /) -> None:
        """Hand a frame over."""
        self._received += self._board.feed(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Take what the board has answered already."""
        if len(self._received) < count:
            raise NoAnswerError("The board is silent", why=f"for {timeout:.1f} s")
        data, self._received = self._received[:count], self._received[count:]
        return data

    def drain(self) -> bytes:
        """Take everything."""
        data, self._received = self._received, b""
        return data

    def set_baud(self, baud: int, /) -> None:
        """There is one speed."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """There are no control lines."""

    def send_break(self, seconds: float, /) -> None:
        """There is no break."""

    def close(self) -> None:
        """Leave the board alone."""
