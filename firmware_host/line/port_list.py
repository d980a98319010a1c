"""What a port must be able to do, and what is said when one cannot be opened."""

from __future__ import annotations

import errno
import os
from typing import Protocol

from blockota.errors import LinkError

SLICE = 0.01
"""Seconds that one look at a port waits at most; a deadline is kept to within it."""
OPEN_TIMEOUT = 5.0
"""Seconds within which a connection is made, and a port takes a frame."""
LOST_REMEDY = "check the cable and the adapter, reset the board with BOOT0 at 1, and run the command again"
_OPEN_REMEDIES = {
    errno.ENOENT: "plug the adapter in, and name its port (on Linux mostly /dev/ttyUSB0 or /dev/ttyACM0)",
    errno.EACCES: "let your user open serial ports (group dialout on Debian), and log in again",
    errno.EBUSY: "close the other program that holds the port",
    errno.ECONNREFUSED: "start the board or the serial server that should listen there",
    errno.ENOTTY: "name one, such as /dev/ttyUSB0",
}
_OPEN_REASONS = {errno.ENOTTY: "it is no serial device"}


class Port(Protocol):
    """An open port. Its errors are OSError and the like: `link` translates them.

    Attributes:
        notes: what a person should know of how it was opened.
        can_steer: whether it has a speed, control lines and a break.
    """

    notes: tuple[str, ...]
    can_steer: bool

    def send(self, data: bytes) -> None:
        """Send all of it."""

    def receive(self, most: int) -> bytes:
        """Wait a moment for bytes; none where none came."""

    def close(self) -> None:
        """Give the port back."""

    def set_baud(self, baud: int) -> None:
        """Go on at another speed."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Assert the control lines or not."""

    def send_break(self, seconds: float) -> None:
        """Hold the line low for so long."""


def cannot_open(url: str, reason: BaseException, *, number: int) -> LinkError:
    """The error for a port that cannot be opened.

    Args:
        url: the port as the caller gave it.
        reason: what was raised.
        number: the errno, 0 where there is none.
    """
    # The exclusive lock says "try again" where another program holds the port.
    number = errno.EBUSY if number == errno.EAGAIN else number
    why = _OPEN_REASONS.get(number) or (os.strerror(number) if number in errno.errorcode else str(reason))
    remedy = _OPEN_REMEDIES.get(number, "check the port's name and the cable")
    if "RFC2217" in why:  # pyserial's words, with the state of each Telnet option behind them
        why, remedy = "no serial server that speaks RFC 2217 answers there", "try socket:// in place of rfc2217://"
    return LinkError(f"the port {url} cannot be opened", why=why, remedy=remedy)
