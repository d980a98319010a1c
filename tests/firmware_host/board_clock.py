"""A simulated clock that advances only when a test waits."""

from __future__ import annotations

from firmware_host.simulator import TimeModel


class Clock:
    """A clock that advances only in `wait`."""

    def __init__(self) -> None:
        self._moment = 1000.0

    def now(self) -> float:
        """Return the time in seconds."""
        return self._moment

    def wait(self, seconds: float) -> None:
        """Advance the clock by this many seconds."""
        self._moment += seconds

    def times(self, *, baud: int = 115200, latency: float = 0.0) -> TimeModel:
        """Return a time model with this clock."""
        return TimeModel(baud=baud, latency=latency, wait=self.wait, now=self.now)
