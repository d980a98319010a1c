"""Mutants are tested in parallel. A mutant that times out is tested again alone."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue

import pytest

from scripts.mutant_bench import Tables, ask
from scripts.mutant_killers import KILLED_BY_TIME, Forge, Variant

VARIANTS = [Variant("C", "C.sol", "", name=name) for name in ("endless", "slow", "killed", "passed")]
KILLING = "C.t.sol:CTest.test_f"


class Crowded(Forge):
    """A test run in which the mutant "slow" times out the first time, and the mutant "endless" every time."""

    met: list[str]

    def kills(self, variant: Variant) -> str:
        """Return the name of the failing test, a timeout, or an empty string."""
        again = variant.name in self.met
        self.met.append(variant.name)
        late = variant.name == "endless" or (variant.name == "slow" and not again)
        return KILLED_BY_TIME if late else "" if variant.name == "passed" else KILLING


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_late_mutant_is_tried_again_when_all_others_are_done(tmp_path: Path, jobs: int) -> None:
    """A mutant counts as killed by a timeout only if it also times out when it is tested alone."""
    tables: Tables = SimpleQueue()
    met: list[str] = []
    for _ in range(jobs):
        table = Crowded(tmp_path)
        table.met = met
        tables.put(table)
    found = {variant.name: test for variant, test in ask(tables, VARIANTS, jobs=jobs)}
    assert found == {"endless": KILLED_BY_TIME, "slow": KILLING, "killed": KILLING, "passed": ""}
    assert sorted(met[:4]) == sorted(variant.name for variant in VARIANTS)
    assert sorted(met[4:]) == ["endless", "slow"]
