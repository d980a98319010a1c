"""docs/contracts.md says which invariants there are and how each is tested; the tests bear their numbers."""

from __future__ import annotations

import re
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
PAGE = (CLONE / "docs/contracts.md").read_text()
WAYS = ("invariant", "testFuzz", "check")


def numbers_of(way: str) -> set[str]:
    """Invariants that functions named `way_number_…` test."""
    sources = [path.read_text() for path in (CLONE / "tests/contracts").glob("*.t.sol")]
    return {number for source in sources for number in re.findall(rf"function {way}_([BR]\d+)_", source)}


def test_every_invariant_should_be_tested_as_the_page_says() -> None:
    """A tick without a test, or a test without a tick, fails here."""
    table = re.findall(r"^\| ([BR]\d+) \| *(yes|) *\| *(yes|) *\| *(yes|) *\|$", PAGE, re.MULTILINE)
    ticked = [{row[0] for row in table if row[column]} for column in (1, 2, 3)]
    assert ticked == [numbers_of(way) for way in WAYS]
    assert all(any(row[1:]) for row in table)


def test_every_invariant_should_be_said_once_and_in_sequence() -> None:
    """The numbers of both contracts run from 1, in the list and in the table."""
    said = re.findall(r"^\| ([BR]\d+) \| [A-Z`]", PAGE, re.MULTILINE)
    ticked = re.findall(r"^\| ([BR]\d+) \| *(?:yes|) *\|", PAGE, re.MULTILINE)
    assert said == ticked == [f"B{number}" for number in range(1, 11)] + [f"R{number}" for number in range(1, 9)]
