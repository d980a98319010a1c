"""Power fails while simulated STM32F103 boards update themselves by a delta; `make power` cuts hundreds of them."""

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
    """After a cut while a delta is applied or tried, and one in the recovery, the board runs an image and updates."""
    draw = random.Random(f"{SEED} {loader}")  # noqa: S311 - a draw that can be repeated
    whole, made = operations(loader)
    for limits in [(whole,), (made,), (whole, made)] * (CUTS // 3):
        cuts = [Cut(draw.randint(1, limit), draw.choice(TORN), draw.randrange(1 << 32)) for limit in limits]
        fault, happened = cut_update(loader, cuts)
        assert (fault, happened >= 1) == ("", True), cuts


def test_the_seeded_error_is_found() -> None:
    """A loader that judges slot 1 by its digest in the middle of an exchange does not survive the same cut."""
    assert cut_update("loader-faulty", [Cut(8000)])[0].startswith("it does not answer")
    assert cut_update("loader", [Cut(8000)]) == ("", 1)
