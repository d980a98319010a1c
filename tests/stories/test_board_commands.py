"""``blockota board`` commands as a technician types them, including common mistakes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blockota.cli.board import board as board_group
from blockota.cli.boards import page_runs
from blockota.cli.main import run
from blockota.formats.tlog import join_entries, split_entries
from firmware_host.bench.log import BenchEntry
from firmware_host.simulator import Faults, SimulatedBoard, Wiring, serve_rfc2217, serve_tcp
from tests.conftest import ROOT
from tests.firmware_host.bench.test_log import old_log
from tests.firmware_host.direct_link import started
from tests.stories.benches import APPLICATION, FULL, UNIQUE_ID, Bench, ends, with_product_id
from tests.stories.technicians import LOG
from tests.support.bench_logs import bench_log
from tests.support.waiting import DEADLINE


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Return a bench in a folder without settings, because ``blockota board`` needs no chain."""
    monkeypatch.chdir(tmp_path)
    return Bench(capsys)


def test_identify_describes_a_board(bench: Bench) -> None:
    """``board identify`` prints chip, flash, unique id, protections and commands, as text and as JSON."""
    guarded = SimulatedBoard()
    guarded.protect(pages=[3, 9])
    with serve_tcp(guarded) as url:
        outcome = bench.run("identify", "--port", url)
        fields = bench.run("identify", "--port", url, "--json").json
    assert outcome.status == 0
    for words in ("STM32F10x medium-density, product id 0x410", "64 KiB", UNIQUE_ID, "pages 0-3,8-11", "Read Memory"):
        assert words in outcome.out
    assert (fields["productId"], fields["flashSize"], fields["uniqueId"]) == (0x410, 65536, UNIQUE_ID)
    assert fields["writeProtectedPages"] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert "Readout Unprotect" in fields["commands"]
    assert fields["releases"] is None  # the folder has no settings
    assert "not read" in fields["contents"]
    assert "--config FILE" in fields["contents"]


def test_identify_reports_what_is_unknown(bench: Bench) -> None:
    """``board identify`` prints "unknown" for values that it cannot read.

    The boards have an unsupported chip or readout protection.
    """
    with serve_tcp(SimulatedBoard(with_product_id(0x999))) as url:
        assert "not supported, product id 0x999" in bench.run("identify", "--port", url).out
    closed = SimulatedBoard()
    closed.protect(readout=True)
    with serve_tcp(closed) as url:
        printed = bench.run("identify", "--port", url).out
    assert re.search(r"Unique id +unknown", printed)
    assert "not read, because readout protection is on" in printed


@pytest.mark.parametrize(("baud", "found"), [("57600", 57600), ("auto", 256000)])
def test_a_running_board_is_reached_by_its_lines(bench: Bench, baud: str, found: int) -> None:
    """A running board behind a serial server is reset into its bootloader through the control lines."""
    with serve_rfc2217(started(APPLICATION), wiring=Wiring(reset="rts", boot0="dtr", invert_reset=True)) as url:
        words = ("--wiring", "rts-dtr", "--invert-reset", "--baud", baud, "--json")
        assert bench.run("identify", "--port", url, *words).json["baud"] == found


@pytest.mark.parametrize(
    ("words", "address", "length"),
    [
        ((), 0x08000000, 65536),
        (("--address", "0x08000401", "--length", "300"), 0x08000401, 300),
        (("--address", "0x1ffff800"), 0x1FFFF800, 16),
        (("--address", "0x1ffff000", "--length", "256"), 0x1FFFF000, 256),
        (("--address", "0x20000200", "--length", "1K"), 0x20000200, 1024),
    ],
    ids=["whole", "odd", "options", "system", "unit"],
)
def test_memories_are_read_into_a_file(bench: Bench, words: tuple[str, ...], address: int, length: int) -> None:
    """``board read`` saves the whole flash by default, or another memory by its address."""
    with serve_tcp(SimulatedBoard(flash=FULL)) as url:
        outcome = bench.run("read", "-o", "out.bin", "--port", url, "--json", *words)
    assert (outcome.json["address"], outcome.json["length"]) == (address, length)
    data = Path("out.bin").read_bytes()
    assert len(data) == length
    if address in range(0x08000000, 0x08010000):
        assert data == FULL[address - 0x08000000 :][:length]


