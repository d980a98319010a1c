"""The metrics of the operations room for Prometheus. They name no serial number and no address."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from blockota.operations import views
from blockota.operations.room import Room
from blockota.operations.warning_desk import count_open
from blockota.operations.web.live import LiveEvents

_PREFIX = "blockota_operations_"


class RoomCollector(Collector):
    """Makes the metrics from the newest readings.

    Args:
        room: the room.
        live: the open streams of the pages.
    """

    def __init__(self, room: Room, live: LiveEvents) -> None:
        self._room, self._live = room, live

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics."""
        room, now = self._room, time.time()
        state, archive = room.state, room.archive
        yield from self._devices()
        yield _gauge("open_warnings", "Warnings that are not dismissed.", count_open(archive))
        open_orders = len(views.update_progress(state, archive, is_open=True))
        yield _gauge("open_orders", "Orders that are open.", open_orders)
        yield _gauge("troubles", "Chains, logs and other sources that cannot be read now.", len(self._troubles()))
        yield _gauge("viewers", "Open pages that receive live events.", self._live.viewers)
        yield _gauge("waiting_notices", "Notices that the message broker does not have yet.", room.outbox.waiting())

        blocks = _family("block_age_seconds", "Seconds since the newest block of a chain.", "chain")
        newest = {"gateway": state.city.newest} if state.city else {}
        newest |= {f"producer-{number}": one.newest for number, one in state.vendors.items()}
        for name, head in newest.items():
            blocks.add_metric([name], max(now - head.time, 0))
        yield blocks
        ages = _family("read_age_seconds", "Seconds since a chain was read.", "chain")
        for name, moment in state.read_at.items():
            ages.add_metric([name], now - moment if moment else float("inf"))
        yield ages
        yield from self._logs(now)
        probes = room.watches.replicas.last.found or ()
        replicas = _family("replicas", "Announced replicas by the result of their last check.", "status")
        for status, count in Counter(str(one.status) for one in probes).items():
            replicas.add_metric([status], count)
        yield replicas

    def _devices(self) -> Iterator[GaugeMetricFamily]:
        room = self._room
        if room.state.city:
            yield _gauge("devices", "Devices of the registry.", len(room.state.city.devices))
        running = GaugeMetricFamily(
            f"{_PREFIX}running_devices", "Devices by the release that they run.", labels=["product", "version"]
        )
        for one in views.release_shares(room.state, room.archive):
            running.add_metric([one.product, one.version], one.devices)
        yield running

    def _logs(self, now: float) -> Iterator[GaugeMetricFamily]:
        state = self._room.state
        verified = _family("log_entries", "Verified entries of a log.", "log")
        lies = _family(
            "log_contradictions", "1 if a log contradicts a signature, an earlier tree or its anchor.", "log"
        )
        for keeper, followed in state.logs.items():
            verified.add_metric([str(keeper)], followed.head.size)
            lies.add_metric([str(keeper)], int(followed.is_lie))
        anchors = _family("anchor_age_seconds", "Seconds since the newest anchor of a log.", "log")
        for keeper, log in (state.city.logs if state.city else {}).items():
            anchors.add_metric([str(keeper)], now - log.anchored_at)
        yield from (verified, lies, anchors)

    def _troubles(self) -> list[str]:
        room = self._room
        watched = [one.last.trouble for one in room.watches.all if one.last.trouble]
        return [
            *room.state.troubles.values(),
            *(one.trouble for one in room.state.logs.values() if one.trouble),
            *watched,
        ]


def metrics_text(room: Room, live: LiveEvents) -> bytes:
    """Return the metrics in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(RoomCollector(room, live))
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _family(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, labels=[label])
