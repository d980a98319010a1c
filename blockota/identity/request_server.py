"""The HTTP server at which an identity receives requests: ``POST /requests`` with a JSON-RPC request as the body.

If a request was judged, the response has the status 200, and is a JSON-RPC response. Any other status means
that the request was not judged: 503 if too many requests are waiting, 404 for other paths, and 405 for other HTTP
methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blockota.identity.intake import BusyError, RequestIntake
from blockota.identity.sending import PATH
from blockota.model.request import MAX_SIZE
from blockota.repository.asgi_server import serve_application
from blockota.repository.connection import ConnectionLimits
from blockota.repository.server import LOCAL_PROXIES, Listening
from blockota.settings_table import SettingsTable

_MAX_CONNECTIONS, _KEEP_ALIVE, _STALL, _BODY_TIME = 2000, 75, 30.0, 20.0
_JSON, _ADDRESS = "application/json", "127.0.0.1:8470"
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

    @classmethod
    def read(cls, table: SettingsTable, *, max_size: int = MAX_SIZE) -> Self:
        """Read the settings of the port from the table of a service.

        Raises:
            UsageError: the address is not valid, or a PEM file is missing.
        """
        certificate, key = table.path("certificate"), table.path("private_key")
        for name, file in {"certificate": certificate, "private_key": key}.items():
            if (file is None) != (certificate is None) or (file and not file.is_file()):
                raise table.unusable(name, f"{file or 'no file'} is not a PEM file")
        return cls(*table.address("requests", _ADDRESS), certificate, key, max_size)


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
        port = self._port
        place = Listening(
            port.host,
            port.port,
            port.certificate,
            port.key,
            LOCAL_PROXIES,
            clients=_MAX_CONNECTIONS,
            stop_seconds=1,
            limits=ConnectionLimits(_STALL, _KEEP_ALIVE, _STALL / 2),
        )
        await serve_application(self._app, place, on_ready=on_ready)

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

        # The rest of a body that is too long may be unread, so the connection cannot carry another request.
        headers = {"Connection": "close"} if len(raw) > self._port.max_size else None
        return Response(received.answer, media_type=_JSON, headers=headers)


def client_address(request: Request) -> str:
    """Return the network address of a client."""
    return request.client.host.removeprefix("::ffff:") if request.client else ""


async def _body(request: Request, limit: int) -> bytes:
    """Read a body, and store at most one byte more than the limit.

    Of a body that is too large, up to `_MOST_READ` bytes are read and discarded. A client that is still sending would
    otherwise not read the response.
    """
    content, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        content += part[: limit + 1 - len(content)]
        if size > _MOST_READ:
            break
    return bytes(content)
