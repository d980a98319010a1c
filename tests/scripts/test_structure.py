"""`benchmarks.structure` measures a small source tree correctly."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.structure import floors, measure

FILES = {
    "blockota/__init__.py": "",
    "blockota/base.py": '"""Doc."""\n\nVALUE = 1  # why\n',
    "blockota/model/__init__.py": "",
    "blockota/model/release.py": "from blockota.base import VALUE\n\ndef shown() -> int:\n    return _one()\n\n"
    "def _one() -> int:\n    # reason\n    return VALUE  # noqa: X1\n",
    "blockota/cli.py": "def main() -> None:\n    from blockota.model import release\n    release.shown()\n",
    "firmware_host/__init__.py": "",
    "tests/test_a.py": "x = 1\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A source tree with three modules and a test."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_checkout_is_measured(checkout: Path) -> None:
    """The measured figures of a source tree include imports inside functions."""
    figures = measure(checkout)
    assert (figures["product lines (Python)"], figures["test lines (Python and Solidity)"]) == (14, 1)
    assert (figures["import edges between modules"], figures["import edges between packages"]) == (2, 2)
    assert (figures["floors of modules"], figures["floors of packages"]) == (3, 3)
    assert (figures["single-use private helpers"], figures["of these shorter than 6 lines"]) == (1, 1)
    assert figures["comments per 100 lines of code"] == 22.2


def test_a_cycle_is_one_floor() -> None:
    """All modules of an import cycle are on the same level of the import graph."""
    assert floors("abcd", {("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}) == 3
