"""``blockota flash`` with several ports, its JSON result, and the bench log."""

from __future__ import annotations

import getpass
import json
import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.bindings.block_ota import publish_call
from blockota.errors import RefusedError
from blockota.model.draft import Draft, draft_release
from blockota.model.release import Version
from firmware_host.bench.job import BusyBoards
from firmware_host.bench.log import read_log
from firmware_host.simulator import STM32F103C8, Faults, SimulatedBoard, TimeModel, serve_tcp
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.technicians import (
    INTERRUPTED,
    LOG,
    NEW,
    OLD,
    TIMEOUT,
    WORDS,
    board,
    publish_all,
    running,
    unique_id,
    wait_until,
)
from tests.support import forks

FLASH_SIZE = 1 << 16


@pytest.fixture
def published(workshop: Workshop) -> Workshop:
    """Return a test workshop with the published releases 1.0.0 and 1.1.0."""
    return workshop.after(publish_all)


def flash_at_once(workshop: Workshop, *boards: SimulatedBoard, options: tuple[str, ...] = ()) -> Outcome:
    """Run ``blockota flash`` once for several boards."""
    with ExitStack() as stack:
        urls = [stack.enter_context(serve_tcp(one)) for one in boards]
        ports = [word for url in urls for word in ("--port", url)]
        return workshop.run("flash", "--product", PRODUCT, *ports, *options)


def test_a_board_that_fails_does_not_touch_the_others(published: Workshop) -> None:
    """A board that fails does not affect the other boards, and the exit status is that of the worst result."""
    boards = (
        board(1),
        board(2, faults=Faults(flipped_bit=0x0800_0100)),
        board(3, flash=b"somebody else's"),
        board(4, flash=OLD.read_bytes()),
    )
    outcome = flash_at_once(published, *boards, options=("--json",))
    assert outcome.status == 4
    results = {one["board"]["uniqueId"]: one for one in outcome.json["results"]}
    assert [(results[unique_id(n)]["before"], results[unique_id(n)]["result"][:14]) for n in range(1, 5)] == [
        ("blank", "done"),
        ("blank", "check 10 faile"),
        ("unknown", "check 6 failed"),
        ("1.0.0", "done"),
    ]
    assert [one.get("error", {}).get("check") for one in results.values()] == [None, 10, 6, None]
    assert (outcome.json["error"]["what"], outcome.json["error"]["exitStatus"]) == ("2 of 4 boards failed", 4)
    assert boards[0].flash[:620] == boards[3].flash[:620] == NEW.read_bytes()
    assert boards[2].flash.startswith(b"somebody else's")


def test_boards_with_unreadable_unique_ids_are_not_copies() -> None:
    """Two boards with unreadable unique ids count as different boards.

    Two boards with the same unique id count as one board.
    """
    busy = BusyBoards()
    with busy.claim(""), busy.claim(""), busy.claim(unique_id(1)):
        again = busy.claim(unique_id(1))
        with pytest.raises(RefusedError, match="the same unique id"), again:
            pass


def test_people_see_a_line_and_a_row_for_each_board(published: Workshop) -> None:
    """The output of ``flash`` shows checks 1 to 5 once, and the result of each board by its port."""
    outcome = flash_at_once(published, board(1), board(2, flash=b"somebody else's"))
    assert outcome.status == 3
    assert [line[:4] for line in outcome.out.splitlines()[:5]] == [f"✓  {number}" for number in range(1, 6)]
    assert f"board {unique_id(1)} holds {PRODUCT} 1.1.0: erased 0 pages (0 bytes), programmed 1 page" in outcome.out
    assert "proven by reading it back" in outcome.out
    assert "board says: BlockOTA bluepill 1.1.0" in outcome.out
    assert "check 6 failed, the board has unknown contents" in outcome.err
    header, *rows = outcome.out.splitlines()[-3:]
    assert header.split() == ["PORT", "BOARD", "BEFORE", "PROVEN", "NOW", "RESULT", "LOG", "LINE"]
    assert [unique_id(number) in row for number, row in enumerate(rows, 1)] == [True, True]


