"""Export lines of the bench log as CSV (RFC 4180), for spreadsheets.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula. The texts of a log line come from
people, ports and boards, so that such a cell is exported with a leading ``'``. A cell that begins with ``'`` gets
another one: a reader restores every cell by removing one leading ``'``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime

from firmware_host.bench.log import BenchEntry, Line

COLUMNS = (
    *("line", "time", "operator", "port", "board", "chip_id", "product", "version", "before", "after", "result"),
    *("milliseconds", "sha256", "flash_sha256", "proof"),
    *("board_product", "board_image_sha256", "board_image_size", "board_image_proof", "board_image_checks"),
    *("chain_id", "contract", "line_sha256"),
)
"""The columns, in the order of the file; docs/bench.md explains them."""
# Spreadsheets also treat the full-width forms of these signs as the beginning of a formula.
_GUARDED = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")


def csv_of(lines: Iterable[Line]) -> bytes:
    """Return log lines as a CSV file in UTF-8, with a header.

    Raises:
        ContentError: a field of a line is missing or has a wrong value.
    """
    text = io.StringIO()
    writer = csv.writer(text)  # its default form is that of RFC 4180: commas, quotation marks, CRLF
    writer.writerow(COLUMNS)
    for line in lines:
        cells = _cells(line, line.entry())
        writer.writerow(_guarded(cells[column]) for column in COLUMNS)
    # A text can contain half of a surrogate pair, which JSON allows and UTF-8 does not.
    return text.getvalue().encode(errors="backslashreplace")


def _cells(line: Line, entry: BenchEntry) -> dict[str, str]:
    cells = {name: "" if value is None else str(value) for name, value in asdict(entry).items()}
    return cells | {
        "line": str(line.number),
        "line_sha256": line.sha256.hex(),
        "time": _moment(entry.time),
        "chip_id": "" if entry.chip_id is None else f"{entry.chip_id:#05x}",
    }


def _moment(seconds: int) -> str:
    """Format a Unix time as in ISO 8601; a time beyond the calendar stays a number of seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _guarded(cell: str) -> str:
    return f"'{cell}" if cell.lstrip(" ").startswith(_GUARDED) else cell
