"""Open ports, without deadlines: serial devices, pseudo-terminals, RFC 2217 serial servers, and bare TCP connections.

pyserial opens all of them but bare TCP connections: pyserial's class for sockets waits 0.3 s when it is closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

import serial
from serial.rs485 import RS485Settings

from blockota.errors import Action, LinkError, UsageError
from firmware_host.line.port_names import example, group_of, is_pseudo_terminal, open_remedy, user_of

PORT_ERRORS: tuple[type[Exception], ...] = (OSError,)
"""The exceptions with which the operating system and pyserial report a failed port."""
with contextlib.suppress(ImportError):  # Windows has no termios, and pyserial raises only OSError there
    import termios

    PORT_ERRORS = (OSError, termios.error)
SLICE = 0.01
"""The maximum time that one call of a port's `receive` waits, in seconds; also the precision of deadlines."""
OPEN_TIMEOUT = 5.0
"""The timeout for opening a connection, and for a port to accept a frame, in seconds."""
BITS_PER_BYTE = 11
"""The maximum number of bits of a byte on the wire: start bit, eight data bits, parity, stop bit."""
SOCKET, RFC2217 = "socket://", "rfc2217://"
_PARITY_NOTE = "opened without parity, because a pseudo-terminal has none; a board on a wire needs even parity"
_REFUSALS: tuple[type[Exception], ...] = (*PORT_ERRORS, ValueError, NotImplementedError)
"""The exceptions with which pyserial reports that a driver has no mode for RS485."""
_RS485_NOTE = "RTS is switched by commands over the network: a board that answers at once may be heard too late"
_WINDOWS_ERRORS = {"FileNotFoundError": errno.ENOENT, "PermissionError": errno.EACCES}
"""The names of the exceptions in pyserial's messages on Windows, where its exceptions have no error number."""


PLAIN = "plain"
MODES = (PLAIN, "no-parity", "echo", "rs485", "rs485-inverted")
"""The words of which the name of a mode consists."""


class Parity(Enum):
    """The parity bit of the serial line."""

    EVEN = "even"
    NONE = "none"


@dataclass(frozen=True)
class LineMode:
    """How the serial line is driven. The default is the line of AN3155 section 2: even parity and two data wires.

    Attributes:
        parity: the parity bit; the boot ROM of an STM32 needs even parity.
        echo: whether the host receives the bytes that it sends, as on one wire or on many RS485 transceivers.
        rs485: whether the port's RTS switches an RS485 transceiver to sending.
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

        Raises:
            UsageError: a word is unknown, or two words exclude each other.
        """
        words = text.split(",")
        unknown = [word for word in words if word not in MODES]
        pairs = (("rs485", "rs485-inverted"), *((PLAIN, word) for word in MODES[1:]))
        contradicting = [pair for pair in pairs if set(pair) <= set(words)]
        if unknown or contradicting:
            why = f"{unknown[0]!r:.80} is not one of {', '.join(MODES)}" if unknown else ""
            why = why or f"{contradicting[0][0]} and {contradicting[0][1]} exclude each other"
            raise UsageError(f"the mode {text!r:.80} of the line is not known", why=why, remedy="correct the mode")
        inverted = "rs485-inverted" in words
        parity = Parity.NONE if "no-parity" in words else Parity.EVEN
        return cls(parity, echo="echo" in words, rs485=inverted or "rs485" in words, invert_rs485=inverted)


class Port(Protocol):
    """An open port, without deadlines. `link.PortLink` translates the exceptions of the operating system.

    `notes` and `can_steer` have the same meaning as in a link.
    """

    notes: tuple[str, ...]
    can_steer: bool

    def send(self, data: bytes) -> None:
        """Send all bytes."""

    def receive(self, most: int) -> bytes:
        """Return up to `most` bytes, or empty bytes if no byte arrives within `SLICE` seconds."""

    def pending(self) -> bytes:
        """Return the bytes that have arrived, without waiting."""

    def close(self) -> None:
        """Close the port."""

    def set_baud(self, baud: int) -> None:
        """Change the speed."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines."""

    def send_break(self, seconds: float) -> None:
        """Send a break."""


def open_raw_port(url: str, *, baud: int, mode: LineMode) -> Port:
    """Open a port, with neither control line asserted.

    Raises:
        UsageError: the URL has no known form, or the speed is invalid.
        LinkError: the port does not exist, is busy, cannot be opened, or cannot drive the line in this mode.
    """
    return _TcpPort(url, mode) if url.startswith(SOCKET) else _SerialPort(url, baud, mode)