def test_two_ports_with_one_board_are_refused(published: Workshop) -> None:
    """If two ports lead to the same board, only one of the two flash runs continues."""
    outcome = flash_at_once(published, board(1), board(1), options=("--json",))
    assert outcome.status == 3
    kinds = sorted(one["result"].partition(":")[0] for one in outcome.json["results"])
    assert kinds == ["another port has a board with the same unique id", "done"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--port", "socket://localhost:1", "--port", "socket://localhost:1"), "is named twice"),
        (("--port", "socket://localhost:1", "--watch", "--resume"), "exclude each other"),
        (("--port", "socket://localhost:1", "--wiring", "dtr", "--invert-boot0"), "the control line to be inverted"),
        (("--port", "telnet://localhost:1"), "does not name a serial port"),
        (("--port", "socket://localhost:1", "--log", "nowhere/log"), "cannot write the bench log nowhere/log"),
    ],
    ids=["twice", "both", "inversion", "address", "log"],
)
def test_usage_errors_are_reported_before_a_board_is_contacted(
    published: Workshop, words: tuple[str, ...], says: str
) -> None:
    """Wrong usage of ``flash`` exits with status 2 before a board is contacted."""
    outcome = published.run("flash", "--product", PRODUCT, *words)
    assert outcome.status == 2, outcome.err
    assert says in outcome.err


def test_a_product_is_asked_for(published: Workshop) -> None:
    """``flash`` requires a product.

    With ``--resume``, the product is read from the journal of the interrupted run.
    """
    outcome = published.run("flash", "--port", "socket://localhost:1")
    assert (outcome.status, "no product given. Name the product (--product NAME" in outcome.err) == (2, True)
    outcome = published.run("flash", "--port", "socket://localhost:1", "--resume")
    assert (outcome.status, "no interrupted run to resume" in outcome.err) == (3, True)


def test_every_board_has_a_line_in_the_log(published: Workshop) -> None:
    """The bench log records the operator, the board's contents before and after flashing, and the kind of proof."""
    with serve_tcp(board(1, flash=OLD.read_bytes())) as url:
        first = published.flash(url, "--operator", "Ada", "--read-back")
        second = published.flash(url, "--json")
        third = published.flash(url, "--version", "1.0.0")
    lines = list(read_log(LOG))
    assert f"Line 1 of the bench log, SHA-256 {lines[0].sha256.hex()}" in first.err
    assert second.json["results"][0]["log"] == lines[1].as_fields()
    assert third.status == 3
    names = ("operator", "before", "after", "proof", "result", "chip_id", "board")
    me, digest = getpass.getuser(), json.loads(second.out)["results"][0]["sha256"]
    assert [[line.fields[name] for name in names] for line in lines[:2]] == [
        ["Ada", "1.0.0", "1.1.0", "read-back", "done", 0x410, unique_id(1)],
        [me, "1.1.0", "1.1.0", "read-back", "already", 0x410, unique_id(1)],
    ]
    assert [line.fields["flash_sha256"] for line in lines] == [digest, digest, ""]
    assert (lines[2].fields["before"], lines[2].fields["after"]) == ("1.1.0", "")
    assert lines[2].fields["result"].startswith("check 6 failed, version 1.0.0 is not newer")


def test_a_log_that_is_not_whole_stops_the_bench(published: Workshop) -> None:
    """``flash`` refuses to run with an incomplete bench log, and does not change the board."""
    with serve_tcp(target := board(1)) as url:
        assert published.flash(url, "--log", "mine", "--version", "1.0.0").status == 0
        assert published.flash(url, "--log", "mine").status == 0
        before = target.flash
        Path("mine/tile/entries/000.p/4").unlink()
        outcome = published.flash(url, "--log", "mine", "--allow-downgrade", "--version", "1.0.0")
        Path("mine/checkpoint").unlink()
        gone = published.flash(url, "--log", "mine")
    assert (outcome.status, gone.status) == (3, 3)
    assert f"the log {Path('mine').absolute()} is damaged: tile/entries/000.p/4 is missing" in outcome.err
    assert "start a new log (--log FOLDER)" in outcome.err
    assert target.flash == before


