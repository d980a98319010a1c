"""The bench log is a hash chain in which removed and changed lines are detected."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import Action, BlockOTAError, ContentError, UsageError
from firmware_host.bench.log import BenchEntry, BenchLog, Line

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


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """Limit the size of files that this process writes to 50 kB."""
    limit, ceiling = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, ceiling))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, ceiling))


def filled(folder: Path, count: int = 4) -> BenchLog:
    """Return a log with some lines."""
    folder.mkdir(exist_ok=True)
    log = BenchLog(folder / "bench-log.jsonl")
    for _ in range(count):
        log.append(ENTRY)
    return log


def rows(log: BenchLog) -> list[bytes]:
    """Return the raw lines of the log file."""
    return log.path.read_bytes().splitlines(keepends=True)


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    """Log lines are read in order, each with its number, its fields and the hash of the previous line."""
    log = filled(tmp_path)
    lines = list(log.lines())
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert [line.fields["previous"] for line in lines[1:]] == [line.sha256.hex() for line in lines[:-1]]
    assert lines[0].fields["product"] == "acme-thermo2"
    assert log.append(ENTRY).number == 5


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    """An empty log is valid, and a missing log file is a usage error."""
    log = BenchLog(tmp_path / "log")
    with pytest.raises(UsageError, match="cannot read the bench log"):
        list(log.lines())
    log.path.touch()
    assert not list(log.lines())


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
def test_a_removed_or_changed_line_shows(tmp_path: Path, name: str) -> None:
    """A removed or changed line is detected at every position, including the last."""
    log = filled(tmp_path)
    log.path.write_bytes(b"".join(SPOILT[name](rows(log))))
    with pytest.raises(ContentError, match=r"the bench log .* is damaged from line \d on"):
        list(log.lines())


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_changed_byte_shows(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A change of any byte of the log is detected."""
    log = filled(tmp_path_factory.mktemp("log"), 3)
    content = bytearray(log.path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    log.path.write_bytes(content)
    with pytest.raises(ContentError):
        list(log.lines())


def test_nothing_is_appended_to_a_shortened_log(tmp_path: Path) -> None:
    """Appending to a shortened log is refused, because another line would hide the missing ones."""
    log = filled(tmp_path)
    log.path.write_bytes(b"".join(rows(log)[:-2]))
    before = log.path.read_bytes()
    with pytest.raises(ContentError, match="is damaged from line 3"):
        log.append(ENTRY)
    assert log.path.read_bytes() == before


def test_a_line_that_follows_well_is_not_believed(tmp_path: Path) -> None:
    """A line with the right number and hash is refused if the head file does not confirm it."""
    log, other = filled(tmp_path), filled(tmp_path / "other", 5)
    log.path.write_bytes(other.path.read_bytes())
    with pytest.raises(ContentError, match="is damaged from line 5 on"):
        log.check()
    with pytest.raises(ContentError, match="is damaged from line 5 on"):
        list(log.lines())


@pytest.mark.parametrize("kept", [0, 7, -1])
def test_a_last_line_that_only_the_head_file_has_is_restored(tmp_path: Path, kept: int) -> None:
    """A last line that a crash removed is read from the head file and restored by the next append."""
    log = filled(tmp_path)
    *lines, last = rows(log)
    log.path.write_bytes(b"".join(lines) + last[:kept])
    assert len(list(log.lines())) == 4
    assert log.append(ENTRY).number == 5
    assert rows(log)[3] == last
    assert len(list(log.lines())) == 5


def test_a_full_disk_takes_nothing_and_breaks_nothing(tmp_path: Path, small_files_only: None) -> None:
    """If the head file cannot be written, the log is unchanged and accepts later lines."""
    del small_files_only
    log = BenchLog(tmp_path / "log")
    huge = replace(ENTRY, result="x" * 100_000)
    log.append(ENTRY)
    for _ in range(3):
        with pytest.raises(UsageError, match="cannot write the bench log"):
            log.append(huge)
    assert log.append(ENTRY).number == 2
    assert len(list(log.lines())) == 2


def test_a_line_that_does_not_fit_into_the_log_is_kept_by_the_head(tmp_path: Path, small_files_only: None) -> None:
    """If the log has no space for a line, the line stays in the head file and can be read."""
    del small_files_only
    log = BenchLog(tmp_path / "log")
    large = replace(ENTRY, result="x" * 40_000)
    log.append(large)
    assert log.append(large).number == 2
    assert len(list(log.lines())) == 2
    with pytest.raises(UsageError, match="cannot write the bench log"):
        log.check()
    assert len(list(log.lines())) == 2


def test_a_missing_head_file_is_named(tmp_path: Path) -> None:
    """If the head file is missing, the error says so, and names the file."""
    log = filled(tmp_path)
    head = log.path.with_name("bench-log.jsonl.head")
    head.unlink()
    with pytest.raises(ContentError, match=rf"the head file {head} is missing, and the log ends with line 4\."):
        list(log.lines())


@pytest.mark.parametrize("raw", [b"no JSON", b"[]", b"{}", b'{"number":1,"previous":"00"}', b"\xff"])
def test_a_line_that_cannot_be_parsed_has_its_reason(tmp_path: Path, raw: bytes) -> None:
    """The reason of a line that cannot be parsed is one clause without a doubled full stop."""
    path = tmp_path / "log"
    path.write_bytes(raw + b"\n")
    with pytest.raises(ContentError, match=r"is damaged from line 1 on: it is not a line of a bench log: ..") as error:
        list(BenchLog(path).lines())
    assert str(path) in error.value.what
    assert not {".)", "..", ". ("} & {str(error.value)[at : at + 2] for at in range(len(str(error.value)))}


def test_a_damaged_head_file_is_reported(tmp_path: Path) -> None:
    """A damaged head file is reported; the log is not treated as a new one."""
    log = filled(tmp_path)
    log.path.with_name("bench-log.jsonl.head").write_text(json.dumps({"number": "4"}))
    with pytest.raises(ContentError, match=r"head file .* cannot be read"):
        list(log.lines())


def test_many_write_at_once(tmp_path: Path) -> None:
    """Lines that are appended concurrently get distinct numbers."""
    log = BenchLog(tmp_path / "log")

    def write() -> None:
        for _ in range(10):
            BenchLog(log.path).append(ENTRY)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line.number for line in log.lines()] == [*range(1, 41)]


