"""Limits the number of actions of a device in a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

_MINUTE = 60


class MinuteLimit:
    """Counts actions for each key within a minute.

    Args:
        most: the largest number of actions of a key within a minute.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._since = 0
        self._counts: Counter[Hashable] = Counter()

    def is_reached(self, key: Hashable, now: int) -> bool:
        """Whether a key has reached its limit in the current minute."""
        if not 0 <= now - self._since < _MINUTE:
            self._counts.clear()
            self._since = now
        return self._counts[key] >= self._most

    def take(self, key: Hashable, now: int) -> bool:
        """Count one action. Returns whether the action was within the limit."""
        if self.is_reached(key, now):
            return False
        self._counts[key] += 1
        return True
