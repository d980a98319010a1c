"""Ports: what every port can do, and the ones that pyserial opens.

pyserial opens serial devices, pseudo-terminals and serial servers that speak RFC 2217. `tcp_port` has the bare socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import termios
import time
from typing import Protocol
from urllib.parse import urlsplit

import serial

from blockota.errors import LinkError, UsageError

SLICE = 0.01
"""The longest that one call of `Port.receive` waits, in seconds; a deadline is kept to within it."""
OPEN_TIMEOUT = 5.0
"""Seconds within which a connection must be made, and a port must accept a frame."""
RFC2217 = "rfc2217://"
_PARITY_NOTE = "opened without parity, which a pseudo-terminal does not have; a board on a wire needs even"

_OPEN_REASONS = {
    errno.ENOTTY: "it is not a serial device",
}
_OPEN_REMEDIES = {
    errno.ENOENT: "plug the adapter in, and name its port (on Linux mostly /dev/ttyUSB0 or /dev/ttyACM0)",
    errno.EACCES: "let your user open serial ports (group dialout on Debian), and log in again",
    errno.EBUSY: "close the other program that uses the port",
    errno.ECONNREFUSED: "start the board or the serial server that should listen there",
    errno.ENOTTY: "name a serial device, such as /dev/ttyUSB0",
}


class Port(Protocol):
    """An open port. It raises OSError and the like, which `link` translates.

    Attributes:
        notes: what the operator should know about how it was opened.
        can_steer: whether it has a speed, control lines and a break.
    """

    notes: tuple[str, ...]
    can_steer: bool

    def send(self, data: bytes) -> None:
        """Send all bytes."""

    def receive(self, most: int) -> bytes:
        """Return up to `most` bytes; empty if none arrive within `SLICE`."""

    def close(self) -> None:
        """Close the port."""

    def set_baud(self, baud: int) -> None:
        """Change the speed."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines."""

    def send_break(self, seconds: float) -> None:
        """Send a break of this length."""


class SerialPort:
    """A port with even parity, as AN3155 section 2 requires; without parity on a pseudo-terminal.

    Args:
        url: a serial device, a pseudo-terminal or ``rfc2217://host:port``.
        baud: bits per second.

    Raises:
        UsageError: the URL has another form, or the speed is invalid.
        LinkError: the port does not exist, is busy, or cannot be opened.
    """

    def __init__(self, url: str, baud: int) -> None:
        _require_form(url)
        # A pseudo-terminal drops the parity flag silently, and refuses the second change of any setting.
        self.can_steer = not os.path.realpath(url).startswith("/dev/pts/")
        self.notes: tuple[str, ...] = () if self.can_steer else (_PARITY_NOTE,)
        self._port = _open(url, baud, parity=serial.PARITY_EVEN if self.can_steer else serial.PARITY_NONE)

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        self._port.write(data)

    def receive(self, most: int) -> bytes:
        """Return up to `most` bytes; empty if none arrive within `SLICE`."""
        return bytes(self._port.read(most))

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    def set_baud(self, baud: int) -> None:
        """Change the speed."""
        self._port.baudrate = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both control lines."""
        self._port.dtr, self._port.rts = dtr, rts

    def send_break(self, seconds: float) -> None:
        """Send a break of this length."""
        self._port.break_condition = True
        time.sleep(seconds)
        self._port.break_condition = False


def cannot_open(url: str, reason: BaseException, *, number: int) -> LinkError:
    """Return the error for a port that cannot be opened.

    Args:
        url: the port as the caller gave it.
        reason: the exception.
        number: its errno, or 0.
    """
    # pyserial's exclusive lock fails with EAGAIN where another program has the port.
    number = errno.EBUSY if number == errno.EAGAIN else number
    why = _OPEN_REASONS.get(number) or (os.strerror(number) if number in errno.errorcode else str(reason))
    remedy = _OPEN_REMEDIES.get(number, "check the port's name and the cable")
    # pyserial reports a failed negotiation with the state of each Telnet option, and without an errno.
    if "RFC2217" in why:
        why, remedy = "no serial server that speaks RFC 2217 answers there", "try socket:// in place of rfc2217://"
    return LinkError(f"the port {url} cannot be opened", why=why, remedy=remedy)


def _require_form(url: str) -> None:
    if "://" not in url:
        return
    parts = urlsplit(url)
    # `parts.port` raises ValueError where it is not a number.
    with contextlib.suppress(ValueError):
        if url.startswith(RFC2217) and parts.hostname and parts.port:
            return
    remedy = "write a serial device such as /dev/ttyUSB0, socket://host:port or rfc2217://host:port"
    raise UsageError(f"{url} names no port", remedy=remedy)


def _open(url: str, baud: int, *, parity: str) -> serial.SerialBase:
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
        raise cannot_open(url, error, number=_errno(error)) from error
    # Common USB adapters then answer at once and not after 16 ms. Not every driver supports it.
    with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port


def _errno(error: BaseException) -> int:
    """Return the errno; pyserial replaces some exceptions by one without, and keeps the first as the context."""
    number = error.errno if isinstance(error, OSError) else error.args[0]
    cause = error.__context__
    if number or not isinstance(cause, OSError | termios.error):
        return number or 0
    return _errno(cause)
