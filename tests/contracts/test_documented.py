"""docs/contracts.md lists the invariants and how each is tested; the tests carry the same numbers."""

from __future__ import annotations

import re
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
PAGE = (CLONE / "docs/contracts.md").read_text()
WAYS = ("invariant", "testFuzz", "check")


def numbers_of(way: str) -> set[str]:
    """Return the invariants that functions named `way_number_…` test."""
    sources = [path.read_text() for path in (CLONE / "tests/contracts").glob("*.t.sol")]
    return {number for source in sources for number in re.findall(rf"function {way}_([BR]\d+)_", source)}


def test_every_invariant_should_be_tested_as_documented() -> None:
    """Each tick in the table has a test, and each test has a tick."""
    table = re.findall(r"^\| ([BR]\d+) \| *(yes|) *\| *(yes|) *\| *(yes|) *\|$", PAGE, re.MULTILINE)
    ticked = [{row[0] for row in table if row[column]} for column in (1, 2, 3)]
    assert ticked == [numbers_of(way) for way in WAYS]
    assert all(any(row[1:]) for row in table)


def test_every_invariant_should_be_listed_once_and_in_sequence() -> None:
    """The invariants of both contracts are numbered from 1, in the list and in the table."""
    listed = re.findall(r"^\| ([BR]\d+) \| [A-Z`]", PAGE, re.MULTILINE)
    ticked = re.findall(r"^\| ([BR]\d+) \| *(?:yes|) *\|", PAGE, re.MULTILINE)
    assert listed == ticked == [f"B{number}" for number in range(1, 11)] + [f"R{number}" for number in range(1, 10)]
