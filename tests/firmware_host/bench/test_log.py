"""The bench log is a log of `blockota.ledger` with lines and receipts; log files of earlier versions are still read."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from uuid import UUID

import pytest

from blockota.errors import Action, BlockOTAError, ContentError, RefusedError, UsageError
from blockota.ledger.fsck import check_log
from blockota.ledger.log import TileLog
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from firmware_host.bench.log import BenchEntry, Line, confirmed_lines, following, read_log
from firmware_host.bench.log_folder import BenchLog, own_signer
from tests.support.bench_logs import bench_log, change, newest_bundle
from tests.support.logs import note_signer

ENTRY = BenchEntry(
    time=1_790_000_000,
    operator="technician",
    board="424c4f434b4f544100000001",
    chip_id=0x410,
    chain_id=1337,
    contract="0x" + "11" * 20,
    product="acme-thermo2",
    before="1.0.0",
    after="1.1.0",
    sha256="ab" * 32,
    flash_sha256="ab" * 32,
    proof="stub",
    result="done",
)


IDENTITY = UUID("8f14e45f-ceea-467f-a8a0-c2d5b1e7d301")
OTHER_BOARD = "424c4f434b4f544100000002"


@pytest.fixture
def small_files_only() -> Iterator[Callable[[int], None]]:
    """Yield a function that limits the size of files that this process writes."""
    limit, ceiling = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, ceiling))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, ceiling))


def filled(folder: Path, count: int = 4) -> BenchLog:
    """Return a log with some lines."""
    log = bench_log(folder)
    for number in range(count):
        log.append(replace(ENTRY, time=ENTRY.time - number))
    return log


def entries_of(log: BenchLog) -> list[LogEntry]:
    """Return the entries of a log, published or not."""
    return [LogEntry.decode(raw) for raw in TileLog(log.folder).entries()]


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    """Log lines are read in order, each with its number, its fields and the hash of the previous line."""
    log = filled(tmp_path / "log")
    lines = list(read_log(log.folder))
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert [line.fields["previous"] for line in lines[1:]] == [line.sha256.hex() for line in lines[:-1]]
    assert lines[0].entry() == ENTRY
    last = log.append(replace(ENTRY, time=0))
    assert (last.number, list(read_log(log.folder))[-1]) == (5, last)


def test_a_proven_flash_has_a_receipt(tmp_path: Path) -> None:
    """A proven flash has a receipt with the evidence level C, and a signed checkpoint covers the log."""
    log = bench_log(tmp_path / "log")
    line = log.append(replace(ENTRY, version="1.1.0", before_sha256="cd" * 32))
    receipt, event = entries_of(log)
    assert (line.receipt, receipt.kind, receipt.level) == (0, EntryKind.INSTALL, EvidenceLevel.C)
    assert (receipt.device, receipt.unique_id, receipt.gateway) == (0, bytes.fromhex(ENTRY.board), None)
    assert (str(receipt.release), receipt.image) == ("acme-thermo2 1.1.0", bytes.fromhex(ENTRY.sha256))
    assert (receipt.previous, receipt.source) == (bytes.fromhex("cd" * 32), None)
    assert (event.kind, event.source, event.level) == (EntryKind.EVENT, line.raw.decode(), None)
    assert check_log(TileLog(log.folder).published, [log.key]).head.size == 2


def test_a_run_without_proof_is_an_event(tmp_path: Path) -> None:
    """A failed run, and a run on a board without a readable unique id, are logged as an event without a receipt."""
    log = bench_log(tmp_path / "log")
    lines = [
        log.append(replace(ENTRY, result="the board fell silent", after="", version="1.1.0")),
        log.append(replace(ENTRY, result="no release", after="", product="", sha256="", flash_sha256="")),
        log.append(replace(ENTRY, board="")),
    ]
    assert {(one.kind, one.image) for one in entries_of(log)} == {(EntryKind.EVENT, None)}
    assert [line.receipt for line in lines] == [None] * 3
    assert str(entries_of(log)[0].release) == "acme-thermo2 1.1.0"


def test_the_kind_of_a_receipt_depends_on_the_boards_history(tmp_path: Path) -> None:
    """The receipt of a release that the board already had is a reinstallation.

    If the board had the same image under another product name, the receipt is an equivalent installation.
    """
    renamed = replace(ENTRY, product="acme-lamp", result="already")
    for entry in (ENTRY, ENTRY, renamed, replace(ENTRY, board=OTHER_BOARD), replace(ENTRY, after="1.2.0")):
        bench_log(tmp_path / "log").append(replace(entry, version=entry.after))
    found = [one.kind for one in entries_of(bench_log(tmp_path / "log")) if one.kind is not EntryKind.EVENT]
    kinds = EntryKind
    assert found == [kinds.INSTALL, kinds.REINSTALL, kinds.EQUIVALENT, kinds.INSTALL, kinds.INSTALL]


def test_the_entries_of_a_technician_name_the_identity(tmp_path: Path) -> None:
    """If the bench log has an identity, each entry has the UUID of this identity."""
    log = BenchLog(tmp_path / "log", note_signer(f"city.example/{IDENTITY.hex}"), IDENTITY)
    log.append(ENTRY)
    assert {one.gateway for one in entries_of(log)} == {IDENTITY}


def test_the_events_of_others_are_not_lines(tmp_path: Path) -> None:
    """If another command appends an event to the log, the event is not returned as a bench line."""
    log = filled(tmp_path / "log", 1)
    TileLog(log.folder).append([LogEntry(EntryKind.EVENT, 1, source="the door was opened").encode()])
    log.check()
    line = log.append(ENTRY)
    assert (line.number, line.receipt) == (2, 3)
    assert [line.number for line in read_log(log.folder)] == [1, 2]


def test_long_texts_are_shortened(tmp_path: Path) -> None:
    """A text that is too long for an entry is shortened, and the other facts are unchanged."""
    log = bench_log(tmp_path / "log")
    log.append(replace(ENTRY, result="\u1234\n" * 100_000, operator="Ida" * 5000, after=""))
    (line,) = read_log(log.folder)
    entry = line.entry()
    assert entry.result.startswith("\u1234\n")
    assert entry.result.endswith("…")
    assert replace(entry, result="", operator="") == replace(ENTRY, result="", operator="", after="")


def test_what_others_published_is_read_on(tmp_path: Path) -> None:
    """Two writers of one log append to the same chain of lines; each writer recognises receipts of the other."""
    first, second = (bench_log(tmp_path / "log") for _ in range(2))
    lines = [log.append(replace(ENTRY, time=time)) for time, log in enumerate((first, second, first))]
    assert [line.number for line in lines] == [1, 2, 3]
    kinds = [one.kind for one in entries_of(first) if one.kind is not EntryKind.EVENT]
    assert kinds == [EntryKind.INSTALL, EntryKind.REINSTALL, EntryKind.REINSTALL]


def test_many_write_at_once(tmp_path: Path) -> None:
    """Lines that are appended concurrently get distinct numbers, even while the log is read."""
    folder = tmp_path / "log"
    bench_log(folder).check()

    def write() -> None:
        for _ in range(4):
            bench_log(folder).append(ENTRY)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        numbers = [line.number for line in read_log(folder)]
        assert numbers == [*range(1, len(numbers) + 1)]
    assert [line.number for line in read_log(folder)] == [*range(1, 13)]


def test_a_run_that_was_stopped_before_publishing_is_published_by_the_next(tmp_path: Path) -> None:
    """A line is on the disk before it is published. The next check publishes it."""
    log, folder = filled(tmp_path / "log", 1), tmp_path / "log"
    entries = list(TileLog(folder).entries())[:2]
    other = bench_log(tmp_path / "other")
    other.check()
    TileLog(other.folder).append(entries)
    assert len(list(read_log(other.folder))) == 1
    assert TileLog(other.folder).published.head().size == 0
    other.check()
    assert TileLog(other.folder).published.head() == TileLog(log.folder).published.head()


SPOILT_FOLDERS: dict[str, Callable[[Path], object]] = {
    "a line changed": lambda log: change(log, b'"after":"1.1.0"', b'"after":"1.0.9"'),
    "a receipt changed": lambda log: change(log, bytes.fromhex(ENTRY.board), bytes.fromhex(OTHER_BOARD)),
    "entries removed": lambda log: newest_bundle(log).unlink(),
    "checkpoint removed": lambda log: (log / "checkpoint").unlink(),
    "checkpoint changed": lambda log: (log / "checkpoint").write_text("bench/test\n2\n"),
}


@pytest.mark.parametrize("name", SPOILT_FOLDERS)
def test_a_damaged_log_is_reported_before_a_board_is_changed(tmp_path: Path, name: str) -> None:
    """A damaged log can be neither read nor continued.

    The error of a bench command proposes a new log as one remedy.
    """
    log = filled(tmp_path / "log")
    SPOILT_FOLDERS[name](log.folder)
    if name != "checkpoint removed":
        with pytest.raises(ContentError, match="is damaged"):
            list(read_log(log.folder))
    with pytest.raises(ContentError, match=r"is damaged.*start a new log") as error:
        bench_log(log.folder).check()
    assert error.value.action is Action.NAME_LOG
    with pytest.raises(ContentError, match="is damaged"):
        bench_log(log.folder).append(ENTRY)


def test_each_log_has_its_own_name(tmp_path: Path) -> None:
    """Two logs of a bench have one key and different names; the name does not change if a log is moved."""
    first, second = (filled(tmp_path / name, 1).key for name in ("log", "other"))
    assert first.key == second.key
    assert first.name != second.name
    (tmp_path / "log").rename(tmp_path / "moved")
    moved, new = (bench_log(tmp_path / name) for name in ("moved", "log"))
    moved.check()
    new.check()
    assert moved.key == first
    assert new.key.name not in (first.name, second.name)


def test_a_log_of_another_bench_is_refused(tmp_path: Path) -> None:
    """If another key signed a log, the log is refused and not changed."""
    log = filled(tmp_path / "log", 1)
    other = BenchLog(log.folder, own_signer(tmp_path / "key.pem"))
    for use in (other.check, lambda: other.append(ENTRY)):
        with pytest.raises(
            RefusedError, match=r"the bench log .* belongs to another bench or key: its name is"
        ) as error:
            use()
        assert error.value.action is Action.NAME_LOG
    assert len(list(read_log(log.folder))) == 1


def test_the_key_of_a_bench_is_made_once(tmp_path: Path) -> None:
    """The bench's key is made once, only its owner can read it, and the log's name is derived from it."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "key.pem.new").write_text("the beginning of a key")
    first, second = (own_signer(tmp_path / "bench" / "key.pem") for _ in range(2))
    assert first.key == second.key
    assert first.key.name == f"bench/{first.key.key.hex()[:16]}"
    assert (tmp_path / "bench" / "key.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "bench" / "key.pem").chmod(0o644)
    with pytest.raises(RefusedError, match="other users of this computer may read the file"):
        own_signer(tmp_path / "bench" / "key.pem")


def test_a_full_disk_is_reported_before_a_board_is_changed(
    tmp_path: Path, small_files_only: Callable[[int], None]
) -> None:
    """If the disk has no space for the log, the check reports this, and the log stays undamaged."""
    log = filled(tmp_path / "log", 2)
    small_files_only(500)
    with pytest.raises(UsageError, match=r"cannot write the bench log .*: File too large") as error:
        log.check()
    assert error.value.action is Action.NAME_LOG
    with pytest.raises(UsageError, match="cannot write the bench log"):
        log.append(ENTRY)
    assert len(list(read_log(log.folder))) == 2


def test_a_line_that_cannot_be_published_is_kept(tmp_path: Path, small_files_only: Callable[[int], None]) -> None:
    """If the disk becomes full after a line was appended, the line can still be read, and is published later."""
    log = filled(tmp_path / "log", 6)
    small_files_only(3000)  # more than the entries of one line, less than the bundle of all
    assert log.append(replace(ENTRY, time=7)).number == 7
    assert len(list(read_log(log.folder))) == 7
    small_files_only(1 << 20)
    assert log.append(replace(ENTRY, time=8)).number == 8
    assert TileLog(log.folder).published.head().size == 16


@pytest.mark.parametrize("kind", ["file", "no parent", "other files", "not writable"])
def test_a_folder_that_cannot_be_a_log_is_refused(tmp_path: Path, kind: str) -> None:
    """The path of a log is refused if it is a file, has no parent folder, has other files, or is not writable.

    A refusal changes no file.
    """
    path = {"file": tmp_path / "old.jsonl", "no parent": tmp_path / "missing" / "log"}.get(kind, tmp_path)
    (tmp_path / "old.jsonl").write_text("{}")
    if kind == "not writable":
        path = Path("/proc/log")
    with pytest.raises(BlockOTAError, match=r"cannot write the bench log|cannot be continued") as error:
        bench_log(path).check()
    assert error.value.action is Action.NAME_LOG
    assert [one.name for one in tmp_path.iterdir()] == ["old.jsonl"]
    with pytest.raises(UsageError, match="cannot read the bench log"):
        read_log(tmp_path)
    with pytest.raises(UsageError, match="cannot read the bench log"):
        read_log(tmp_path / "missing")


def test_the_lines_before_a_break_are_confirmed(tmp_path: Path) -> None:
    """In a damaged log, a line counts as confirmed only if the next line contains its hash."""
    folder = tmp_path / "log"
    for number in range(4):
        bench_log(folder).append(replace(ENTRY, milliseconds=number))
    lines, error = confirmed_lines(folder)
    assert ([line.number for line in lines], error) == ([1, 2, 3, 4], None)
    # A changed line shows in the line after it, so that the changed line itself must not count.
    change(folder, b'"milliseconds":2', b'"milliseconds":9')
    lines, error = confirmed_lines(folder)
    assert ([line.fields["milliseconds"] for line in lines], error is not None) == ([0, 1], True)


# Logs of earlier versions


def old_log(path: Path, count: int = 4) -> list[bytes]:
    """Write a log in the format of earlier versions, and return its lines with their newlines."""
    rows, last = list[bytes](), None
    for _ in range(count):
        number, previous = following(last)
        fields = {"number": number, "previous": previous, **asdict(ENTRY)}
        last = Line(json.dumps(fields, separators=(",", ":")).encode(), number, fields)
        rows.append(last.raw + b"\n")
    path.write_bytes(b"".join(rows))
    if last:
        path.with_name(f"{path.name}.head").write_bytes(rows[-1])
    return rows


SPOILT: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "first removed": lambda lines: lines[1:],
    "middle removed": lambda lines: lines[:1] + lines[2:],
    "two last removed": lambda lines: lines[:-2],
    "all removed": lambda _: [],
    "swapped": lambda lines: [lines[0], lines[2], lines[1], lines[3]],
    "twice": lambda lines: [lines[0], *lines],
    "changed": lambda lines: [lines[0], lines[1].replace(b"1.1.0", b"1.0.9"), *lines[2:]],
    "last changed": lambda lines: [*lines[:-1], lines[-1].replace(b"1.1.0", b"1.0.9")],
    "cut off twice": lambda lines: [*lines[:-2], lines[-2][:-5]],
    "cut off elsewhere": lambda lines: [*lines[:-1], b"x" + lines[-1][:-5]],
    "something behind": lambda lines: [*lines, b"{"],
    "no JSON": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "a key twice": lambda lines: [lines[0].replace(b"{", b'{"number":1,', 1), *lines[1:]],
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_removed_or_changed_line_of_an_old_log_shows(tmp_path: Path, name: str) -> None:
    """A removed or changed line is detected at every position, including the last one."""
    rows = old_log(tmp_path / "log")
    assert [line.receipt for line in read_log(tmp_path / "log")] == [None] * 4
    (tmp_path / "log").write_bytes(b"".join(SPOILT[name](rows)))
    with pytest.raises(ContentError, match=r"the bench log .* is damaged from line \d on"):
        list(read_log(tmp_path / "log"))


@pytest.mark.parametrize("kept", [0, 7, -1])
def test_a_last_line_that_only_the_head_file_has_is_read(tmp_path: Path, kept: int) -> None:
    """If a crash removed the last line of an old log, the line is read from the head file."""
    *rows, last = old_log(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"".join(rows) + last[:kept])
    assert len(list(read_log(tmp_path / "log"))) == 4


def test_the_head_file_of_an_old_log_is_required(tmp_path: Path) -> None:
    """The error names a missing or damaged head file."""
    old_log(tmp_path / "log")
    head = tmp_path / "log.head"
    head.write_text(json.dumps({"number": "4"}))
    with pytest.raises(ContentError, match=r"head file .* cannot be read"):
        list(read_log(tmp_path / "log"))
    head.unlink()
    with pytest.raises(ContentError, match=rf"the head file {head} is missing, and the log ends with line 4\."):
        list(read_log(tmp_path / "log"))


@pytest.mark.parametrize("raw", [b"no JSON", b"[]", b"{}", b'{"number":1,"previous":"00"}', b"\xff"])
def test_a_line_that_cannot_be_parsed_has_its_reason(tmp_path: Path, raw: bytes) -> None:
    """The error for a line that cannot be parsed contains the reason, and has no doubled punctuation."""
    path = tmp_path / "log"
    path.write_bytes(raw + b"\n")
    with pytest.raises(ContentError, match=r"is damaged from line 1 on: it is not a line of a bench log: ..") as error:
        list(read_log(path))
    assert str(path) in error.value.what
    assert not {".)", "..", ". ("} & {str(error.value)[at : at + 2] for at in range(len(str(error.value)))}


@pytest.mark.parametrize("name", ["fifo", "zero"])
def test_a_log_that_is_not_a_regular_file_is_not_read(tmp_path: Path, name: str) -> None:
    """A pipe, which may never send data, and a device, which may never end, are refused as logs."""
    path = tmp_path / name
    if name == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"cannot write the bench log .*"):
        bench_log(path).check()
    with pytest.raises(UsageError, match=r"cannot read the bench log .* it is not a regular file"):
        read_log(path)


def test_lines_of_earlier_versions_are_read() -> None:
    """An entry without the newer fields is decoded, and a newer field with a wrong value is refused."""
    fields = {name: getattr(ENTRY, name) for name in list(vars(ENTRY))[:13]}
    assert Line(b"", 1, fields).entry() == ENTRY
    with pytest.raises(ContentError, match="cannot read line 1"):
        Line(b"", 1, fields | {"milliseconds": "soon"}).entry()