class _SerialPort:
    """A port that pyserial opens."""

    def __init__(self, url: str, baud: int, mode: LineMode) -> None:
        if "://" in url:
            _host_and_port(url, scheme=RFC2217)
        self._mode, self._is_remote = mode, url.startswith(RFC2217)
        # A pseudo-terminal drops the parity flag silently, and refuses the second change of any setting.
        self.can_steer = not is_pseudo_terminal(url)
        parity = mode.parity if self.can_steer else Parity.NONE
        self.notes: tuple[str, ...] = (_PARITY_NOTE,) if parity is not mode.parity else ()
        if mode.rs485 and self._is_remote:
            self.notes = (*self.notes, _RS485_NOTE)
        self._port = _open_serial(url, baud, parity=parity, mode=mode)

    def send(self, data: bytes) -> None:
        if not (self._mode.rs485 and self._is_remote):
            self._port.write(data)
            return
        # RFC 2217 has no command for RS485: switch the transceiver around each frame.
        self._port.rts = not self._mode.invert_rs485
        self._port.write(data)
        time.sleep(len(data) * BITS_PER_BYTE / self._port.baudrate)
        self._port.rts = self._mode.invert_rs485

    def receive(self, most: int) -> bytes:
        return bytes(self._port.read(most))

    def pending(self) -> bytes:
        return bytes(self._port.read(waiting)) if (waiting := self._port.in_waiting) else b""

    def close(self) -> None:
        self._port.close()

    def set_baud(self, baud: int) -> None:
        self._port.baudrate = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        self._port.dtr = dtr
        if not self._mode.rs485:
            self._port.rts = rts

    def send_break(self, seconds: float) -> None:
        self._port.break_condition = True
        time.sleep(seconds)
        self._port.break_condition = False


class _TcpPort:
    """A bare TCP connection to a serial line: bytes only, without speed or control lines."""

    notes: tuple[str, ...] = ()
    can_steer = False

    def __init__(self, url: str, mode: LineMode) -> None:
        self._url = url
        address = _host_and_port(url, scheme=SOCKET)
        if mode.rs485:
            raise self._unsupported("switch an RS485 transceiver", Action.SWITCH_RS485_ELSEWHERE)
        try:
            self._socket = socket.create_connection(address, timeout=OPEN_TIMEOUT)
        except OSError as error:
            raise _cannot_open(url, error) from error
        # Without this option a frame in two packets waits 40 ms for a delayed acknowledgement (Nagle's algorithm).
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, most: int) -> bytes:
        return self._received(most, seconds=SLICE)

    def pending(self) -> bytes:
        return self._received(1 << 16, seconds=0)

    def close(self) -> None:
        self._socket.close()

    def set_baud(self, baud: int) -> NoReturn:
        raise self._unsupported(f"run at {baud} baud")

    def set_lines(self, *, dtr: bool, rts: bool) -> NoReturn:
        raise self._unsupported(f"set DTR to {int(dtr)} and RTS to {int(rts)}")

    def send_break(self, seconds: float) -> NoReturn:
        raise self._unsupported(f"send a break of {seconds:g} s")

    def _received(self, most: int, *, seconds: float) -> bytes:
        readable, _, _ = select.select([self._socket], [], [], seconds)
        if not readable:
            return b""
        if data := self._socket.recv(most):
            return data
        raise ConnectionResetError(errno.ECONNRESET, "the serial server closed the connection")

    def _unsupported(self, what: str, action: Action = Action.RESET_BY_HAND) -> LinkError:
        remedy = "use a serial server that speaks RFC 2217, or reset the board by hand"
        if action is Action.SWITCH_RS485_ELSEWHERE:
            remedy = "let the serial server switch the transceiver, in its own settings"
        return LinkError(
            f"{self._url} cannot {what}",
            why="a socket:// connection carries only bytes",
            remedy=remedy,
            action=action,
        )


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
    """Ask the driver to switch the transceiver by RTS. The ROM answers too soon for a program that switches RTS.

    Raises:
        LinkError: the driver cannot do this.
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
    """Return the errno of an exception or of its context, because pyserial raises some errors without an errno."""
    number = error.errno if isinstance(error, OSError) else error.args[0]
    if isinstance(number, int) and number:
        return number
    if isinstance(error.__context__, PORT_ERRORS):
        return _errno(error.__context__)
    return next((number for name, number in _WINDOWS_ERRORS.items() if name in str(error)), 0)
