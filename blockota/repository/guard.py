"""Around every answer: a line of the access log, and an end to clients that do not take what they asked for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, TextIO

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blockota.errors import BlockOTAError, UsageError
from blockota.repository.answers import problem
from blockota.repository.connection import GuardedConnection

_MAX_TEXT = 500


@dataclass
class _Visit:
    """One request while it is answered."""

    began: float
    status: int = 0
    sent: int = 0
    is_complete: bool = False


class Guard:
    """An application that is watched.

    Args:
        app: the application.
        log: gets one line a request.
        clients: answers at once; more are told to come later. Health is told to anybody.
    """

    def __init__(self, app: ASGIApp, *, log: Callable[[str], None], clients: int) -> None:
        """Nothing is served yet."""
        self._app, self._log, self._clients = app, log, clients
        self._busy = 0

    async def __call__(self, scope: Scope, *channels: Any) -> None:
        """Answer one request.

        Args:
            scope: what is known of it (ASGI).
            channels: how its body is received, and how the answer is sent.
        """
        receive: Receive = channels[0]
        send: Send = channels[1]
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(time.monotonic())
        is_full = self._busy >= self._clients and scope["path"] != "/health"
        self._busy += 1
        try:
            await (_come_later if is_full else self._app)(scope, receive, _watched(visit, scope, send=send))
        except Exception as error:  # noqa: BLE001 - the server would print a traceback, and wait for the client
            told = error.__cause__ if isinstance(error.__cause__, BlockOTAError) else error
            scope.setdefault("blockota.trouble", f"{type(told).__name__}: {told}")
            if connection := _connection(scope):
                connection.abort()
        finally:
            self._busy -= 1
            self._log(_line(visit, scope))


def _watched(visit: _Visit, scope: Scope, *, send: Send) -> Send:
    connection = _connection(scope)

    async def watched(message: Message) -> None:
        if connection:
            await connection.writable()
        await send(message)
        if message["type"] == "http.response.start":
            visit.status = message["status"]
        else:
            visit.sent += len(message.get("body", b""))
            visit.is_complete = not message.get("more_body", False)

    return watched


def _connection(scope: Scope) -> GuardedConnection | None:
    """The connection on which the request came, where it is one of ours."""
    found = scope.get("extensions", {}).get("blockota.connection")
    return found if isinstance(found, GuardedConnection) else None


async def _come_later(scope: Scope, *channels: Any) -> None:
    body, headers = problem(
        "The repository serves as many clients as it may. Ask again in a while, or another source.",
        {"Retry-After": "5"},
    )
    await Response(body, HTTPStatus.SERVICE_UNAVAILABLE, headers)(scope, *channels)


def open_log(path: Path | None) -> Callable[[str], None]:
    """Where the lines go: to the end of a file, or to stderr.

    Raises:
        UsageError: the file cannot be written.
    """
    if path is None:
        return lambda line: _write(sys.stderr, line)
    try:
        file = path.open("a", encoding="ascii", buffering=1)
    except OSError as error:
        raise UsageError(f"the access log {path} cannot be written", why=error.strerror or str(error)) from error
    return lambda line: _write(file, line)


def _write(file: TextIO, line: str) -> None:
    """A full disk must not stop the repository."""
    try:
        file.write(f"{line}\n")
        file.flush()
    except (OSError, ValueError):
        return


def event_line(part: str, trouble: str) -> str:
    """A line of the log that is no request's: a part of the repository has failed, or works again.

    Args:
        part: chain, store or tokens.
        trouble: why it failed; empty where it works.
    """
    fields = {"time": _now(), "event": "trouble" if trouble else "recovered", "part": part, "trouble": trouble or None}
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _line(visit: _Visit, scope: Scope) -> str:
    """One JSON object in ASCII, in which nothing that a client sent can end the line."""
    client = scope.get("client")
    headers = {name: value.decode("latin-1")[:_MAX_TEXT] for name, value in scope["headers"]}
    fields = {
        "time": _now(),
        "client": client[0] if client else None,
        "holder": scope.get("blockota.holder"),
        "method": scope["method"],
        "path": scope["path"][:_MAX_TEXT],
        "query": scope["query_string"].decode("latin-1")[:_MAX_TEXT],
        "range": headers.get(b"range"),
        "agent": headers.get(b"user-agent"),
        "status": visit.status,
        "bytes": 0 if scope["method"] == "HEAD" else visit.sent + scope.get("blockota.from_files", 0),
        "complete": visit.is_complete,
        "seconds": round(time.monotonic() - visit.began, 4),
        "trouble": scope.get("blockota.trouble"),
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None})
