"""A validator: it keeps the readings of accepted requests, gives them to the cloud, and acts by its rules.

`Validator.keep` is the `Keep` of a `RequestReceiver`. The requests themselves go to the cloud, as they were received:
each reading in the cloud's database has the signature of the gateway that sent it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from blockota.errors import RefusedError
from blockota.identity.receiving import Outcome
from blockota.identity.recent_readings import RecentReadings
from blockota.identity.registry import IdentityReader
from blockota.identity.request_outbox import RequestOutbox
from blockota.identity.sending import RequestLine, RequestReply
from blockota.line_log import LineLog
from blockota.model.identity import Identity, IdentityKind
from blockota.model.reading import SensorReading, readings_in
from blockota.model.request import Fault, SignedRequest
from blockota.model.rule import RuleBook

METHODS = {"submit": frozenset({IdentityKind.GATEWAY})}
"""The methods of a validator."""
_FUTURE = 600
"""Seconds by which a reading may be ahead of the validator's clock. One from the far future would be the newest reading
of its device for ever. A gateway allows its devices half of it, `blockota.messaging.readings.LATEST`."""


@dataclass(frozen=True)
class ValidatorStores:
    """Where a validator puts what it keeps.

    Attributes:
        recent: the newest readings.
        to_cloud: the requests that the cloud does not have yet.
        commands: the commands that gateways do not have yet.
    """

    recent: RecentReadings
    to_cloud: RequestOutbox
    commands: RequestOutbox


class Validator:
    """Keeps accepted requests, and acts by rules.

    Args:
        stores: where the requests are kept.
        cloud: UUID of the cloud; None without one, and readings are then kept in memory alone.
        rules: the rules.
        lines: receives a line about each command.
        clock: returns Unix time.
    """

    def __init__(
        self,
        stores: ValidatorStores,
        cloud: UUID | None,
        rules: RuleBook,
        lines: LineLog,
        *,
        clock: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._stores, self._cloud, self._rules, self._lines, self._clock = stores, cloud, rules, lines, clock
        self.readings = 0
        """The number of accepted readings."""

    def keep(self, requests: Sequence[SignedRequest]) -> list[Outcome]:
        """Keep the readings of requests. They are on the disk when this returns, if there is a cloud.

        Raises:
            StoreError: an outbox cannot be written.
        """
        now = self._clock()
        read = [_readings(request, now) for request in requests]
        usable = [(request, found) for request, found in zip(requests, read, strict=True) if isinstance(found, tuple)]
        if self._cloud and usable:
            texts = [request.raw.decode() for request, _ in usable]
            self._stores.to_cloud.put(self._cloud, "store", texts, member="requests")
        for request, readings in usable:
            self._act(request.sender, readings)
            self._stores.recent.add(request.sender, readings)
            self.readings += len(readings)
        return [{"readings": len(found)} if isinstance(found, tuple) else found for found in read]

    def _act(self, gateway: UUID, readings: Sequence[SensorReading]) -> None:
        """Keep the commands that readings cause until their gateways have them."""
        now = self._clock()
        for command in self._rules.apply(readings, gateway=gateway, now=now):
            rule = command.rule
            self._stores.commands.put(rule.target, "command", [command.data], expires=command.deadline)
            self._lines.event(
                "rules", "command", rule=rule.name, target=str(rule.target), device=rule.device, name=rule.command
            )


class GatewayRoute:
    """The way to a gateway, which must be a gateway of the registry, and must not be banned.

    Args:
        gateway: UUID of the gateway.
        registry: reads its record.
        url: where it receives commands; empty for its virtual IP.
        port: the port at the virtual IP.

    Raises:
        UsageError: the URL cannot be used.
    """

    def __init__(self, gateway: UUID, registry: IdentityReader, *, url: str = "", port: int = 8471) -> None:
        self._gateway, self._registry, self._url, self._port = gateway, registry, url, port
        self._line, self._place = RequestLine(url) if url else None, url

    def send(self, raw: bytes) -> RequestReply:
        """Send a command. A command to an identity that may not get commands is refused without being sent.

        Raises:
            UnreachableError: the registry or the gateway does not answer.
        """
        identity = self._registry.reading(self._gateway, "").identity
        if why := _obstacle(identity, has_url=bool(self._url)):
            return RequestReply(None, Fault.NOT_POSSIBLE.code, f"the target {self._gateway} {why}")
        place = self._url or f"http://{identity.virtual_ip if identity else ''}:{self._port}"
        if self._line is None or place != self._place:
            self._line, self._place = RequestLine(place), place
        return self._line.send(raw)


def _readings(request: SignedRequest, now: int) -> tuple[SensorReading, ...] | RefusedError:
    try:
        found = readings_in(request.data)
    except RefusedError as error:
        return error
    for index, reading in enumerate(found):
        if reading.time > now + _FUTURE:
            why = f"its time is {reading.time - now:,.0f} seconds in the future"
            return RefusedError(f"reading {index} of the request cannot be used", why=why)
    return found


def _obstacle(identity: Identity | None, *, has_url: bool) -> str:
    """Return why an identity may not get commands; empty if it may."""
    if identity is None or identity.retired:
        return "is retired" if identity else "is not enrolled"
    if identity.banned:
        return "is banned"
    if identity.kind is not IdentityKind.GATEWAY:
        return f"is a {identity.kind}, and not a gateway"
    return "" if identity.virtual_ip or has_url else "has neither a virtual IP nor a URL in the settings"
