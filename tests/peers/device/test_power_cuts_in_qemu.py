"""Power fails at random instants while boards in QEMU swap their slots, and while they apply a delta."""

from __future__ import annotations

import random

import pytest

from benchmarks.power_qemu import cut_one_board, cut_one_delta
from tests.support.qemu_images import LOADER
from tests.support.sampling import SEED

BOARDS = 10


@pytest.mark.parametrize("number", range(BOARDS))
def test_a_board_survives_cuts_during_an_update(number: int) -> None:
    """After five cuts and torn pages, the board runs the old or the new image."""
    seed = random.Random(f"{SEED} {number}").randrange(1 << 32)  # noqa: S311 - a draw that can be repeated
    fault, _ = cut_one_board(LOADER, seed)
    assert not fault, seed


@pytest.mark.parametrize("number", range(BOARDS // 2))
def test_a_board_survives_cuts_during_a_delta(number: int) -> None:
    """After five cuts during a delta, the board runs its old image, and can apply the delta completely."""
    seed = random.Random(f"{SEED} {number}").randrange(1 << 32)  # noqa: S311 - a draw that can be repeated
    assert cut_one_delta(seed) == "", seed
