"""Samples of exhaustive sweeps: some of the cases in ``make test``, all of them in ``make deep``.

The random seed of each run is printed in pytest's header; BLOCKOTA_SEED sets it. BLOCKOTA_EXHAUSTIVE selects all cases.
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
    """Return every `one_in`-th case, starting at a random one; all cases in ``make deep``."""
    if os.environ.get("BLOCKOTA_EXHAUSTIVE"):
        return cases
    return cases[random.Random(SEED).randrange(one_in) :: one_in]  # noqa: S311 - a draw that can be repeated
