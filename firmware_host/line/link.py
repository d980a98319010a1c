"""A link moves bytes to and from one board, over a serial port or a TCP connection, with deadlines.

pyserial opens serial devices, pseudo-terminals and serial servers that speak RFC 2217. This module has its own class
for bare sockets, because pyserial's socket class waits 0.3 s when it is closed.

A frame is sent in one write, because a frame split over two packets waits 40 ms for the peer's delayed acknowledgement.
A pseudo-terminal refuses the second change of any setting. The timeout of a port therefore never changes: `PortLink`
implements deadlines by repeated reads with one short timeout.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import termios
import time
from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

import serial

from blockota.errors import Action, LinkError, NoAnswerError, UsageError

DEFAULT_BAUD = 115200
"""The highest speed at which ST tests its bootloaders, in bits per second."""
QUIET = 0.02
"""Seconds of silence after which a serial line counts as drained, more than a USB adapter's latency of 16 ms."""
DRAIN_LIMIT = 1.0
"""Seconds after which draining ends even if the line is not quiet."""
SLICE = 0.01
"""The maximum time that one call of a port's `receive` waits, in seconds; also the precision of deadlines."""
OPEN_TIMEOUT = 5.0
"""The timeout for opening a connection, and for a port to accept a frame, in seconds."""
SOCKET, RFC2217 = "socket://", "rfc2217://"
_PARITY_NOTE = "opened without parity, because a pseudo-terminal has none; a board on a wire needs even parity"
_OPEN_REMEDIES = {
    errno.ENOENT: "plug the adapter in, and name its port (on Linux mostly /dev/ttyUSB0 or /dev/ttyACM0)",
    errno.EACCES: "let your user open serial ports (group dialout on Debian), and log in again",
    errno.EBUSY: "close the other program that uses the port",
    errno.ECONNREFUSED: "start the board or the serial server that should listen there",
    errno.ENOTTY: "name a serial device, such as /dev/ttyUSB0",
}


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


def open_link(url: str, *, baud: int = DEFAULT_BAUD) -> ControlledLink:
    """Open the port of a board, with neither control line asserted.

    Args:
        url: a serial device, a pseudo-terminal, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits per second; a bare socket ignores the speed.

    Raises:
        UsageError: the URL has a different form, or the speed is invalid.
        LinkError: the port does not exist, is busy, or cannot be opened.
    """
    port = _TcpPort(url) if url.startswith(SOCKET) else _SerialPort(url, baud)
    return PortLink(port, name=url, baud=baud)


class PortLink:
    """A link over an open port, with deadlines for reads."""

    def __init__(self, port: _Port, *, name: str, baud: int, now: Callable[[], float] = time.monotonic) -> None:
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


class _Port(Protocol):
    """An open port, without deadlines. `PortLink` translates the exceptions of the operating system.

    `notes` and `can_steer` have the same meaning as in a link. `receive` returns up to `most` bytes, or empty bytes if
    no byte arrives within `SLICE` seconds.
    """

    notes: tuple[str, ...]
    can_steer: bool

    def send(self, data: bytes) -> None: ...
    def receive(self, most: int) -> bytes: ...
    def close(self) -> None: ...
    def set_baud(self, baud: int) -> None: ...
    def set_lines(self, *, dtr: bool, rts: bool) -> None: ...
    def send_break(self, seconds: float) -> None: ...


class _SerialPort:
    """A port with even parity, as AN3155 section 2 requires; without parity on a pseudo-terminal."""

    def __init__(self, url: str, baud: int) -> None:
        if "://" in url:
            _host_and_port(url, scheme=RFC2217)
        # A pseudo-terminal drops the parity flag silently, and refuses the second change of any setting.
        self.can_steer = not os.path.realpath(url).startswith("/dev/pts/")
        self.notes: tuple[str, ...] = () if self.can_steer else (_PARITY_NOTE,)
        self._port = _open_serial(url, baud, parity=serial.PARITY_EVEN if self.can_steer else serial.PARITY_NONE)

    def send(self, data: bytes) -> None:
        self._port.write(data)

    def receive(self, most: int) -> bytes:
        return bytes(self._port.read(most))

    def close(self) -> None:
        self._port.close()

    def set_baud(self, baud: int) -> None:
        self._port.baudrate = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        self._port.dtr, self._port.rts = dtr, rts

    def send_break(self, seconds: float) -> None:
        self._port.break_condition = True
        time.sleep(seconds)
        self._port.break_condition = False


