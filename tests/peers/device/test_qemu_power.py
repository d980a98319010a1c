"""Power fails in some flash operations of the loader in QEMU; `make power` tests every operation."""

from __future__ import annotations

import random
from pathlib import Path

from blockota.formats.delta import make_patch
from tests.support.qemu_images import NEW, OLD
from tests.support.qemu_power import (
    FAULTY,
    Loader,
    count_operations,
    cut_at_operation,
    cut_at_random,
    cut_in_delta,
    find_fault,
    stage_flashes,
)

EVERY = 8
SEED = 20_261_129


def test_a_cut_leaves_a_board_that_runs_a_release(tmp_path: Path) -> None:
    """After a cut in every eighth flash operation of each stage, the board runs a release and can be updated.

    A cut at a random instant has the same result.
    """
    draw, loader = random.Random(SEED), Loader(tmp_path)  # noqa: S311 - a draw that can be repeated
    for stage, flash in stage_flashes(tmp_path).items():
        count = count_operations(tmp_path, flash, loader)
        assert count, stage
        for number in range(draw.randint(1, EVERY), count + 1, EVERY):
            cut = cut_at_operation(tmp_path, flash, loader, number, draw)
            assert not find_fault(tmp_path, cut), (stage, number)
        assert not find_fault(tmp_path, cut_at_random(tmp_path, flash, draw)), stage


def test_a_cut_in_a_delta_leaves_the_running_release(tmp_path: Path) -> None:
    """Power cuts while a delta is applied do not change the running slot.

    After a cut, the delta can be applied again.
    """
    draw, patch = random.Random(SEED), make_patch(OLD, NEW)[1]  # noqa: S311 - a draw that can be repeated
    for turn in range(4):
        assert not find_fault(tmp_path, cut_in_delta(tmp_path, NEW, patch, draw)), turn


def test_the_known_error_is_found(tmp_path: Path) -> None:
    """With a loader that checks slot 1's digest in the middle of a swap, a cut makes the device unusable."""
    draw, faulty = random.Random(SEED), Loader(tmp_path, FAULTY)  # noqa: S311 - a draw that can be repeated
    flash = stage_flashes(tmp_path)["exchange"]
    assert find_fault(tmp_path, cut_at_operation(tmp_path, flash, faulty, 30, draw))