def test_a_file_is_whole_or_absent(bench: Bench) -> None:
    """A lost connection leaves no file, and ``board read`` replaces an existing file only with ``--force``."""
    with serve_tcp(SimulatedBoard(flash=FULL, faults=Faults(silent_after=500))) as url:
        ends(bench.run("read", "-o", "out.bin", "--port", url), 4, "fell silent in Read Memory")
    assert not list(Path().iterdir())
    Path("out.bin").write_bytes(b"mine")
    with serve_tcp(SimulatedBoard(flash=FULL)) as url:
        ends(bench.run("read", "-o", "out.bin", "--port", url), 2, "out.bin already exists", "--force")
        ends(bench.run("read", "-o", "no/out.bin", "--port", url), 2, "no/out.bin cannot be written")
        assert bench.run("read", "-o", "out.bin", "--port", url, "--force").status == 0
        os.mkfifo("device")
        ends(bench.run("read", "-o", "device", "--port", url, "--force"), 2, "device is not a regular file")
    assert Path("out.bin").read_bytes() == FULL


@pytest.mark.parametrize(
    "words",
    [
        ("--address", "0"),
        ("--address", "0x0800ff00", "--length", "512"),
        ("--length", "0"),
        ("--address", "0x20000000"),
    ],
    ids=["nowhere", "beyond", "nothing", "reserved"],
)
def test_memory_that_is_not_there_is_not_asked_for(bench: Bench, words: tuple[str, ...]) -> None:
    """``board read`` refuses an address outside the chip's memories with an error that lists the memories."""
    with serve_tcp(SimulatedBoard(flash=FULL)) as url:
        ends(bench.run("read", "-o", "out.bin", "--port", url, *words), 3, "0x08000000-0x0800ffff", "0x1ffff800")
    assert not Path("out.bin").exists()


def test_mistakes_with_ports_have_their_sentences(bench: Bench) -> None:
    """Each mistake with a port has its own error.

    The cases are a missing port, a file, a closed TCP port, no control lines, no serial server, a wrong speed, and a
    wrong wiring.
    """
    Path("image.bin").write_bytes(FULL)
    for words, status, says in (
        (("/dev/ttyUSB99",), 4, "Plug the adapter in"),
        (("image.bin",), 4, "it is not a serial device"),
        (("tcp://host:1",), 2, "does not name a serial port"),
        (("socket://127.0.0.1:1",), 4, "Connection refused"),
        (("rfc2217://127.0.0.1:1",), 4, "Connection refused"),
        (("image.bin", "--baud", "5"), 2, "'5' is not a speed"),
        (("image.bin", "--wiring", "usb"), 2, "'usb' is not one of"),
        (("image.bin", "--invert-boot0"), 2, "does not use the control line to be inverted"),
    ):
        ends(bench.run("identify", "--port", *words), status, says)
    with serve_tcp(SimulatedBoard()) as url:
        ends(
            bench.run("identify", "--port", url, "--wiring", "dtr"),
            4,
            "has no control lines",
            "reset the board by hand (--wiring by-hand)",
        )


def test_the_doctor_succeeds_if_the_board_can_be_flashed(bench: Bench) -> None:
    """``board doctor`` exits with status 0 if the board can be flashed, and otherwise with status 4 and an error."""
    with serve_tcp(SimulatedBoard()) as url:
        outcome = bench.run("doctor", "--port", url)
        assert outcome.status == 0
        assert "the board can be flashed: STM32F10x medium-density" in outcome.out
        assert bench.run("doctor", "--port", url, "--json").json["canBeFlashed"] is True
    guarded = SimulatedBoard()
    guarded.protect(pages=[0])
    with serve_tcp(guarded) as url:
        ends(bench.run("doctor", "--port", url), 4, "protected from writing", "unprotect --write")
        fields = bench.run("doctor", "--port", url, "--json").json
    assert fields["canBeFlashed"] is False
    assert fields["findings"][0]["about"] == "write-protection"
    assert fields["error"]["exitStatus"] == 4


