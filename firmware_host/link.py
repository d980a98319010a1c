"""Bytes to and from a board: a serial device, a pseudo-terminal, or ``socket://host:port``.

A frame goes out in one write, because one split over two packets waits 40 ms for the peer's delayed
acknowledgement. No setting is touched once a port is open, because a pseudo-terminal refuses the second
change: deadlines are kept here instead, over one short timeout of the port.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import termios
import time
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

import serial

from blockota.errors import LinkError, NoAnswerError, UsageError

DEFAULT_BAUD = 115200
"""The highest speed that ST tests its bootloaders at, in bits a second."""
OPEN_TIMEOUT = 5.0
"""Seconds within which a connection is made, and a port takes a frame."""
SLICE = 0.02
"""Seconds that one look at the port waits at most; a deadline is kept to within it."""
QUIET = 0.03
"""Seconds of silence after which a line counts as drained: more than a USB adapter's latency of 16 ms."""
DRAIN_LIMIT = 1.0
"""Seconds after which draining gives up on a line that never falls silent."""

_PARITY_NOTE = "opened without parity, which a pseudo-terminal does not have; a board on a wire needs even"
_LOST_REMEDY = "check the cable and the adapter, reset the board with BOOT0 at 1, and run the command again"
_OPEN_REMEDIES = {
    errno.ENOENT: "plug the adapter in, and name its port (on Linux mostly /dev/ttyUSB0 or /dev/ttyACM0)",
    errno.EACCES: "let your user open serial ports (group dialout on Debian), and log in again",
    errno.EBUSY: "close the other program that holds the port",
    errno.ECONNREFUSED: "start the board or the serial server that should listen there",
}


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


class _Port(Protocol):
    def send(self, data: bytes) -> None: ...
    def receive(self, most: int) -> bytes: ...
    def close(self) -> None: ...


def open_link(url: str, *, baud: int = DEFAULT_BAUD) -> Link:
    """Open the port that a board is on.

    Args:
        url: a serial device, a pseudo-terminal, or ``socket://host:port``.
        baud: bits a second; of no effect on the far side of a socket.

    Raises:
        UsageError: the address of a socket is not of that form, or the speed is not a serial one.
        LinkError: there is no such port, it is busy, or it refuses.
    """
    if "://" in url:
        return _PortLink(_TcpPort(url), name=url, baud=baud)
    port, notes = _open_serial(url, baud)
    return _PortLink(_SerialPort(port), name=url, baud=baud, notes=notes)


class _PortLink:
    """A link with deadlines of its own over any port."""

    def __init__(self, port: _Port, *, name: str, baud: int, notes: tuple[str, ...] = ()) -> None:
        self._port, self.name, self.baud, self.notes = port, name, baud, notes

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

    def _receive(self, most: int) -> bytes:
        with _loss_translated(self.name):
            return self._port.receive(most)


class _SerialPort:
    """A serial device; its timeouts were set before it was opened."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port

    def send(self, data: bytes) -> None:
        self._port.write(data)

    def receive(self, most: int) -> bytes:
        return bytes(self._port.read(most))

    def close(self) -> None:
        self._port.close()


class _TcpPort:
    """A serial line at the far end of a TCP connection."""

    def __init__(self, url: str) -> None:
        host, number = _parse_socket_url(url)
        try:
            self._socket = socket.create_connection((host, number), timeout=OPEN_TIMEOUT)
        except OSError as error:
            raise _cannot_open(url, error) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, most: int) -> bytes:
        readable, _, _ = select.select([self._socket], [], [], SLICE)
        if not readable:
            return b""
        if data := self._socket.recv(most):
            return data
        raise ConnectionResetError(errno.ECONNRESET, "the far side closed the connection")

    def close(self) -> None:
        self._socket.close()


def _parse_socket_url(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        if parts.scheme == "socket" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    raise UsageError(f"{url} names no port", remedy="write a serial device such as /dev/ttyUSB0, or socket://host:port")


def _open_serial(path: str, baud: int) -> tuple[serial.Serial, tuple[str, ...]]:
    """Open with even parity, as AN3155 section 2 asks; without it where the port has none."""
    if _is_pseudo_terminal(path):
        return _open_port(path, baud, parity=serial.PARITY_NONE), (_PARITY_NOTE,)
    return _open_port(path, baud, parity=serial.PARITY_EVEN), ()


def _is_pseudo_terminal(path: str) -> bool:
    # The kernel drops the parity flag there without a word, and refuses the next change of any setting.
    return os.path.realpath(path).startswith("/dev/pts/")


def _open_port(path: str, baud: int, *, parity: str) -> serial.Serial:
    port = serial.Serial(exclusive=True, parity=parity, timeout=SLICE, write_timeout=OPEN_TIMEOUT)
    # Linux raises both lines at open, which on common adapters resets the board: preset them low.
    port.dtr = port.rts = False
    try:
        port.baudrate = baud
        port.port = path
        port.open()
    except ValueError as error:
        raise UsageError(f"{path} cannot be opened at {baud} baud", why=str(error)) from error
    except (OSError, termios.error) as error:
        raise _cannot_open(path, error) from error
    with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)  # a wait of 16 ms an answer less on common USB adapters
    return port


def _cannot_open(url: str, error: OSError | termios.error) -> LinkError:
    number = int((error.errno if isinstance(error, OSError) else error.args[0]) or 0)
    # The exclusive lock says "try again" where another program holds the port.
    number = errno.EBUSY if number == errno.EAGAIN else number
    reason = os.strerror(number) if number in errno.errorcode else str(error)
    remedy = _OPEN_REMEDIES.get(number, "check the port's name and the cable")
    return LinkError(f"the port {url} cannot be opened", why=reason, remedy=remedy)


@contextlib.contextmanager
def _loss_translated(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, termios.error, TypeError) as error:
        # pyserial raises TypeError where a port was closed under it: its descriptor is None by then.
        raise LinkError(f"the port {name} was lost", why=str(error), remedy=_LOST_REMEDY) from error