@pytest.mark.parametrize("given", [True, False], ids=["given", "not-given"])
def test_mass_erase_needs_consent(published: Workshop, *, given: bool) -> None:
    """A mass erase, which also erases flash beyond the reported size, is used only with ``--erase-chip``."""
    full = NEW.read_bytes() + bytes(index % 251 for index in range(FLASH_SIZE - len(NEW.read_bytes())))
    Path("full.bin").write_bytes(full)
    product = published.contract.paired_product(PRODUCT)
    published.decide(publish_call([draft_release(Draft(PRODUCT, Version(2, 0, 0), full), product)]))
    chip = replace(STM32F103C8, flash_size=2 * FLASH_SIZE, reported_flash_size=FLASH_SIZE)
    hidden = bytes(range(256)) * (FLASH_SIZE // 256)
    target = SimulatedBoard(chip, flash=bytes(FLASH_SIZE) + hidden)
    with serve_tcp(target) as url:
        outcome = published.flash(url, "--image", "full.bin", "--replace-unknown", *(["--erase-chip"] if given else []))
    assert (outcome.status, target.flash[:FLASH_SIZE] == full) == (0, True), outcome.err
    assert (target.flash[FLASH_SIZE:] == hidden) is not given


def test_the_same_image_again_is_nothing_to_do(published: Workshop) -> None:
    """Flashing the installed image again succeeds and programs no page."""
    with serve_tcp(board(1, flash=NEW.read_bytes())) as url:
        outcome = published.flash(url)
    assert outcome.status == 0
    assert "the board holds acme-thermo2 1.1.0 already: erased 0 pages (0 bytes), programmed 0 pages" in outcome.out
    assert "identical 1 page (1,024 bytes)" in outcome.out


@pytest.fixture
def slow() -> Iterator[tuple[SimulatedBoard, str]]:
    """Yield a slow board, on which a signal can arrive during writing, and its port."""
    one = SimulatedBoard(flash=OLD.read_bytes(), unique_id=(1).to_bytes(12), times=TimeModel(baud=115200, latency=0.12))
    with serve_tcp(one) as url:
        yield one, url


def is_erased(one: SimulatedBoard) -> bool:
    """Return whether a board was erased and is not completely written."""
    return one.flash[:8] == b"\xff" * 8


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_repeated_control_c_reports_the_state(slow: tuple[SimulatedBoard, str], number: signal.Signals) -> None:
    """After repeated stop signals, ``flash`` exits with 130, and reports and logs the state of the board."""
    one, url = slow
    with running(*WORDS, "--port", url, "--no-stub") as work:
        wait_until(lambda: is_erased(one))
        until = time.monotonic() + TIMEOUT
        while work.process.poll() is None and time.monotonic() < until:
            work.process.send_signal(number)
            time.sleep(0.01)
        outcome = work.end()
    assert outcome.status == INTERRUPTED, outcome.err
    assert outcome.err.splitlines()[-1].startswith("Stopped. Flashing was interrupted: ")
    assert f"`blockota flash --resume --port {url}`" in outcome.err
    assert "Still stopping" in outcome.err
    (line,) = read_log(LOG)
    assert line.fields["result"].startswith("flashing was interrupted: ")


@pytest.mark.usefixtures("published")
def test_a_terminal_that_goes_away_ends_the_work_as_control_c_does(slow: tuple[SimulatedBoard, str]) -> None:
    """Closing the terminal ends ``flash`` with status 130 and a line in the bench log."""
    one, url = slow
    terminal, end = pty.openpty()
    words, streams = ["-m", "blockota", *WORDS, "--port", url, "--no-stub"], dict.fromkeys(range(3), end)
    with forks.started(words, environment={"TERM": "xterm"}, streams=streams) as process:
        os.close(end)
        until = time.monotonic() + TIMEOUT
        while not is_erased(one) and time.monotonic() < until:
            if select.select([terminal], [], [], 0.005)[0]:
                os.read(terminal, 1 << 16)
        assert is_erased(one)
        os.close(terminal)
        assert process.wait(TIMEOUT) == INTERRUPTED
    (line,) = read_log(LOG)
    assert line.fields["result"].startswith("flashing was interrupted: ")
