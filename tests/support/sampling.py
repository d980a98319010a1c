"""Samples of exhaustive sweeps: a part of the cases in ``make test``, all of them in ``make deep``.

The seed is drawn anew for every run and printed in pytest's header; BLOCKOTA_SEED sets it again. BLOCKOTA_EXHAUSTIVE
takes all cases.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")
# Set for child processes too: workers of pytest-xdist must collect the same cases.
SEED = int(os.environ.setdefault("BLOCKOTA_SEED", str(random.SystemRandom().randrange(1 << 32))))


def sampled(cases: Sequence[Case], *, one_in: int) -> Sequence[Case]:
    """Every `one_in`-th case, the first of them drawn by the seed; all cases in ``make deep``."""
    if os.environ.get("BLOCKOTA_EXHAUSTIVE"):
        return cases
    return cases[random.Random(SEED).randrange(one_in) :: one_in]  # noqa: S311 - a draw that can be repeated
