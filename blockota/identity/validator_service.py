"""``blockota validator run``: the threads and tasks of a validator, in addition to the threads of `ReceivingService`.

=========  ======================================================================================
part       what it does
=========  ======================================================================================
loop       also receives requests over MQTT, and answers queries for readings
cloud      sends accepted requests to the cloud
gateway …  sends commands, one thread for each gateway that a rule names
=========  ======================================================================================
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as WebRoute

from blockota.bindings.identities import IdentitiesContract
from blockota.errors import ChainError
from blockota.identity.intake import RequestIntake
from blockota.identity.mqtt_intake import MqttIntake
from blockota.identity.receiving import Outcome
from blockota.identity.receiving_service import ReceivingService, ReceivingSetup, ReceivingStatus
from blockota.identity.recent_readings import RecentReadings
from blockota.identity.request_outbox import RequestCourier, RequestOutbox, Route
from blockota.identity.request_server import client_address
from blockota.identity.request_state import RequestState
from blockota.identity.sending import RequestLine, RequestSigner
from blockota.identity.validator import METHODS, GatewayRoute, Validator, ValidatorStores
from blockota.identity.validator_settings import ValidatorSettings
from blockota.ledger.recording import LogParts
from blockota.line_log import LineLog
from blockota.messaging.client import connected
from blockota.model.identity import IdentityKind
from blockota.model.request import MAX_STORE_SIZE, Receiver, SignedRequest
from blockota.model.rule import RuleBook
from blockota.repository.metrics import Metrics, ServiceMetrics
from blockota.shutdown import Stop
from blockota.stores.source import is_this_machine

STATE_NAME, CLOUD_NAME, COMMANDS_NAME = "requests.sqlite", "to-cloud.sqlite", "commands.sqlite"
"""The files in the folder of a validator."""
_MOST_SHOWN = 1000
_LIMIT = re.compile(r"\d{1,9}", re.ASCII)
_SWITCH = 0.0005
"""Seconds after which a busy thread lets another one run. Each check of a signature and each write releases the
interpreter lock. With Python's default, it would wait 5 ms to get the lock back while the event loop is busy."""


@dataclass(frozen=True)
class ValidatorSetup:
    """The parts from which a validator is assembled.

    Attributes:
        settings: the table ``[validator]``.
        signer: signs commands, and requests to the cloud.
        open_registry: opens the registry of identities. A failed call is repeated until the node answers.
        log: the log.
    """

    settings: ValidatorSettings
    signer: RequestSigner
    open_registry: Callable[[], IdentitiesContract]
    log: LogParts


@dataclass(frozen=True)
class ValidatorStatus(ReceivingStatus):
    """The state of a validator at one moment.

    Attributes:
        readings: the number of accepted readings since the start.
        to_cloud: the number of requests that the cloud has not accepted yet.
        commands: the number of commands that gateways have not accepted yet.
    """

    METRICS: ClassVar[ServiceMetrics] = ServiceMetrics("validator")

    readings: int = 0
    to_cloud: int = 0
    commands: int = 0

    def own_fields(self) -> dict[str, Any]:
        """Return the validator's own fields of the JSON status."""
        return {"readings": self.readings, "toCloud": self.to_cloud, "commands": self.commands}

    def own_metrics(self) -> Metrics:
        """Yield the validator's own metrics for Prometheus."""
        yield self.METRICS.counter("readings", "Accepted readings since the start.", self.readings)
        text = "Requests that the cloud does not have yet."
        yield self.METRICS.gauge("cloud_outbox_requests", text, self.to_cloud)
        text = "Commands that gateways do not have yet."
        yield self.METRICS.gauge("command_outbox_commands", text, self.commands)


