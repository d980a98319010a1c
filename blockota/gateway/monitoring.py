"""The pages for the gateway's operator: ``/health``, ``/metrics`` (in Prometheus' text format), and the log.

``/devices`` and ``/devices/NUMBER`` are for commands on the same machine. They show the plans for devices, and the
reasons.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

from blockota.ledger.log import TileLog
from blockota.repository.answers import HttpAnswer, text_response
from blockota.repository.request import HttpRequest
from blockota.repository.status_site import StatusSite, fresh, gauge_lines
from blockota.stores.source import is_this_machine

DEVICES = "/devices"
_TIMEOUT = 5.0


@dataclass(frozen=True)
class DevicePlan:
    """The gateway's plan for a device.

    Attributes:
        number: number of the device.
        name: the first alias of the device.
        group: the device's group in the settings.
        is_banned: whether the device is banned.
        why: why the device has this target.
        last_reading: Unix time of the last reading since the gateway's start; None if there was none.
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
        waiting: number of readings in the outbox. A reading counts once for each validator.
        accepted: number of accepted readings since the start.
        refused: number of refused readings since the start.
        last: Unix time of the last accepted reading since the start; None if there was none.
        open_commands: number of commands without an outcome.
    """

    waiting: int = 0
    accepted: int = 0
    refused: int = 0
    last: int | None = None
    open_commands: int = 0

    def as_fields(self) -> dict[str, Any]:
        """The JSON object in ``/health``."""
        return {
            "waiting": self.waiting,
            "accepted": self.accepted,
            "refused": self.refused,
            "last": self.last,
            "openCommands": self.open_commands,
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines of ``/metrics``."""
        gauges: dict[str, tuple[str, float]] = {
            "submissions": ("Readings that validators do not have yet, for each validator.", self.waiting),
            "last_reading_timestamp_seconds": ("Unix time of the last reading; 0 without one.", self.last or 0),
            "open_commands": ("Commands without an outcome.", self.open_commands),
        }
        counters: dict[str, tuple[str, float]] = {
            "readings_total": ("Accepted readings since the start.", self.accepted),
            "refused_readings_total": ("Refused readings since the start.", self.refused),
        }
        yield from gauge_lines("gateway", gauges)
        yield from gauge_lines("gateway", counters, kind="counter")


@dataclass(frozen=True)
class GatewayStatus:
    """The state of a gateway at one moment.

    Attributes:
        devices: number of devices of the site.
        stages: number of components in each stage of a delivery.
        block: the last confirmed block of the gateway chain that was read.
        block_age: age in seconds of the newest block that was seen.
        waiting: number of entries that are not in the log yet.
        entries: number of entries of the log.
        anchored: number of anchored entries; None if it is unknown.
        troubles: the parts that have failed, each with the reason.
        access: the readings and commands; None if the gateway has no access settings.
    """

    devices: int = 0
    stages: Mapping[str, int] = field(default_factory=dict)
    block: int = 0
    block_age: int = 0
    waiting: int = 0
    entries: int = 0
    anchored: int | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)
    access: AccessStatus | None = None

    @property
    def word(self) -> str:
        """``serving``, ``degraded`` if something is in trouble, or ``starting`` before the first reading."""
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
            "entries": self.entries,
            "anchored": self.anchored,
            "waiting": self.waiting,
            "troubles": dict(self.troubles),
        } | ({"readings": self.access.as_fields()} if self.access else {})

    def lines(self) -> Iterator[str]:
        """Yield the lines of ``/metrics``."""
        gauges = {
            "devices": ("Devices of the site.", self.devices),
            "confirmed_block": ("Confirmed block of the gateway chain that was read last.", self.block),
            "block_age_seconds": ("Seconds since the newest block that was seen.", self.block_age),
            "outbox_entries": ("Entries that are not in the log yet.", self.waiting),
            "log_entries": ("Entries of the log.", self.entries),
            "anchored_entries": ("Anchored entries of the log.", self.anchored or 0),
            "troubles": ("Parts of the gateway that are in trouble.", len(self.troubles)),
        }
        yield from gauge_lines("gateway", gauges)
        if self.access:
            yield from self.access.lines()
        text = "Components of devices by the stage of their delivery."
        yield from (f"# HELP blockota_gateway_components {text}", "# TYPE blockota_gateway_components gauge")
        for stage, count in sorted(self.stages.items()):
            yield f'blockota_gateway_components{{stage="{stage}"}} {count}'


class GatewaySite(StatusSite):
    """The published log of a gateway, with the gateway's state.

    Args:
        log: the log.
        status: returns the state of the gateway.
        plans: yields the plans for all devices.
    """

    def __init__(
        self, log: TileLog, status: Callable[[], GatewayStatus], plans: Callable[[], Iterable[DevicePlan]]
    ) -> None:
        super().__init__(log, status)
        self._plans = plans

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the response to a request, which may be a refusal.

        Raises:
            ContentError: the checkpoint is damaged.
            StoreError: the folder of the log cannot be read.
        """
        if request.method not in ("GET", "HEAD") or request.path != DEVICES:
            return super().answer(request)
        if not is_this_machine(request.client):
            return text_response(HTTPStatus.FORBIDDEN, "The devices are shown on the gateway's machine only.")
        return fresh(json.dumps({"devices": [one.as_fields() for one in self._plans()]}).encode(), "application/json")


def ask_plans(address: tuple[str, int]) -> dict[int, DevicePlan]:
    """Ask a gateway that runs on this machine for its plans for devices. Returns no plans if it does not answer."""
    connection = HTTPConnection(*address, timeout=_TIMEOUT)
    try:
        connection.request("GET", DEVICES)
        found = json.loads(connection.getresponse().read())["devices"]
        plans = [
            DevicePlan(one["device"], one["name"], one["group"], one["banned"], one["why"], one.get("lastReading"))
            for one in found
        ]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return {}
    finally:
        connection.close()
    return {one.number: one for one in plans}
