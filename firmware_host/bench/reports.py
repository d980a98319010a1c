"""Reports made from bench logs: a table for spreadsheets, the boards of a day, and the releases on boards.

All functions are pure: no board is contacted. A board without a readable unique id cannot be recognised, so each log
line of such a board counts as a separate board.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from blockota.errors import UsageError
from blockota.model.release import Version
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

_Numbered = tuple[str, int, BenchEntry]
"""The name of a log, the number of a line in it, and its entry."""
_Group = tuple[str, str, str, str]
_Place = tuple[str, int, str, str]


def csv_of(lines: Iterable[Line]) -> bytes:
    """Return log lines as a CSV file (RFC 4180) in UTF-8, with a header.

    A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula. The texts of a log line come
    from people, ports and boards, so such a cell is exported with a leading ``'``. A cell that already begins with
    ``'`` also gets a leading ``'``. A reader restores every cell by removing one leading ``'``.
    """
    text = io.StringIO()
    writer = csv.writer(text)  # its default form is that of RFC 4180: commas, quotation marks, CRLF
    writer.writerow(COLUMNS)
    for line in lines:
        cells = _cells(line, line.entry())
        row = (cells[column] for column in COLUMNS)
        writer.writerow(f"'{cell}" if cell.lstrip(" ").startswith(_GUARDED) else cell for cell in row)
    # A text can contain half of a surrogate pair, which JSON allows and UTF-8 does not.
    return text.getvalue().encode(errors="backslashreplace")


@dataclass(frozen=True)
class Day:
    """One day.

    `end` is the first moment of the next day. `zone` is None for the time zone of this machine.
    """

    start: datetime
    end: datetime
    zone: tzinfo | None

    @classmethod
    def of(cls, day: date, zone: tzinfo | None = None) -> Day:
        """Return a day in a time zone.

        The last day of the calendar is refused, because the end of a day is the start of the next day.
        """
        try:
            midnights = (datetime.combine(one, time.min, zone) for one in (day, day + timedelta(days=1)))
            begin, end = (midnight if zone else midnight.astimezone() for midnight in midnights)
            return cls(begin, end, zone)
        except (OverflowError, ValueError, OSError) as error:
            raise UsageError(
                f"{day} cannot be summed up", why="the date is outside the calendar", remedy="give another date"
            ) from error

    @property
    def offset(self) -> str:
        """The offset from UTC, such as ``UTC+01:00``. On a day on which the clocks change, both offsets are named."""
        begin, end = (f"UTC{zone[:3]}:{zone[3:5]}" for zone in (f"{self.start:%z}", f"{self.end:%z}"))
        return begin if begin == end else f"{begin}, later {end}"

    def contains(self, seconds: int) -> bool:
        """Whether a Unix time lies on this day."""
        return self.start.timestamp() <= seconds < self.end.timestamp()

    def moment(self, seconds: int) -> datetime:
        """Return a Unix time in the zone of the day, with the offset at that moment."""
        return datetime.fromtimestamp(seconds, self.zone or UTC).astimezone(self.zone)


@dataclass(frozen=True)
class Tally:
    """The boards with one product, version, operator and port on one day.

    A board is good if its newest line is a success. A board is repeated if it has several lines. In the total of all
    groups, product, version, operator and port are empty. `first` and `last` are in Unix seconds. `mean_seconds` is the
    mean duration of the successful runs; None if no line has the duration of its run.
    """

    product: str
    version: str
    operator: str
    port: str
    good: int
    bad: int
    repeated: int
    first: int
    last: int
    mean_seconds: float | None

    def as_fields(self, day: Day) -> dict[str, Any]:
        """Return the JSON object of ``bench summary``, with times in the time zone of `day`."""
        return {
            "product": self.product or None,
            "version": self.version or None,
            "operator": self.operator or None,
            "port": self.port or None,
            "good": self.good,
            "bad": self.bad,
            "repeated": self.repeated,
            "first": day.moment(self.first).isoformat(),
            "last": day.moment(self.last).isoformat(),
            "meanSeconds": None if self.mean_seconds is None else round(self.mean_seconds, 3),
        }


def tallies(lines: Iterable[_Numbered], day: Day) -> tuple[list[Tally], Tally | None]:
    """Sum up the boards of a day.

    A board with several lines counts as repeated. Its newest line decides whether it counts as good or bad.

    Returns:
        The groups, sorted, and the total; None if the day has no line. A board that is in several groups counts once in
        the total.
    """
    found = sorted((line for line in lines if day.contains(line[2].time)), key=lambda line: (line[2].time, line[:2]))
    groups: dict[_Group, list[_Numbered]] = {}
    for line in found:
        entry = line[2]
        group = entry.product, entry.version or entry.after, entry.operator, entry.port
        groups.setdefault(group, []).append(line)
    parts = [_tally(group, groups[group]) for group in sorted(groups)]
    return parts, _tally(("", "", "", ""), found) if found else None


def _tally(group: _Group, lines: list[_Numbered]) -> Tally:
    boards: dict[str, list[BenchEntry]] = {}
    for log, number, entry in lines:
        boards.setdefault(entry.board or f"{log} {number}", []).append(entry)

    good = sum(entries[-1].is_good for entries in boards.values())
    runs = [entry.milliseconds for _, _, entry in lines if entry.is_good and entry.milliseconds is not None]
    return Tally(
        *group,
        good=good,
        bad=len(boards) - good,
        repeated=sum(len(entries) > 1 for entries in boards.values()),
        first=lines[0][2].time,
        last=lines[-1][2].time,
        mean_seconds=sum(runs) / len(runs) / 1000 if runs else None,
    )


@dataclass(frozen=True)
class Sighting:
    """The newest log line that names the release on a board. After a failed run, this is the release before the run."""

    log: str
    number: int
    entry: BenchEntry
    product: str
    version: Version

    def as_fields(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "board": self.entry.board,
            "product": self.product,
            "version": str(self.version),
            "chainId": self.entry.chain_id,
            "contract": self.entry.contract,
            "proven": bool(self.entry.after),
            "time": self.entry.time,
            "operator": self.entry.operator,
            "log": self.log,
            "line": self.number,
        }


def held_releases(lines: Iterable[_Numbered]) -> list[Sighting]:
    """Determine which releases the boards have.

    Returns one sighting for each pair of board and product, sorted by board. The log lines are read from old to new.
    Each line changes the list by these rules:

    1. If the job proved a release (`after`), this release is listed.
    2. If the job did not prove a release, the release before the job (`before`) is listed, because the board may still
       have it.
    3. If the job replaced a release of another product, the sighting of the other product is removed.
    4. If `before` does not name a release, and the job did not prove one, the sighting of the product is removed.

    If `before` and `after` are empty, for example because the board stopped answering, the list does not change.
    """
    held: dict[_Place, Sighting] = {}
    for log, number, entry in sorted(lines, key=lambda line: line[2].time):
        board = entry.board or f"{log} {number}"
        product, version = _found_before(entry)

        if entry.after or entry.before:  # (3) and (4)
            held.pop(_place(board, entry, product), None)
            held.pop(_place(board, entry, entry.product), None)
        if entry.after:  # (1), otherwise (2)
            product, version = entry.product, _version(entry.after)
        if version is not None:
            held[_place(board, entry, product)] = Sighting(log, number, entry, product, version)
    return [held[place] for place in sorted(held)]


def _place(board: str, entry: BenchEntry, product: str) -> _Place:
    return board, entry.chain_id, entry.contract, product


def _found_before(entry: BenchEntry) -> tuple[str, Version | None]:
    """Parse `before` into product and version.

    The form of `before` is ``1.0.0``, or ``acme-lamp 3.2.1`` for another product.
    """
    other, _, word = entry.before.rpartition(" ")
    version = _version(word)
    return (other if other and version else entry.product), version


def _version(word: str) -> Version | None:
    """Parse a version.

    Returns None for a word that is not a version, such as ``blank`` or ``unknown``.
    """
    try:
        return Version.parse(word)
    except UsageError:
        return None


def _cells(line: Line, entry: BenchEntry) -> dict[str, str]:
    cells = {name: "" if value is None else str(value) for name, value in asdict(entry).items()}
    return cells | {
        "line": str(line.number),
        "line_sha256": line.sha256.hex(),
        "time": _iso_time(entry.time),
        "chip_id": "" if entry.chip_id is None else f"{entry.chip_id:#05x}",
    }


def _iso_time(seconds: int) -> str:
    """Format a Unix time as in ISO 8601.

    A time beyond the calendar is returned as a number of seconds.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)
