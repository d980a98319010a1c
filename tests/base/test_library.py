"""The package loads the library at the first use of one of its names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import blockota
from blockota import library


def test_all_names_of_the_library_are_offered_and_loaded_late() -> None:
    """``import blockota`` imports nothing else; the library's names are imported on first use."""
    assert sorted(blockota.__all__) == sorted(library.__all__)
    assert all(getattr(blockota, name) is getattr(library, name) for name in library.__all__)
    assert set(blockota.__all__) <= set(dir(blockota))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = blockota.nothing
    script = "import sys; old = set(sys.modules); import blockota; print(*sorted(set(sys.modules) - old))"
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert [name for name in loaded if name.partition(".")[0] in {"blockota", "eth_account", "web3", "urllib3"}] == [
        "blockota"
    ]


def test_the_library_needs_neither_web3_nor_a_terminal() -> None:
    """The library imports neither web3 and Ape, which only tests and scripts need, nor the command line's packages."""
    script = "import sys, blockota.library; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"web3", "ape", "click", "rich"} & set(run.stdout.split())
