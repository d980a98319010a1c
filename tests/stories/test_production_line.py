"""The commands of a production line: counters, the exported bench log, and the summary of a day."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from firmware_host.bench.log import BenchEntry, read_log
from firmware_host.bench.log_folder import BenchLog
from firmware_host.simulator import SimulatedBoard, serve_tcp
from tests.conftest import ROOT
from tests.firmware_host.bench.test_log import ENTRY
from tests.stories.benches import UNIQUE_ID
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.pages import commands, missing
from tests.stories.technicians import LOG, board, publish_all, unique_id
from tests.stories.test_bench_page import LINE, PAGE
from tests.stories.test_board_images import publish_and_pair
from tests.support import forks
from tests.support.bench_logs import bench_log, change

EXAMPLE = ROOT / "examples" / "board_images" / "make_keys.py"
NOON = int(datetime(2026, 11, 28, 12).astimezone().timestamp())
MINUTE = 60


def offline(*words: str, folder: Path, zone: str = "") -> Outcome:
    """Run a ``blockota bench`` command in a folder and a time zone."""
    done = forks.run(["-m", "blockota", "bench", *words], folder=folder, environment={"TZ": zone} if zone else {})
    return Outcome(done.returncode, done.stdout, done.stderr)


def write_log(path: Path, *entries: BenchEntry) -> BenchLog:
    """Write a bench log."""
    log = bench_log(path)
    for entry in entries:
        log.append(entry)
    return log


def entry_at(minute: int, number: int) -> BenchEntry:
    """Return an entry of a board, some minutes after noon on 2026-11-28."""
    time = NOON + minute * MINUTE
    return replace(ENTRY, board=unique_id(number), version="1.1.0", operator="Ada", port="/dev/ttyUSB0", time=time)


def write_two_logs(folder: Path) -> None:
    """Write the logs of two ports with three boards.

    One board is bad, and another board was flashed again after a failure.
    """
    silent = replace(entry_at(0, 1), result="the board fell silent", after="")
    first, second = replace(entry_at(1, 1), milliseconds=5000), replace(entry_at(2, 2), milliseconds=4000)
    write_log(folder / "line-1", silent, first, second)
    third = replace(entry_at(3, 3), result="the board fell silent", after="", operator="Ben", port="/dev/ttyUSB1")
    write_log(folder / "line-2", third)


def test_the_commands_of_the_section_print_what_it_shows(workshop: Workshop) -> None:
    """The commands of the section "A production line" in docs/bench.md print the shown output."""
    workshop.after(publish_and_pair)
    shutil.copy(EXAMPLE, "make_keys.py")
    Path("master.key").write_bytes(bytes(range(32)))
    write_two_logs(Path())
    python = shlex.quote(sys.executable)
    ran = 0
    with serve_tcp(target := SimulatedBoard()) as url:
        for command, lines in commands(PAGE, start=LINE, end="## Troubleshooting"):
            words = [{"/dev/ttyUSB0": url}.get(word, word) for word in shlex.split(command)[1:]]
            outcome = workshop.run(*(word.replace("python3", python) for word in words))
            assert outcome.status == 0, outcome.err
            assert not missing(lines, outcome.out + outcome.err), f"$ {command}\n{outcome.out}{outcome.err}"
            ran += 1
    assert ran == 3
    assert target.flash[0xF000:0xF00C].hex() == UNIQUE_ID


def test_counters_are_printed_after_each_board(workshop: Workshop) -> None:
    """With several boards, the counters are printed after each board and at the end, and are in the JSON result."""
    workshop.after(publish_all)
    boards = [board(1), board(2, flash=b"theirs"), board(3)]
    with ExitStack() as stack:
        ports = [word for one in boards for word in ("--port", stack.enter_context(serve_tcp(one)))]
        told = workshop.run("flash", "--product", PRODUCT, *ports)
        counted = workshop.run("flash", "--product", PRODUCT, *ports, "--json")
    assert (told.status, counted.status) == (3, 3)
    assert told.err.count(": 1 good, 0 bad") + told.err.count(": 0 good, 1 bad") == 1
    assert ": board 3: 2 good, 1 bad" in told.err
    assert "3 boards: 2 good, 1 bad" in told.err.splitlines()
    assert counted.json["counters"] == {"boards": 3, "good": 2, "bad": 1, "repeated": 0}
    lines = [line.entry() for line in read_log(LOG)]
    assert {line.version for line in lines} == {"1.1.0"}
    assert {line.port for line in lines} == set(ports[1::2])


def test_an_export_to_the_standard_output_is_the_file(tmp_path: Path) -> None:
    """``--csv -`` prints the bytes that ``--csv FILE`` writes, and ``--board`` selects the lines of a board."""
    write_two_logs(tmp_path)
    printed = offline("log", "--log", "line-1", "--csv", "-", folder=tmp_path)
    written = offline("log", "--log", "line-1", "--csv", "boards.csv", "--json", folder=tmp_path)
    one = offline("log", "--log", "line-1", "--csv", "-", "--board", "0002", folder=tmp_path)
    assert (printed.status, written.status) == (0, 0), printed.err + written.err
    assert (tmp_path / "boards.csv").read_bytes() == printed.out.encode()
    assert (written.json["lines"], written.json["last"]["number"]) == (3, 3)
    (row,) = csv.DictReader(io.StringIO(one.out, newline=""))
    assert (row["line"], row["board"], row["milliseconds"]) == ("3", unique_id(2), "4000")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("log", "--csv", "boards.csv", "--log", "line-1"), 2, "boards.csv already exists"),
        (("log", "--force", "--log", "line-1"), 2, "apply to an export"),
        (("log", "--csv", "-", "--json", "--log", "line-1"), 2, "exclude each other"),
        (("log", "--csv", "-", "--log", "none"), 2, "cannot read the bench log none"),
        (("log", "--csv", "nowhere/boards.csv", "--log", "line-1"), 2, "nowhere/boards.csv cannot be written"),
        (("summary", "--date", "28.11.2026", "line-1"), 2, "'28.11.2026' is not a date"),
    ],
    ids=["exists", "no export", "json", "no log", "no folder", "date"],
)
def test_wrong_usage_of_the_log_is_refused(tmp_path: Path, words: tuple[str, ...], status: int, says: str) -> None:
    """Wrong options of ``bench`` commands exit with status 2, and write nothing."""
    write_two_logs(tmp_path)
    (tmp_path / "boards.csv").write_text("mine")
    outcome = offline(*words, folder=tmp_path)
    assert (outcome.status, says in outcome.err) == (status, True), outcome.err
    assert (tmp_path / "boards.csv").read_text() == "mine"
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_log_is_exported_only_as_far_as_it_is_confirmed(tmp_path: Path) -> None:
    """A damaged log is refused.

    With ``--confirmed-part``, the confirmed lines of a damaged log are exported.
    """
    write_two_logs(tmp_path)
    change(tmp_path / "line-1", b'"milliseconds":5000', b'"milliseconds":1000')
    words = ("log", "--log", "line-1", "--csv", "boards.csv")
    refused = offline(*words, folder=tmp_path)
    assert (refused.status, (tmp_path / "boards.csv").exists()) == (3, False)
    assert "damaged from line 3 on" in refused.err
    assert "(--confirmed-part)" in refused.err
    allowed = offline(*words, "--confirmed-part", folder=tmp_path)
    assert allowed.status == 0, allowed.err
    assert "Only line 1 is exported; each exported line is confirmed by its hash in the next line" in allowed.err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "boards.csv").read_bytes().decode(), newline="")))
    assert [row["line"] for row in rows] == ["1"]
    summed = offline("summary", "--date", "2026-11-28", "line-1", folder=tmp_path)
    assert (summed.status, summed.out) == (3, "")


def test_a_log_without_a_confirmed_line_is_not_exported(tmp_path: Path) -> None:
    """If no line of a damaged log is confirmed, nothing is exported."""
    write_log(tmp_path / "log", ENTRY)
    change(tmp_path / "log", b"done", b"dome")
    outcome = offline("log", "--log", "log", "--csv", "boards.csv", "--confirmed-part", folder=tmp_path)
    assert (outcome.status, (tmp_path / "boards.csv").exists()) == (3, False)
    assert "no line of log is confirmed" in outcome.err


@pytest.mark.parametrize(
    ("zone", "offset", "first", "boards"),
    [
        ("UTC0", "UTC+00:00", "2026-11-27T23:30:00+00:00", 1),
        ("CET-1", "UTC+01:00", "2026-11-28T00:30:00+01:00", 3),
        ("PST8", "UTC-08:00", "2026-11-27T15:30:00-08:00", 2),
    ],
)
def test_a_day_is_the_local_day(tmp_path: Path, zone: str, offset: str, first: str, boards: int) -> None:
    """The summary counts the lines of a day in local time, and prints the offset of the local time."""
    late = int(datetime.fromisoformat("2026-11-27T23:30:00+00:00").timestamp())
    times = (late, late + 3600, late + 9 * 3600)
    write_log(tmp_path / "log", *(replace(ENTRY, time=time, board=unique_id(time)) for time in times))
    day = first[:10]
    found = offline("summary", "--date", day, "log", "--json", folder=tmp_path, zone=zone)
    told = offline("summary", "--date", day, "log", folder=tmp_path, zone=zone)
    assert found.status == 0, found.err
    assert (found.json["total"]["first"], found.json["total"]["good"]) == (first, boards)
    assert f"{day} ({offset}): {boards} board" in told.out


def test_a_line_in_two_logs_counts_once(tmp_path: Path) -> None:
    """A log that is given twice, or that is a copy of another log, is counted once."""
    write_two_logs(tmp_path)
    shutil.copytree(tmp_path / "line-1", tmp_path / "line-3")
    words = ("summary", "--date", "2026-11-28", "--json", "line-1")
    once, twice = (offline(*words, *more, folder=tmp_path) for more in ((), ("./line-1", "line-3")))
    assert (once.status, twice.status) == (0, 0), once.err + twice.err
    assert twice.json == once.json
    told = offline(*words, "./line-1", "line-3", folder=tmp_path)
    assert once.json["total"]["good"]
    assert "6 lines are repeated in these logs, and count once" in told.err


def test_control_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    """On a terminal, ``--csv -`` escapes the control characters of a name.

    In a file, the control characters are unchanged.
    """
    write_log(tmp_path / "log", replace(ENTRY, operator="\x1b[31mIda"))
    words = [sys.executable, "-m", "blockota", "bench", "log", "--log", "log", "--csv", "-"]
    near, far = os.openpty()
    with os.fdopen(near, "rb", buffering=0) as terminal:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(words, cwd=tmp_path, env=environment, stdout=far, check=True)
        shown = terminal.read(1 << 16)
        os.close(far)
    assert b"\\x1b[31mIda" in shown
    assert b"\x1b" not in shown
    assert "\x1b[31mIda" in offline("log", "--log", "log", "--csv", "-", folder=tmp_path).out


def test_a_day_without_boards_is_empty(tmp_path: Path) -> None:
    """A day without lines is reported as such, with status 0."""
    write_log(tmp_path / "log", ENTRY)
    told = offline("summary", "--date", "2020-01-01", "log", folder=tmp_path)
    found = offline("summary", "--date", "2020-01-01", "log", "--json", folder=tmp_path)
    assert (told.status, "The logs have no line of 2020-01-01 (UTC" in told.out) == (0, True)
    assert (json.loads(found.out)["total"], found.json["groups"]) == (None, [])
