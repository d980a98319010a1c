"""What the gateway serves to its operator: ``/health``, ``/metrics`` (in Prometheus' text format), and its log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from blockota.ledger.log import TileLog
from blockota.repository.answers import HttpAnswer
from blockota.repository.log_site import LogSite
from blockota.repository.request import HttpRequest
from blockota.repository.site import HEALTH

METRICS = "/metrics"


@dataclass(frozen=True)
class GatewayStatus:
    """The state of a gateway at one moment.

    Attributes:
        devices: number of devices of the site.
        stages: number of components in each stage of a delivery.
        block: the confirmed block of the gateway chain that was read last.
        block_age: seconds since the newest block that was seen.
        waiting: entries that are not in the log yet.
        entries: entries of the log.
        anchored: anchored entries; None if unknown.
        troubles: what is in trouble, and why.
    """

    devices: int = 0
    stages: Mapping[str, int] = field(default_factory=dict)
    block: int = 0
    block_age: int = 0
    waiting: int = 0
    entries: int = 0
    anchored: int | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)

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
        }

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
        for name, (text, value) in gauges.items():
            yield from (f"# HELP blockota_gateway_{name} {text}", f"# TYPE blockota_gateway_{name} gauge")
            yield f"blockota_gateway_{name} {value}"
        text = "Components of devices by the stage of their delivery."
        yield from (f"# HELP blockota_gateway_components {text}", "# TYPE blockota_gateway_components gauge")
        for stage, count in sorted(self.stages.items()):
            yield f'blockota_gateway_components{{stage="{stage}"}} {count}'


class GatewaySite(LogSite):
    """The published log of a gateway, with the gateway's state.

    Args:
        log: the log.
        status: returns the state of the gateway.
    """

    def __init__(self, log: TileLog, status: Callable[[], GatewayStatus]) -> None:
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
        status = self._status()
        if request.path == HEALTH:
            body, kind = json.dumps(status.as_fields(), indent=2).encode() + b"\n", "application/json"
        else:
            body, kind = "\n".join((*status.lines(), "")).encode(), "text/plain; version=0.0.4; charset=utf-8"
        headers = {"Content-Type": kind, "Cache-Control": "no-store", "Content-Length": str(len(body))}
        # A monitor restarts a gateway whose answer is an error, and that helps against nothing that is in trouble here.
        return HttpAnswer(HTTPStatus.OK, headers, (body,))
