"""Which reports of the ERC-7730 linter fail `make clear-signing`. The linter itself runs in `make check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from blockota.vendor.clear_signing import CONTRACTS
from scripts.bootstrap import is_new_enough
from scripts.lint_clear_signing import EXPLAINED, complaints


def test_a_report_of_nothing_is_a_complaint() -> None:
    """The linter accepts a folder in which it finds no descriptor."""
    unseen = [{"contract": name, "checked": 0, "findings": [], "shown": 0} for name in CONTRACTS]
    for reports in ([], unseen):
        said = list(complaints(reports))
        assert said[:2] == [f"{name}: no descriptor was checked." for name in CONTRACTS]


def test_an_explanation_of_nothing_is_a_complaint() -> None:
    """An obsolete explanation would hide a finding that comes back."""
    said = list(complaints(good_reports(findings=[])))
    assert said == [f"Explained, but not found any more: {finding}" for finding in EXPLAINED]


def test_a_function_that_cannot_be_shown_is_a_complaint() -> None:
    """Ledger's wallets display only functions that have a binary form."""
    reports = good_reports(findings=explained_of_block_ota())
    assert list(complaints(reports)) == []
    reports[0]["shown"] = 8
    assert list(complaints(reports)) == ["BlockOTA: 8 of 9 functions can be shown."]


def test_a_python_is_tried_before_it_is_used(tmp_path: Path) -> None:
    """A name proves nothing: a shim of pyenv may start no interpreter, and a link may be broken."""
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    assert not is_new_enough(str(shim))
    shim.chmod(0o755)
    assert not is_new_enough(str(shim))
    assert not is_new_enough(str(tmp_path / "python3.13"))
    assert is_new_enough(sys.executable) == (sys.version_info >= (3, 12))


def good_reports(*, findings: list[str]) -> list[dict[str, Any]]:
    """Reports of both contracts; the first has these findings."""
    return [
        {"contract": "BlockOTA", "checked": 1, "findings": findings, "shown": 9},
        {"contract": "FirmwareReplication", "checked": 1, "findings": [], "shown": 6},
    ]


def explained_of_block_ota() -> list[str]:
    """The explained findings, as the linter reports them."""
    return [finding.removeprefix("BlockOTA: ") for finding in EXPLAINED]