class _TcpPort:
    """A bare TCP connection to a serial line: bytes only, without speed or control lines."""

    notes: tuple[str, ...] = ()
    can_steer = False

    def __init__(self, url: str) -> None:
        self._url = url
        address = _host_and_port(url, scheme=SOCKET)
        try:
            self._socket = socket.create_connection(address, timeout=OPEN_TIMEOUT)
        except OSError as error:
            raise _cannot_open(url, error, number=error.errno or 0) from error
        # Without this option a frame in two packets waits 40 ms for a delayed acknowledgement (Nagle's algorithm).
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, most: int) -> bytes:
        readable, _, _ = select.select([self._socket], [], [], SLICE)
        if not readable:
            return b""
        if data := self._socket.recv(most):
            return data
        raise ConnectionResetError(errno.ECONNRESET, "the serial server closed the connection")

    def close(self) -> None:
        self._socket.close()

    def set_baud(self, baud: int) -> NoReturn:
        raise self._unsupported(f"run at {baud} baud")

    def set_lines(self, *, dtr: bool, rts: bool) -> NoReturn:
        raise self._unsupported(f"set DTR to {int(dtr)} and RTS to {int(rts)}")

    def send_break(self, seconds: float) -> NoReturn:
        raise self._unsupported(f"send a break of {seconds:g} s")

    def _unsupported(self, what: str) -> LinkError:
        return LinkError(
            f"{self._url} cannot {what}",
            why="a socket:// connection carries only bytes",
            remedy="use a serial server that speaks RFC 2217, or reset the board by hand",
            action=Action.RESET_BY_HAND,
        )


def _host_and_port(url: str, *, scheme: str) -> tuple[str, int]:
    parts = urlsplit(url)
    # `parts.port` raises ValueError if the port is not a number.
    with contextlib.suppress(ValueError):
        if url.startswith(scheme) and parts.hostname and parts.port:
            return parts.hostname, parts.port
    remedy = "write a serial device such as /dev/ttyUSB0, socket://host:port or rfc2217://host:port"
    raise UsageError(f"{url} does not name a serial port", remedy=remedy)


def _open_serial(url: str, baud: int, *, parity: str) -> serial.SerialBase:
    port = serial.serial_for_url(url, do_not_open=True, parity=parity, timeout=SLICE)
    # Linux raises both lines on open, which resets the board on common adapters: preset them low.
    port.dtr = port.rts = False
    # pyserial's RFC 2217 client supports neither of these two settings.
    if not url.startswith(RFC2217):
        port.exclusive, port.write_timeout = True, OPEN_TIMEOUT
    try:
        port.baudrate = baud
        port.open()
    except ValueError as error:
        raise UsageError(f"{url} cannot be opened at {baud} baud", why=str(error)) from error
    except (OSError, termios.error) as error:
        raise _cannot_open(url, error, number=_errno(error)) from error
    # In this mode common USB adapters pass answers on at once and not after 16 ms. Not every driver supports it.
    with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port


def _cannot_open(url: str, reason: BaseException, *, number: int) -> LinkError:
    # pyserial's exclusive lock fails with EAGAIN if another program uses the port.
    number = errno.EBUSY if number == errno.EAGAIN else number
    why = os.strerror(number) if number in errno.errorcode else str(reason)
    remedy = _OPEN_REMEDIES.get(number, "check the port's name and the cable")
    if number == errno.ENOTTY:
        why = "it is not a serial device"
    # pyserial reports a failed negotiation with the state of each Telnet option, and without an errno.
    if "RFC2217" in why:
        why, remedy = "no RFC 2217 serial server answers at this address", "try socket:// in place of rfc2217://"
    return LinkError(f"the port {url} cannot be opened", why=why, remedy=remedy)


def _errno(error: BaseException) -> int:
    """Return the errno of an exception or of its context, because pyserial raises some errors without an errno."""
    number = error.errno if isinstance(error, OSError) else error.args[0]
    cause = error.__context__
    if number or not isinstance(cause, OSError | termios.error):
        return number or 0
    return _errno(cause)


@contextlib.contextmanager
def _loss_translated(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, termios.error, TypeError) as error:
        # pyserial raises TypeError if a port is closed during a call, because its descriptor is then None.
        raise LinkError(
            f"the port {name} was lost",
            why=str(error),
            remedy="check the cable and the adapter, reset the board with BOOT0 at 1, and run the command again",
        ) from error
