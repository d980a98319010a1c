"""A serial line at the far end of a TCP connection that carries bytes alone."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from typing import NoReturn
from urllib.parse import urlsplit

from blockota.errors import LinkError, UsageError
from firmware_host.line.port_list import OPEN_TIMEOUT, SLICE, cannot_open


class TcpPort:
    """A connection to ``socket://host:port``.

    Raises:
        UsageError: the address is not of that form.
        LinkError: nobody listens there.
    """

    notes: tuple[str, ...] = ()
    can_steer = False

    def __init__(self, url: str) -> None:
        """Connect."""
        self._url = url
        host, number = _parse(url)
        try:
            self._socket = socket.create_connection((host, number), timeout=OPEN_TIMEOUT)
        except OSError as error:
            raise cannot_open(url, error, number=error.errno or 0) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def receive(self, most: int) -> bytes:
        """Wait a moment for bytes; none where none came.

        Raises:
            ConnectionResetError: the far side has closed the connection.
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
        """Refuse.

        Raises:
            LinkError: always.
        """
        raise self._bytes_alone(f"run at {baud} baud")

    def set_lines(self, *, dtr: bool, rts: bool) -> NoReturn:
        """Refuse.

        Raises:
            LinkError: always.
        """
        raise self._bytes_alone(f"set DTR to {int(dtr)} and RTS to {int(rts)}")

    def send_break(self, seconds: float) -> NoReturn:
        """Refuse.

        Raises:
            LinkError: always.
        """
        raise self._bytes_alone(f"send a break of {seconds:g} s")

    def _bytes_alone(self, what: str) -> LinkError:
        remedy = "reset the board by hand, or use a serial server that speaks rfc2217"
        return LinkError(f"{self._url} cannot {what}", why="a bare socket carries bytes alone", remedy=remedy)


def _parse(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    raise UsageError(f"{url} names no port", remedy="write socket://host:port")
