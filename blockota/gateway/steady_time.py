"""The gateway's time.

The gateway's time follows the machine's clock, but does not follow a jump of the clock immediately. If the gateway's
time jumped by a day, the transfers, trials and orders of all devices would end at the same instant. The log entries
about these ends could not be withdrawn. The gateway's time therefore advances only if two readings of the clock differ
by at most `LARGEST_STEP` seconds. A larger difference, or a step back, is a jump. After a jump, the gateway's time is
set to the clock's value in two cases: the time of a confirmed block agrees with the clock, or the clock has run for
`TRIAL` seconds without another jump.

When the gateway's time is set forward, the timeouts of all deliveries are extended by the same number of seconds. A
timeout therefore does not count time in which the gateway did not observe the devices. The same rule applies after a
gateway was stopped for a day.
"""

from __future__ import annotations

from collections.abc import Callable

LARGEST_STEP = 60
"""The largest number of seconds between two readings of the clock that is not a jump. A gateway reads the clock each
second.
"""
TRIAL = 600
"""Seconds for which a clock must run normally after a jump."""
AGREEMENT = 600
"""Seconds by which the clock may differ from the time of a new block."""


class SteadyTime:
    """The gateway's time.

    Args:
        clock: returns the Unix time of the machine.
        last: the gateway's time when it was stopped; 0 for a new gateway.

    Attributes:
        missed: seconds by which the gateway's time was set forward since the last call of `take_missed`.
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

        # A clock that jumped is trusted again after it has run steadily for a while.
        if self._counted >= TRIAL:
            self._take_over()
        return self._now

    @property
    def doubt(self) -> int:
        """The number of seconds by which the machine's clock is ahead of the gateway's time."""
        return self._seen - self._now

    def confirm(self, block_time: int) -> None:
        """Set the gateway's time to the clock's value if the time of a new block agrees with the clock."""
        self()
        if abs(self._seen - block_time) <= AGREEMENT:
            self._take_over()

    def take_missed(self) -> int:
        """Return the seconds by which the gateway's time was set forward since the last call."""
        missed, self.missed = self.missed, 0
        return missed

    def _take_over(self) -> None:
        self.missed += self.doubt
        self._now = self._seen
