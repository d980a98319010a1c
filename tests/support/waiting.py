"""Waiting for a condition, on machines of any speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE = 120.0
"""Seconds after which a condition that is still false fails the test; only bounds a hang."""
PAUSE = 0.02

Result = TypeVar("Result")


def eventually(condition: Callable[[], Result], *, what: str = "the condition") -> Result:
    """Poll a condition until it is true; return its value.

    Args:
        condition: is polled; it should be cheap.
        what: names the condition in the failure.

    Raises:
        AssertionError: it is still false at the deadline.
    """
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not become true in {DEADLINE:.0f} s"
        time.sleep(PAUSE)
    return result
