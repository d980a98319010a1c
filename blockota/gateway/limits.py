"""Limits how much a device can cause in a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

_MINUTE = 60


class MinuteLimit:
    """Counts for each key within a minute.

    Args:
        most: the largest count of a key.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._since = 0
        self._counts: Counter[Hashable] = Counter()

    def is_reached(self, key: Hashable, now: int) -> bool:
        """Whether a key has its largest count in the present minute."""
        if not 0 <= now - self._since < _MINUTE:
            self._counts.clear()
            self._since = now
        return self._counts[key] >= self._most

    def take(self, key: Hashable, now: int) -> bool:
        """Count one, and return whether the key had not reached its largest count before."""
        if self.is_reached(key, now):
            return False
        self._counts[key] += 1
        return True
