"""Live updates by server-sent events.

An event contains only the number of changes. The script of the page then loads the page again, and replaces its parts.
A page therefore has the same contents with and without JavaScript.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

_KEEP_ALIVE, _RETRY, _QUIET = 15.0, 2000, 0.2
"""Seconds between two signs of life, milliseconds before a browser connects again, and the seconds for which changes
are collected into one event."""
_MEDIA_TYPE = "text/event-stream"
_MAX_VIEWERS = 200


class LiveEvents:
    """Notifies viewers of changes.

    Attributes:
        version: the number of changes since the start.
    """

    def __init__(self) -> None:
        self.version = 0
        self._viewers: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def start(self) -> None:
        """Use the running event loop."""
        self._loop = asyncio.get_running_loop()

    def tell(self) -> None:
        """Notify all viewers. Any thread may call this."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell)

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        self._is_closed = True
        self._tell()

    @property
    def viewers(self) -> int:
        """The number of open streams."""
        return len(self._viewers)

    def _tell(self) -> None:
        self.version += 1
        for viewer in self._viewers:
            viewer.set()

    def enter(self) -> asyncio.Event:
        """Count a viewer, and return the `asyncio.Event` that is set after each change."""
        changed = asyncio.Event()
        self._viewers.add(changed)
        return changed

    def leave(self, changed: asyncio.Event) -> None:
        """Count a viewer no longer."""
        self._viewers.discard(changed)

    async def stream(self, changed: asyncio.Event) -> AsyncIterator[str]:
        """Yield the events for one viewer."""
        yield f"retry: {_RETRY}\nid: {self.version}\nevent: hello\ndata: {self.version}\n\n"
        while not self._is_closed:
            try:
                await asyncio.wait_for(changed.wait(), _KEEP_ALIVE)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            await asyncio.sleep(0 if self._is_closed else _QUIET)
            changed.clear()
            yield f"id: {self.version}\nevent: changed\ndata: {self.version}\n\n"


class _EventStream(StreamingResponse):
    """The event stream of a viewer. The viewer is counted before the first event, when the response is created."""

    def __init__(self, events: LiveEvents) -> None:
        self._events, self._changed = events, events.enter()
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events.stream(self._changed), media_type=_MEDIA_TYPE, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.leave(self._changed)


async def live(request: Request) -> Response:
    """The stream of events; for HEAD, only its head."""
    if request.method == "HEAD":
        return Response(media_type=_MEDIA_TYPE)
    events: LiveEvents = request.app.state.live
    if events.viewers >= _MAX_VIEWERS:
        return Response("too many viewers\n", status_code=503, headers={"Retry-After": "30"})
    return _EventStream(events)
