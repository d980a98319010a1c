"""What a server serves.

A `ServedSite` decides on the responses, and the server handles sockets and connections.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from blockota.errors import BlockOTAError
from blockota.repository.answers import HttpAnswer, Piece
from blockota.repository.blocks import PART_SIZE
from blockota.repository.request import HttpRequest

HEALTH = "/health"
"""The path of the server's state, which is answered even when the server is busy."""
METHODS = ("GET", "HEAD", "OPTIONS")
CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag, X-Ipfs-Path, X-Ipfs-Roots",
}
"""Any web page may read the responses (Fetch standard, "CORS protocol"), as with Kubo's gateway. This is safe for two
reasons. Cookies are not used. And the content is public, or protected by a token that the page must know."""
PREFLIGHT = {
    "Access-Control-Allow-Methods": ", ".join(METHODS),
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, If-None-Match, Range, User-Agent, "
    "X-Requested-With",
    "Access-Control-Max-Age": "86400",
    "Content-Length": "0",
}


@dataclass(frozen=True)
class Refresh:
    """A read that is repeated periodically while the server runs.

    Attributes:
        part: the name of what is read, for the access log.
        read: performs the read, and returns a description of the failure; empty if the read succeeded.
        pause: returns the seconds until the next read.
    """

    part: str
    read: Callable[[], str]
    pause: Callable[[], float]


class ServedSite(Protocol):
    """Answers requests."""

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the response to a request, which may be a refusal.

        Raises:
            BlockOTAError: the content cannot be read.
        """

    def holder(self, request: HttpRequest) -> str | None:
        """Return the name of a request's token; None if the request has no valid token."""

    def stream(self, pieces: Sequence[bytes | Piece], *, part_size: int = ...) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a response's pieces, in parts of about `part_size` bytes.

        Raises:
            BlockOTAError: a piece cannot be read.
        """

    def explain(self, error: BlockOTAError) -> str:
        """Describe an error of `answer` or `stream` for the access log."""

    def refreshes(self) -> Iterator[Refresh]:
        """Yield the periodic readings."""


class PlainSite:
    """The common part of sites that need no token, and whose bodies are bytes in memory."""

    def holder(self, request: HttpRequest) -> str | None:
        """Return None: the pages are public."""
        del request
        return None

    async def stream(
        self, pieces: Sequence[bytes | Piece], *, part_size: int = PART_SIZE
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a body in parts."""
        for piece in pieces:
            if isinstance(piece, bytes):
                for first in range(0, len(piece), part_size):
                    yield piece[first : first + part_size]

    def explain(self, error: BlockOTAError) -> str:
        """Describe an error for the access log."""
        return str(error)

    def refreshes(self) -> Iterator[Refresh]:
        """Yield nothing, because the pages are generated when they are requested."""
        yield from ()
