"""Entries are moved from the outbox to the log exactly once, whichever step in between fails.

Failed anchors are repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blockota.errors import ChainError, ContractRefusalError
from blockota.formats.notes import NoteAlgorithm
from blockota.ledger.log import TileLog
from blockota.ledger.log_anchor import LogAnchor
from blockota.ledger.recording import BATCH, LogParts, LogRecorder, LogStatus
from blockota.ledger.witnesses import Witness
from blockota.line_log import LineLog
from blockota.model.receipt import EntryKind, LogEntry
from tests.support.logs import note_signer

NOBODY = Witness(note_signer("witness.example", NoteAlgorithm.COSIGNATURE, seed=2).key, "http://127.0.0.1:9")

ENTRIES = [LogEntry(EntryKind.EVENT, time=number, device=300, source="opened").encode() for number in range(600)]


class KilledError(BaseException):
    """The process is killed."""


@dataclass
class MemoryOutbox:
    """An outbox whose process can be killed before it records the log indices."""

    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    indices: dict[int, int] = field(default_factory=dict)
    is_killed: bool = False

    def outbox(self, limit: int = BATCH) -> list[tuple[int, bytes]]:
        """Return the oldest entries."""
        return self.waiting[:limit]

    def appended(self, positions: Iterable[tuple[int, int]], /) -> None:
        """Record the log indices, unless the process is killed."""
        if self.is_killed:
            raise KilledError
        self.indices |= dict(positions)
        self.waiting = [one for one in self.waiting if one[0] not in self.indices]


class StubAnchor(LogAnchor):
    """An anchor without a chain, which returns or raises the prepared results in order."""

    def __init__(self, *results: int | Exception) -> None:
        self.results, self.calls = list(results), list[int]()

    def size(self) -> int:
        """Return 0, because nothing is anchored."""
        return 0

    def waiting_since(self, anchored: int) -> int | None:
        """Return the time of the first entry."""
        return 1000 if anchored < 2 else None

    def anchor(self, every: int, *, owns: Callable[[int], bool], report: Callable[[str], object]) -> int:
        """Return or raise the next result."""
        del owns, report
        self.calls.append(every)
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def recorder(log: TileLog, lines: LineLog, clock: list[int], anchor: LogAnchor | None = None) -> LogRecorder:
    """Return a recorder of a log, with a witness that does not respond."""
    parts = LogParts(log, note_signer(), (NOBODY,), (lambda: anchor) if anchor else None, period=600)
    return LogRecorder(parts, lines, clock=lambda: clock[0], owns=lambda _: True)


def test_an_entry_is_appended_once(tmp_path: Path) -> None:
    """If the process is killed after an append, its successor repeats the append and gets the same indices."""
    written: list[str] = []
    log, box = TileLog(tmp_path / "log"), MemoryOutbox([(number, ENTRIES[number]) for number in range(600)])
    lines = LineLog(written.append)
    first = recorder(log, lines, [0])
    assert first.append(box) == [(number, number) for number in range(BATCH)]
    note = json.loads(written[0])
    assert [note[name] for name in ("part", "event", "index", "device", "text")] == ["log", "event", 0, 300, "opened"]
    box.is_killed = True
    with pytest.raises(KilledError):
        first.append(box)

    box.is_killed = False
    second = recorder(TileLog(tmp_path / "log"), lines, [0])
    while second.append(box):
        pass
    assert box.indices == {number: number for number in range(600)}
    assert list(log.entries()) == ENTRIES

    # The witness is out of reach: the checkpoint is published without it, and the lines report it.
    second.publish()
    assert log.published.head().size == 600
    assert list(lines.troubles) == ["witness witness.example"]


def test_a_log_that_cannot_be_written_keeps_the_outbox(tmp_path: Path) -> None:
    """While the log's folder cannot be used, entries stay in the outbox. They are appended afterwards."""
    box, lines = MemoryOutbox([(7, ENTRIES[0])]), LineLog(lambda _: None)
    (tmp_path / "log").write_text("a file")
    writer = recorder(TileLog(tmp_path / "log"), lines, [0])
    assert (writer.append(box), box.waiting) == ([], [(7, ENTRIES[0])])
    assert "log" in lines.troubles
    (tmp_path / "log").unlink()
    assert writer.append(box) == [(7, 0)]
    assert not lines.troubles


def test_the_status_has_what_waits_for_an_anchor(tmp_path: Path) -> None:
    """If the chain is unreachable, the count of entries without an anchor includes only entries of this process."""
    log, lines = TileLog(tmp_path / "log"), LineLog(lambda _: None)
    earlier = recorder(log, lines, [2000])
    earlier.append(MemoryOutbox([(0, ENTRIES[0])]))
    earlier.publish()

    def silent() -> LogAnchor:
        raise ChainError("no answer")

    parts = LogParts(log, note_signer(), (), silent, period=600)
    writer = LogRecorder(parts, lines, clock=lambda: 2000, owns=lambda _: True)
    writer.anchor()
    assert writer.status() == LogStatus(entries=1)
    writer.append(MemoryOutbox([(1, ENTRIES[1])]))
    writer.publish()
    writer.anchor()
    time = LogEntry.decode(ENTRIES[1]).time
    assert writer.status() == LogStatus(2, None, time, {"event": 1})


def test_an_anchor_is_tried_again(tmp_path: Path) -> None:
    """Anchoring is retried after a minute if the chain is unreachable, and after a period if an anchor was refused.

    Setting the clock back does not delay an anchor.
    """
    clock, lines = [2000], LineLog(lambda _: None)
    anchor = StubAnchor(ChainError("no answer"), ContractRefusalError("refused"), 1, 2)
    writer = recorder(TileLog(tmp_path / "log"), lines, clock, anchor)
    steps = [(0, 1), (59, 1), (1, 2), (599, 2), (1, 3), (-5000, 3), (5600, 4), (10_000, 4)]
    for seconds, calls in steps:
        clock[0] += seconds
        writer.anchor()
        assert len(anchor.calls) == calls, seconds
    assert (writer.anchored, lines.troubles) == (2, {})
    assert anchor.calls == [256, 256, 1, 1]
