"""A serial link to a simulated board in this process, with faults of single bytes. Transfers take no time."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.errors import NoAnswerError
from firmware_host.bootloader.an3155 import Command
from firmware_host.line.link import QUIET, Link
from firmware_host.simulator import SimulatedBoard

_ERASES = (b"\x43\xbc", b"\x44\xbb")
_ERASE_ALL = b"\xff\x00"
_COMMAND_SIZE = 2
_ARGUMENTS: dict[int, tuple[str, ...]] = {
    Command.READ_MEMORY: ("address", "length"),
    Command.WRITE_MEMORY: ("address", "data"),
    Command.GO: ("address",),
    Command.ERASE: ("pages",),
    Command.EXTENDED_ERASE: ("pages",),
}
"""The frames after the command frame, of the commands that are recorded."""
_SECONDS_TO_RESTORE = 2.0


@dataclass
class Mishaps:
    """Faults of the serial line that affect single bytes; bytes are counted from 1, and 0 means no fault.

    Attributes:
        lose_received: the number of the lost byte, counted in the bytes sent to the board.
        lose_sent: the number of the lost byte, counted in the bytes sent by the board.
        insert_received: the position of the inserted byte among the bytes sent to the board.
        insert_sent: the position of the inserted byte among the bytes sent by the board.
        swap_after: the number of bytes that are sent to the first board before a second board replaces it.
        value: the value of the inserted byte.
    """

    lose_received: int = 0
    lose_sent: int = 0
    insert_received: int = 0
    insert_sent: int = 0
    swap_after: int = 0
    value: int = 0x79


class WirelessLink(Link):
    """A link to a simulated board in this process; a timeout takes simulated time and no real time.

    Args:
        board: the board at the other end.
        mishaps: the faults of the line.
        other: the second board, which replaces `board` after `Mishaps.swap_after` bytes.

    Attributes:
        first: the board that was connected first.
        received: number of bytes sent to the board so far.
        sent: number of bytes received from the board so far.
        frames: number of frames sent to the board so far.
        erases: number of erase commands among the frames.
        identified: number of bytes sent to the board until the board was identified.
        heard: all bytes that the host has received.
        has_been_silent: whether a read of the host has timed out.
        addresses: the addresses in the commands Read Memory and Go, each with the command's code.
        erased: the page numbers in erase commands; None stands for a mass erase.
    """

    name, baud, can_steer = "the simulated board", 115200, True

    def __init__(self, board: SimulatedBoard, mishaps: Mishaps, *, other: SimulatedBoard | None = None) -> None:
        self._board, self._mishaps = board, mishaps
        self.first, self._other = board, other
        self.received = self.sent = self.frames = self.erases = self.identified = 0
        self._command = 0
        self._expected: list[str] = []
        self.forget()
        self._heard = board.connect()

    def forget(self) -> None:
        """Begin the record of another attempt."""
        self.heard, self.has_been_silent = bytearray(), False
        self.addresses: set[tuple[int, int]] = set()
        self.erased: set[int | None] = set()

    def restore(self, *, reset: bool) -> None:
        """Reconnect the board, with or without a reset; unread bytes are lost."""
        self._board = self.first
        # A program in RAM ends while the operator is busy.
        self._board.run(_SECONDS_TO_RESTORE)
        self._heard = self._board.connect(reset=reset)
        if reset:
            self._board.boot0 = True
            self._board.reset()

    def set_baud(self, baud: int, /) -> None:
        """Do nothing; the simulated board needs no real time."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Drive NRST by DTR and BOOT0 by RTS; an asserted control line is low."""
        self._board.boot0 = not rts
        self._board.hold_reset(low=dtr)

    def send_break(self, seconds: float, /) -> None:
        """Do nothing; no board of the campaign is reset by a break on the line."""

    def wait(self, seconds: float) -> None:
        """Let the simulated board run for some seconds."""
        self._hear(self._board.run(seconds))

    def write(self, data: bytes, /) -> None:
        """Deliver a frame to the board, with the faults of the line."""
        mishaps, passed = self._mishaps, self.received
        self.received += len(data)
        self.frames += 1
        self.erases += data in _ERASES
        self._record(data)
        arrives = _changed(data, passed, lost=mishaps.lose_received, before=mishaps.insert_received, by=mishaps)
        if self._other and passed < mishaps.swap_after <= self.received:
            self._board.feed(arrives[: mishaps.swap_after - passed])
            self._board, self._heard = self._other, self._other.connect()
            return
        self._hear(self._board.feed(arrives))

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Read bytes from the board; the board runs until they are complete or the timeout ends."""
        if len(self._heard) < count:
            self.wait(timeout)
        if len(self._heard) < count:
            self.has_been_silent = True
            raise NoAnswerError("the board is silent", why=f"for {timeout:.1f} s")
        data, self._heard = self._heard[:count], self._heard[count:]
        self.heard += data
        return data

    def drain(self) -> bytes:
        """Read all bytes that arrive until the line is quiet."""
        self.wait(QUIET)
        data, self._heard = self._heard, b""
        self.heard += data
        return data

    def close(self) -> None:
        """Close the link; the board is unchanged."""

    def _record(self, frame: bytes) -> None:
        """Record which addresses are read, which program is started, and which pages are erased."""
        expected = self._expected.pop(0) if self._expected else ""
        # A command that follows a refused one has the length of a command as well.
        if len(frame) == _COMMAND_SIZE and expected != "length" and frame != _ERASE_ALL:
            self._command, self._expected = frame[0], [*_ARGUMENTS.get(frame[0], ())]
        elif expected == "address" and self._command != Command.WRITE_MEMORY:
            self.addresses.add((self._command, int.from_bytes(frame[:4], "big")))
        elif expected == "pages":
            width = 1 if self._command == Command.ERASE else 2
            numbers = [int.from_bytes(frame[at : at + width], "big") for at in range(0, len(frame) - 1, width)]
            # The first number is the count, or stands for everything.
            self.erased |= {None} if len(numbers) == 1 else {*numbers[1:]}

    def _hear(self, data: bytes) -> None:
        mishaps = self._mishaps
        self._heard += _changed(data, self.sent, lost=mishaps.lose_sent, before=mishaps.insert_sent, by=mishaps)
        self.sent += len(data)


def _changed(data: bytes, passed: int, *, lost: int, before: int, by: Mishaps) -> bytes:
    """Return `data` with a lost or inserted byte; `passed` is the number of bytes transferred before `data`."""
    at = (lost or before) - 1 - passed
    if not 0 <= at < len(data):
        return data
    return data[:at] + (data[at + 1 :] if lost else bytes((by.value,)) + data[at:])
