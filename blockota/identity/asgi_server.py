"""The HTTP server of services with Starlette: uvicorn, without signal handlers, and with a limit for slow clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from blockota.repository.connection import queued_bytes


class AsgiServer(uvicorn.Server):
    """A server that leaves signals to the service, and drops connections that make no progress."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield

    async def drop_stalled(self, seconds: float) -> None:
        """Drop each connection whose client makes no progress for some seconds.

        This runs until the task is cancelled. uvicorn itself would wait without end for the first request, for the rest
        of a request, and for a client that does not read. A client that waits for an answer, or for the next part of a
        stream, is not dropped.
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

    They are None if the client has sent its request and read all that was answered.
    """
    cycle, queued = connection.cycle, queued_bytes(connection.transport)
    is_answered = cycle is not None and cycle.response_complete
    if cycle is not None and not (is_answered or cycle.more_body or queued):
        return None
    return cycle, is_answered, queued
