"""Serve an ASGI application, such as one of Starlette, within the limits of `HttpConnection`.

ASGI (asgi.readthedocs.io, version 3.0, HTTP specification 2.3) is the interface between a server and an application in
Python.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import h11

from blockota.repository.connection import HttpConnection
from blockota.repository.request import HttpRequest, client_of
from blockota.repository.server import TOO_BUSY, HttpServer, Listening, listen, texts, tls_context, url_of
from blockota.url_secrets import without_secrets

_LOGGER = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""Called with the scope of a request, and with the functions that receive and send messages."""


async def serve_application(app: Application, place: Listening, *, on_ready: Callable[[str], None]) -> None:
    """Serve an application until the task is cancelled.

    Args:
        app: the application.
        place: the address and the limits. `clients` is the maximum number of connections; requests on further
            connections are answered with 503. `proxies` may state the client and the scheme of a request, by
            ``X-Forwarded-For`` and ``X-Forwarded-Proto``.
        on_ready: called with the URL of the server when the server listens.

    Raises:
        UsageError: the address, the certificate or its key cannot be used.
    """

    async def answer(connection: HttpConnection, request: HttpRequest) -> None:
        if server.connections > place.clients:
            await connection.send(TOO_BUSY, texts(TOO_BUSY), is_last=True)
        else:
            await _AsgiRequest(connection, is_last=server.is_stopping).run(app, _scope(request, place))

    context = tls_context(place)
    server = HttpServer(place, answer)
    with listen(place) as listener:
        async with server.running(listener, context):
            on_ready(url_of(place, listener))
            await asyncio.Event().wait()


def _scope(request: HttpRequest, place: Listening) -> Message:
    scheme = "https" if place.certificate else "http"
    address = client_of(request.client, request.headers.get("x-forwarded-for", ""), place.proxies)
    if address != request.client and request.headers.get("x-forwarded-proto") in {"http", "https"}:
        scheme = request.headers["x-forwarded-proto"]
    client = (address, 0) if address else None
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": scheme,
        "path": request.path,
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers.items()],
        "client": client,
        "server": (place.host, place.port),
    }


class _AsgiRequest:
    """One request and its response, as the messages that an application receives and sends."""

    def __init__(self, connection: HttpConnection, *, is_last: bool) -> None:
        self._connection, self._is_last = connection, is_last
        self._is_received = self._is_lost = self._is_answered = False
        self._leaving: asyncio.Task[None] | None = None

    async def run(self, app: Application, scope: Message) -> None:
        """Let the application answer the request. A failure of the application is logged, and ends the connection."""
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - a defect of the application must not end the server
            if not self._is_lost:
                fault = without_secrets(repr(error))
                _LOGGER.error("a request cannot be answered: %s", fault)  # noqa: TRY400 - logs contain no traceback
        finally:
            if self._leaving:
                self._leaving.cancel()
                await asyncio.wait([self._leaving])
        if not self._is_answered:
            self._connection.abort()

    async def _receive(self) -> Message:
        if not self._is_received and not self._is_lost:
            try:
                part = await self._connection.receive_part()
            except (OSError, h11.RemoteProtocolError):
                self._lose()
            else:
                self._is_received = not part
                return {"type": "http.request", "body": part, "more_body": bool(part)}
        if not self._is_lost and not self._is_answered:
            self._leaving = self._leaving or asyncio.create_task(self._connection.wait_until_left())
            await asyncio.wait([self._leaving])
            if not self._leaving.cancelled():
                self._lose()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """Send a part of the response. After the client is lost, messages have no effect, as ASGI requires."""
        if self._is_lost:
            return
        try:
            if message["type"] == "http.response.start":
                self._connection.begin(message["status"], message.get("headers", ()), is_last=self._is_last)
                return
            if part := message.get("body", b""):
                await self._connection.write(part)
            if not message.get("more_body", False):
                await self._connection.end()
                self._is_answered = True
        except OSError:
            self._lose()

    def _lose(self) -> None:
        """End the connection of a client that left or is too slow."""
        self._is_lost = True
        self._connection.abort()
        if self._leaving:  # it may have stopped reading; the application must learn that the client is lost
            self._leaving.cancel()
