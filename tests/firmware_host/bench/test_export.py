"""Bench logs are exported as CSV that spreadsheets read without running a formula."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_host.bench.log import BenchEntry, Line, read_log
from firmware_host.bench.reports import COLUMNS, csv_of
from tests.firmware_host.bench.test_log import ENTRY
from tests.support.bench_logs import bench_log

FORMULAS = "=+-@\t\r\n"


def line(entry: BenchEntry) -> Line:
    """Return a log line with this entry."""
    return Line(b"raw", 1, vars(entry))


def rows(content: bytes) -> list[dict[str, str]]:
    """Parse a CSV file."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_each_line_has_all_columns(tmp_path: Path) -> None:
    """The file has a header, one record for each log line, and CRLF at the end of each record."""
    log = bench_log(tmp_path / "log")
    written = [log.append(replace(ENTRY, port="/dev/ttyUSB0", version="1.1.0", milliseconds=4321)) for _ in range(2)]
    content = csv_of(read_log(log.folder))
    assert content.startswith(b",".join(name.encode() for name in COLUMNS) + b"\r\n")
    assert content.count(b"\r\n") == content.count(b"\n") == 3
    first, second = rows(content)
    assert (first["line"], second["line"]) == ("1", "2")
    assert (first["time"], first["chip_id"], first["milliseconds"]) == ("2026-09-21T14:13:20Z", "0x410", "4321")
    assert (first["board_product"], first["board_image_size"]) == ("", "")
    assert second["line_sha256"] == written[1].sha256.hex()


def test_lines_of_earlier_versions_are_exported() -> None:
    """If a log line lacks newer fields, its cells for these fields are empty."""
    fields = {name: value for name, value in vars(ENTRY).items() if name not in {"port", "milliseconds", "version"}}
    (row,) = rows(csv_of([Line(b"raw", 1, fields)]))
    assert (row["port"], row["milliseconds"], row["after"]) == ("", "", "1.1.0")


@pytest.mark.parametrize("sign", [*FORMULAS, " =", "'", "\uff1d"])
def test_a_formula_becomes_a_text(sign: str) -> None:
    """A cell that a spreadsheet would run as a formula begins with an apostrophe."""
    (row,) = rows(csv_of([line(replace(ENTRY, operator=f"{sign}HYPERLINK(1)"))]))
    assert row["operator"] == f"'{sign}HYPERLINK(1)"


@given(operator=st.text(max_size=20), result=st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_every_text_comes_back(operator: str, result: str) -> None:
    """No exported cell begins like a formula, and removing one leading apostrophe restores each text."""
    (row,) = rows(csv_of([line(replace(ENTRY, operator=operator, result=result))]))
    assert [row[name].removeprefix("'") for name in ("operator", "result")] == [operator, result]
    assert not [cell for cell in row.values() if cell.startswith(tuple(FORMULAS))]


def test_half_a_surrogate_pair_is_escaped() -> None:
    """A text that UTF-8 cannot express is escaped."""
    (row,) = rows(csv_of([line(replace(ENTRY, operator="\ud800"))]))
    assert row["operator"] == "\\ud800"


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    """A time outside the calendar is exported as a number of seconds."""
    (row,) = rows(csv_of([line(replace(ENTRY, time=1 << 60))]))
    assert row["time"] == str(1 << 60)
