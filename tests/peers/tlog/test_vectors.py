"""The test vectors of the contracts and of `blockota.formats.tlog` come from Go's `golang.org/x/mod/sumdb/tlog`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.go_programs import GO
from tests.conftest import ROOT


def test_go_should_make_the_vectors_again() -> None:
    """The program in this folder prints the committed vectors, byte for byte."""
    done = subprocess.run([GO, "run", "."], cwd=Path(__file__).parent, capture_output=True, check=True)
    assert done.stdout == (ROOT / "tests/contracts/tlog_vectors.json").read_bytes()
