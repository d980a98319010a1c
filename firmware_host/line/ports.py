"""Open ports: serial devices, pseudo-terminals, RFC 2217 serial servers, and bare TCP connections.

pyserial opens all ports except bare TCP connections, because its class for sockets waits 0.3 s when it is closed.

A frame is sent in one write. A frame that is split over two packets would wait 40 ms for the peer's delayed
acknowledgement. A pseudo-terminal refuses a second change of its settings, so the timeout of a port never changes.
`PortLink` implements a deadline by repeated reads, which all have the same short timeout.

On a line with an echo, the host receives each frame that it sends. The link reads the echo back, compares it with the
frame, and discards it. A changed echo reveals another sender on the line.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NoReturn
from urllib.parse import urlsplit

import serial
from serial.rs485 import RS485Settings

from blockota.errors import Action, LinkError, NoAnswerError, UsageError
from firmware_host.line.link import BITS_PER_BYTE, DEFAULT_BAUD, QUIET, LineMode, Link, Parity
from firmware_host.line.port_names import example, group_of, is_pseudo_terminal, open_remedy, user_of

PORT_ERRORS: tuple[type[Exception], ...] = (OSError,)
"""The exceptions with which the operating system and pyserial report a failed port."""
with contextlib.suppress(ImportError):  # Windows has no termios, and pyserial raises only OSError there
    import termios

    PORT_ERRORS = (OSError, termios.error)
SLICE = 0.01
"""The maximum time in seconds that one read of a port waits. It is also the precision of deadlines."""
DRAIN_LIMIT = 1.0
"""Seconds after which draining ends even if the line is not quiet."""
ECHO_SECONDS = 0.5
"""The maximum delay of an echo in seconds, without the transmission time of the frame."""
_LOSSES: tuple[type[Exception], ...] = (*PORT_ERRORS, TypeError)
"""The exceptions that mean a lost port. pyserial raises TypeError if a port is closed during a call, because its
descriptor is then None."""
_SHOWN = 8
OPEN_TIMEOUT = 5.0
"""The timeout in seconds for opening a connection, and for a port to accept a frame."""
SOCKET, RFC2217 = "socket://", "rfc2217://"
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+")
_PARITY_NOTE = "opened without parity, because a pseudo-terminal has none; a board on a wire needs even parity"
_REFUSALS: tuple[type[Exception], ...] = (*PORT_ERRORS, ValueError, NotImplementedError)
"""The exceptions with which pyserial reports that a driver has no mode for RS485."""
_RS485_NOTE = "RTS is switched by commands over the network: a board that answers at once may be heard too late"
_WINDOWS_ERRORS = {"FileNotFoundError": errno.ENOENT, "PermissionError": errno.EACCES}
"""The names of the exceptions in pyserial's messages on Windows, where its exceptions have no error number."""


def open_link(url: str, *, baud: int = DEFAULT_BAUD, mode: LineMode | None = None) -> PortLink:
    """Open the port of a board, with neither control line asserted. A ``socket://`` connection ignores the speed.

    Raises:
        UsageError: the URL does not name a serial port, or the speed is invalid.
        LinkError: the port does not exist, is busy, cannot be opened, or cannot drive the line in this mode.
    """
    return (_TcpLink if url.startswith(SOCKET) else _SerialLink)(url, baud, mode or LineMode())


