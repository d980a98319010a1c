"""The access log: one JSON object a line, for each request and for each part that fails or recovers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from blockota.errors import UsageError
from blockota.repository.request import HttpRequest

_MAX_TEXT = 500


@dataclass
class AccessRecord:
    """One request while it is answered.

    Attributes:
        request: the request.
        holder: name of its token, if it has a valid one.
        status: HTTP status of the answer; 0 before one is sent.
        sent: bytes of the body that were handed to the kernel.
        is_complete: whether all of it was.
        trouble: why it was not.
        began: monotonic seconds.
    """

    request: HttpRequest
    holder: str | None = None
    status: int = 0
    sent: int = 0
    is_complete: bool = False
    trouble: str | None = None
    began: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """The record as one JSON object in ASCII: no text of the client can end the line."""
        request = self.request
        return _line(
            time=_now(),
            client=request.client or None,
            holder=self.holder,
            method=request.method,
            path=request.path[:_MAX_TEXT],
            query=request.query[:_MAX_TEXT],
            range=request.headers.get("range", "")[:_MAX_TEXT] or None,
            agent=request.headers.get("user-agent", "")[:_MAX_TEXT] or None,
            status=self.status,
            bytes=self.sent,
            complete=self.is_complete,
            seconds=round(time.monotonic() - self.began, 4),
            trouble=self.trouble,
        )


def event_line(part: str, trouble: str) -> str:
    """A line for a part of the repository that failed or recovered.

    Args:
        part: chain, store, tokens, connections or server.
        trouble: why it failed; empty if it works again.
    """
    return _line(time=_now(), event="trouble" if trouble else "recovered", part=part, trouble=trouble or None)


def open_log(path: Path | None) -> Callable[[str], None]:
    """Open the log for appending; without a path, lines go to stderr.

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
    try:
        file.write(f"{line}\n")
        file.flush()
    except (OSError, ValueError):
        return  # a full disk must not stop the repository


def _line(**fields: object) -> str:
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
