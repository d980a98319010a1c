"""The evaluation of Halmos's results, and the two solvers behind it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import smt_solver
from scripts.run_halmos import judge


def results(*, reachable: int = 1, loops: int = 0, **exit_codes: int) -> dict[str, Any]:
    """Return results as Halmos writes them: for each contract a check with its exit code, and one that must fail."""
    return {
        f"tests/contracts/Check{name}.t.sol:Check{name}": [
            {"name": "check_owner(address)", "exitcode": code, "num_bounded_loops": loops},
            {"name": "check_reachable_owner(address)", "exitcode": reachable, "num_bounded_loops": loops},
        ]
        for name, code in exit_codes.items()
    }


def test_what_was_proved_is_named() -> None:
    """One proven check and one expected failure for each contract are sufficient."""
    proved, problems = judge(results(BlockOTA=0, FirmwareReplication=0))
    assert proved == ["CheckBlockOTA.check_owner", "CheckFirmwareReplication.check_owner"]
    assert problems == []


def test_what_is_disproved_or_undecided_is_named() -> None:
    """Any exit code other than 0 is reported: counterexamples, timeouts and aborted paths."""
    proved, problems = judge(results(BlockOTA=4, FirmwareReplication=0))
    assert proved == ["CheckFirmwareReplication.check_owner"]
    assert problems == ["CheckBlockOTA.check_owner is not proved.", "Nothing is proved of BlockOTA."]


def test_a_check_whose_loops_were_cut_short_is_named() -> None:
    """A check with truncated loops is reported, although Halmos passes it."""
    _, problems = judge(results(loops=1, BlockOTA=0, FirmwareReplication=0))
    assert "CheckBlockOTA.check_owner is not proved." in problems


@pytest.mark.parametrize("code", [0, 2, 4], ids=["proved", "undecided", "reverts"])
def test_a_check_that_must_fail_and_does_not_is_named(code: int) -> None:
    """An expected failure that passes is reported: the assumptions would be too strong."""
    _, problems = judge(results(reachable=code, BlockOTA=0))
    assert "CheckBlockOTA.check_reachable_owner is not refuted." in problems
    assert "Nothing is refuted of BlockOTA." in problems


def test_that_nothing_ran_is_named() -> None:
    """A run without checks, which Halmos accepts, is an error."""
    _, problems = judge({})
    assert problems == [
        "Nothing is proved of BlockOTA.",
        "Nothing is proved of FirmwareReplication.",
        "Nothing is refuted of BlockOTA.",
        "Nothing is refuted of FirmwareReplication.",
    ]


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
    """`unsat` of either solver counts; a model counts only if Z3 confirms it."""
    monkeypatch.setattr(smt_solver, "YICES", program(yices))
    monkeypatch.setattr(smt_solver, "Z3", program(z3))
    assert smt_solver.solve(Path("formula.smt2")).strip() == expected


def test_a_solver_that_times_out_gives_no_result() -> None:
    """A timeout gives no result, unless the other solver has one."""
    asleep = (sys.executable, "-c", "import time; time.sleep(60)")
    assert smt_solver.answer(asleep, Path("formula.smt2"), 0.1) == "unknown"


def program(answer: str) -> tuple[str, ...]:
    """Return a command that prints a result for any formula."""
    return (sys.executable, "-c", f"print({answer!r})")
