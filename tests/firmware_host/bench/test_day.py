"""The boards of one day are summed up from bench logs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from blockota.errors import UsageError
from firmware_host.bench.log import BenchEntry
from firmware_host.bench.reports import Day, Tally, tallies
from tests.firmware_host.bench.test_log import ENTRY

DAY = Day.of(date(2026, 11, 28), UTC)
NOON = int(datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp())
HOUR = 3600


def entry(board: str, *, at: int = NOON, result: str = "done", milliseconds: int | None = 4000) -> BenchEntry:
    """Return an entry of a board."""
    is_good = result in {"done", "already"}
    return replace(
        ENTRY,
        board=board,
        time=at,
        result=result,
        after="1.1.0" if is_good else "",
        version="1.1.0",
        port="/dev/ttyUSB0",
        milliseconds=milliseconds,
    )


def summed(*entries: BenchEntry, day: Day = DAY) -> tuple[list[Tally], Tally | None]:
    """Sum up the entries of one log."""
    return tallies([("log", number, one) for number, one in enumerate(entries, 1)], day)


def test_boards_are_counted_by_their_newest_line() -> None:
    """A board whose last run succeeded counts as good; if an earlier run failed, it also counts as repeated.

    A board whose last run failed is bad.
    """
    parts, total = summed(
        entry("a", result="the board fell silent"),
        entry("a", at=NOON + 1),
        entry("b", at=NOON + 2, result="already", milliseconds=1000),
        entry("c", at=NOON + 3),
        entry("c", at=NOON + 4, result="check 10 failed"),
    )
    assert total
    assert (total.good, total.bad, total.repeated) == (2, 1, 2)
    assert (total.first, total.last, total.mean_seconds) == (NOON, NOON + 4, 3.0)
    assert [(one.product, one.version, one.operator, one.port) for one in parts] == [
        ("acme-thermo2", "1.1.0", "technician", "/dev/ttyUSB0")
    ]


def test_groups_differ_in_product_version_operator_and_port() -> None:
    """A board with log lines in two groups counts once in each group, but only once in the total."""
    one = entry("a")
    others = (
        replace(one, product="other"),
        replace(one, version="2.0.0"),
        replace(one, operator="Ada"),
        replace(one, port="COM3"),
    )
    parts, total = summed(one, *others)
    assert total
    assert (len(parts), sum(part.good for part in parts), total.good, total.repeated) == (5, 5, 1, 1)


def test_boards_without_a_unique_id_are_distinct() -> None:
    """Each log line without a unique id counts as a different board."""
    _, total = summed(entry(""), entry("", result="check 8 failed"))
    assert total
    assert (total.good, total.bad, total.repeated) == (1, 1, 0)


def test_lines_of_earlier_versions_have_no_mean_time() -> None:
    """A log line without the duration of its run counts as a board. Its version is the proven version."""
    (part,), _ = summed(replace(entry("a", milliseconds=None), version="", port=""))
    assert (part.version, part.port, part.mean_seconds) == ("1.1.0", "", None)


def test_other_days_do_not_count() -> None:
    """A log line one second before or after the day does not count. Midnight belongs to the new day."""
    begin = int(DAY.start.timestamp())
    entries = [entry("a", at=begin - 1), entry("b", at=begin), entry("c", at=begin + 24 * HOUR)]
    _, total = summed(*entries)
    assert total
    assert (total.good, total.first) == (1, begin)
    assert summed(entries[0]) == ([], None)


@pytest.mark.parametrize(
    ("day", "offset", "hours"),
    [
        (date(2026, 11, 28), "UTC+01:00", 24),
        (date(2026, 3, 29), "UTC+01:00, later UTC+02:00", 23),
        (date(2026, 10, 25), "UTC+02:00, later UTC+01:00", 25),
    ],
)
def test_a_day_is_a_local_day_with_its_offset(day: date, offset: str, hours: int) -> None:
    """A day lasts from one local midnight to the next, even on a day with a clock change; its UTC offset is shown."""
    found = Day.of(day, ZoneInfo("Europe/Vienna"))
    assert found.offset == offset
    assert found.end.timestamp() - found.start.timestamp() == hours * HOUR


def test_a_negative_offset_is_named() -> None:
    """A UTC offset of minus three and a half hours is shown as UTC-03:30."""
    assert Day.of(date(2026, 11, 28), timezone(-timedelta(hours=3, minutes=30))).offset == "UTC-03:30"


def test_the_last_day_of_the_calendar_is_refused() -> None:
    """The last day of the calendar, which has no next day, is a usage error."""
    with pytest.raises(UsageError, match="9999-12-31 cannot be summed up"):
        Day.of(date(9999, 12, 31))
