"""Select test cases from exhaustive sweeps: a sample in ``make test``, all cases in ``make deep``.

The environment variable BLOCKOTA_SEED sets the random seed, which pytest prints in its header. The environment
variable BLOCKOTA_EXHAUSTIVE selects all cases.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")
EXHAUSTIVE = bool(os.environ.get("BLOCKOTA_EXHAUSTIVE"))
"""Whether all cases are selected."""
# The seed is passed to child processes, because workers of pytest-xdist must collect the same cases.
SEED = int(os.environ.setdefault("BLOCKOTA_SEED", str(random.SystemRandom().randrange(1 << 32))))


def sampled(cases: Sequence[Case], *, one_in: int) -> Sequence[Case]:
    """Return every `one_in`-th case from a random start, or all cases in ``make deep``."""
    if EXHAUSTIVE:
        return cases
    return cases[random.Random(SEED).randrange(one_in) :: one_in]  # noqa: S311 - a draw that can be repeated
