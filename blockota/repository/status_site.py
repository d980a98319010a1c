"""The pages for the operator of a service: ``/health``, ``/metrics``, and its log.

A service with a log serves these pages and the log at one address, with `StatusSite`. A service without a log serves
the pages at a separate address, with `monitored`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Protocol

from blockota.errors import BlockOTAError
from blockota.ledger.log import TileLog
from blockota.repository.answers import HttpAnswer, text_response
from blockota.repository.log_site import LogSite
from blockota.repository.metrics import METRICS, METRICS_TYPE, Metrics, MetricsPage
from blockota.repository.request import HttpRequest
from blockota.repository.server import Listening, serve_until
from blockota.repository.site import HEALTH, PlainSite
from blockota.shutdown import Stop

_CLIENTS = 8


class StatusPages(Protocol):
    """The state of a service at one moment."""

    def as_fields(self) -> Mapping[str, Any]:
        """Return the JSON object of ``/health``."""

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``."""


class MonitorSite(PlainSite):
    """The state of a service.

    Args:
        service: the service, such as ``broker``.
        status: returns the state.
    """

    def __init__(self, service: str, status: Callable[[], StatusPages]) -> None:
        self._status = status
        self._page = MetricsPage(service, lambda: status().metrics())

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the response to a request, which may be a refusal."""
        if request.method not in ("GET", "HEAD"):
            sentence = "Only GET and HEAD are supported."
            return text_response(HTTPStatus.METHOD_NOT_ALLOWED, sentence, {"Allow": "GET, HEAD"})
        if request.path == METRICS:
            return fresh(self._page.text(), METRICS_TYPE)
        if request.path == HEALTH:
            # The answer is never an error, because a monitor would restart the service, and a restart does not solve
            # any of the problems that the status reports.
            return fresh(json.dumps(self._status().as_fields(), indent=2).encode() + b"\n", "application/json")
        return text_response(HTTPStatus.NOT_FOUND, "Only /health and /metrics are served.")


class StatusSite(LogSite):
    """The published log of a service, with the state of the service.

    Args:
        log: the log.
        service: the service, such as ``gateway``.
        status: returns the state.
    """

    def __init__(self, log: TileLog, service: str, status: Callable[[], StatusPages]) -> None:
        super().__init__(log)
        self._monitor = MonitorSite(service, status)

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the response to a request, which may be a refusal.

        Raises:
            ContentError: the checkpoint is damaged.
            StoreError: the folder of the log cannot be read.
        """
        is_monitor = request.method in ("GET", "HEAD") and request.path in (HEALTH, METRICS)
        return self._monitor.answer(request) if is_monitor else super().answer(request)


@contextmanager
def monitored(address: tuple[str, int], site: MonitorSite) -> Iterator[str]:
    """Serve the state of a service in a separate thread.

    Args:
        address: host and port.
        site: the state.

    Yields:
        The URL.

    Raises:
        UsageError: the address cannot be used.
    """
    stop, ready = Stop(), Future[str]()
    place = Listening(*address, clients=_CLIENTS, stop_seconds=0)

    def serve() -> None:
        try:
            asyncio.run(serve_until(stop, site, place, log=lambda _: None, on_ready=ready.set_result))
        except BlockOTAError as error:
            ready.set_exception(error)

    thread = threading.Thread(target=serve, name="monitor", daemon=True)
    thread.start()
    try:
        yield ready.result()
    finally:
        stop.ask()
        thread.join()


def fresh(body: bytes, kind: str) -> HttpAnswer:
    """Return the response with a page that caches must not store."""
    headers = {"Content-Type": kind, "Cache-Control": "no-store", "Content-Length": str(len(body))}
    return HttpAnswer(HTTPStatus.OK, headers, (body,))
