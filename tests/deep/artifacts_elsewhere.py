"""Test that the contracts compile to the same artifacts in any folder; run by `make deep`."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.build_artifacts import build

CLONE = Path(__file__).resolve().parents[2]


def test_the_package_data_should_not_depend_on_the_folder(tmp_path: Path) -> None:
    """A copy of the sources in another folder compiles to the artifacts in the repository."""
    shutil.copytree(CLONE / "contracts", tmp_path / "contracts", ignore=shutil.ignore_patterns(".cache"))
    shutil.copy(CLONE / "ape-config.yaml", tmp_path)
    (tmp_path / "node_modules").symlink_to(CLONE / "node_modules")
    committed = {path.stem: path.read_text() for path in (CLONE / "blockota/artifacts").glob("*.json")}
    assert build(tmp_path) == committed
