"""The inventory derives the installed releases from the lines of several bench logs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from blockota.errors import ContentError
from firmware_host.bench.log import BenchEntry, Line
from firmware_host.bench.reports import held_releases
from tests.firmware_host.bench.test_log import ENTRY


def line(time: int, **changes: Any) -> tuple[str, int, BenchEntry]:
    """Return a line of the bench log a.jsonl, written at the given time."""
    return "a.jsonl", time, replace(ENTRY, time=time, **changes)


FAILED = {"after": "", "result": "check 6 failed"}
OTHER = {"product": "acme-lamp", "before": "blank", "after": "3.2.1"}


@pytest.mark.parametrize(
    ("lines", "held"),
    [
        ([line(1)], ["acme-thermo2 1.1.0"]),
        ([line(2, after="1.2.0"), line(1)], ["acme-thermo2 1.2.0"]),
        ([line(1, board="aa"), line(2, board="bb")], ["acme-thermo2 1.1.0"] * 2),
        ([line(1, board=""), line(2, board="")], ["acme-thermo2 1.1.0"] * 2),
        ([line(1), line(2, **FAILED)], ["acme-thermo2 1.0.0"]),
        ([line(1), line(2, **FAILED | {"before": ""})], ["acme-thermo2 1.1.0"]),
        ([line(1), line(2, **FAILED | {"before": "half written"})], []),
        ([line(1), line(2, **FAILED | {"before": "blank"})], []),
        ([line(1), line(2, **OTHER)], ["acme-lamp 3.2.1", "acme-thermo2 1.1.0"]),
        ([line(1), line(2, **OTHER | {"before": "acme-thermo2 1.1.0"})], ["acme-lamp 3.2.1"]),
        ([line(1), line(2, **OTHER | FAILED | {"before": "acme-thermo2 1.1.0"})], ["acme-thermo2 1.1.0"]),
    ],
    ids=[
        "proven",
        "the newest line counts",
        "two boards",
        "boards without an id are not the same",
        "found before a failure",
        "nothing found",
        "interrupted",
        "erased",
        "a program and its configuration",
        "another product replaced it",
        "another product was refused",
    ],
)
def test_the_newest_line_of_a_board_says_what_it_holds(
    lines: list[tuple[str, int, BenchEntry]], held: list[str]
) -> None:
    """The installed release of a board and product is the release in its newest log line."""
    assert [f"{one.product} {one.version}" for one in held_releases(lines)] == held


def test_a_line_with_a_wrong_field_is_refused() -> None:
    """A log line with a missing field or a field of the wrong type is refused."""
    for fields in ({}, {"time": "noon"}, {**vars(ENTRY), "board": 7}, {**vars(ENTRY), "chip_id": "0x410"}):
        with pytest.raises(ContentError, match="cannot read line 3 of the bench log"):
            Line(b"", 3, fields).entry()
    assert Line(b"", 3, {**vars(ENTRY), "chip_id": None}).entry() == replace(ENTRY, chip_id=None)