class ValidatorService(ReceivingService):
    """Runs a validator.

    Args:
        setup: the validator.
        stores: the stores and outboxes of the validator.
        state: the ids of accepted requests, and entries for the log.
        lines: the line log, to which events, failures and recoveries are written.
        stop: ends the validator.
    """

    KIND = IdentityKind.VALIDATOR

    def __init__(
        self, setup: ValidatorSetup, stores: ValidatorStores, state: RequestState, lines: LineLog, stop: Stop
    ) -> None:
        settings = setup.settings
        receiver = Receiver(settings.identity, METHODS, settings.max_age, settings.accepts_replayable)
        super().__init__(ReceivingSetup(settings, receiver, setup.open_registry, setup.log, state), lines, stop)
        self._settings, self._signer, self._stores = settings, setup.signer, stores
        self._rules = RuleBook(settings.rules)
        cloud = settings.cloud.identity if settings.cloud else None
        self._validator = Validator(stores, cloud, self._rules, lines, clock=self._clock)
        self._more_tasks, self._wake = self._mqtt_tasks, self._wake_couriers

    def run(self, *, on_ready: Callable[[str], None]) -> None:
        """Run until `stop` is requested.

        Args:
            on_ready: called when the validator has started, with the URL at which requests are received.

        Raises:
            UsageError: an address or another setting cannot be used.
        """
        sys.setswitchinterval(_SWITCH)
        super().run(on_ready=on_ready)

    def _keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        return self._validator.keep(requests)

    def _workers(self) -> dict[str, Callable[[], object]]:
        carrying: dict[str, Callable[[], object]] = {
            f"courier to {name}": partial(self._carry, name, courier) for name, courier in self._couriers().items()
        }
        return {**super()._workers(), **carrying}

    def _routes(self) -> Sequence[WebRoute]:
        return (
            WebRoute("/readings", self._list_readings),
            WebRoute("/readings/{thing}", self._show_readings),
            WebRoute("/readings/{thing}/{name}", self._show_readings),
        )

    def _mqtt_tasks(self, intake: RequestIntake) -> Iterator[Coroutine[Any, Any, None]]:
        if broker := self._settings.broker:
            connect = partial(connected, broker.account(is_persistent=bool(broker.name)))
            yield MqttIntake(self._settings.identity, intake, connect, self._report_mqtt).run()

    def _report_mqtt(self, why: str) -> None:
        self._lines.state("mqtt", why)
        if not why:
            self._lines.event("mqtt", "connected")

    def _wake_couriers(self) -> None:
        self._stores.to_cloud.wake()
        self._stores.commands.wake()

    def _couriers(self) -> dict[str, RequestCourier]:
        """Return the senders of requests and commands, by the names of their threads.

        Raises:
            UsageError: an address cannot be used.
        """
        settings, stores = self._settings, self._stores
        routes: list[tuple[str, RequestOutbox, UUID, Route]] = []

        if cloud := settings.cloud:
            line = RequestLine(cloud.url, authority=cloud.authority)
            routes.append(("cloud", stores.to_cloud, cloud.identity, line))

        for receiver, count in stores.to_cloud.waiting_for().items():
            if cloud is None or receiver != cloud.identity:
                why = f"{count:,} requests wait for the identity {receiver}, which [validator.cloud] does not name"
                self._lines.state(f"requests for {receiver}", why)
        # Commands of rules that were removed since are sent too, until their deadline.
        for target in dict.fromkeys([*self._rules.targets, *stores.commands.receivers()]):
            way = GatewayRoute(target, self.registry, url=settings.gateways.get(target, ""))
            routes.append((f"gateway {target}", stores.commands, target, way))

        return {
            name: RequestCourier(outbox, receiver, self._signer, route, clock=self._clock)
            for name, outbox, receiver, route in routes
        }

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
        """Return None for clients on this machine or at virtual IPs of active identities; refuse all other clients."""
        address = client_address(request)
        if is_this_machine(address):
            return None
        try:
            identity = await asyncio.to_thread(self.registry.identity_at, address)
        except ChainError:
            return JSONResponse({"error": "the registry of identities is out of reach"}, 503)
        if identity and identity.is_active:
            return None
        return JSONResponse({"error": "readings are shown to active identities, at their virtual IPs"}, 403)

    def _status(self) -> ValidatorStatus:
        return ValidatorStatus(
            **self._common(),
            readings=self._validator.readings,
            to_cloud=self._stores.to_cloud.waiting(),
            commands=self._stores.commands.waiting(),
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
