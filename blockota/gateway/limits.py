"""Limits how often a device can act."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class RateLimit:
    """Counts actions for each key within a time window.

    Args:
        most: the largest number of actions of a key within a window.
        seconds: the length of a window.
    """

    def __init__(self, most: int, *, seconds: int = 60) -> None:
        self._most, self._seconds = most, seconds
        self._since = 0
        self._counts: Counter[Hashable] = Counter()

    def is_reached(self, key: Hashable, now: int) -> bool:
        """Whether a key has reached its limit in the current window."""
        if not 0 <= now - self._since < self._seconds:
            self._counts.clear()
            self._since = now
        return self._counts[key] >= self._most

    def take(self, key: Hashable, now: int) -> bool:
        """Count one action. Returns whether the action was within the limit."""
        if self.is_reached(key, now):
            return False
        self._counts[key] += 1
        return True
