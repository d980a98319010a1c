"""The access log: one line of JSON for each request, and for each failure and recovery of a part of the repository."""

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
    """The log record of one request, filled in while the request is answered.

    Attributes:
        request: the request.
        holder: the name of the request's token; None if the request has no valid token.
        status: the HTTP status of the response; 0 before the response is sent.
        sent: bytes of the body that were passed to the kernel.
        is_complete: whether the whole response was sent.
        trouble: the reason why the response is incomplete; empty if it is complete.
        began: the start of the request, in monotonic seconds.
    """

    request: HttpRequest
    holder: str | None = None
    status: int = 0
    sent: int = 0
    is_complete: bool = False
    trouble: str | None = None
    began: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """Format the record as one line of JSON in ASCII, so that a client's text cannot end the line."""
        request = self.request
        fields = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": request.client or None,
            "holder": self.holder,
            "method": request.method,
            "path": request.path[:_MAX_TEXT],
            "query": request.query[:_MAX_TEXT],
            "range": request.headers.get("range", "")[:_MAX_TEXT] or None,
            "agent": request.headers.get("user-agent", "")[:_MAX_TEXT] or None,
            "status": self.status,
            "bytes": self.sent,
            "complete": self.is_complete,
            "seconds": round(time.monotonic() - self.began, 4),
            "trouble": self.trouble,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def open_log(path: Path | None) -> Callable[[str], None]:
    """Open the access log for appending. Without a path, lines are written to stderr.

    Raises:
        UsageError: the log file cannot be written.
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
