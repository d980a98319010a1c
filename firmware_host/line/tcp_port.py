"""A bare TCP connection to a serial line: bytes only, without speed or control lines."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from typing import NoReturn
from urllib.parse import urlsplit

from blockota.errors import Action, LinkError, UsageError
from firmware_host.line.serial_port import OPEN_TIMEOUT, SLICE, cannot_open


class TcpPort:
    """A connection to ``socket://host:port``.

    Raises:
        UsageError: the URL has another form.
        LinkError: the connection cannot be made.
    """

    notes: tuple[str, ...] = ()
    can_steer = False

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._socket = socket.create_connection(_parse(url), timeout=OPEN_TIMEOUT)
        except OSError as error:
            raise cannot_open(url, error, number=error.errno or 0) from error
        # A frame in two packets would wait 40 ms for the peer's delayed acknowledgement (Nagle's algorithm).
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        self._socket.sendall(data)

    def receive(self, most: int) -> bytes:
        """Return up to `most` bytes; empty if none arrive within `SLICE`.

        Raises:
            ConnectionResetError: the peer closed the connection.
        """
        readable, _, _ = select.select([self._socket], [], [], SLICE)
        if not readable:
            return b""
        if data := self._socket.recv(most):
            return data
        raise ConnectionResetError(errno.ECONNRESET, "the far side closed the connection")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def set_baud(self, baud: int) -> NoReturn:
        """Raise LinkError: a socket has no speed."""
        raise self._unsupported(f"run at {baud} baud")

    def set_lines(self, *, dtr: bool, rts: bool) -> NoReturn:
        """Raise LinkError: a socket has no control lines."""
        raise self._unsupported(f"set DTR to {int(dtr)} and RTS to {int(rts)}")

    def send_break(self, seconds: float) -> NoReturn:
        """Raise LinkError: a socket cannot send a break."""
        raise self._unsupported(f"send a break of {seconds:g} s")

    def _unsupported(self, what: str) -> LinkError:
        return LinkError(
            f"{self._url} cannot {what}",
            why="a bare socket carries only bytes",
            remedy="use a serial server that speaks rfc2217, or reset the board by hand",
            action=Action.RESET_BY_HAND,
        )


def _parse(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    # `parts.port` raises ValueError where it is not a number.
    with contextlib.suppress(ValueError):
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    raise UsageError(f"{url} names no port", remedy="write socket://host:port")
