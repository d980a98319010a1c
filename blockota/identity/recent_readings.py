"""The newest readings that a validator has received, stored in memory for queries."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.model.reading import SensorReading

_MOST_KEPT, _MOST_SERIES = 1000, 10_000
"""The largest number of readings of one quantity of one device, and of such series."""


@dataclass(frozen=True)
class ReceivedReading:
    """A reading, and the gateway that sent it.

    Attributes:
        gateway: UUID of the gateway.
        reading: the reading.
        received: Unix time at which the validator received it.
    """

    gateway: UUID
    reading: SensorReading
    received: int

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of the reading."""
        return {**self.reading.as_fields(), "gateway": str(self.gateway), "received": self.received}


class RecentReadings:
    """The newest readings. Several threads may call the methods.

    Args:
        keep: seconds for which a reading is stored.
        clock: returns Unix time.
        most: the largest number of readings of one quantity of one device.
    """

    def __init__(self, keep: int, *, clock: Callable[[], int], most: int = _MOST_KEPT) -> None:
        self._keep, self._clock, self._most = keep, clock, most
        self._series: OrderedDict[tuple[str, str], deque[ReceivedReading]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, gateway: UUID, readings: Iterable[SensorReading]) -> None:
        """Add the readings of a gateway.

        The readings of one quantity of one device form a series. If too many series are stored, the series that has
        received no reading for the longest time is dropped.
        """
        now = self._clock()
        with self._lock:
            for reading in readings:
                key = reading.thing, reading.name
                series = self._series.setdefault(key, deque(maxlen=self._most))
                series.append(ReceivedReading(gateway, reading, now))
                self._series.move_to_end(key)
            while len(self._series) > _MOST_SERIES:
                self._series.popitem(last=False)

    def of(self, thing: str, name: str = "", *, limit: int = _MOST_KEPT) -> list[ReceivedReading]:
        """Return the newest readings of a device, the newest first.

        Args:
            thing: the device.
            name: the quantity; empty for all quantities.
            limit: the largest number of readings.
        """
        oldest = self._clock() - self._keep
        with self._lock:
            keys = [(thing, name)] if name else [key for key in self._series if key[0] == thing]
            found = [one for key in keys for one in self._series.get(key, ()) if one.received >= oldest]
        found.sort(key=lambda one: (one.reading.time, one.received), reverse=True)
        return found[:limit]

    def things(self) -> list[tuple[str, str]]:
        """Return the pairs of device and quantity for which readings are stored."""
        with self._lock:
            return sorted(self._series)