@pytest.mark.parametrize("name", ["", "missing/log"])
def test_a_log_that_cannot_be_written_is_reported(tmp_path: Path, name: str) -> None:
    """A log path that is a folder or has no parent folder is reported."""
    with pytest.raises(BlockOTAError, match="cannot write the bench log") as error:
        BenchLog(tmp_path / name).append(ENTRY)
    assert error.value.action is Action.NAME_LOG


@pytest.mark.parametrize("name", ["fifo", "zero"])
def test_a_log_that_is_not_a_regular_file_is_not_read(tmp_path: Path, name: str) -> None:
    """A pipe, which may never send anything, and a device, which may never end, are refused as logs."""
    path = tmp_path / name
    if name == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"cannot write the bench log .* it is not a regular file"):
        BenchLog(path).check()
    with pytest.raises(UsageError, match=r"cannot read the bench log .* it is not a regular file"):
        list(BenchLog(path).lines())


def test_a_damaged_log_has_a_remedy_at_the_bench(tmp_path: Path) -> None:
    """Before a board is changed, the remedy of a damaged log includes a new log."""
    log = filled(tmp_path)
    log.path.write_bytes(b"".join(rows(log)) + b"\n")
    with pytest.raises(ContentError, match=r"is damaged from line 5 on: .* start a new log") as error:
        log.check()
    assert error.value.action is Action.NAME_LOG


def test_a_check_reports_what_an_append_would(tmp_path: Path) -> None:
    """`check` restores a lost last line, and reports a missing line or a log that cannot be written."""
    log = filled(tmp_path)
    *lines, last = rows(log)
    log.path.write_bytes(b"".join(lines) + last[:9])
    log.check()
    assert rows(log) == [*lines, last]
    log.append(ENTRY)
    log.check()
    kept = rows(log)
    log.path.write_bytes(b"".join([kept[0], *kept[2:]]))
    with pytest.raises(ContentError, match="is damaged from line 2"):
        BenchLog(log.path).check()
    with pytest.raises(UsageError, match="cannot write the bench log"):
        BenchLog(tmp_path / "nowhere" / "log").check()


def test_the_lines_before_a_break_are_confirmed(tmp_path: Path) -> None:
    """Of a damaged log, only the lines whose hash the next line contains are confirmed."""
    log = filled(tmp_path)
    lines, error = log.confirmed()
    assert ([line.number for line in lines], error) == ([1, 2, 3, 4], None)
    # A changed line shows in the line after it, so that the changed line itself must not count.
    confirmed = {"middle removed": 0, "two last removed": 1, "changed": 1, "last changed": 3, "first removed": 0}
    whole = rows(log)
    for name, count in confirmed.items():
        log.path.write_bytes(b"".join(SPOILT[name](whole)))
        lines, error = log.confirmed()
        assert ([line.raw + b"\n" for line in lines], error is not None) == (whole[:count], True), name


def test_lines_of_earlier_versions_are_read() -> None:
    """An entry without the newer fields is decoded, and a wrong newer field is refused."""
    fields = {name: getattr(ENTRY, name) for name in list(vars(ENTRY))[:13]}
    assert Line(b"", 1, fields).entry() == ENTRY
    with pytest.raises(ContentError, match="cannot read line 1"):
        Line(b"", 1, fields | {"milliseconds": "soon"}).entry()
