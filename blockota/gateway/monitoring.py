"""The pages for the gateway's operator: ``/health``, ``/metrics``, and the log.

``/devices`` and ``/devices/NUMBER`` are served only to clients on the same machine. The two paths show for each device
why its target was chosen, or why no target was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

from blockota.ledger.log import TileLog
from blockota.ledger.recording import LogStatus
from blockota.repository.answers import HttpAnswer, text_response
from blockota.repository.metrics import Metrics, ServiceMetrics
from blockota.repository.request import HttpRequest
from blockota.repository.status_site import StatusSite, fresh
from blockota.stores.source import is_this_machine

DEVICES = "/devices"
_TIMEOUT = 5.0
_METRICS = ServiceMetrics("gateway")


@dataclass(frozen=True)
class DevicePlan:
    """The gateway's plan for a device.

    Attributes:
        number: number of the device.
        name: the first alias of the device.
        group: the device's group in the settings.
        is_banned: whether the device is banned.
        why: why the target of the device was chosen, or why no target was chosen.
        last_reading: Unix time of the device's last reading since the gateway's start; None if there was no reading.
    """

    number: int
    name: str
    group: str
    is_banned: bool
    why: str
    last_reading: int | None = None

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a plan."""
        return {
            "device": self.number,
            "name": self.name,
            "group": self.group,
            "banned": self.is_banned,
            "why": self.why,
            "lastReading": self.last_reading,
        }


@dataclass(frozen=True)
class AccessStatus:
    """The readings and commands of a gateway at one moment.

    Attributes:
        waiting: number of readings in the outbox. A reading that waits for two validators counts twice.
        accepted: number of accepted readings since the start.
        refused: number of refused readings since the start.
        last: Unix time of the last accepted reading since the start; None if there was no reading.
        open_commands: number of commands without an outcome.
        accepted_requests: number of accepted requests with commands since the start.
        refused_requests: number of refused requests since the start, by the reason for the refusal.
    """

    waiting: int = 0
    accepted: int = 0
    refused: int = 0
    last: int | None = None
    open_commands: int = 0
    accepted_requests: int = 0
    refused_requests: Mapping[str, int] = field(default_factory=dict)

    def as_fields(self) -> dict[str, Any]:
        """The JSON object in ``/health``."""
        return {
            "waiting": self.waiting,
            "accepted": self.accepted,
            "refused": self.refused,
            "last": self.last,
            "openCommands": self.open_commands,
        }

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``."""
        text = "Readings that validators do not have yet, for each validator."
        yield _METRICS.gauge("submissions", text, self.waiting)
        text = "Unix time of the last reading; 0 without one."
        yield _METRICS.gauge("last_reading_timestamp_seconds", text, self.last or 0)
        yield _METRICS.gauge("open_commands", "Commands without an outcome.", self.open_commands)
        yield _METRICS.counter("readings", "Accepted readings since the start.", self.accepted)
        yield _METRICS.counter("refused_readings", "Refused readings since the start.", self.refused)

        text = "Accepted requests of validators since the start."
        yield _METRICS.counter("accepted_requests", text, self.accepted_requests)
        text = "Refused requests since the start, by fault."
        yield _METRICS.counters("refused_requests", text, "fault", self.refused_requests)


@dataclass(frozen=True)
class GatewayStatus:
    """The state of a gateway at one moment.

    Attributes:
        devices: number of devices of the site.
        stages: number of components in each stage of a delivery.
        block: number of the newest confirmed block of the gateway chain that was read.
        block_age: age in seconds of the newest known block.
        waiting: number of entries that are not in the log yet.
        log: the log.
        troubles: the parts that have failed, each with the reason.
        access: the readings and commands; None if the gateway has no access settings.
    """

    devices: int = 0
    stages: Mapping[str, int] = field(default_factory=dict)
    block: int = 0
    block_age: int = 0
    waiting: int = 0
    log: LogStatus = field(default_factory=LogStatus)
    troubles: Mapping[str, str] = field(default_factory=dict)
    access: AccessStatus | None = None

    @property
    def word(self) -> str:
        """``serving``, ``degraded`` if a part has failed, or ``starting`` before the first reading of the chains."""
        if not self.block:
            return "starting"
        return "degraded" if self.troubles else "serving"

    def as_fields(self) -> dict[str, object]:
        """The JSON object of ``/health``."""
        return {
            "status": self.word,
            "devices": self.devices,
            "block": self.block,
            "blockAge": self.block_age,
            "entries": self.log.entries,
            "anchored": self.log.anchored,
            "waiting": self.waiting,
            "troubles": dict(self.troubles),
        } | ({"readings": self.access.as_fields()} if self.access else {})

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``."""
        yield _METRICS.gauge("devices", "Devices of the site.", self.devices)
        text = "Components of devices by the stage of their delivery."
        yield _METRICS.gauges("components", text, "stage", dict(sorted(self.stages.items())))

        text = "Confirmed block of the gateway chain that was read last; 0 before the first reading."
        yield _METRICS.gauge("confirmed_block", text, self.block)
        yield _METRICS.gauge("block_age_seconds", "Seconds since the newest block that was seen.", self.block_age)

        yield _METRICS.gauge("outbox_entries", "Entries that are not in the log yet.", self.waiting)
        yield _METRICS.gauge("troubles", "Parts of the gateway that are in trouble.", len(self.troubles))
        yield from _METRICS.log(self.log)
        if self.access:
            yield from self.access.metrics()


class GatewaySite(StatusSite):
    """The published log of a gateway, with the gateway's state.

    Args:
        log: the log.
        status: returns the state of the gateway.
        plans: yields the plans for all devices.
        host: the address at which the gateway listens. A request from this address was made on this machine.
    """

    def __init__(
        self,
        log: TileLog,
        status: Callable[[], GatewayStatus],
        plans: Callable[[], Iterable[DevicePlan]],
        *,
        host: str = "",
    ) -> None:
        super().__init__(log, _METRICS.service, status)
        self._plans, self._host = plans, host

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the HTTP response to a request.

        Raises:
            ContentError: the checkpoint is damaged.
            StoreError: the folder of the log cannot be read.
        """
        if request.method not in ("GET", "HEAD") or request.path != DEVICES:
            return super().answer(request)
        if not is_this_machine(request.client) and request.client != self._host:
            return text_response(HTTPStatus.FORBIDDEN, "The devices are shown on the gateway's machine only.")
        return fresh(json.dumps({"devices": [one.as_fields() for one in self._plans()]}).encode(), "application/json")


def ask_plans(address: tuple[str, int]) -> dict[int, DevicePlan]:
    """Request the plans for devices from the gateway on this machine; return {} if the gateway does not answer."""
    connection = HTTPConnection(*address, timeout=_TIMEOUT)
    try:
        connection.request("GET", DEVICES)
        found = json.loads(connection.getresponse().read())["devices"]
        plans = [
            DevicePlan(one["device"], one["name"], one["group"], one["banned"], one["why"], one.get("lastReading"))
            for one in found
        ]
    # Another program, or another version, may answer at the address.
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return {}
    finally:
        connection.close()
    return {one.number: one for one in plans}
