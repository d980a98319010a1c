"""A link to a simulated board in the same process."""

from __future__ import annotations

from blockota.errors import NoAnswerError
from firmware_host.line.link import Link
from firmware_host.simulator import SimulatedBoard


def started(flash: bytes) -> SimulatedBoard:
    """Return a board that was reset with BOOT0 at 0, so that the application in its flash runs."""
    board = SimulatedBoard(flash=flash)
    board.boot0 = False
    board.reset()
    return board


class DirectLink(Link):
    """A link without a port, on which a missing answer is an error immediately."""

    name, baud = "the simulated board", 115200

    def __init__(self, board: SimulatedBoard) -> None:
        self._board, self._received = board, board.connect()

    def write(self, data: bytes, /) -> None:
        """Pass a frame to the board."""
        self._received += self._board.feed(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return bytes that the board has sent."""
        if len(self._received) < count:
            raise NoAnswerError("the board is silent", why=f"for {timeout:.1f} s")
        data, self._received = self._received[:count], self._received[count:]
        return data

    def drain(self) -> bytes:
        """Return all bytes that the board has sent."""
        data, self._received = self._received, b""
        return data

    def set_baud(self, baud: int, /) -> None:
        """Do nothing, because the simulated line has only one speed."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Do nothing, because the port has no control lines."""

    def send_break(self, seconds: float, /) -> None:
        """Do nothing, because a break has no effect on the board."""

    def close(self) -> None:
        """Do nothing."""
