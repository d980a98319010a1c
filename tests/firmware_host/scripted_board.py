"""Boards that answer scripted bytes, in the same process and in simulated time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blockota.errors import NoAnswerError
from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.link import QUIET, Link

Step = tuple[str, str]
"""The bytes that the board expects, and the bytes that it answers, in hexadecimal."""

KIB = 1024
ACK, NACK = "79", "1f"
SYNC: Step = ("7f", ACK)
GET: Step = ("00 ff", "79 0b 22 00 01 02 11 21 31 43 63 73 82 92 79")
GET_EXTENDED: Step = ("00 ff", "79 0b 31 00 01 02 11 21 31 44 63 73 82 92 79")
READ, WRITE, GO, ERASE, EXTENDED_ERASE = ("11 ee", ACK), ("31 ce", ACK), ("21 de", ACK), ("43 bc", ACK), ("44 bb", ACK)
PAGE_1: Step = ("08 00 04 00 0c", ACK)


class ScriptedLink(Link):
    """A link to a board that expects exactly the bytes of a script, and is silent after the script's end.

    Args:
        script: the bytes that the board expects and its answers, in order.
        greeting: bytes that the board sends when the line is opened.
        last_answer_after: seconds until the last answer.

    Attributes:
        unexpected: bytes that the script does not expect.
        now: the simulated time in seconds.
    """

    name, baud = "the scripted board", 115200

    def __init__(self, script: Sequence[Step], *, greeting: bytes, last_answer_after: float) -> None:
        self._script = deque((bytes.fromhex(expected), bytes.fromhex(answer)) for expected, answer in script)
        self._last_answer_after = last_answer_after
        self._sent, self.unexpected, self.now = b"", b"", 0.0
        self._arriving = deque((0.0, byte) for byte in greeting)

    @property
    def missed(self) -> int:
        """The number of script steps that were not reached."""
        return len(self._script)

    def write(self, data: bytes, /) -> None:
        """Compare the bytes with the script, and answer each completed step."""
        self._sent += data
        while self._script and self._sent.startswith(self._script[0][0]):
            expected, answer = self._script.popleft()
            self._sent = self._sent[len(expected) :]
            delay = 0 if self._script else self._last_answer_after
            self._arriving.extend((self.now + delay, byte) for byte in answer)
        if not self._script or not self._script[0][0].startswith(self._sent):
            self.unexpected, self._sent = self.unexpected + self._sent, b""

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return the bytes that arrive before the timeout; raise if they are too few."""
        deadline, data = self.now + timeout, b""
        while len(data) < count and self._arriving and self._arriving[0][0] <= deadline:
            moment, byte = self._arriving.popleft()
            self.now, data = max(self.now, moment), data + bytes((byte,))
        if len(data) < count:
            self.now = deadline
            raise NoAnswerError("the board is silent", why=f"{len(data)} of {count} bytes came within {timeout:.1f} s")
        return data

    def drain(self) -> bytes:
        """Return all bytes that have arrived."""
        data = bytes(byte for _, byte in self._arriving)
        self._arriving.clear()
        self.now += QUIET
        return data

    def set_baud(self, baud: int, /) -> None:
        """Do nothing."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Do nothing."""

    def send_break(self, seconds: float, /) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def board(
    *script: Step, greeting: bytes = b"", last_answer_after: float = 0, silent_at_end: bool = False
) -> Iterator[Bootloader]:
    """Connect a bootloader client to a scripted board; check afterwards that exactly the script was sent.

    Args:
        script: the bytes that the board expects and its answers, in order.
        greeting: bytes that the board sends when the line is opened.
        last_answer_after: seconds until the last answer.
        silent_at_end: whether the host sends bytes after the script, which the board does not answer.
    """
    link = ScriptedLink(script, greeting=greeting, last_answer_after=last_answer_after)
    yield Bootloader(link)
    assert link.missed == 0, f"the host sent {link.unexpected.hex(' ')}"
    assert bool(link.unexpected) is silent_at_end


def chip(product_id: int = 0x410) -> Chip:
    """Return the row of the chip table for a product id, which must exist."""
    found = find_chip(product_id)
    assert found is not None
    return found


@contextmanager
def blue_pill(*script: Step, silent_at_end: bool = False) -> Iterator[Bootloader]:
    """Yield a client that is connected to an STM32F103 with 64 KiB of flash."""
    with board_with(0x410, 64, GET, *script, silent_at_end=silent_at_end) as bootloader:
        yield bootloader


@contextmanager
def board_with(
    product_id: int, kib: int, *script: Step, last_answer_after: float = 0, silent_at_end: bool = False
) -> Iterator[Bootloader]:
    """Yield a client that is connected to a chip with this flash size; the script starts with Get."""
    with board(SYNC, *script, last_answer_after=last_answer_after, silent_at_end=silent_at_end) as bootloader:
        bootloader.connect()
        bootloader.target(chip(product_id), flash_size=kib * KIB)
        yield bootloader
