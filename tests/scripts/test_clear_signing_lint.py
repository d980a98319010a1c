"""`make clear-signing` evaluates the reports of the ERC-7730 linter."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blockota.vendor.clear_signing import CONTRACTS
from scripts.bootstrap import is_new_enough
from scripts.lint_clear_signing import EXPLAINED, complaints, count_signable


def test_a_report_of_nothing_is_an_error() -> None:
    """A linter run that checked no descriptor is reported as an error."""
    unseen = [{"contract": name, "checked": 0, "findings": [], "shown": 0} for name in CONTRACTS]
    for reports in ([], unseen):
        found = list(complaints(reports, list(CONTRACTS)))
        assert found[: len(CONTRACTS)] == [f"{name}: no descriptor was checked." for name in CONTRACTS]


def test_an_explanation_of_nothing_is_an_error() -> None:
    """If an explained finding of the linter no longer occurs, its explanation is reported as an error."""
    found = list(complaints(good_reports(findings=()), list(CONTRACTS)))
    assert found == [f"Explained, but not found any more: {finding}" for finding in EXPLAINED]


def test_a_folder_with_fewer_contracts_is_checked() -> None:
    """An owner's folder needs only the descriptors of the owner's contracts."""
    reports = [report for report in good_reports() if report["contract"] == "Producers"]
    assert list(complaints(reports, ["Producers"])) == []
    found = list(complaints(reports, ["Producers", "IdentityRegistry"]))
    assert found[0] == "IdentityRegistry: no descriptor was checked."


def test_a_function_that_cannot_be_shown_is_an_error() -> None:
    """A contract function that a Ledger wallet cannot show is an error."""
    reports = good_reports()
    assert list(complaints(reports, list(CONTRACTS))) == []
    reports[0]["shown"] = 8
    assert list(complaints(reports, list(CONTRACTS))) == ["BlockOTA: 8 of 9 functions can be shown."]


def test_a_python_is_tried_before_it_is_used(tmp_path: Path) -> None:
    """A Python interpreter counts as new enough for the linter only if it starts and its version is at least 3.12."""
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    assert not is_new_enough(str(shim))
    shim.chmod(0o755)
    assert not is_new_enough(str(shim))
    assert not is_new_enough(str(tmp_path / "python3.13"))
    assert is_new_enough(sys.executable) == (sys.version_info >= (3, 12))


def good_reports(*, findings: Iterable[str] = EXPLAINED) -> list[dict[str, Any]]:
    """Return a linter report for each contract that contains the given findings."""
    return [
        {
            "contract": name,
            "checked": 1,
            "findings": [one.removeprefix(f"{name}: ") for one in findings if one.startswith(f"{name}: ")],
            "shown": count_signable(name),
        }
        for name in CONTRACTS
    ]
