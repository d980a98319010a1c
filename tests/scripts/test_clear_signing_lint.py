"""The ERC-7730 linter on our descriptors, on spoiled ones, and what we make of its report."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockota.vendor.clear_signing import CONTRACTS, descriptor, file_name, write_descriptors
from scripts.bootstrap import is_new_enough
from scripts.lint_clear_signing import EXAMPLE, EXPLAINED, LINTER_PYTHON, complaints, lint, main

needs_linter = pytest.mark.skipif(
    not LINTER_PYTHON.exists(),
    reason="the ERC-7730 linter is not set up, which needs Python 3.12: `make clear-signing`",
)
Formats = dict[str, dict[str, Any]]
REVOKE = "revoke(bytes32 product,uint64 version,string reason)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with both descriptors, bound to the example deployment."""
    write_descriptors(tmp_path, EXAMPLE, vendor="Example vendor")
    return tmp_path


@needs_linter
def test_the_linter_is_content_with_our_descriptors(capsys: pytest.CaptureFixture[str]) -> None:
    """It checked both, and every function that is signed can be put in the form of Ledger's wallets."""
    status = main([])
    told = capsys.readouterr()
    assert status == 0, told.err
    assert "checked 2 descriptors: BlockOTA (9 functions), FirmwareReplication (6 functions)" in told.out


@needs_linter
@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        pytest.param(lambda formats: fields(formats).pop(), "Missing display field.*`#.reason`", id="field-missing"),
        pytest.param(lambda formats: rename(formats, path="cause"), "does not exist in function", id="path"),
        pytest.param(lambda formats: rename(formats, format="hex"), "Invalid value.*hex", id="format"),
        pytest.param(lambda formats: rename(formats, label="Reason of the revocation"), "too long", id="label"),
        pytest.param(lambda formats: formats.pop(REVOKE), "revoke.*no display format", id="function-missing"),
        pytest.param(
            lambda formats: formats.update({REVOKE.replace("uint64", "uint32"): formats.pop(REVOKE)}),
            "Unknown selector",
            id="type",
        ),
    ],
)
def test_a_spoiled_descriptor_is_refused(
    folder: Path, spoil: Callable[[Formats], object], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What differs from the contract, and what a wallet could not show."""
    path = folder / file_name("BlockOTA")
    spoiled = json.loads(path.read_text())
    spoil(spoiled["display"]["formats"])
    path.write_text(json.dumps(spoiled))
    assert main([str(folder)]) == 1
    assert re.search(complaint, capsys.readouterr().err, re.DOTALL)


@needs_linter
def test_a_descriptor_that_is_bound_to_nothing_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The packaged files themselves are no descriptors yet."""
    (folder / file_name("BlockOTA")).write_text(json.dumps(descriptor("BlockOTA")))
    assert main([str(folder)]) == 1
    assert re.search("deployments.*at least 1 item", capsys.readouterr().err, re.DOTALL)


@needs_linter
def test_text_that_is_no_json_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The linter says so; it does not leave the file out."""
    (folder / file_name("BlockOTA")).write_text("{")
    assert main([str(folder)]) == 1
    assert re.search("BlockOTA: error", capsys.readouterr().err, re.DOTALL)


@needs_linter
def test_a_folder_without_descriptors_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The linter is content when it finds no file."""
    assert main([str(tmp_path)]) == 1
    assert re.search("BlockOTA: no descriptor was checked", capsys.readouterr().err, re.DOTALL)


@needs_linter
def test_a_file_that_the_linter_does_not_take_for_a_descriptor_is_missed(folder: Path) -> None:
    """It goes by the beginning of a file's name, and leaves out the others without a word."""
    (folder / file_name("BlockOTA")).rename(folder / "BlockOTA.json")
    assert [report["contract"] for report in lint(folder)] == ["FirmwareReplication"]


def test_a_report_of_nothing_is_a_complaint() -> None:
    """Whatever keeps the linter from its work, its silence is no praise."""
    unseen = [{"contract": name, "checked": 0, "findings": [], "shown": 0} for name in CONTRACTS]
    for reports in ([], unseen):
        said = list(complaints(reports))
        assert said[:2] == [f"{name}: no descriptor was checked." for name in CONTRACTS]


def test_an_explanation_of_nothing_is_a_complaint() -> None:
    """The list would grow old, and hide what comes back later."""
    said = list(complaints(good_reports(findings=[])))
    assert said == [f"Explained, but not found any more: {finding}" for finding in EXPLAINED]


def test_a_function_that_cannot_be_shown_is_a_complaint() -> None:
    """Ledger's wallets get a binary form; what cannot be put into it they do not show."""
    reports = good_reports(findings=explained_of_block_ota())
    assert list(complaints(reports)) == []
    reports[0]["shown"] = 8
    assert list(complaints(reports)) == ["BlockOTA: 8 of 9 functions can be shown."]


def test_a_python_is_tried_before_it_is_used(tmp_path: Path) -> None:
    """Its name says little: pyenv's shims may start nothing, and links may lead nowhere."""
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    assert not is_new_enough(str(shim))
    shim.chmod(0o755)
    assert not is_new_enough(str(shim))
    assert not is_new_enough(str(tmp_path / "python3.13"))
    assert is_new_enough(sys.executable) == (sys.version_info >= (3, 12))


def good_reports(*, findings: list[str]) -> list[dict[str, Any]]:
    """Reports of both contracts, the first with findings."""
    return [
        {"contract": "BlockOTA", "checked": 1, "findings": findings, "shown": 9},
        {"contract": "FirmwareReplication", "checked": 1, "findings": [], "shown": 6},
    ]


def explained_of_block_ota() -> list[str]:
    """What is explained, as the linter says it."""
    return [finding.removeprefix("BlockOTA: ") for finding in EXPLAINED]


def fields(formats: Formats) -> list[dict[str, Any]]:
    """The fields of `revoke`, the last of which is the reason."""
    found: list[dict[str, Any]] = formats[REVOKE]["fields"]
    return found


def rename(formats: Formats, **change: str) -> None:
    """Change the reason's field."""
    fields(formats)[-1].update(change)
