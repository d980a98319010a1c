"""The power of simulated STM32F103 boards fails while they apply a delta.

`make power` tests hundreds of power cuts.
"""

from __future__ import annotations

import random

import pytest

from tests.support.agent_cuts import LOADERS, cut_update, operations
from tests.support.board_device import TORN
from tests.support.power_cuts import Cut
from tests.support.sampling import SEED

CUTS = 6


@pytest.mark.parametrize("loader", LOADERS)
def test_an_agent_survives_power_cuts(loader: str) -> None:
    """After a power cut in an update, the board can be updated again.

    A second cut may happen during the recovery.
    """
    draw = random.Random(f"{SEED} {loader}")  # noqa: S311 - a draw that can be repeated
    whole, made = operations(loader)
    for limits in [(whole,), (made,), (whole, made)] * (CUTS // 3):
        cuts = [Cut(draw.randint(1, limit), draw.choice(TORN), draw.randrange(1 << 32)) for limit in limits]
        fault, happened = cut_update(loader, cuts)
        assert (fault, happened >= 1) == ("", True), cuts


def test_the_seeded_error_is_found() -> None:
    """A power cut in operation 8000 makes a board with the faulty loader unusable, but not the correct loader.

    The faulty loader checks slot 1's digest in the middle of a swap.
    """
    assert cut_update("loader-faulty", [Cut(8000)])[0].startswith("it does not answer")
    assert cut_update("loader", [Cut(8000)]) == ("", 1)
