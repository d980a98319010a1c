"""The HTTP server at which an identity receives requests: ``POST /requests`` with a JSON-RPC request as the body.

The response to every request that was judged has the status 200, and is a JSON-RPC response. Any other status means
that the request was not judged: 503 if too many requests are waiting, 404 for other paths, and 405 for other HTTP
methods.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blockota.identity.asgi_server import AsgiServer
from blockota.identity.intake import BusyError, RequestIntake
from blockota.identity.sending import PATH
from blockota.model.request import MAX_SIZE
from blockota.repository.server import Listening, listen, tls_context

_MAX_CONNECTIONS, _MAX_HEADERS, _KEEP_ALIVE, _STALL, _BODY_TIME = 2000, 1 << 14, 75, 30.0, 20.0
_JSON = "application/json"
_MOST_READ = 1 << 22
"""Bytes of a body after which the connection is closed."""


@dataclass(frozen=True)
class RequestPort:
    """Where requests are received.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 to let the system choose the port.
        certificate: PEM file with the certificate chain; None to serve plain HTTP.
        key: PEM file with the private key of the certificate.
        max_size: the size of the largest request, in bytes.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    max_size: int = MAX_SIZE


class RequestServer:
    """Serves the requests for one identity.

    Args:
        port: where to listen.
        intake: takes the requests.
        routes: further pages.
    """

    def __init__(self, port: RequestPort, intake: RequestIntake, routes: Sequence[Route] = ()) -> None:
        self._port, self._intake = port, intake
        self._app = Starlette(routes=[Route(PATH, self._receive, methods=["POST"]), *routes])

    async def run(self, *, on_ready: Callable[[str], None]) -> None:
        """Serve until the task is cancelled.

        Args:
            on_ready: called with the URL of the server when the server listens.

        Raises:
            UsageError: the address or the certificate cannot be used.
        """
        place = Listening(self._port.host, self._port.port, self._port.certificate, self._port.key)
        context = tls_context(place)
        with listen(place) as listener:
            server = AsgiServer(self._configuration(context))
            serving = asyncio.create_task(server.serve([listener]))
            dropping = asyncio.create_task(server.drop_stalled(_STALL))
            on_ready(self._url(listener))
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = server.force_exit = True
                dropping.cancel()
                with suppress(Exception):
                    await serving

    def _configuration(self, context: ssl.SSLContext | None) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_context_factory=(lambda *_: context) if context else None,
            http="h11",
            ws="none",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE,
            h11_max_incomplete_event_size=_MAX_HEADERS,
            timeout_graceful_shutdown=1,
        )

    def _url(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        scheme = "https" if self._port.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def _receive(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(_BODY_TIME):
                raw = await _body(request, self._port.max_size)
        except (ClientDisconnect, TimeoutError):
            return Response(status_code=HTTPStatus.REQUEST_TIMEOUT)
        try:
            received = await self._intake.receive(raw, address=client_address(request))
        except BusyError:
            why = {"error": "too many requests wait; send it again"}
            return JSONResponse(why, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"})
        headers = {"Connection": "close"} if len(raw) > self._port.max_size else None
        return Response(received.answer, media_type=_JSON, headers=headers)


def client_address(request: Request) -> str:
    """Return the network address of a client."""
    return request.client.host.removeprefix("::ffff:") if request.client else ""


async def _body(request: Request, limit: int) -> bytes:
    """Read a body, and store at most one byte more than the limit.

    Further bytes are read and discarded, up to a limit, because a client that is still sending would not read the
    response.
    """
    content, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        content += part[: limit + 1 - len(content)]
        if size > _MOST_READ:
            break
    return bytes(content)
