"""The HTTP server for services that use Starlette: uvicorn without signal handlers, with a limit for slow clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from blockota.repository.connection import queued_bytes


class AsgiServer(uvicorn.Server):
    """A server without signal handlers, which closes connections that make no progress."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield

    async def drop_stalled(self, seconds: float) -> None:
        """Close each connection whose client makes no progress for some seconds, until the task is cancelled.

        uvicorn itself would wait forever for the first request, for the remaining bytes of a request, and for a client
        that does not read. A connection is not closed while its client waits for an answer or for the next part of a
        stream.
        """
        seen: dict[Any, tuple[object, ...] | None] = {}
        while True:
            await asyncio.sleep(seconds)
            now = {connection: _progress_of(connection) for connection in self.server_state.connections}
            for connection, progress in now.items():
                if progress is not None and seen.get(connection) == progress:
                    connection.transport.abort()
            seen = now


def _progress_of(connection: Any) -> tuple[object, ...] | None:
    """Return values that change when a request is received or answered, or when the client reads.

    The result is None if the client has sent its request and has read the whole answer so far.
    """
    cycle, queued = connection.cycle, queued_bytes(connection.transport)
    is_answered = cycle is not None and cycle.response_complete
    if cycle is not None and not (is_answered or cycle.more_body or queued):
        return None
    return cycle, is_answered, queued
