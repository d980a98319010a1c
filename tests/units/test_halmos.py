"""What Halmos proved, and what is wrong with it."""

from __future__ import annotations

from typing import Any

from scripts.run_halmos import judge


def report(**exit_codes: int) -> dict[str, Any]:
    """Results as Halmos writes them: one check of each contract named."""
    return {
        "exitcode": max(exit_codes.values(), default=0),
        "test_results": {
            f"tests/contracts/Check{name}.t.sol:Check{name}": [{"name": "check_owner(address)", "exitcode": code}]
            for name, code in exit_codes.items()
        },
    }


def test_what_was_proved_is_named() -> None:
    """A check of each contract that holds is enough."""
    proved, problems = judge(report(BlockOTA=0, FirmwareReplication=0))
    assert proved == ["CheckBlockOTA.check_owner", "CheckFirmwareReplication.check_owner"]
    assert problems == []


def test_what_does_not_hold_or_is_not_decided_is_named() -> None:
    """Any exit code but 0: a counterexample, a time limit, a path that was given up."""
    proved, problems = judge(report(BlockOTA=4, FirmwareReplication=0))
    assert proved == ["CheckFirmwareReplication.check_owner"]
    assert problems == ["CheckBlockOTA.check_owner is not proved.", "Nothing is proved of BlockOTA."]


def test_that_nothing_ran_is_named() -> None:
    """Halmos is content when it finds no check."""
    _, problems = judge({})
    assert problems == ["Nothing is proved of BlockOTA.", "Nothing is proved of FirmwareReplication."]
