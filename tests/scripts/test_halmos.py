"""The results of Halmos are evaluated, and its solver script combines two solvers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import smt_solver
from scripts.compilation import CONTRACTS
from scripts.run_halmos import judge

PROVED = dict.fromkeys(CONTRACTS, 0)
"""The exit code of Halmos for a proved check, by contract."""


def results(*, reachable: int = 1, loops: int = 0, **exit_codes: int) -> dict[str, Any]:
    """Return results in Halmos's format: for each contract, a check and a check that must fail."""
    return {
        f"tests/contracts/Check{name}.t.sol:Check{name}": [
            {"name": "check_owner(address)", "exitcode": code, "num_bounded_loops": loops},
            {"name": "check_reachable_owner(address)", "exitcode": reachable, "num_bounded_loops": loops},
        ]
        for name, code in exit_codes.items()
    }


def test_what_was_proved_is_named() -> None:
    """A run passes if each contract has one proved check, and one check that must fail and was refuted."""
    proved, problems = judge(results(**PROVED))
    assert proved == [f"Check{name}.check_owner" for name in CONTRACTS]
    assert problems == []


def test_what_is_disproved_or_undecided_is_named() -> None:
    """A Halmos check with an exit code other than 0 is reported as not proved."""
    proved, problems = judge(results(**PROVED | {"BlockOTA": 4}))
    assert proved == [f"Check{name}.check_owner" for name in CONTRACTS[1:]]
    assert problems == ["CheckBlockOTA.check_owner is not proved.", "Nothing is proved of BlockOTA."]


def test_a_check_whose_loops_were_cut_short_is_named() -> None:
    """A check whose loops were truncated is reported as not proved, although Halmos passes it."""
    _, problems = judge(results(loops=1, **PROVED))
    assert "CheckBlockOTA.check_owner is not proved." in problems


@pytest.mark.parametrize("code", [0, 2, 4], ids=["proved", "undecided", "reverts"])
def test_a_check_that_must_fail_and_does_not_is_named(code: int) -> None:
    """If Halmos does not refute a check that must fail, the check is reported: its assumptions may be too strong."""
    _, problems = judge(results(reachable=code, BlockOTA=0))
    assert "CheckBlockOTA.check_reachable_owner is not refuted." in problems
    assert "Nothing is refuted of BlockOTA." in problems


def test_that_nothing_ran_is_named() -> None:
    """A Halmos run without checks is an error, although Halmos accepts it."""
    _, problems = judge({})
    assert problems == [f"Nothing is {what} of {name}." for what in ("proved", "refuted") for name in CONTRACTS]


@pytest.mark.parametrize(
    ("yices", "z3", "expected"),
    [
        ("unsat", "sat", "unsat"),
        ("sat yices", "unsat", "unsat"),
        ("sat yices", "sat z3", "sat yices"),
        ("sat yices", "unknown", "unknown"),
        ("unknown", "sat z3", "sat z3"),
        ("unknown", "unsat", "unsat"),
        ("unknown", "unknown", "unknown"),
    ],
)
def test_z3_is_asked_where_yices_found_no_contradiction(
    monkeypatch: pytest.MonkeyPatch, *, yices: str, z3: str, expected: str
) -> None:
    """The result `unsat` of one solver is sufficient; a model of Yices must be confirmed by Z3."""
    monkeypatch.setattr(smt_solver, "YICES", program(yices))
    monkeypatch.setattr(smt_solver, "Z3", program(z3))
    assert smt_solver.solve(Path("formula.smt2")).strip() == expected


def test_a_solver_that_times_out_gives_no_result() -> None:
    """If a solver does not answer in time, its result is `unknown`."""
    asleep = (sys.executable, "-c", "import time; time.sleep(60)")
    assert smt_solver.answer(asleep, Path("formula.smt2"), 0.1) == "unknown"


def program(answer: str) -> tuple[str, ...]:
    """Return a command that prints the same solver result for any formula."""
    return (sys.executable, "-c", f"print({answer!r})")
