"""Sum up the boards of one day from bench logs. A pure function: no board is contacted.

A board that was worked on several times counts once, by its newest line of the day, and as a repeated board. A board
without a readable unique id cannot be recognised, so that each of its lines counts as another board.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from blockota.errors import UsageError
from firmware_host.bench.log import BenchEntry


@dataclass(frozen=True)
class Day:
    """One day in a time zone, from its first moment to the one after it; `zone` None is that of this machine."""

    begin: datetime
    end: datetime
    zone: tzinfo | None

    @classmethod
    def of(cls, day: date, zone: tzinfo | None = None) -> Day:
        """Return a day in a time zone.

        Raises:
            UsageError: the calendar has no next day.
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
        """The offset from UTC, such as ``UTC+01:00``; both offsets on the day of a change of the clock."""
        begin, end = (f"UTC{zone[:3]}:{zone[3:5]}" for zone in (f"{self.begin:%z}", f"{self.end:%z}"))
        return begin if begin == end else f"{begin}, later {end}"

    def contains(self, seconds: int) -> bool:
        """Whether a Unix time lies on this day."""
        return self.begin.timestamp() <= seconds < self.end.timestamp()

    def moment(self, seconds: int) -> datetime:
        """Return a Unix time in the zone of the day, with the offset that holds at that moment."""
        return datetime.fromtimestamp(seconds, self.zone or UTC).astimezone(self.zone)


@dataclass(frozen=True)
class Tally:
    """The boards with one product, version, operator and port on one day; in the total these four are empty.

    Attributes:
        good: the number of boards whose newest line is a success.
        repeated: the number of boards with several lines.
        first: the time of the first line, in Unix seconds; `last` is that of the last one.
        mean_seconds: the mean time of the successful runs; None if no line has the time of its run.
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


_Group = tuple[str, str, str, str]
_Numbered = tuple[str, int, BenchEntry]
_TOTAL: _Group = ("", "", "", "")


def tallies(lines: Iterable[_Numbered], day: Day) -> tuple[list[Tally], Tally | None]:
    """Sum up the boards of a day, from the lines of all logs: name of the log, line number, and entry.

    Returns:
        The groups, sorted, and the total; None if the day has no line. The total counts a board of several groups once.
    """
    found = sorted((line for line in lines if day.contains(line[2].time)), key=lambda line: (line[2].time, line[:2]))
    groups: dict[_Group, list[_Numbered]] = {}
    for line in found:
        entry = line[2]
        group = entry.product, entry.version or entry.after, entry.operator, entry.port
        groups.setdefault(group, []).append(line)
    parts = [_tally(group, groups[group]) for group in sorted(groups)]
    return parts, _tally(_TOTAL, found) if found else None


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