class PortLink(Link):
    """An open port, with deadlines for reads.

    If the port `echoes`, each sent frame comes back and is discarded.
    """

    def __init__(
        self, name: str, baud: int, *, echoes: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.baud, self.echoes, self._now = name, baud, echoes, now
        self._arrived = b""  # bytes that arrived before an echo, for the next read
        self._has_echoed = False  # an echo was equal to its frame before

    @abstractmethod
    def _send(self, data: bytes) -> None:
        """Send all bytes."""

    @abstractmethod
    def _take(self, most: int) -> bytes:
        """Return up to `most` bytes, or empty bytes if no byte arrives within `SLICE` seconds."""

    @abstractmethod
    def _pending(self) -> bytes:
        """Return the bytes that have arrived, without waiting."""

    def write(self, data: bytes, /) -> None:
        """Send a whole frame in one write.

        Raises LinkError if the echo of the frame is missing or differs.
        """
        with _loss_translated(self.name):
            if self.echoes:
                self._arrived += self._pending()
            self._send(data)
        if self.echoes:
            self._take_echo(data)

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return exactly `count` bytes, as `Link.read` does."""
        deadline = self._now() + timeout
        data, self._arrived = self._arrived[:count], self._arrived[count:]
        while len(data) < count:
            data += self._receive(count - len(data))
            if len(data) < count and self._now() >= deadline:
                raise NoAnswerError(
                    f"the board on {self.name} is silent",
                    why=f"{len(data)} of {count} bytes came within {timeout:.1f} s",
                )
        return data

    def drain(self) -> bytes:
        """Return all bytes that arrive until the line is quiet, as `Link.drain` does."""
        quiet_since = self._now()
        deadline = quiet_since + DRAIN_LIMIT
        drained, self._arrived = self._arrived, b""
        while self._now() < min(deadline, quiet_since + QUIET):
            if data := self._receive(1024):
                drained, quiet_since = drained + data, self._now()
        return drained

    def _receive(self, most: int) -> bytes:
        with _loss_translated(self.name):
            return self._take(most)

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
                remedy="let only one device send; if the line has no echo, omit the echo mode",
                action=Action.OMIT_ECHO,
            )

        at = next((place for place, pair in enumerate(zip(sent, echo, strict=False)) if pair[0] != pair[1]), len(echo))
        heard = echo[at : at + _SHOWN].hex(" ") or "nothing"
        raise LinkError(
            f"the echo on {self.name} differs from the bytes that were sent",
            why=f"from byte {at + 1} of {len(sent)} on, the frame was sent as {sent[at : at + _SHOWN].hex(' ')} and "
            f"came back as {heard}; another device sent at the same time, or the line is disturbed",
            remedy="let only one device send at a time, check ground and termination, reset the board, and run the "
            "command again",
        )


class _SerialLink(PortLink):
    """A port that pyserial opens."""

    def __init__(self, url: str, baud: int, mode: LineMode) -> None:
        super().__init__(url, baud, echoes=mode.echo)
        if "://" in url:
            _host_and_port(url, scheme=RFC2217)
        self._mode, self._is_remote = mode, url.startswith(RFC2217)
        # A pseudo-terminal drops the parity flag silently, and refuses the second change of any setting.
        self.can_steer = not is_pseudo_terminal(url)
        parity = mode.parity if self.can_steer else Parity.NONE
        if parity is not mode.parity:
            self.notes = (_PARITY_NOTE,)
        if mode.rs485 and self._is_remote:
            self.notes = (*self.notes, _RS485_NOTE)
        self._port = _open_serial(url, baud, parity=parity, mode=mode)

    def set_baud(self, baud: int, /) -> None:
        try:
            with _loss_translated(self.name):
                self._port.baudrate = baud
        except ValueError as error:
            raise LinkError(
                f"the port {self.name} cannot run at {baud} baud",
                why=str(error),
                remedy="choose another speed",
                action=Action.LOWER_BAUD,
            ) from error
        self.baud = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        with _loss_translated(self.name):
            self._port.dtr = dtr
            if not self._mode.rs485:
                self._port.rts = rts

    def send_break(self, seconds: float, /) -> None:
        with _loss_translated(self.name):
            self._port.break_condition = True
            time.sleep(seconds)
            self._port.break_condition = False

    def close(self) -> None:
        with contextlib.suppress(*PORT_ERRORS):
            self._port.close()

    def _send(self, data: bytes) -> None:
        if not (self._mode.rs485 and self._is_remote):
            self._port.write(data)
            return
        # RFC 2217 has no command for RS485: switch the transceiver around each frame.
        self._port.rts = not self._mode.invert_rs485
        self._port.write(data)
        time.sleep(len(data) * BITS_PER_BYTE / self._port.baudrate)
        self._port.rts = self._mode.invert_rs485

    def _take(self, most: int) -> bytes:
        return bytes(self._port.read(most))

    def _pending(self) -> bytes:
        return bytes(self._port.read(waiting)) if (waiting := self._port.in_waiting) else b""


class _TcpLink(PortLink):
    """A bare TCP connection to a serial line, which has neither a speed nor control lines."""

    def __init__(self, url: str, baud: int, mode: LineMode) -> None:
        super().__init__(url, baud, echoes=mode.echo)
        address = _host_and_port(url, scheme=SOCKET)
        if mode.rs485:
            remedy = "let the serial server switch the transceiver, in its own settings"
            raise self._unsupported("switch an RS485 transceiver", remedy, Action.SWITCH_RS485_ELSEWHERE)
        try:
            self._socket = socket.create_connection(address, timeout=OPEN_TIMEOUT)
        except OSError as error:
            raise _cannot_open(url, error) from error
        # Without this option a frame in two packets waits 40 ms for a delayed acknowledgement (Nagle's algorithm).
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def set_baud(self, baud: int, /) -> NoReturn:
        raise self._unsupported(f"run at {baud} baud")

    def set_lines(self, *, dtr: bool, rts: bool) -> NoReturn:
        raise self._unsupported(f"set DTR to {int(dtr)} and RTS to {int(rts)}")

    def send_break(self, seconds: float, /) -> NoReturn:
        raise self._unsupported(f"send a break of {seconds:g} s")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _take(self, most: int, *, seconds: float = SLICE) -> bytes:
        readable, _, _ = select.select([self._socket], [], [], seconds)
        if not readable:
            return b""
        if data := self._socket.recv(most):
            return data
        raise ConnectionResetError(errno.ECONNRESET, "the serial server closed the connection")

    def _pending(self) -> bytes:
        return self._take(1 << 16, seconds=0)

    def _unsupported(
        self,
        what: str,
        remedy: str = "use a serial server that speaks RFC 2217, or reset the board by hand",
        action: Action = Action.RESET_BY_HAND,
    ) -> LinkError:
        why = "a socket:// connection carries only bytes"
        return LinkError(f"{self.name} cannot {what}", why=why, remedy=remedy, action=action)


@contextlib.contextmanager
def _loss_translated(name: str) -> Iterator[None]:
    try:
        yield
    except _LOSSES as error:
        raise LinkError(
            f"the port {name} was lost",
            why=getattr(error, "strerror", None) or str(error),  # without the number of the error
            remedy="check the cable and the adapter, reset the board with BOOT0 at 1, and run the command again",
        ) from error


def _host_and_port(url: str, *, scheme: str) -> tuple[str, int]:
    parts = urlsplit(url)
    # `parts.port` raises ValueError if the port is not a number.
    with contextlib.suppress(ValueError):
        if url.startswith(scheme) and parts.hostname and parts.port:
            return parts.hostname, parts.port
    remedy = f"write a serial device such as {example()}, socket://host:port or rfc2217://host:port"
    raise UsageError(f"{url} does not name a serial port", remedy=remedy)


def _cannot_open(url: str, reason: BaseException) -> LinkError:
    # pyserial's exclusive lock fails with EAGAIN if another program uses the port.
    number = _errno(reason)
    number = errno.EBUSY if number == errno.EAGAIN else number
    why = os.strerror(number) if number in errno.errorcode else str(reason)
    remedy, action = open_remedy(number, group=group_of(url)), None

    if number == errno.EBUSY and (program := user_of(url)):
        why = f"{why}, {program} uses it"
    if number == errno.ENOENT:
        action = Action.LIST_PORTS
        if _HOST_AND_PORT.fullmatch(url):
            remedy, action = f"write {SOCKET}{url} or {RFC2217}{url} for a board on a serial server", None
    if isinstance(reason, socket.gaierror) or isinstance(reason.__context__, socket.gaierror):
        why, remedy = "the host's name cannot be resolved", "check the host's name, and the network"
    if number == errno.ENOTTY:
        why = "it is not a serial device"

    # pyserial reports a failed negotiation with the state of each Telnet option, and without an errno.
    if "RFC2217" in why:
        why, remedy = "no RFC 2217 serial server answers at this address", "try socket:// in place of rfc2217://"
    return LinkError(f"the port {url} cannot be opened", why=why, remedy=remedy, action=action)


def _open_serial(url: str, baud: int, *, parity: Parity, mode: LineMode) -> serial.Serial:
    bit = serial.PARITY_EVEN if parity is Parity.EVEN else serial.PARITY_NONE
    port = serial.serial_for_url(url, do_not_open=True, parity=bit, timeout=SLICE)

    # Linux raises both lines on open, which resets the board on common adapters: preset them low.
    port.dtr = port.rts = False
    # pyserial's RFC 2217 client supports none of these settings.
    if not url.startswith(RFC2217):
        port.exclusive, port.write_timeout = True, OPEN_TIMEOUT
    elif mode.rs485:
        port.rts = mode.invert_rs485

    try:
        port.baudrate = baud
        port.open()
    except ValueError as error:
        raise UsageError(f"{url} cannot be opened at {baud} baud", why=str(error)) from error
    except PORT_ERRORS as error:
        raise _cannot_open(url, error) from error

    if mode.rs485 and not url.startswith(RFC2217):
        _let_driver_switch(port, url, mode)
    # In this mode common USB adapters pass answers on at once and not after 16 ms. Not every driver supports it.
    with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port


def _let_driver_switch(port: serial.Serial, url: str, mode: LineMode) -> None:
    """Let the driver switch the transceiver by RTS.

    A program that switches RTS itself would be too slow for the ROM's answers.
    """
    try:
        port.rs485_mode = RS485Settings(
            rts_level_for_tx=not mode.invert_rs485, rts_level_for_rx=mode.invert_rs485, loopback=mode.echo
        )
    except _REFUSALS as error:
        port.close()
        raise LinkError(
            f"the driver of {url} cannot switch an RS485 transceiver by RTS",
            why=str(error),
            remedy="use an adapter that switches the transceiver itself",
            action=Action.SWITCH_RS485_ELSEWHERE,
        ) from error


def _errno(error: BaseException) -> int:
    """Return the errno of an exception.

    Some errors of pyserial have no errno, so the errno of their context is used.
    """
    number = error.errno if isinstance(error, OSError) else error.args[0]
    if isinstance(number, int) and number:
        return number
    if isinstance(error.__context__, PORT_ERRORS):
        return _errno(error.__context__)
    return next((number for name, number in _WINDOWS_ERRORS.items() if name in str(error)), 0)
