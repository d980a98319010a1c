"""A clock that stands still until something waits, for boards on which things take time."""

from __future__ import annotations

from firmware_host.simulator import TimeModel


class Clock:
    """A moment that only waiting moves on."""

    def __init__(self) -> None:
        """Start well after zero."""
        self._moment = 1000.0

    def now(self) -> float:
        """Return the moment in seconds."""
        return self._moment

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._moment += seconds

    def times(self, *, baud: int = 115200, latency: float = 0.0) -> TimeModel:
        """Return a model of line and flash by this clock."""
        return TimeModel(baud=baud, latency=latency, wait=self.wait, now=self.now)
