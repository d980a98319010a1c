"""The web application of the operations room."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blockota.errors import AccessRefusedError, BlockOTAError, RefusedError, UnreachableError, UsageError
from blockota.operations.commands import CommandLine
from blockota.operations.metrics import SERVICE, room_metrics
from blockota.operations.room import Room
from blockota.operations.room_log import RoomLog
from blockota.operations.sign_in import SignIns
from blockota.operations.web import access, pages, prepare_page, warnings_page, watched_pages
from blockota.operations.web.live import LiveEvents, live
from blockota.operations.web.rendering import render
from blockota.repository.metrics import METRICS, METRICS_TYPE, MetricsPage

_STATIC = Path(__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_STATUS_OF: tuple[tuple[type[BlockOTAError], HTTPStatus], ...] = (
    (UsageError, HTTPStatus.BAD_REQUEST),
    (AccessRefusedError, HTTPStatus.FORBIDDEN),
    (RefusedError, HTTPStatus.CONFLICT),
    (UnreachableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (BlockOTAError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
"""The HTTP status of an error; the first class that fits counts."""
_MAX_PROOFS = 16
"""The pages that may wait for a node or a log at once. Starlette has 40 threads for all pages."""
_UUID, _DIGITS = "{keeper:uuid}", "{number:number}"


class _NumberConvertor(Convertor[int]):
    """A number in a path, with at most 18 digits. Starlette's convertor accepts numbers too large for SQLite."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        """Return the number."""
        return int(value)

    def to_string(self, value: int) -> str:
        """Return the digits of the number."""
        return str(value)


register_url_convertor("number", _NumberConvertor())


def make_application(
    room: Room, command_line: CommandLine, *, room_log: RoomLog | None, sign_ins: SignIns | None, is_public: bool
) -> tuple[Starlette, LiveEvents]:
    """Return the application, and its live events.

    Args:
        room: the room.
        command_line: returns the text of the commands that the pages show.
        room_log: the room's log; None if the room has no identity, which disables signing in.
        sign_ins: sign-in texts and sessions; None without a log.
        is_public: whether pages omit serial numbers, addresses, and texts that persons and services wrote.
    """
    routes = [
        Route("/", pages.overview),
        Route("/warnings", warnings_page.warnings_page),
        Route("/warnings/dismiss", warnings_page.dismiss_warnings, methods=["POST"]),
        Route("/devices", pages.devices),
        Route(f"/devices/{_DIGITS}", pages.device),
        Route("/updates", pages.updates),
        Route(f"/updates/{_DIGITS}", pages.order_reports),
        Route("/requests", watched_pages.requests),
        Route(f"/requests/{_UUID}", watched_pages.stored_requests),
        Route(f"/requests/{_UUID}/{_DIGITS}", watched_pages.stored_request),
        Route("/replicas", watched_pages.replicas),
        Route("/network", watched_pages.network),
        Route("/ledger", pages.ledger),
        Route(f"/ledger/{_UUID}", pages.entries),
        Route(f"/entries/{_UUID}/{_DIGITS}", pages.entry),
        Route(f"/entries/{_UUID}/{_DIGITS}/{{file}}", pages.proof_file),
        Route("/transactions/{chain:number}/{block:number}/{hash}", pages.transaction),
        Route("/log", pages.log),
        Route("/log/export.{form}", pages.export),
        Route("/sign-in", access.sign_in_page),
        Route("/sign-in/text", access.challenge, methods=["POST"]),
        Route("/sign-in/answer", access.answer, methods=["POST"]),
        Route("/sign-in/{ticket}", access.sign_in_page),
        Route("/sign-in/{ticket}", access.start_session, methods=["POST"]),
        Route("/sign-out", access.end_session, methods=["POST"]),
        Route("/live", live),
        Route("/prepare", prepare_page.prepare),
        Route("/prepare/{what}", prepare_page.prepared, methods=["POST"]),
        Route("/health", _health),
        Route(METRICS, _metrics),
        Route("/favicon.ico", _favicon),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]

    handlers: dict[Any, Callable[..., Any]] = {
        BlockOTAError: _error_page,
        HTTPException: _http_page,
        Exception: _defect_page,
    }

    app = Starlette(routes=routes, exception_handlers=handlers)

    # The middleware that is added last runs first.
    app.add_middleware(_VisitorMiddleware)
    app.add_middleware(_Headers, host=room.settings.domain)

    events = LiveEvents()
    room.listen(events.tell)
    app.state.metrics = MetricsPage(SERVICE, lambda: room_metrics(room, lambda: events.viewers))

    app.state.room, app.state.live, app.state.is_public = room, events, is_public
    app.state.room_log, app.state.sign_ins, app.state.command_line = room_log, sign_ins, command_line
    app.state.proofs = BoundedSemaphore(_MAX_PROOFS)
    return app, events


class _Headers:
    """Adds the security headers to every response, and refuses requests for another host (DNS rebinding)."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        named = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if named != self._host and scope["path"] not in ("/health", "/metrics"):
            text = f"This room is opened at {self._host}, and the request names another host.\n"
            refusal = PlainTextResponse(text, status_code=HTTPStatus.MISDIRECTED_REQUEST)
            await refusal(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


class _VisitorMiddleware:
    """Identifies the visitor by a cookie. Static files, live events and status pages are served without this step."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(("/static/", "/live", "/health", "/metrics")):
            request = Request(scope)
            if request.cookies:
                try:
                    request.state.visitor = await run_in_threadpool(access.visitor_of, request)
                except BlockOTAError as error:  # the archive is locked or gone
                    await _error_page(request, error)(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _health(request: Request) -> Response:
    """Report to a monitor whether the room can read the chains and write its archive."""
    return PlainTextResponse("degraded\n" if pages.room_of(request).troubles else "serving\n")


def _metrics(request: Request) -> Response:
    """The metrics for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=METRICS_TYPE)


def _favicon(_: Request) -> Response:
    return FileResponse(_STATIC / "icon.svg", media_type="image/svg+xml")


def _error_page(request: Request, error: Exception) -> Response:
    """Show an error of BlockOTA: what failed, why, and what to do next."""
    status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, UnreachableError) and request.app.state.is_public:
        # The error names a host or a folder.
        error = UnreachableError(
            "the page cannot be shown now", why="a source cannot be read", remedy="load the page again later"
        )
    return render(request, "error.html", status=status, error=error)


def _defect_page(request: Request, _: Exception) -> Response:
    """Show that the room has a defect. Starlette then raises the exception again, and the server logs it."""
    error = BlockOTAError(
        "the page cannot be shown",
        why="the room has a defect, and its terminal shows the details",
        remedy="report it to the operator of the room; the other pages still work",
    )
    return _error_page(request, error)


def _http_page(request: Request, error: Exception) -> Response:
    """Show an HTTP error, such as an unknown path."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    if status == HTTPStatus.NOT_FOUND:
        return pages.missing(request, request.url.path[:80], "the room has no such page")
    headers = error.headers if isinstance(error, HTTPException) else None
    return PlainTextResponse(f"{HTTPStatus(status).phrase}\n", status_code=status, headers=headers)
