"""The gateway's time: the clock of the machine, of which no jump is believed at once.

A clock that is set wrong by a day would otherwise end the transfers, trials and orders of all devices at the same
instant, and entries in a log cannot be taken back. The time therefore goes on by the seconds that the clock counts, and
a jump is only noted: more than `LARGEST_STEP` seconds between two readings, or a step back. The time takes over the
clock's value when a confirmed block agrees with it, or when it has counted on for `TRIAL` seconds.

When the value is taken over, the deliveries wait longer by the same seconds: time in which the gateway did not watch is
not counted against a device. The same rule covers a gateway that was stopped for a day.
"""

from __future__ import annotations

from collections.abc import Callable

LARGEST_STEP = 60
"""Seconds between two readings of the clock from which on they are a jump. A gateway reads it each second."""
TRIAL = 600
"""Seconds that a clock must count on after a jump."""
AGREEMENT = 600
"""Seconds by which the clock may differ from the time of a new block."""


class SteadyTime:
    """The gateway's time.

    Args:
        clock: returns the Unix time of the machine.
        last: the gateway's time when it was stopped; 0 for a new gateway.

    Attributes:
        missed: seconds that were taken over at once since `take_missed` was called.
    """

    def __init__(self, clock: Callable[[], int], *, last: int = 0) -> None:
        self._clock = clock
        self._seen = clock()
        self._now = max(last, self._seen)
        self._counted = 0  # seconds since the last jump
        self.missed = self._now - last if last else 0

    def __call__(self) -> int:
        """Return the time."""
        seen = self._clock()
        step = seen - self._seen
        self._seen = seen
        if 0 <= step <= LARGEST_STEP:
            self._now += step
            self._counted += step
        else:
            self._counted = 0
        if self._counted >= TRIAL:
            self._take_over()
        return self._now

    @property
    def doubt(self) -> int:
        """The seconds by which the clock is ahead of the time."""
        return self._seen - self._now

    def confirm(self, block_time: int) -> None:
        """Take over the clock's value if the time of a new block agrees with it."""
        self()
        if abs(self._seen - block_time) <= AGREEMENT:
            self._take_over()

    def take_missed(self) -> int:
        """Return the seconds that were taken over since the last call."""
        missed, self.missed = self.missed, 0
        return missed

    def _take_over(self) -> None:
        self.missed += self.doubt
        self._now = self._seen
