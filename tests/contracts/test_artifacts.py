"""Tests of the package's contract artifacts, which must equal the compiled sources; `make check` compares them too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ape.managers.project import LocalProject

from scripts.build_artifacts import write

CLONE = Path(__file__).resolve().parents[2]
ARTIFACT = "blockota/artifacts/BlockOTA.json"


def test_the_bytecode_should_equal_what_ape_compiles(contracts: LocalProject) -> None:
    """The artifact of BlockOTA has the same bytecode that Ape compiles from the sources."""
    artifact = json.loads((CLONE / ARTIFACT).read_text())
    compiled = contracts.BlockOTA.contract_type
    assert artifact["bytecode"] == str(compiled.deployment_bytecode.bytecode)
    assert len(artifact["abi"]) == len(compiled.abi)


@pytest.mark.parametrize("before", ["old", None], ids=["another", "none"])
def test_a_check_should_fail_and_write_nothing(
    tmp_path: Path, before: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """`only_check` reports an artifact that differs, with the remedy; otherwise the artifact is written."""
    artifact = tmp_path / ARTIFACT
    artifact.parent.mkdir(parents=True)
    if before:
        artifact.write_text(before)
    assert write({"BlockOTA": "new"}, tmp_path, only_check=True) == 1
    assert capsys.readouterr().err == f"{ARTIFACT}: not equal to the compiled contracts. Run `make artifacts`.\n"
    assert (artifact.read_text() if artifact.exists() else None) == before
    assert write({"BlockOTA": "new"}, tmp_path, only_check=False) == 0
    assert (artifact.read_text(), write({"BlockOTA": "new"}, tmp_path, only_check=True)) == ("new", 0)