def entry(number: int) -> BenchEntry:
    """Return the fields of one line of the bench log."""
    board = f"424c4f434b4f54410000{number:04x}"
    return BenchEntry(
        time=1_800_000_000 + number,
        operator="eve",
        board=board,
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


def test_the_log_is_shown_and_proven(bench: Bench) -> None:
    """``board log`` verifies the whole bench log before it shows lines, and detects a deleted line."""
    kept = bench_log(LOG)
    LOG.parent.mkdir(parents=True)
    ends(bench.run("log"), 2, "cannot read the bench log")
    last = [kept.append(entry(number)) for number in range(3)][-1]
    outcome = bench.run("log")
    assert outcome.out.count("acme-thermo2") == 3
    assert f"The log is whole: 3 lines, the last has SHA-256 {last.sha256.hex()}" in outcome.out
    fields = bench.run("log", "--board", "0001", "--json").json
    assert ([line["number"] for line in fields["lines"]], fields["last"]["number"]) == ([2], 3)
    assert [line["receipt"] for line in fields["lines"]] == [2]
    bundle = LOG / "tile" / "entries" / "000.p" / "6"
    entries = split_entries(bundle.read_bytes())
    bundle.write_bytes(join_entries([*entries[:2], *entries[4:], *entries[4:]]))
    ends(bench.run("log"), 3, "is damaged from line 2 on")


def test_the_log_of_an_earlier_version_is_read(bench: Bench) -> None:
    """If a log file of an earlier version lies beside the new log, ``board log`` names the file.

    The boards of both logs are listed.
    """
    LOG.parent.mkdir(parents=True)
    old_log(LOG.with_name("bench-log.jsonl"), 2)
    alone = bench.run("log")
    assert "The log is whole: 2 lines" in alone.out
    bench_log(LOG).append(entry(7))
    both = bench.run("log")
    assert "The log is whole: 1 line," in both.out
    assert "Earlier lines are in .blockota/bench/bench-log.jsonl" in both.err
    listed = bench.run("list", "--json").json["boards"]
    assert [(one["board"][-4:], Path(one["log"]).name) for one in listed] == [
        ("0001", "bench-log.jsonl"),
        ("0007", "log"),
    ]
    assert bench.run("log", "--log", str(LOG.with_name("bench-log.jsonl"))).out == alone.out


def test_simulate_serves_a_board(tmp_path: Path) -> None:
    """``board simulate`` prints the board's URL, serves the board, and ends on Ctrl-C with status 0."""
    words = [sys.executable, "-m", "blockota", "board", "simulate", "--json", "--unique-id", "00" * 12, "--boot0", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path, env=environment
    ) as served:
        assert served.stdout is not None
        url = json.loads("".join(iter(served.stdout.readline, "}\n")) + "}")["url"]
        assert run(["board", "identify", "--port", url, "--json"]) == 0
        served.send_signal(signal.SIGINT)
        assert served.wait(timeout=DEADLINE) == 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--chip", "z80"), 2, "List the options with `blockota board simulate -- --help`"),
        (("--fault", "gremlins"), 2, "unknown fault 'gremlins'"),
        (("--tcp", "70000"), 2, "argument --tcp: 70000 is not a TCP port"),
    ],
    ids=["chip", "fault", "port"],
)
def test_simulate_refuses_what_makes_no_board(bench: Bench, words: tuple[str, ...], status: int, says: str) -> None:
    """``board simulate`` reports an invalid option as wrong usage."""
    ends(bench.run("simulate", *words), status, says)


def test_simulate_lists_its_options(bench: Bench) -> None:
    """``board simulate -- --help`` lists the options of the simulator."""
    outcome = bench.run("simulate", "--", "--help")
    assert outcome.status == 0
    assert "--readout-protected" in outcome.out


def test_options_of_chain_and_store_are_not_shown() -> None:
    """The help of ``blockota board`` commands lists no option for a store.

    Only `identify` has an option for a chain.
    """
    for command in board_group.commands.values():
        names: set[Any] = {parameter.name for parameter in command.params}
        assert names & {"network", "store"} == ({"network"} if command.name == "identify" else set())
        assert "as_json" in names


@pytest.mark.parametrize(("pages", "text"), [([], ""), ([3], "3"), ([9, 3, 4], "3-4,9"), (range(64), "0-63")])
def test_page_numbers_are_written_as_they_are_typed(pages: list[int], text: str) -> None:
    """Consecutive page numbers are printed as ranges, such as 3-4."""
    assert page_runs(pages) == text
