"""``blockota validator run``: the threads and tasks of a validator, and how they start and end.

=========  ======================================================================================
part       what it does
=========  ======================================================================================
loop       takes requests over HTTP and MQTT, and answers questions for readings
receiver   judges the requests in batches (the thread of `RequestIntake`)
registry   asks for the newest block of the gateway chain
cloud      sends accepted requests to the cloud
gateway …  sends commands, one thread for each gateway that rules name
log        appends entries of warnings to the log
publisher  publishes checkpoints and anchors the log
=========  ======================================================================================

The process may be killed at any instant. A request is answered after its effect is on the disk.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as WebRoute

from blockota.bindings.identities import IdentitiesContract
from blockota.errors import ChainError
from blockota.identity.intake import RequestIntake
from blockota.identity.mqtt_intake import MqttIntake
from blockota.identity.receiving import ReceiverParts, RequestReceiver
from blockota.identity.recent_readings import RecentReadings
from blockota.identity.registry import INTERVAL, IdentityReader
from blockota.identity.request_outbox import RequestCourier, RequestOutbox, Route
from blockota.identity.request_server import RequestServer, client_address
from blockota.identity.request_state import RequestState
from blockota.identity.sending import RequestLine, RequestSigner
from blockota.identity.validator import METHODS, GatewayRoute, Validator, ValidatorStores
from blockota.identity.validator_settings import ValidatorSettings
from blockota.identity.warnings import WarningMaker
from blockota.ledger.recording import LogParts, LogRecorder
from blockota.line_log import LineLog
from blockota.messaging.client import BrokerAccount, connected
from blockota.model.request import MAX_STORE_SIZE, Fault, Receiver
from blockota.model.rule import RuleBook
from blockota.repository.server import Listening, serve_until
from blockota.repository.status_site import StatusSite, gauge_lines
from blockota.service_threads import ServiceThreads
from blockota.shutdown import Stop
from blockota.stores.source import is_this_machine

STATE_NAME, CLOUD_NAME, COMMANDS_NAME = "requests.sqlite", "to-cloud.sqlite", "commands.sqlite"
"""The files in the folder of a validator."""
_OUTBOX_PAUSE, _PUBLISH_PAUSE, _MOST_SHOWN = 0.2, 2.0, 1000
_LIMIT = re.compile(r"\d{1,9}", re.ASCII)
_SWITCH = 0.0005
"""Seconds after which a busy thread lets another one run. Each check of a signature and each write gives up the
interpreter, and would otherwise wait for 5 ms to go on while the event loop is busy."""
_TASKS_END, _THREADS_END = 2.0, 1.5
"""Seconds in which the tasks must end, and then seconds in which the threads must end."""


@dataclass(frozen=True)
class ValidatorSetup:
    """The parts from which a validator is assembled.

    Attributes:
        settings: the table ``[validator]``.
        signer: signs commands, and requests to the cloud.
        open_registry: opens the registry of identities. It is called again until the node answers.
        log: the log.
    """

    settings: ValidatorSettings
    signer: RequestSigner
    open_registry: Callable[[], IdentitiesContract]
    log: LogParts


@dataclass(frozen=True)
class ValidatorStatus:
    """The state of a validator at one moment.

    Attributes:
        block: the newest block of the gateway chain that was read.
        block_age: its age in seconds.
        accepted: the number of accepted requests since the start.
        refused: the number of refused requests since the start, by fault.
        readings: the number of accepted readings since the start.
        to_cloud: the number of requests that the cloud does not have yet.
        commands: the number of commands that gateways do not have yet.
        entries: the number of entries of the log.
        anchored: the number of anchored entries; None if it is unknown.
        troubles: the parts that have failed, each with the reason.
    """

    block: int = 0
    block_age: int = 0
    accepted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    readings: int = 0
    to_cloud: int = 0
    commands: int = 0
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
            "readings": self.readings,
            "toCloud": self.to_cloud,
            "commands": self.commands,
            "entries": self.entries,
            "anchored": self.anchored,
            "troubles": dict(self.troubles),
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines of ``/metrics``."""
        gauges: dict[str, tuple[str, float]] = {
            "newest_block": ("Newest block of the gateway chain that was read.", self.block),
            "block_age_seconds": ("Seconds since the newest block.", self.block_age),
            "cloud_outbox_requests": ("Requests that the cloud does not have yet.", self.to_cloud),
            "command_outbox_commands": ("Commands that gateways do not have yet.", self.commands),
            "log_entries": ("Entries of the log.", self.entries),
            "anchored_entries": ("Anchored entries of the log.", self.anchored or 0),
            "troubles": ("Parts of the validator that are in trouble.", len(self.troubles)),
        }
        counters: dict[str, tuple[str, float]] = {
            "accepted_requests_total": ("Accepted requests since the start.", self.accepted),
            "readings_total": ("Accepted readings since the start.", self.readings),
        }
        yield from gauge_lines("validator", gauges)
        yield from gauge_lines("validator", counters, kind="counter")
        name = "blockota_validator_refused_requests_total"
        yield from (f"# HELP {name} Refused requests since the start, by fault.", f"# TYPE {name} counter")
        for fault, count in sorted(self.refused.items()):
            yield f'{name}{{fault="{fault}"}} {count}'


