"""Tests that the invariants in docs/contracts.md and the names of the Solidity tests match."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
PAGE = (CLONE / "docs/contracts.md").read_text()
WAYS = ("invariant", "testFuzz", "check")
LETTERS = "BRPIDLO"
"""The letters of the contracts' invariants, in the order of docs/contracts.md."""


def numbers_of(way: str) -> set[str]:
    """Return the invariant numbers, such as B1, from the names `{way}_{number}_…` of Solidity functions."""
    sources = [path.read_text() for path in (CLONE / "tests/contracts").glob("*.t.sol")]
    return {number for source in sources for number in re.findall(rf"function {way}_([{LETTERS}]\d+)_", source)}


def test_every_invariant_should_be_tested_as_documented() -> None:
    """The invariant table in docs/contracts.md has a "yes" exactly where a test of the column's kind exists."""
    table = re.findall(rf"^\| ([{LETTERS}]\d+) \| *(yes|) *\| *(yes|) *\| *(yes|) *\|$", PAGE, re.MULTILINE)
    ticked = [{row[0] for row in table if row[column]} for column in (1, 2, 3)]
    assert ticked == [numbers_of(way) for way in WAYS]
    assert all(any(row[1:]) for row in table)


def test_every_invariant_should_be_listed_once_and_in_sequence() -> None:
    """The list and the table in docs/contracts.md contain each invariant once, numbered from 1 for each letter."""
    listed = re.findall(rf"^\| ([{LETTERS}])(\d+) \| [A-Z`]", PAGE, re.MULTILINE)
    ticked = re.findall(rf"^\| ([{LETTERS}])(\d+) \| *(?:yes|) *\|", PAGE, re.MULTILINE)
    counts = Counter(letter for letter, _ in listed)
    assert "".join(counts) == LETTERS
    assert listed == ticked == [(letter, str(n)) for letter in LETTERS for n in range(1, counts[letter] + 1)]
