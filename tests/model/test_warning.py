"""Warnings are summarised in few log entries, and their counts include every refused request."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.model.receipt import EntryKind, LogEntry
from blockota.model.warning import MOST_CLAIMED, PERIOD, RequestWarning, WarningLimits

NODE = UUID(int=11, version=4)
NOW = 1_800_000_000


def limits() -> WarningLimits:
    """Return warning limits that number the warnings."""
    numbers = itertools.count(1)
    return WarningLimits(lambda: str(next(numbers)))


def warning(
    address: str = "10.64.0.7", reason: str = "Unknown identity", *, proven: UUID | None = None
) -> RequestWarning:
    """Return a warning."""
    return RequestWarning("", address, proven or NODE, proven is not None, -32004, reason, "detail")


def test_the_first_request_is_an_entry_and_the_next_ones_are_counted() -> None:
    """Equal refusals within a minute make two entries with one id: the first refusal, and the total count."""
    known = limits()
    first, entries = known.note(warning(), now=NOW)
    assert [(one.id, one.count) for one in entries] == [(first, 1)]
    for second in range(1, 50):
        assert known.note(warning(), now=NOW + second) == (first, [])
    assert list(known.due(now=NOW + PERIOD - 1)) == []
    assert [(one.id, one.count) for one in known.due(now=NOW + PERIOD)] == [(first, 49)]
    assert list(known.due(now=NOW + 3 * PERIOD)) == []
    assert known.note(warning(), now=NOW + 3 * PERIOD)[0] != first


def test_offenders_and_reasons_are_counted_apart() -> None:
    """Refusals for another address, for another reason, or of a proven offender have separate entries."""
    known = limits()
    others = [warning(), warning("10.64.0.8"), warning(reason="Public key verification failed")]
    for one in (*others, warning(proven=NODE), warning("10.64.0.8", proven=UUID(int=12, version=4))):
        assert len(known.note(one, now=NOW)[1]) == 1
    # A proven offender is the same at every address; a claimed one is the same under every name.
    assert known.note(warning("10.64.0.9", proven=NODE), now=NOW)[1] == []


def test_a_flood_of_addresses_gives_few_entries() -> None:
    """Beyond the limit, refusals of new addresses share one entry, but each proven offender has a separate entry."""
    known = limits()
    entries = [one for number in range(10_000) for one in known.note(warning(f"host {number}"), now=NOW)[1]]
    assert len(entries) == MOST_CLAIMED
    assert len(known.note(warning(proven=NODE), now=NOW)[1]) == 1
    counted = list(known.due(now=NOW + PERIOD))
    assert sum(one.count for one in (*entries, *counted)) == 10_000
    assert counted[-1].address == "others"


Request = tuple[int, int, bool]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200), st.booleans()), max_size=400))
def test_no_limit_is_exceeded_and_no_request_is_lost(requests: list[Request]) -> None:
    """A minute has at most 60 entries about claimed offenders, and at most one entry about each proven offender.

    The counts are complete.
    """
    known, now = limits(), NOW
    written = list[tuple[int, RequestWarning]]()
    for pause, number, is_proven in requests:
        now += pause
        written += [(now, one) for one in known.due(now=now)]
        node = UUID(int=number + 1, version=4)
        one = warning(f"host {number}", proven=node if is_proven else None)
        written += [(now, entry) for entry in known.note(one, now=now)[1]]
    for _ in range(20):
        now += PERIOD
        written += [(now, one) for one in known.due(now=now)]
    assert sum(one.count for _, one in written) == len(requests)

    claimed = [time for time, one in written if not one.is_proven]
    assert all(sum(start <= time < start + PERIOD for time in claimed) <= MOST_CLAIMED for start in claimed)
    by_offender = defaultdict(list)
    for time, one in written:
        by_offender[one.is_proven, one.node if one.is_proven else one.address].append(time)
    for times in by_offender.values():
        assert all(later - earlier >= PERIOD for earlier, later in itertools.pairwise(times))


def test_a_clock_that_is_set_back_does_not_silence_an_offender() -> None:
    """After the clock was set back, the next refusal makes an entry immediately."""
    known = limits()
    known.note(warning(), now=NOW)
    assert len(known.note(warning(), now=NOW - 86_400)[1]) == 1


@given(st.text(max_size=400), st.text(max_size=100))
def test_an_entry_keeps_the_warning(detail: str, address: str) -> None:
    """A warning with any text fits into a log entry, and is read back from the entry."""
    given_warning = replace(warning(address), id="0f", is_proven=True, detail=detail, count=3)
    entry = LogEntry(EntryKind.WARNING, NOW, gateway=NODE, source=given_warning.text)
    read = RequestWarning.parse(LogEntry.decode(entry.encode()).source or "")
    assert read
    assert (read.id, read.node, read.is_proven, read.code, read.count) == ("0f", NODE, True, -32004, 3)


@pytest.mark.parametrize("text", ["", "the device is unknown", "{}", '{"warning": 1}', "[]"])
def test_the_text_of_another_warning_is_not_read(text: str) -> None:
    """The text of a warning that is not about requests is not parsed as a request warning."""
    assert RequestWarning.parse(text) is None
