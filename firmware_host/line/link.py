"""Bytes to and from a board: a serial device, a pseudo-terminal, ``socket://`` or ``rfc2217://host:port``.

A frame goes out in one write, because one split over two packets waits 40 ms for the peer's delayed
acknowledgement. No timeout is touched once a port is open, because a pseudo-terminal refuses the second
change of any setting: deadlines are kept here instead, over one short timeout of the port.
"""

from __future__ import annotations

import contextlib
import termios
import time
from collections.abc import Iterator
from typing import Protocol

from blockota.errors import LinkError, NoAnswerError
from firmware_host.line.port_list import LOST_REMEDY, Port
from firmware_host.line.serial_port import SerialPort
from firmware_host.line.tcp_port import TcpPort

DEFAULT_BAUD = 115200
"""The highest speed that ST tests its bootloaders at, in bits a second."""
QUIET = 0.02
"""Seconds of silence after which a line counts as drained: more than a USB adapter's latency of 16 ms."""
DRAIN_LIMIT = 1.0
"""Seconds after which draining gives up on a line that never falls silent."""


class Link(Protocol):
    """What moves bytes between the host and one board."""

    @property
    def name(self) -> str:
        """The port as the caller gave it."""

    @property
    def baud(self) -> int:
        """The line's speed in bits a second, with which deadlines grow."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the port was opened."""

    def write(self, data: bytes, /) -> None:
        """Send a whole frame at once.

        Raises:
            LinkError: the port was lost.
        """

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Wait for exactly `count` bytes.

        Raises:
            NoAnswerError: fewer came within `timeout` seconds.
            LinkError: the port was lost.
        """

    def drain(self) -> bytes:
        """Take what comes until the line is quiet, and return it for messages.

        Raises:
            LinkError: the port was lost.
        """

    def close(self) -> None:
        """Give the port back; harmless when it was given back or lost already."""


class ControlledLink(Link, Protocol):
    """A link whose speed and control lines can be set, as far as its port has any."""

    @property
    def can_steer(self) -> bool:
        """Whether the port has a speed, control lines and a break."""

    def set_baud(self, baud: int, /) -> None:
        """Go on at another speed.

        Raises:
            LinkError: the port was lost, or refuses.
        """

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines: True asserts one, which pulls its pin low on a TTL adapter.

        Raises:
            LinkError: the port was lost, or has no such lines.
        """

    def send_break(self, seconds: float, /) -> None:
        """Hold the line to the board low for so long.

        Raises:
            LinkError: the port was lost, or cannot.
        """


def open_link(url: str, *, baud: int = DEFAULT_BAUD) -> ControlledLink:
    """Open the port that a board is on; neither control line is asserted.

    Args:
        url: a serial device, a pseudo-terminal, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits a second; of no effect on the far side of a bare socket.

    Raises:
        UsageError: the address is not of one of these forms, or the speed is not a serial one.
        LinkError: there is no such port, it is busy, or it refuses.
    """
    port = TcpPort(url) if url.startswith("socket://") else SerialPort(url, baud)
    return _PortLink(port, name=url, baud=baud)


class _PortLink:
    """A link with deadlines of its own over any port."""

    def __init__(self, port: Port, *, name: str, baud: int) -> None:
        self._port, self.name, self.baud = port, name, baud
        self.notes, self.can_steer = port.notes, port.can_steer

    def write(self, data: bytes, /) -> None:
        with _loss_translated(self.name):
            self._port.send(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        data = self._receive(count)
        while len(data) < count:
            if time.monotonic() >= deadline:
                raise NoAnswerError(
                    f"the board on {self.name} is silent",
                    why=f"{len(data)} of {count} bytes came within {timeout:.1f} s",
                )
            data += self._receive(count - len(data))
        return data

    def drain(self) -> bytes:
        deadline = time.monotonic() + DRAIN_LIMIT
        drained, quiet_since = b"", time.monotonic()
        while time.monotonic() < min(deadline, quiet_since + QUIET):
            if data := self._receive(1024):
                drained, quiet_since = drained + data, time.monotonic()
        return drained

    def close(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            self._port.close()

    def set_baud(self, baud: int, /) -> None:
        try:
            with _loss_translated(self.name):
                self._port.set_baud(baud)
        except ValueError as error:
            remedy = "choose another --baud"
            raise LinkError(f"the port {self.name} cannot run at {baud} baud", why=str(error), remedy=remedy) from error
        self.baud = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        with _loss_translated(self.name):
            self._port.set_lines(dtr=dtr, rts=rts)

    def send_break(self, seconds: float, /) -> None:
        with _loss_translated(self.name):
            self._port.send_break(seconds)

    def _receive(self, most: int) -> bytes:
        with _loss_translated(self.name):
            return self._port.receive(most)


@contextlib.contextmanager
def _loss_translated(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, termios.error, TypeError) as error:
        # pyserial raises TypeError where a port was closed under it: its descriptor is None by then.
        raise LinkError(f"the port {name} was lost", why=str(error), remedy=LOST_REMEDY) from error
