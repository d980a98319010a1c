"""Wait for a condition, on machines of any speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE = 120.0
"""Seconds after which a test fails whose condition is still false, long enough for any machine."""
PAUSE = 0.02

Result = TypeVar("Result")


def eventually(condition: Callable[[], Result], *, what: str = "the condition") -> Result:
    """Poll a condition until it is true, and return its value.

    Args:
        condition: the function to poll; it should be cheap.
        what: the name of the condition in the error.

    Raises:
        AssertionError: the condition is still false at the deadline.
    """
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not become true in {DEADLINE:.0f} s"
        time.sleep(PAUSE)
    return result
