"""The gateway's time follows a jump of the system clock only after a confirmation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from blockota.gateway.steady_time import AGREEMENT, LARGEST_STEP, TRIAL, SteadyTime
from tests.support.gateway import NOW, SteppedClock

DAY = 86_400
STEADY = [LARGEST_STEP] * (TRIAL // LARGEST_STEP)


@pytest.mark.parametrize(
    ("steps", "time", "missed"),
    [
        ([1, 0, 59, 60], 120, 0),
        ([1, DAY, 1], 2, 0),
        ([1, -DAY, 1], 2, 0),
        ([DAY, *STEADY], DAY + TRIAL, DAY),
        ([-DAY, *STEADY], -DAY + TRIAL, -DAY),
        ([DAY, *STEADY[:-1], DAY], TRIAL - LARGEST_STEP, 0),
        ([DAY, -DAY, *STEADY], TRIAL, 0),
        ([61, 1], 1, 0),
    ],
)
def test_time_is_what_the_clock_counts(steps: Sequence[int], time: int, missed: int) -> None:
    """Steps up to a minute count.

    A jump of the clock is accepted only after the clock has run normally for ten minutes.
    """
    clock = SteppedClock()
    steady = SteadyTime(clock)
    for step in steps:
        clock.now += step
        steady()
    assert (steady() - NOW, steady.take_missed(), steady.take_missed()) == (time, missed, 0)
    assert steady.doubt == clock.now - NOW - time


def test_a_block_that_agrees_confirms_the_clock() -> None:
    """A confirmed block with a time near the clock's time confirms a jump. A block far from it does not."""
    clock = SteppedClock()
    steady = SteadyTime(clock)
    clock.now += DAY
    steady.confirm(NOW)
    assert steady() == NOW
    steady.confirm(clock.now - AGREEMENT)
    assert (steady(), steady.take_missed(), steady.doubt) == (NOW + DAY, DAY, 0)


def test_the_time_never_begins_before_its_end() -> None:
    """If the clock was set back before the start, the gateway's time continues from its last value.

    The time between the last value and the start counts as missed.
    """
    assert SteadyTime(SteppedClock(), last=NOW + 50)() == NOW + 50
    late = SteadyTime(SteppedClock(), last=NOW - DAY)
    assert (late(), late.take_missed()) == (NOW, DAY)
    assert SteadyTime(SteppedClock()).take_missed() == 0
