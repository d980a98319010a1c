"""A link moves bytes to and from one board, over a serial port or a TCP connection, with deadlines.

A frame is sent in one write, because a frame split over two packets waits 40 ms for the peer's delayed acknowledgement.
A pseudo-terminal refuses the second change of any setting. The timeout of a port therefore never changes: `PortLink`
implements deadlines by repeated reads with one short timeout.

On a line with an echo, the host receives each frame that it sends. The link reads the echo back, compares it with the
frame, and discards it: another sender on the line changes the echo.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from blockota.errors import Action, LinkError, NoAnswerError
from firmware_host.line.ports import BITS_PER_BYTE, PORT_ERRORS, LineMode, Port, open_raw_port

DEFAULT_BAUD = 115200
"""The highest speed at which ST tests its bootloaders, in bits per second."""
QUIET = 0.02
"""Seconds of silence after which a serial line counts as drained, more than a USB adapter's latency of 16 ms."""
DRAIN_LIMIT = 1.0
"""Seconds after which draining ends even if the line is not quiet."""
ECHO_SECONDS = 0.5
"""The maximum delay of an echo, without the transmission time of the frame."""
_LOSSES: tuple[type[Exception], ...] = (*PORT_ERRORS, TypeError)
"""pyserial raises TypeError if a port is closed during a call, because its descriptor is then None."""
_SHOWN = 8


class Link(Protocol):
    """Moves bytes between the host and one board. Every method raises LinkError if the port was lost."""

    @property
    def name(self) -> str:
        """The URL or device of the port, as the caller gave it."""

    @property
    def baud(self) -> int:
        """The speed in bits per second, which determines the transmission time of the bytes."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the operator about how the port was opened."""

    def write(self, data: bytes, /) -> None:
        """Send a whole frame in one write."""

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return exactly `count` bytes; raise NoAnswerError if fewer bytes arrive within `timeout` seconds."""

    def drain(self) -> bytes:
        """Return everything that arrives until the line is quiet."""

    def close(self) -> None:
        """Close the port; does nothing if the port was closed or lost before."""


class ControlledLink(Link, Protocol):
    """A link with a settable speed and control lines. Methods raise LinkError if the port does not support them."""

    @property
    def can_steer(self) -> bool:
        """Whether the port has a speed, control lines and a break."""

    def set_baud(self, baud: int, /) -> None:
        """Change the speed."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines. True asserts a line, which pulls the line's pin low on a TTL adapter."""

    def send_break(self, seconds: float, /) -> None:
        """Send a break for a number of seconds."""


def open_link(url: str, *, baud: int = DEFAULT_BAUD, mode: LineMode | None = None) -> PortLink:
    """Open the port of a board, with neither control line asserted.

    Args:
        url: a serial device, a pseudo-terminal, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits per second; a bare socket ignores the speed.
        mode: how the line is driven; None for even parity and two data wires.

    Raises:
        UsageError: the URL has a different form, or the speed is invalid.
        LinkError: the port does not exist, is busy, cannot be opened, or cannot drive the line in this mode.
    """
    mode = mode or LineMode()
    port = open_raw_port(url, baud=baud, mode=mode)
    return PortLink(port, name=url, baud=baud, echoes=mode.echo)


class PortLink:
    """A link over an open port, with deadlines for reads.

    Args:
        now: returns the time in seconds.

    Attributes:
        echoes: whether each sent frame comes back, and is discarded.
    """

    def __init__(
        self,
        port: Port,
        *,
        name: str,
        baud: int,
        echoes: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port, self.echoes, self._now = port, echoes, now
        self._arrived = b""  # bytes that arrived before an echo, for the next read
        self._has_echoed = False  # an echo was equal to its frame before
        self.name, self.baud, self.notes, self.can_steer = name, baud, port.notes, port.can_steer

    def write(self, data: bytes, /) -> None:
        """Send a whole frame in one write, and compare its echo if the line has one; see `Link`.

        Raises:
            LinkError: the port was lost, or the echo is missing or differs from the frame.
        """
        with _loss_translated(self.name):
            if self.echoes:
                self._arrived += self._port.pending()
            self._port.send(data)
        if self.echoes:
            self._take_echo(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return exactly `count` bytes; see `Link`."""
        deadline = self._now() + timeout
        data, self._arrived = self._arrived[:count], self._arrived[count:]
        if len(data) < count:
            data += self._receive(count - len(data))
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
        drained, self._arrived = self._arrived, b""
        while self._now() < min(deadline, quiet_since + QUIET):
            if data := self._receive(1024):
                drained, quiet_since = drained + data, self._now()
        return drained

    def close(self) -> None:
        """Close the port; see `Link`."""
        with contextlib.suppress(*PORT_ERRORS):
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

    def _take_echo(self, sent: bytes) -> None:
        deadline = self._now() + len(sent) * BITS_PER_BYTE / self.baud + ECHO_SECONDS
        echo = b""
        while len(echo) < len(sent) and self._now() < deadline:
            echo += self._receive(len(sent) - len(echo))
        if echo == sent:
            self._has_echoed = True
            return
        if not (echo and self._has_echoed):
            what = "none came back" if not echo else f"{echo[:_SHOWN].hex(' ')} came back for {sent[:_SHOWN].hex(' ')}"
            count = "1 byte was" if len(sent) == 1 else f"{len(sent)} bytes were"
            raise LinkError(
                f"the line on {self.name} does not return the sent bytes",
                why=f"{count} sent, and {what} within {ECHO_SECONDS:g} s; either the line has no echo, "
                "or another device sends on the line",
                remedy="let only one device send, or omit the echo if the line has none",
                action=Action.OMIT_ECHO,
            )
        at = next((place for place, pair in enumerate(zip(sent, echo, strict=False)) if pair[0] != pair[1]), len(echo))
        heard = echo[at : at + _SHOWN].hex(" ") or "nothing"
        raise LinkError(
            f"the echo on {self.name} differs from the bytes that were sent",
            why=f"byte {at + 1} of {len(sent)} and the next were sent as {sent[at : at + _SHOWN].hex(' ')} and came "
            f"back as {heard}; another device sent at the same time, or the line is disturbed",
            remedy="let only one device send at a time, check ground and termination, reset the board, and run the "
            "command again",
        )


@contextlib.contextmanager
def _loss_translated(name: str) -> Iterator[None]:
    try:
        yield
    except _LOSSES as error:
        raise LinkError(
            f"the port {name} was lost",
            why=str(error),
            remedy="check the cable and the adapter, reset the board with BOOT0 at 1, and run the command again",
        ) from error
