"""The package data are what the sources compile to: by Ape, and in any folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ape
import pytest

CLONE = Path(__file__).resolve().parents[2]
SCRIPT = "scripts/build_artifacts.py"
ARTIFACT = "blockota/artifacts/BlockOTA.json"


@pytest.fixture
def copy_of_clone(tmp_path: Path) -> Path:
    """Everything the compiler reads, in another folder."""
    for name in ("contracts", "scripts", "blockota/artifacts"):
        shutil.copytree(CLONE / name, tmp_path / name)
    shutil.copy(CLONE / "ape-config.yaml", tmp_path)
    (tmp_path / "node_modules").symlink_to(CLONE / "node_modules")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the copy's script, from the copy."""
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_bytecode_should_equal_what_ape_compiles(contracts: ape.Project) -> None:
    """Two ways of compiling, the same bytes, so the settings of both are those of ape-config.yaml."""
    artifact = json.loads((CLONE / ARTIFACT).read_text())
    compiled = contracts.BlockOTA.contract_type
    assert artifact["bytecode"] == str(compiled.deployment_bytecode.bytecode)
    assert len(artifact["abi"]) == len(compiled.abi)


def test_the_package_data_should_not_depend_on_the_folder(copy_of_clone: Path) -> None:
    """A copy of the clone builds what is committed."""
    (copy_of_clone / ARTIFACT).unlink()
    done = run(copy_of_clone)
    assert (done.returncode, done.stdout) == (0, f"Wrote {ARTIFACT}.\n")
    assert (copy_of_clone / ARTIFACT).read_text() == (CLONE / ARTIFACT).read_text()


def test_when_the_sources_change_the_check_should_fail_and_write_nothing(copy_of_clone: Path) -> None:
    """One sentence names the file and the remedy."""
    source = copy_of_clone / "contracts/BlockOTA.sol"
    source.write_text(source.read_text().replace("1 << 20", "1 << 21"))
    done = run(copy_of_clone, "--check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{ARTIFACT}: not what contracts/ compiles to; run {SCRIPT}.\n"
    assert (copy_of_clone / ARTIFACT).read_text() == (CLONE / ARTIFACT).read_text()
