"""A validator, which stores the readings of accepted requests, forwards them to the cloud, and applies its rules.

A `RequestReceiver` calls `Validator.keep` with the accepted requests. The requests are forwarded to the cloud
unchanged, so the cloud's database has a gateway's signature for each reading.
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
    """The stores and outboxes of a validator.

    Attributes:
        recent: the newest readings.
        to_cloud: outbox of the requests that the cloud has not accepted yet.
        commands: outbox of the commands that gateways have not accepted yet.
    """

    recent: RecentReadings
    to_cloud: RequestOutbox
    commands: RequestOutbox


class Validator:
    """Stores the readings of accepted requests, and applies rules to them.

    Args:
        stores: the stores and outboxes.
        cloud: UUID of the cloud; None without a cloud. Readings are then stored only in memory.
        rules: the rules.
        lines: the line log, to which a line about each command is written.
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
        """Store the readings of requests. If there is a cloud, the requests are on the disk when this method returns.

        Raises:
            StoreError: an outbox cannot be written.
        """
        now = self._clock()
        read = [_readings(request, now) for request in requests]
        usable = [(request, found) for request, found in zip(requests, read, strict=True) if isinstance(found, tuple)]

        # The requests are on the disk before their readings count, because a gateway forgets an accepted request.
        if self._cloud and usable:
            texts = [request.raw.decode() for request, _ in usable]
            self._stores.to_cloud.put(self._cloud, "store", texts, member="requests")

        for request, readings in usable:
            self._act(request.sender, readings)
            self._stores.recent.add(request.sender, readings)
            self.readings += len(readings)
        return [{"readings": len(found)} if isinstance(found, tuple) else found for found in read]

    def _act(self, gateway: UUID, readings: Sequence[SensorReading]) -> None:
        """Apply the rules to readings, and put the resulting commands for gateways into the outbox."""
        now = self._clock()
        for command in self._rules.apply(readings, gateway=gateway, now=now):
            rule = command.rule
            self._stores.commands.put(rule.target, "command", [command.data], expires=command.deadline)
            self._lines.event(
                "rules", "command", rule=rule.name, target=str(rule.target), device=rule.device, name=rule.command
            )


class GatewayRoute:
    """The connection to a gateway. No command is sent to a gateway that is banned or not enrolled.

    Args:
        gateway: UUID of the gateway.
        registry: reads its record.
        url: URL at which the gateway receives commands; empty to use its virtual IP.
        port: the port for commands at the virtual IP.

    Raises:
        UsageError: the URL cannot be used.
    """

    def __init__(self, gateway: UUID, registry: IdentityReader, *, url: str = "", port: int = 8471) -> None:
        self._gateway, self._registry, self._url, self._port = gateway, registry, url, port
        self._line, self._place = RequestLine(url) if url else None, url

    def send(self, raw: bytes) -> RequestReply:
        """Send a command. If the gateway may not receive commands, the command is refused and not sent.

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
    """Return why an identity may not receive commands; empty if it may."""
    if identity is None or identity.retired:
        return "is retired" if identity else "is not enrolled"
    if identity.banned:
        return "is banned"
    if identity.kind is not IdentityKind.GATEWAY:
        return f"is a {identity.kind}, and not a gateway"
    return "" if identity.virtual_ip or has_url else "has neither a virtual IP nor a URL in the settings"
