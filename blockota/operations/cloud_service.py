"""``blockota cloud run``: the threads and tasks of a cloud, and how they start and end.

=========  ======================================================================================
part       what it does
=========  ======================================================================================
loop       takes requests over HTTP
receiver   judges the requests in batches, and writes them (the thread of `RequestIntake`)
registry   asks for the newest block of the gateway chain
log        appends entries of warnings to the log
publisher  publishes checkpoints and anchors the log
=========  ======================================================================================

The process may be killed at any instant. A request is answered after its rows are committed, and after its name is on
the disk. A request whose name was not written is repeated, and its rows are then there already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from blockota.bindings.identities import IdentitiesContract
from blockota.errors import BlockOTAError, ChainError
from blockota.formats.public_key import PublicKey
from blockota.identity.intake import RequestIntake
from blockota.identity.receiving import Outcome, ReceiverParts, RequestReceiver
from blockota.identity.registry import INTERVAL, IdentityReader
from blockota.identity.request_server import RequestServer
from blockota.identity.request_state import RequestState
from blockota.identity.warnings import WarningMaker
from blockota.ledger.recording import LogParts, LogRecorder
from blockota.line_log import LineLog, sentence
from blockota.model.request import MAX_STORE_SIZE, Fault, Receiver, SignedRequest
from blockota.operations.cloud import METHODS, CloudStore
from blockota.operations.cloud_settings import CloudSettings
from blockota.operations.database import CloudDatabase
from blockota.repository.server import Listening, serve_until
from blockota.repository.status_site import StatusSite, gauge_lines
from blockota.service_threads import ServiceThreads
from blockota.shutdown import Stop

STATE_NAME = "requests.sqlite"
"""The file in the folder of a cloud with the names of requests, and with entries for the log."""
_OUTBOX_PAUSE, _PUBLISH_PAUSE = 0.2, 2.0
_TASKS_END, _COMMIT_END, _THREADS_END = 1.0, 1.0, 1.0
"""Seconds in which the tasks, then the last commit, and then the threads must end."""


@dataclass(frozen=True)
class CloudSetup:
    """The parts from which a cloud is assembled.

    Attributes:
        settings: the table ``[cloud]``.
        database: the database.
        open_registry: opens the registry of identities. It is called again until the node answers.
        log: the log.
    """

    settings: CloudSettings
    database: CloudDatabase
    open_registry: Callable[[], IdentitiesContract]
    log: LogParts


@dataclass(frozen=True)
class CloudStatus:
    """The state of a cloud at one moment.

    Attributes:
        block: the newest block of the gateway chain that was read.
        block_age: its age in seconds.
        accepted: the number of accepted requests of validators since the start.
        refused: the number of refused requests since the start, by fault.
        stored: the number of stored requests of gateways since the start.
        readings: the number of readings in them.
        entries: the number of entries of the log.
        anchored: the number of anchored entries; None if it is unknown.
        troubles: the parts that have failed, each with the reason.
    """

    block: int = 0
    block_age: int = 0
    accepted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    stored: int = 0
    readings: int = 0
    entries: int = 0
    anchored: int | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """``serving``, ``degraded`` if something is in trouble, or ``starting`` before the first reading."""
        if not self.block:
            return "starting"
        return "degraded" if self.troubles else "serving"

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of ``/health``."""
        return {
            "status": self.word,
            "block": self.block,
            "blockAge": self.block_age,
            "accepted": self.accepted,
            "refused": dict(self.refused),
            "stored": self.stored,
            "readings": self.readings,
            "entries": self.entries,
            "anchored": self.anchored,
            "troubles": dict(self.troubles),
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines of ``/metrics``."""
        gauges: dict[str, tuple[str, float]] = {
            "newest_block": ("Newest block of the gateway chain that was read.", self.block),
            "block_age_seconds": ("Seconds since the newest block.", self.block_age),
            "log_entries": ("Entries of the log.", self.entries),
            "anchored_entries": ("Anchored entries of the log.", self.anchored or 0),
            "troubles": ("Parts of the cloud that are in trouble.", len(self.troubles)),
        }
        yield from gauge_lines("cloud", gauges)
        counters: dict[str, tuple[str, float]] = {
            "accepted_requests_total": ("Accepted requests of validators since the start.", self.accepted),
            "stored_requests_total": ("Stored requests of gateways since the start.", self.stored),
            "stored_readings_total": ("Stored readings since the start.", self.readings),
        }
        yield from gauge_lines("cloud", counters, kind="counter")
        name = "blockota_cloud_refused_requests_total"
        yield from (f"# HELP {name} Refused requests since the start, by fault.", f"# TYPE {name} counter")
        for fault, count in sorted(self.refused.items()):
            yield f'{name}{{fault="{fault}"}} {count}'


class CloudService:
    """Runs a cloud.

    Args:
        setup: the cloud.
        state: the names that it has seen, and entries for the log.
        lines: receives events, failures and recoveries.
        stop: ends the cloud.
    """

    def __init__(self, setup: CloudSetup, state: RequestState, lines: LineLog, stop: Stop) -> None:
        settings = setup.settings
        self._setup, self._state, self._lines, self._stop = setup, state, lines, stop
        self._clock: Callable[[], int] = lambda: int(time.time())
        self._registry = IdentityReader(setup.open_registry, is_watched=True)
        self._store = CloudStore(
            settings.identity, setup.database, self._registry, earlier_keys=self._earlier_keys, clock=self._clock
        )
        parts = ReceiverParts(self._registry, state, WarningMaker(settings.identity), self._clock)
        receiver = Receiver(settings.identity, METHODS, settings.max_age, max_size=MAX_STORE_SIZE)
        self._receiver = RequestReceiver(receiver, parts, keep=self._keep)
        self._recorder = LogRecorder(setup.log, lines, clock=self._clock, owns=lambda _: False)
        self._threads = ServiceThreads(lines, stop)

    def run(self, *, on_ready: Callable[[str], None]) -> None:
        """Run until the stop is requested.

        Args:
            on_ready: called with the URL at which requests are received, when the cloud serves.

        Raises:
            UsageError: an address or another setting cannot be used.
            RefusedError: the database is that of another program or of a newer version.
            StoreError: the database cannot be used.
        """
        if self._setup.database.migrate():
            self._lines.event("database", "migrated")
        asyncio.run(self._serve(on_ready))

    async def _serve(self, on_ready: Callable[[str], None]) -> None:
        intake = RequestIntake(self._receiver)
        stopped = asyncio.create_task(asyncio.to_thread(self._wait_for_stop))
        tasks = [asyncio.create_task(one) for one in self._tasks(intake, on_ready)]
        for name, work in {"registry": self._look, "log": self._append, "publisher": self._publish}.items():
            self._threads.start(name, work)
        try:
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # an address that cannot be used ends the cloud
        finally:
            self._stop.ask()
            for task in tasks:
                task.cancel()
            await asyncio.wait([stopped, *tasks], timeout=_TASKS_END)
            closing = asyncio.create_task(asyncio.to_thread(intake.close))
            if not (await asyncio.wait([closing], timeout=_COMMIT_END))[0]:
                self._setup.database.interrupt()  # the commit waits for a standby that is gone
            await closing
            await asyncio.to_thread(self._threads.join, _THREADS_END)

    def _tasks(self, intake: RequestIntake, on_ready: Callable[[str], None]) -> Iterator[Coroutine[Any, Any, None]]:
        settings = self._setup.settings
        yield RequestServer(settings.port, intake).run(on_ready=on_ready)
        if settings.listen:
            site = StatusSite(self._setup.log.log, self._status)
            place = Listening(*settings.listen, stop_seconds=1)
            yield serve_until(self._stop, site, place, log=lambda _: None, on_ready=lambda _: None)

    def _wait_for_stop(self) -> None:
        while not self._stop.wait(1.0):
            pass

    def _keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        """Write requests, and report a database that fails or works again."""
        try:
            outcomes = self._store.keep(requests)
        except BlockOTAError as error:
            self._lines.state("database", sentence(error))
            raise
        self._lines.state("database", "")
        return outcomes

    def _earlier_keys(self, gateway: UUID) -> list[PublicKey]:
        return [one.keys.key for one in self._setup.open_registry().generations(gateway)]

    def _look(self) -> None:
        try:
            self._registry.look()
        except ChainError as error:
            self._lines.state("gateway chain", error.why)
        else:
            self._lines.state("gateway chain", "")
        self._stop.wait(INTERVAL)

    def _append(self) -> None:
        self._receiver.write_due_warnings()
        if not self._recorder.append(self._state):
            self._stop.wait(_OUTBOX_PAUSE)

    def _publish(self) -> None:
        self._recorder.publish()
        self._recorder.anchor()
        self._stop.wait(_PUBLISH_PAUSE)

    def _status(self) -> CloudStatus:
        head, counts = self._registry.head, self._receiver.counts
        return CloudStatus(
            block=head.number if head else 0,
            block_age=max(self._clock() - head.time, 0) if head else 0,
            accepted=counts[None],
            refused={fault.name: count for fault, count in counts.items() if isinstance(fault, Fault)},
            stored=self._store.stored,
            readings=self._store.readings,
            entries=len(self._setup.log.log),
            anchored=self._recorder.anchored,
            troubles=self._lines.troubles,
        )


@contextmanager
def opened_cloud(setup: CloudSetup, lines: LineLog, stop: Stop) -> Iterator[CloudService]:
    """Open the files of a cloud, and yield its service.

    Raises:
        RefusedError: another process runs this cloud, or a file belongs to another program.
        StoreError: the folder of the cloud cannot be written.
    """
    with RequestState(setup.settings.folder / STATE_NAME) as state, setup.database:
        yield CloudService(setup, state, lines, stop)
