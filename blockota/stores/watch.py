"""What one answer of a source may cost: each of its bytes is waited for by a clock, and counted."""

from __future__ import annotations

import http.client
import io
import math
import re
import socket
import time
from typing import Any

from blockota.stores.source import Limits

_HEAD_SIZE = 3 << 16
_MAX_CHUNK_LINE = 1 << 12
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;.*)?\r?\n")
_HINTS = range(102, 200)


class Watch:
    """What one answer may still cost: bytes altogether, and time spent waiting for them.

    Args:
        limits: what a source may cost.
        until: when all must be over, by the clock of `time.monotonic`.
    """

    def __init__(self, limits: Limits, *, until: float = math.inf) -> None:
        """Nothing came yet; a head may."""
        self._limits, self._until = limits, until
        self._waited = 0.0
        self._seen = 0
        self.allowed = _HEAD_SIZE

    def patience(self) -> float:
        """Seconds to wait for the next byte.

        Raises:
            TimeoutError: it has been too slow.
        """
        left = self._limits.grace + self._seen / self._limits.slowest - self._waited
        left = min(left, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError
        return min(left, self._limits.silence)

    def count(self, size: int, *, waited: float) -> None:
        """Take note of bytes that came.

        Raises:
            http.client.HTTPException: there are more than the answer may have.
        """
        self._seen += size
        self._waited += waited
        if self._seen > self.allowed:
            raise http.client.HTTPException(f"more than {self.allowed} bytes")


class WatchedReader(io.RawIOBase):
    """A socket's bytes, each read under the watch.

    Args:
        sock: the socket.
        watch: what may still come.
    """

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        """Nothing is read yet."""
        self._sock, self._watch = sock, watch
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is, as far as it fits.

        Raises:
            TimeoutError: nothing came in time.
            http.client.HTTPException: more came than may.
        """
        self._sock.settimeout(self._watch.patience())
        began = time.monotonic()
        size = self._raw.readinto(buffer)
        self._watch.count(size or 0, waited=time.monotonic() - began)
        return size

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class WatchedResponse(http.client.HTTPResponse):
    """An answer whose every byte is watched.

    Args:
        sock: the socket.
        method: of the request.
        watch: what the answer may cost.
    """

    def __init__(self, sock: socket.socket, *, method: str, watch: Watch) -> None:
        """Nothing is read yet."""
        super().__init__(sock, method=method)
        self.fp.close()
        self.watch = watch
        self.fp = io.BufferedReader(WatchedReader(sock, watch), 1 << 16)

    def begin(self) -> None:
        """Read the head; hints that come before it, such as 103 (RFC 8297), are passed over."""
        super().begin()
        while self.status in _HINTS:
            self.headers = None  # type: ignore[assignment]  # the library reads a head where it has none
            super().begin()

    def _read_next_chunk_size(self) -> int:
        """The size of the next chunk (RFC 9112, section 7.1); the library would take -1 for all that ever comes."""
        line = _CHUNK_LINE.fullmatch(self.fp.readline(_MAX_CHUNK_LINE))
        if line is None:
            raise http.client.HTTPException("a chunk does not say its size")
        return int(line[1], 16)
