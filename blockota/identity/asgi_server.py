"""The HTTP server for services that use Starlette: uvicorn without signal handlers, with a limit for slow clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from blockota.repository.connection import MAX_HEADER_SIZE, queued_bytes
from blockota.repository.server import Listening, listen, tls_context, url_of


async def serve_application(app: ASGIApp, place: Listening, *, on_ready: Callable[[str], None]) -> None:
    """Serve an application until the task is cancelled.

    Args:
        app: the application.
        place: the address and the limits. `clients` limits the connections.
        on_ready: called with the URL of the server when the server listens.

    Raises:
        UsageError: the address, the certificate or its key cannot be used.
    """
    context = tls_context(place)
    config = uvicorn.Config(
        app,
        ssl_context_factory=(lambda *_: context) if context else None,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # The address of a client is evidence, so no header may replace it.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=place.clients,
        timeout_keep_alive=int(place.limits.idle_seconds),
        timeout_graceful_shutdown=place.stop_seconds,
        h11_max_incomplete_event_size=MAX_HEADER_SIZE,
    )

    with listen(place) as listener:
        server = _AsgiServer(config)
        serving = asyncio.create_task(server.serve([listener]))
        dropping = asyncio.create_task(server.drop_stalled(place.limits.stall_seconds))
        on_ready(url_of(place, listener))
        try:
            # If this task is cancelled, the server goes on until its requests are answered.
            await asyncio.shield(serving)
        finally:
            dropping.cancel()
            server.should_exit = True
            await asyncio.wait([serving])


class _AsgiServer(uvicorn.Server):
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
    """Return a snapshot of a connection; if the client makes no progress, the next snapshot is equal.

    Returns None if the client waits for the server: the request was received, and all bytes of the unfinished answer
    were sent.
    """
    cycle, queued = connection.cycle, queued_bytes(connection.transport)
    is_answered = cycle is not None and cycle.response_complete
    if cycle is not None and not (is_answered or cycle.more_body or queued):
        return None
    return cycle, is_answered, queued
