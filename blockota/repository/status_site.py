"""The pages for the operator of a service: ``/health``, ``/metrics`` (in Prometheus' text format), and its log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from blockota.ledger.log import TileLog
from blockota.repository.answers import HttpAnswer
from blockota.repository.log_site import LogSite
from blockota.repository.request import HttpRequest
from blockota.repository.site import HEALTH

METRICS = "/metrics"


class StatusPages(Protocol):
    """The state of a service at one moment."""

    def as_fields(self) -> Mapping[str, Any]:
        """Return the JSON object of ``/health``."""

    def lines(self) -> Iterator[str]:
        """Yield the lines of ``/metrics``."""


class StatusSite(LogSite):
    """The published log of a service, with the state of the service.

    Args:
        log: the log.
        status: returns the state.
    """

    def __init__(self, log: TileLog, status: Callable[[], StatusPages]) -> None:
        super().__init__(log)
        self._status = status

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the response to a request, which may be a refusal.

        Raises:
            ContentError: the checkpoint is damaged.
            StoreError: the folder of the log cannot be read.
        """
        if request.method not in ("GET", "HEAD") or request.path not in (HEALTH, METRICS):
            return super().answer(request)
        if request.path == METRICS:
            body = "\n".join((*self._status().lines(), "")).encode()
            return fresh(body, "text/plain; version=0.0.4; charset=utf-8")
        # A monitor restarts a service whose answer is an error, and that helps against nothing that is in trouble here.
        return fresh(json.dumps(self._status().as_fields(), indent=2).encode() + b"\n", "application/json")


def fresh(body: bytes, kind: str) -> HttpAnswer:
    """Return the response with a page that caches must not keep."""
    headers = {"Content-Type": kind, "Cache-Control": "no-store", "Content-Length": str(len(body))}
    return HttpAnswer(HTTPStatus.OK, headers, (body,))


def gauge_lines(service: str, gauges: Mapping[str, tuple[str, float]], *, kind: str = "gauge") -> Iterator[str]:
    """Yield the lines of metrics.

    Args:
        service: the service, such as ``gateway``, which is part of the names.
        gauges: description and value by name.
        kind: the type of the metrics, ``gauge`` or ``counter``.
    """
    for name, (text, value) in gauges.items():
        yield from (f"# HELP blockota_{service}_{name} {text}", f"# TYPE blockota_{service}_{name} {kind}")
        yield f"blockota_{service}_{name} {value}"
