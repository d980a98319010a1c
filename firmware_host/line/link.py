"""A link: bytes to and from one board, over any port, with deadlines.

A frame is sent in one write, because a frame split over two packets waits 40 ms for the peer's delayed acknowledgement.
A port's timeout never changes after it was opened, because a pseudo-terminal refuses the second change of any setting:
deadlines are kept here, by repeated reads with one short timeout.
"""

from __future__ import annotations

import contextlib
import termios
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from blockota.errors import Action, LinkError, NoAnswerError
from firmware_host.line.serial_port import Port, SerialPort
from firmware_host.line.tcp_port import TcpPort

DEFAULT_BAUD = 115200
"""The highest speed at which ST tests its bootloaders, in bits per second."""
QUIET = 0.02
"""Seconds of silence after which a line counts as drained: more than a USB adapter's latency of 16 ms."""
DRAIN_LIMIT = 1.0
"""Seconds after which draining gives up on a line that is never quiet."""


class Link(Protocol):
    """Moves bytes between the host and one board."""

    @property
    def name(self) -> str:
        """The port as the caller gave it."""

    @property
    def baud(self) -> int:
        """The speed in bits per second, from which the time on the wire follows."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the operator should know about how the port was opened."""

    def write(self, data: bytes, /) -> None:
        """Send a whole frame in one write.

        Raises:
            LinkError: the port was lost.
        """

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return exactly `count` bytes.

        Raises:
            NoAnswerError: fewer arrived within `timeout` seconds.
            LinkError: the port was lost.
        """

    def drain(self) -> bytes:
        """Return everything that arrives until the line is quiet.

        Raises:
            LinkError: the port was lost.
        """

    def close(self) -> None:
        """Close the port; does nothing if it was closed or lost before."""


class ControlledLink(Link, Protocol):
    """A link whose speed and control lines can be set, where its port has them."""

    @property
    def can_steer(self) -> bool:
        """Whether the port has a speed, control lines and a break."""

    def set_baud(self, baud: int, /) -> None:
        """Change the speed.

        Raises:
            LinkError: the port was lost, or does not support this speed.
        """

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines: True asserts one, which pulls its pin low on a TTL adapter.

        Raises:
            LinkError: the port was lost, or has no control lines.
        """

    def send_break(self, seconds: float, /) -> None:
        """Send a break of this length.

        Raises:
            LinkError: the port was lost, or cannot send one.
        """


def open_link(url: str, *, baud: int = DEFAULT_BAUD) -> ControlledLink:
    """Open the port of a board, with both control lines not asserted.

    Args:
        url: a serial device, a pseudo-terminal, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits per second; a bare socket does not use it.

    Raises:
        UsageError: the URL has another form, or the speed is invalid.
        LinkError: the port does not exist, is busy, or cannot be opened.
    """
    port = TcpPort(url) if url.startswith("socket://") else SerialPort(url, baud)
    return PortLink(port, name=url, baud=baud)


class PortLink:
    """A link over an open port, which keeps the deadlines.

    Args:
        port: the open port.
        name: the port as the caller gave it.
        baud: bits per second.
        now: the clock in seconds.
    """

    def __init__(self, port: Port, *, name: str, baud: int, now: Callable[[], float] = time.monotonic) -> None:
        self._port, self._now = port, now
        self.name, self.baud, self.notes, self.can_steer = name, baud, port.notes, port.can_steer

    def write(self, data: bytes, /) -> None:
        """Send a whole frame in one write; see `Link`."""
        with _loss_translated(self.name):
            self._port.send(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return exactly `count` bytes; see `Link`."""
        deadline = self._now() + timeout
        data = self._receive(count)
        while len(data) < count:
            if self._now() >= deadline:
                raise NoAnswerError(
                    f"the board on {self.name} is silent",
                    why=f"{len(data)} of {count} bytes came within {timeout:.1f} s",
                )
            data += self._receive(count - len(data))
        return data

    def drain(self) -> bytes:
        """Return everything that arrives until the line is quiet; see `Link`."""
        quiet_since = self._now()
        deadline = quiet_since + DRAIN_LIMIT
        drained = b""
        while self._now() < min(deadline, quiet_since + QUIET):
            if data := self._receive(1024):
                drained, quiet_since = drained + data, self._now()
        return drained

    def close(self) -> None:
        """Close the port; see `Link`."""
        with contextlib.suppress(OSError, termios.error):
            self._port.close()

    def set_baud(self, baud: int, /) -> None:
        """Change the speed; see `ControlledLink`."""
        try:
            with _loss_translated(self.name):
                self._port.set_baud(baud)
        except ValueError as error:
            raise LinkError(
                f"the port {self.name} cannot run at {baud} baud",
                why=str(error),
                remedy="choose another speed",
                action=Action.LOWER_BAUD,
            ) from error
        self.baud = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines; see `ControlledLink`."""
        with _loss_translated(self.name):
            self._port.set_lines(dtr=dtr, rts=rts)

    def send_break(self, seconds: float, /) -> None:
        """Send a break; see `ControlledLink`."""
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
        # pyserial raises TypeError where a port was closed during a call: its descriptor is None by then.
        raise LinkError(
            f"the port {name} was lost",
            why=str(error),
            remedy="check the cable and the adapter, reset the board with BOOT0 at 1, and run the command again",
        ) from error
