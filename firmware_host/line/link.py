"""The serial line to one board: its mode, and the links that move bytes over it, with deadlines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from blockota.errors import UsageError

DEFAULT_BAUD = 115200
"""The highest speed at which ST tests its bootloaders, in bits per second."""
BITS_PER_BYTE = 11
"""The maximum number of bits of a byte on the wire: start bit, eight data bits, parity, stop bit."""
QUIET = 0.02
"""Seconds of silence after which a serial line counts as drained. This is more than the 16 ms latency of a USB adapter.
"""
PLAIN = "plain"
MODES = (PLAIN, "no-parity", "echo", "rs485", "rs485-inverted")
"""The words of a mode's name. A name is one word, or several words separated by commas."""


class Parity(Enum):
    """The parity bit of the serial line."""

    EVEN = "even"
    NONE = "none"


@dataclass(frozen=True)
class LineMode:
    """How the serial line is driven. The default is the line of AN3155 section 2: even parity and two data wires.

    Attributes:
        echo: whether the host receives the bytes that it sends, as on a line with one wire and with many RS485
            transceivers.
        rs485: whether the port's RTS signal switches an RS485 transceiver between sending and receiving.
        invert_rs485: whether the transceiver sends while RTS is not asserted.
    """

    parity: Parity = Parity.EVEN
    echo: bool = False
    rs485: bool = False
    invert_rs485: bool = False

    @property
    def words(self) -> str:
        """The differences from the default, such as ``no-parity,echo``; ``plain`` for the default."""
        differences = {
            "no-parity": self.parity is Parity.NONE,
            "echo": self.echo,
            "rs485": self.rs485 and not self.invert_rs485,
            "rs485-inverted": self.rs485 and self.invert_rs485,
        }
        return ",".join(word for word, differs in differences.items() if differs) or PLAIN

    @classmethod
    def parse(cls, text: str) -> LineMode:
        """Parse the words of a mode, separated by commas.

        Unknown words, and words that exclude each other, are refused.
        """
        words = text.split(",")
        why = next((f"{word!r:.80} is not one of {', '.join(MODES)}" for word in words if word not in MODES), "")
        for one, other in (("rs485", "rs485-inverted"), *((PLAIN, word) for word in MODES[1:])):
            if not why and one in words and other in words:
                why = f"{one} and {other} exclude each other"
        if why:
            raise UsageError(f"the mode {text!r:.80} of the line is not known", why=why, remedy="correct the mode")
        inverted = "rs485-inverted" in words
        parity = Parity.NONE if "no-parity" in words else Parity.EVEN
        return cls(parity, echo="echo" in words, rs485=inverted or "rs485" in words, invert_rs485=inverted)


class Link(Protocol):
    """Moves bytes between the host and one board. Every method raises LinkError if the port was lost.

    `notes` describe for the operator how the port was opened. `can_steer` states whether the host can set the port's
    speed and control lines, and send a break. If `can_steer` is False, `set_baud`, `set_lines` and `send_break` raise
    LinkError.
    """

    name: str
    baud: int
    notes: tuple[str, ...] = ()
    can_steer: bool = False

    def write(self, data: bytes, /) -> None:
        """Send a whole frame in one write."""

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return exactly `count` bytes.

        Raises NoAnswerError if fewer bytes arrive within `timeout` seconds.
        """

    def drain(self) -> bytes:
        """Return all bytes that arrive until the line is quiet."""

    def set_baud(self, baud: int, /) -> None:
        """Change the speed."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines. True asserts a line, which pulls the line's pin low on a TTL adapter."""

    def send_break(self, seconds: float, /) -> None:
        """Send a break for a number of seconds."""

    def close(self) -> None:
        """Close the port.

        A port that was already closed or lost stays closed.
        """
