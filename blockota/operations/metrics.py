"""The metrics of the operations room for Prometheus, without serial numbers and addresses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from blockota.operations import views
from blockota.operations.room import Room
from blockota.operations.warning_desk import count_open
from blockota.repository.metrics import Metrics, ServiceMetrics

SERVICE = "operations"
_METRICS = ServiceMetrics(SERVICE)


def room_metrics(room: Room, count_viewers: Callable[[], int]) -> Metrics:
    """Yield the metrics of a room, computed from its newest readings.

    Args:
        room: the room.
        count_viewers: returns the number of open streams of the pages.
    """
    state, archive = room.state, room.archive
    yield from _devices(room)

    yield _METRICS.gauge("open_warnings", "Warnings that are not dismissed.", count_open(archive))
    open_orders = len(views.update_progress(state, archive, is_open=True))
    yield _METRICS.gauge("open_orders", "Orders that are open.", open_orders)

    text = "Chains, logs and other sources that cannot be read now."
    yield _METRICS.gauge("troubles", text, len(_troubles(room)))
    yield _METRICS.gauge("viewers", "Open pages that receive live events.", count_viewers())
    text = "Notices that the message broker does not have yet."
    yield _METRICS.gauge("waiting_notices", text, room.outbox.waiting())

    yield from _chains(room, time.time())
    yield from _logs(room, time.time())
    probes = Counter(str(one.status) for one in room.watches.replicas.last.found or ())
    text = "Announced replicas by the result of their last check."
    yield _METRICS.gauges("replicas", text, "status", probes)


def _devices(room: Room) -> Metrics:
    if room.state.city:
        yield _METRICS.gauge("devices", "Devices of the registry.", len(room.state.city.devices))
    shares = views.release_shares(room.state, room.archive)
    running: dict[tuple[str, ...], float] = {(one.product, one.version): one.devices for one in shares}
    yield _METRICS.gauges("running_devices", "Devices by the release that they run.", "product version", running)


def _chains(room: Room, now: float) -> Metrics:
    state = room.state
    newest = {"gateway": state.city.newest} if state.city else {}
    newest |= {f"producer-{number}": one.newest for number, one in state.vendors.items()}
    ages = {name: max(now - head.time, 0) for name, head in newest.items()}
    yield _METRICS.gauges("block_age_seconds", "Seconds since the newest block of a chain.", "chain", ages)
    ages = {name: now - moment if moment else float("inf") for name, moment in state.read_at.items()}
    yield _METRICS.gauges("read_age_seconds", "Seconds since a chain was read.", "chain", ages)


def _logs(room: Room, now: float) -> Metrics:
    state = room.state
    sizes = {str(keeper): one.head.size for keeper, one in state.logs.items()}
    yield _METRICS.gauges("log_entries", "Verified entries of a log.", "log", sizes)
    text = "1 if a log contradicts a signature, an earlier tree or its anchor."
    lies = {str(keeper): int(one.is_lie) for keeper, one in state.logs.items()}
    yield _METRICS.gauges("log_contradictions", text, "log", lies)
    anchors = {str(keeper): now - one.anchored_at for keeper, one in (state.city.logs if state.city else {}).items()}
    yield _METRICS.gauges("anchor_age_seconds", "Seconds since the newest anchor of a log.", "log", anchors)


def _troubles(room: Room) -> list[str]:
    watched = [one.last.trouble for one in room.watches.all if one.last.trouble]
    return [
        *room.troubles.values(),
        *(one.trouble for one in room.state.logs.values() if one.trouble),
        *watched,
    ]
