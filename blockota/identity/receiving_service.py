"""The common base of services that receive signed requests: their threads and tasks, and their log.

=========  ======================================================================================
part       what it does
=========  ======================================================================================
loop       receives requests over HTTP
receiver   judges and executes the requests in batches (the thread of `RequestIntake`)
registry   reads the newest block of the gateway chain
log        appends entries of warnings to the log
publisher  publishes checkpoints and anchors the log
=========  ======================================================================================

The process may be killed at any instant, so a request is answered only after its effect is on the disk.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from starlette.routing import Route as WebRoute

from blockota.bindings.identities import IdentitiesContract
from blockota.errors import ChainError
from blockota.identity.intake import RequestIntake
from blockota.identity.receiving import Outcome, ReceiverParts, RequestReceiver
from blockota.identity.registry import INTERVAL, TIMEOUT, IdentityReader
from blockota.identity.request_server import RequestPort, RequestServer
from blockota.identity.request_state import RequestState
from blockota.identity.warnings import WarningMaker
from blockota.ledger.recording import LogParts, LogRecorder, LogStatus
from blockota.line_log import LineLog
from blockota.model.identity import IdentityKind, obstacle_of
from blockota.model.request import Fault, Receiver, SignedRequest
from blockota.repository.metrics import Metrics, ServiceMetrics
from blockota.repository.server import Listening, serve_until
from blockota.repository.status_site import StatusSite
from blockota.service_threads import ServiceThreads
from blockota.shutdown import Stop

_OUTBOX_PAUSE, _PUBLISH_PAUSE = 0.2, 2.0
_TASKS_END, _KEEPING_END, _THREADS_END = 1.5, 1.0, 1.5
"""Seconds in which the tasks, then the keeping of the last requests, and then the threads must end."""


class ReceivingSettings(Protocol):
    """The settings of a service that receives requests."""

    @property
    def port(self) -> RequestPort:
        """Where it receives requests."""

    @property
    def listen(self) -> tuple[str, int] | None:
        """The host and port at which the service shows its status; None if the status is not served."""


@dataclass(frozen=True)
class ReceivingSetup:
    """The parts from which a service is assembled.

    Attributes:
        settings: the addresses.
        receiver: the identity of the service, and the methods that it offers.
        open_registry: opens the registry of identities. A failed call is repeated until the node answers.
        log: the log.
        state: stores the ids of accepted requests, and entries for the log.
    """

    settings: ReceivingSettings
    receiver: Receiver
    open_registry: Callable[[], IdentitiesContract]
    log: LogParts
    state: RequestState


@dataclass(frozen=True)
class ReceivingStatus:
    """The state of a service at one moment.

    Attributes:
        block: the newest block of the gateway chain that was read.
        block_age: the age of this block in seconds.
        accepted: the number of accepted requests since the start.
        refused: the number of refused requests since the start, by the reason for the refusal.
        log: the log.
        troubles: the parts that have failed, each with the reason.
    """

    METRICS: ClassVar[ServiceMetrics]
    """Makes the metrics of the kind of service."""

    block: int = 0
    block_age: int = 0
    accepted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    log: LogStatus = field(default_factory=LogStatus)
    troubles: Mapping[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """``serving``, ``degraded`` if a part has failed, or ``starting`` before the first reading of the registry."""
        if not self.block:
            return "starting"
        return "degraded" if self.troubles else "serving"

    def own_fields(self) -> dict[str, Any]:
        """Return the fields of ``/health`` that only this kind of service has."""
        return {}

    def own_metrics(self) -> Metrics:
        """Return the metrics that only this kind of service has."""
        return ()

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of ``/health``."""
        return {
            "status": self.word,
            "block": self.block,
            "blockAge": self.block_age,
            "accepted": self.accepted,
            "refused": dict(self.refused),
            **self.own_fields(),
            "entries": self.log.entries,
            "anchored": self.log.anchored,
            "troubles": dict(self.troubles),
        }

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``."""
        make = self.METRICS
        text = "Newest block of the gateway chain that was read; 0 before the first reading."
        yield make.gauge("newest_block", text, self.block)
        yield make.gauge("block_age_seconds", "Seconds since the newest block.", self.block_age)
        yield make.counter("accepted_requests", "Accepted requests since the start.", self.accepted)
        text = "Refused requests since the start, by fault."
        yield make.counters("refused_requests", text, "fault", dict(sorted(self.refused.items())))
        yield from self.own_metrics()
        yield make.gauge("troubles", f"Parts of the {make.service} that are in trouble.", len(self.troubles))
        yield from make.log(self.log)


class ReceivingService(ABC):
    """Runs a service that receives requests.

    Args:
        setup: the parts of the service.
        lines: the line log, to which events, failures and recoveries are written.
        stop: ends the service.

    Attributes:
        registry: reads the records of identities.
    """

    KIND: ClassVar[IdentityKind]
    """The kind of identity that the service needs."""

    def __init__(self, setup: ReceivingSetup, lines: LineLog, stop: Stop) -> None:
        self._setup, self._lines, self._stop = setup, lines, stop
        self._clock: Callable[[], int] = lambda: int(time.time())
        self.registry = IdentityReader(setup.open_registry, is_watched=True)

        parts = ReceiverParts(self.registry, setup.state, WarningMaker(setup.receiver.uuid), self._clock)
        self._receiver = RequestReceiver(setup.receiver, parts, keep=self._keep)
        self._recorder = LogRecorder(setup.log, lines, clock=self._clock, owns=lambda _: False)
        self._threads, self._refreshed = ServiceThreads(lines, stop), threading.Event()
        # Hooks that a subclass sets if it needs them: further tasks of the event loop; a call that wakes the threads at
        # the stop; and a call that interrupts `_keep` if it does not end in time.
        self._more_tasks: Callable[[RequestIntake], Iterable[Coroutine[Any, Any, None]]] = lambda _: ()
        self._wake: Callable[[], None] = lambda: None
        self._interrupt: Callable[[], None] = lambda: None

    def run(self, *, on_ready: Callable[[str], None]) -> None:
        """Run until `stop` is requested.

        Args:
            on_ready: called when the service has started, with the URL at which requests are received.

        Raises:
            UsageError: an address or another setting cannot be used.
        """
        asyncio.run(self._serve(self._workers(), on_ready))

    @abstractmethod
    def _keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        """Execute accepted requests, and return their outcomes after the effects are on the disk."""

    @abstractmethod
    def _status(self) -> ReceivingStatus:
        """Return the present state."""

    def _workers(self) -> dict[str, Callable[[], object]]:
        """Return the function that each thread repeats, by the name of the thread."""
        return {"registry": self._refresh, "log": self._append, "publisher": self._publish}

    def _routes(self) -> Sequence[WebRoute]:
        """Return additional routes of the HTTP server that receives requests."""
        return ()

    def _common(self) -> dict[str, Any]:
        """Return the values of the fields of `ReceivingStatus`."""
        head, counts = self.registry.head, self._receiver.counts
        block, age = (head.number, max(self._clock() - head.time, 0)) if head else (0, 0)
        return {
            "block": block,
            "block_age": age,
            "accepted": counts[None],
            "refused": {fault.name: count for fault, count in counts.items() if isinstance(fault, Fault)},
            "log": self._recorder.status(),
            "troubles": self._lines.troubles,
        }

    async def _serve(self, workers: Mapping[str, Callable[[], object]], on_ready: Callable[[str], None]) -> None:
        intake = RequestIntake(self._receiver)
        stopped = asyncio.create_task(asyncio.to_thread(self._stop.wait_until_asked))
        tasks = list[asyncio.Task[None]]()

        try:
            for name, work in workers.items():
                self._threads.start(name, work)
            # The first requests need not be repeated if the registry was read before. A silent node ends the wait.
            await asyncio.to_thread(self._refreshed.wait, TIMEOUT)
            tasks.extend(asyncio.create_task(one) for one in self._tasks(intake, on_ready))
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # an address that cannot be used ends the service
        finally:
            self._stop.ask()
            self._wake()
            for task in tasks:
                task.cancel()
            # The tasks that receive requests end first, then the accepted requests, and then the threads.
            await asyncio.wait([stopped, *tasks], timeout=_TASKS_END)
            closing = asyncio.create_task(asyncio.to_thread(intake.close))
            if not (await asyncio.wait([closing], timeout=_KEEPING_END))[0]:
                self._interrupt()
            await closing
            await asyncio.to_thread(self._threads.join, _THREADS_END)

    def _tasks(self, intake: RequestIntake, on_ready: Callable[[str], None]) -> Iterator[Coroutine[Any, Any, None]]:
        settings = self._setup.settings
        yield RequestServer(settings.port, intake, self._routes()).run(on_ready=on_ready)
        if settings.listen:
            service = self._status().METRICS.service
            site = StatusSite(self._setup.log.log, service, self._status)
            place = Listening(*settings.listen, stop_seconds=1)
            yield serve_until(self._stop, site, place, log=lambda _: None, on_ready=lambda _: None)
        yield from self._more_tasks(intake)

    def _refresh(self) -> None:
        try:
            self.registry.refresh()
            own = self.registry.reading(self._setup.receiver.uuid, "").identity
        except ChainError as error:
            self._lines.state("gateway chain", error.why)
        else:
            self._lines.state("gateway chain", "")
            self._lines.state("identity", obstacle_of(own, self.KIND))
        self._refreshed.set()
        self._stop.wait(INTERVAL)

    def _append(self) -> None:
        self._receiver.write_due_warnings()
        if not self._recorder.append(self._setup.state):
            self._stop.wait(_OUTBOX_PAUSE)

    def _publish(self) -> None:
        self._recorder.publish()
        self._recorder.anchor()
        self._stop.wait(_PUBLISH_PAUSE)