class ValidatorService:
    """Runs a validator.

    Args:
        setup: the validator.
        stores: where it keeps requests.
        state: the names that it has seen, and entries for the log.
        lines: receives events, failures and recoveries.
        stop: ends the validator.
    """

    def __init__(
        self, setup: ValidatorSetup, stores: ValidatorStores, state: RequestState, lines: LineLog, stop: Stop
    ) -> None:
        settings = setup.settings
        self._setup, self._stores, self._state, self._lines, self._stop = setup, stores, state, lines, stop
        self._clock: Callable[[], int] = lambda: int(time.time())
        self._rules = RuleBook(settings.rules)
        self._registry = IdentityReader(setup.open_registry, is_watched=True)
        cloud = settings.cloud.identity if settings.cloud else None
        self._validator = Validator(stores, cloud, self._rules, lines, clock=self._clock)
        parts = ReceiverParts(self._registry, state, WarningMaker(settings.identity), self._clock)
        receiver = Receiver(settings.identity, METHODS, settings.max_age, settings.accepts_replayable)
        self._receiver = RequestReceiver(receiver, parts, keep=self._validator.keep)
        self._recorder = LogRecorder(setup.log, lines, clock=self._clock, owns=lambda _: False)
        self._threads = ServiceThreads(lines, stop)

    def run(self, *, on_ready: Callable[[str], None]) -> None:
        """Run until the stop is requested.

        Args:
            on_ready: called with the URL at which requests are received, when the validator serves.

        Raises:
            UsageError: an address or another setting cannot be used.
        """
        couriers = self._couriers()
        sys.setswitchinterval(_SWITCH)
        asyncio.run(self._serve(couriers, on_ready))

    async def _serve(self, couriers: Mapping[str, RequestCourier], on_ready: Callable[[str], None]) -> None:
        intake = RequestIntake(self._receiver)
        stopped = asyncio.create_task(asyncio.to_thread(self._wait_for_stop))
        tasks = [asyncio.create_task(one) for one in self._tasks(intake, on_ready)]
        self._start_threads(couriers)
        try:
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # an address that cannot be used ends the validator
        finally:
            self._stop.ask()
            self._stores.to_cloud.wake()
            self._stores.commands.wake()
            for task in tasks:
                task.cancel()
            await asyncio.wait([stopped, *tasks], timeout=_TASKS_END)
            await asyncio.to_thread(intake.close)
            await asyncio.to_thread(self._threads.join, _THREADS_END)

    def _tasks(self, intake: RequestIntake, on_ready: Callable[[str], None]) -> Iterator[Coroutine[Any, Any, None]]:
        settings = self._setup.settings
        routes = [
            WebRoute("/readings", self._list_readings),
            WebRoute("/readings/{thing}", self._show_readings),
            WebRoute("/readings/{thing}/{name}", self._show_readings),
        ]
        yield RequestServer(settings.port, intake, routes).run(on_ready=on_ready)
        if settings.listen:
            site = StatusSite(self._setup.log.log, self._status)
            place = Listening(*settings.listen, stop_seconds=1)
            yield serve_until(self._stop, site, place, log=lambda _: None, on_ready=lambda _: None)
        if broker := settings.broker:
            password = broker.password.read_text().strip() if broker.password else ""
            account = BrokerAccount(
                broker.host, broker.port, broker.name, password, broker.authority, is_persistent=bool(broker.name)
            )
            yield MqttIntake(settings.identity, intake, lambda: connected(account), self._report_mqtt).run()

    def _report_mqtt(self, why: str) -> None:
        self._lines.state("mqtt", why)
        if not why:
            self._lines.event("mqtt", "connected")

    def _wait_for_stop(self) -> None:
        while not self._stop.wait(1.0):
            pass

    def _couriers(self) -> dict[str, RequestCourier]:
        """Return the couriers by the names of their threads.

        Raises:
            UsageError: an address cannot be used.
        """
        settings, stores = self._setup.settings, self._stores
        routes: list[tuple[str, RequestOutbox, UUID, Route]] = []
        if cloud := settings.cloud:
            line = RequestLine(cloud.url, authority=cloud.authority)
            routes.append(("cloud", stores.to_cloud, cloud.identity, line))
        # Commands of rules that were removed since are sent too, until their deadline.
        for target in dict.fromkeys([*self._rules.targets, *stores.commands.receivers()]):
            way = GatewayRoute(target, self._registry, url=settings.gateways.get(target, ""))
            routes.append((f"gateway {target}", stores.commands, target, way))
        return {
            name: RequestCourier(outbox, receiver, self._setup.signer, route, clock=self._clock)
            for name, outbox, receiver, route in routes
        }

    def _start_threads(self, couriers: Mapping[str, RequestCourier]) -> None:
        self._threads.start("registry", self._look)
        self._threads.start("log", self._append)
        self._threads.start("publisher", self._publish)
        for name, courier in couriers.items():
            self._threads.start(f"courier to {name}", lambda name=name, one=courier: self._carry(name, one))  # type: ignore[misc]

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

    def _carry(self, name: str, courier: RequestCourier) -> None:
        courier.run(
            self._stop,
            report=lambda why: self._lines.state(name, why),
            refused=lambda why: self._lines.event(name, "refused", why=why),
        )

    async def _list_readings(self, request: Request) -> Response:
        if refusal := await self._stranger(request):
            return refusal
        series = [{"thing": thing, "name": name} for thing, name in self._stores.recent.things()]
        return JSONResponse({"series": series}, headers={"Cache-Control": "no-store"})

    async def _show_readings(self, request: Request) -> Response:
        if refusal := await self._stranger(request):
            return refusal
        limit = request.query_params.get("limit", "")
        most = min(int(limit), _MOST_SHOWN) if _LIMIT.fullmatch(limit) else _MOST_SHOWN
        found = self._stores.recent.of(request.path_params["thing"], request.path_params.get("name", ""), limit=most)
        return JSONResponse({"readings": [one.as_fields() for one in found]}, headers={"Cache-Control": "no-store"})

    async def _stranger(self, request: Request) -> Response | None:
        """Return the refusal of a client that may not read: it has neither this machine's address nor an identity's."""
        address = client_address(request)
        if is_this_machine(address):
            return None
        try:
            identity = await asyncio.to_thread(self._registry.identity_at, address)
        except ChainError:
            return JSONResponse({"error": "the registry of identities is out of reach"}, 503)
        if identity and identity.is_active:
            return None
        return JSONResponse({"error": "readings are shown to active identities, at their virtual IPs"}, 403)

    def _status(self) -> ValidatorStatus:
        head, counts = self._registry.head, self._receiver.counts
        return ValidatorStatus(
            block=head.number if head else 0,
            block_age=max(self._clock() - head.time, 0) if head else 0,
            accepted=counts[None],
            refused={fault.name: count for fault, count in counts.items() if isinstance(fault, Fault)},
            readings=self._validator.readings,
            to_cloud=self._stores.to_cloud.waiting(),
            commands=self._stores.commands.waiting(),
            entries=len(self._setup.log.log),
            anchored=self._recorder.anchored,
            troubles=self._lines.troubles,
        )


@contextmanager
def opened_service(setup: ValidatorSetup, lines: LineLog, stop: Stop) -> Iterator[ValidatorService]:
    """Open the files of a validator, and yield its service.

    Raises:
        RefusedError: another process runs this validator, or a file belongs to another program.
        StoreError: the folder of the validator cannot be written.
    """
    settings = setup.settings
    with ExitStack() as stack:
        state = stack.enter_context(RequestState(settings.folder / STATE_NAME))
        to_cloud = stack.enter_context(RequestOutbox(settings.folder / CLOUD_NAME, max_size=MAX_STORE_SIZE))
        commands = stack.enter_context(RequestOutbox(settings.folder / COMMANDS_NAME))
        recent = RecentReadings(settings.keep_readings, clock=lambda: int(time.time()))
        yield ValidatorService(setup, ValidatorStores(recent, to_cloud, commands), state, lines, stop)
