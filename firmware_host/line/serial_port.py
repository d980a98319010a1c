"""Serial devices, pseudo-terminals, and serial servers that speak RFC 2217, all through pyserial."""

from __future__ import annotations

import contextlib
import os
import termios
import time
from urllib.parse import urlsplit

import serial

from blockota.errors import UsageError
from firmware_host.line.port_list import OPEN_TIMEOUT, SLICE, cannot_open

RFC2217 = "rfc2217://"
_PARITY_NOTE = "opened without parity, which a pseudo-terminal does not have; a board on a wire needs even"
_REMEDY = "write a serial device such as /dev/ttyUSB0, socket://host:port or rfc2217://host:port"


class SerialPort:
    """A port with even parity, as AN3155 section 2 asks; without it where the port has none.

    Args:
        url: a serial device, a pseudo-terminal or ``rfc2217://host:port``.
        baud: bits a second.

    Attributes:
        notes: what a person should know of how it was opened.
        can_steer: whether it has a speed, control lines and a break.

    Raises:
        UsageError: the address is of another form, or the speed is not a serial one.
        LinkError: there is no such port, it is busy, or it refuses.
    """

    def __init__(self, url: str, baud: int) -> None:
        """Open it; neither control line is asserted, and timeouts are set before."""
        _require_form(url)
        self.can_steer = not _is_pseudo_terminal(url)
        self.notes: tuple[str, ...] = () if self.can_steer else (_PARITY_NOTE,)
        self._port = _open(url, baud, parity=serial.PARITY_EVEN if self.can_steer else serial.PARITY_NONE)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._port.write(data)

    def receive(self, most: int) -> bytes:
        """Wait a moment for bytes; none where none came."""
        return bytes(self._port.read(most))

    def close(self) -> None:
        """Give the port back."""
        self._port.close()

    def set_baud(self, baud: int) -> None:
        """Go on at another speed."""
        self._port.baudrate = baud

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Assert the control lines or not."""
        self._port.dtr, self._port.rts = dtr, rts

    def send_break(self, seconds: float) -> None:
        """Hold the line low for so long."""
        self._port.break_condition = True
        time.sleep(seconds)
        self._port.break_condition = False


def _require_form(url: str) -> None:
    if "://" not in url:
        return
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        if url.startswith(RFC2217) and parts.hostname and parts.port:
            return
    raise UsageError(f"{url} names no port", remedy=_REMEDY)


def _is_pseudo_terminal(path: str) -> bool:
    # The kernel drops the parity flag there without a word, and refuses the next change of any setting.
    return os.path.realpath(path).startswith("/dev/pts/")


def _number(error: BaseException) -> int:
    """The errno; pyserial puts some errors into words, and leaves what it caught behind them."""
    number = error.errno if isinstance(error, OSError) else error.args[0]
    behind = error.__context__
    if number or not isinstance(behind, OSError | termios.error):
        return number or 0
    return _number(behind)


def _open(url: str, baud: int, *, parity: str) -> serial.SerialBase:
    port = serial.serial_for_url(url, do_not_open=True, parity=parity, timeout=SLICE)
    # Linux raises both lines at open, which on common adapters resets the board: preset them low.
    port.dtr = port.rts = False
    if not url.startswith(RFC2217):
        # pyserial's client of RFC 2217 has neither.
        port.exclusive, port.write_timeout = True, OPEN_TIMEOUT
    try:
        port.baudrate = baud
        port.open()
    except ValueError as error:
        raise UsageError(f"{url} cannot be opened at {baud} baud", why=str(error)) from error
    except (OSError, termios.error) as error:
        raise cannot_open(url, error, number=_number(error)) from error
    with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)  # a wait of 16 ms an answer less on common USB adapters
    return port
