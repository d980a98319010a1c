"""``blockota board erase``, ``protect`` and ``unprotect`` change exactly what was requested."""

from __future__ import annotations

import os
import pty
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware_host.simulator import PROFILES, Faults, SimulatedBoard, serve_tcp
from tests.conftest import ROOT
from tests.stories.benches import CONFIRMED, FULL, UNIQUE_ID, Bench, ends, with_product_id


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Return a bench in a folder without settings, because ``blockota board`` needs no chain."""
    monkeypatch.chdir(tmp_path)
    return Bench(capsys)


def test_pages_are_erased_and_proven(bench: Bench) -> None:
    """``board erase`` erases only the named pages, or all pages with ``--all``."""
    board = SimulatedBoard(flash=FULL)
    with serve_tcp(board) as url:
        outcome = bench.run("erase", "--pages", "3-4,9", "--port", url, *CONFIRMED)
        assert outcome.status == 0, outcome.err
        assert "Erasing pages 3-4,9 destroys 3,072 bytes" in outcome.err
        blank = {page for page in range(64) if not board.flash[page * 1024 :][:1024].strip(b"\xff")}
        assert blank == {3, 4, 9}
        assert bench.run("erase", "--all", "--port", url, *CONFIRMED, "--json").json["bytes"] == 65536
    assert not board.flash.strip(b"\xff")


def test_a_mass_erase_deletes_the_journal(bench: Bench) -> None:
    """A mass erase deletes the journal of an interrupted flash run.

    A page erase keeps the journal.
    """
    journal = Path(".blockota/bench/interrupted") / f"{UNIQUE_ID}.json"
    journal.parent.mkdir(parents=True)
    board = SimulatedBoard(flash=FULL)
    with serve_tcp(board) as url:
        port = ("--port", url, *CONFIRMED)
        for command in (("erase", "--all"), ("unprotect", "--readout")):
            journal.write_text("{}")
            ends(bench.run("erase", "--all", *port[:2], "--confirm", "0" * 24), 3, "nothing was changed")
            outcome = bench.run("erase", "--pages", "3", *port)
            assert "the journal of its interrupted run" in outcome.err
            assert journal.exists()
            outcome = bench.run(*command, *port)
            assert outcome.status == 0, outcome.err
            assert "the journal of " in outcome.err
            assert "is removed" in outcome.err
            assert not journal.exists()


@pytest.mark.parametrize("name", ["stm32f407vg", "stm32l053r8", "stm32g071rb"])
def test_other_chips_are_erased(bench: Bench, name: str) -> None:
    """Erasing works on the sectors of an F4, on an L0 without mass erase, and on a G0."""
    profile = PROFILES[name]
    board = SimulatedBoard(profile, flash=b"\x55" * profile.flash_size)
    pages = ("--all",) if profile.flash_size <= 65536 else ("--pages", "1")
    with serve_tcp(board) as url:
        outcome = bench.run("erase", *pages, "--port", url, *CONFIRMED)
    assert outcome.status == 0, outcome.err
    span = profile.page_span(1)
    assert set(board.flash[span.start : span.stop]) == set(profile.erased)


def test_nothing_is_erased_that_was_not_meant(bench: Bench) -> None:
    """``board erase`` refuses a wrong board or wrong pages, and changes nothing.

    The cases are another board, no terminal for the confirmation, a missing page, no pages, both options at once, and a
    protected page.
    """
    board = SimulatedBoard(flash=FULL)
    with serve_tcp(board) as url:
        port = ("--port", url)
        ends(bench.run("erase", "--all", *port, "--confirm", "0" * 24), 3, "nothing was changed", UNIQUE_ID)
        ends(bench.run("erase", "--all", *port), 3, "without a terminal", f"--confirm {UNIQUE_ID}")
        ends(bench.run("erase", "--pages", "64", *port, *CONFIRMED), 3, "page 64 does not exist", "pages 0 to 63")
        ends(bench.run("erase", *port, *CONFIRMED), 2, "Pass one of them, such as --pages 3-7,9")
        both = bench.run("erase", "--all", "--pages", "1", *port, *CONFIRMED)
        ends(both, 2, "exactly one of --pages and --all is needed")
        for pages in ("7-3", "x", "", "-1", "1-"):
            ends(bench.run("erase", "--pages", pages, *port, *CONFIRMED), 2, "names no pages")
        board.protect(pages=[8])
        ends(bench.run("erase", "--pages", "7-8", *port, *CONFIRMED), 3, "page 8 is protected", "unprotect --write")
    assert board.flash == FULL


def test_a_failed_erase_reports_the_state_of_the_flash(bench: Bench) -> None:
    """The error of a failed erase names the page, or reports that the state of the pages is unknown."""
    with serve_tcp(SimulatedBoard(flash=FULL, faults=Faults(sticky_page=4))) as url:
        ends(bench.run("erase", "--pages", "3-5", "--port", url, *CONFIRMED), 4, "page 4", "replace the board")
    with serve_tcp(SimulatedBoard(flash=FULL, faults=Faults(silent_after=400))) as url:
        outcome = bench.run("erase", "--all", "--port", url, *CONFIRMED)
    ends(outcome, 4, "some of the pages may be erased and others not")


def test_protections_are_set_and_lifted(bench: Bench) -> None:
    """Write protection and readout protection can be set and lifted.

    Lifting readout protection erases the flash.
    """
    board = SimulatedBoard(flash=FULL)
    with serve_tcp(board) as url:
        port = ("--port", url, *CONFIRMED)
        outcome = bench.run("protect", "--write", "3", *port)
        assert "write protection on for pages 0-3" in outcome.out
        assert "the present write protection is replaced" in outcome.err
        assert bench.run("protect", "--write", *port, "--json").json["writeProtectedPages"] == list(range(64))
        assert "write protection off" in bench.run("unprotect", "--write", *port).out
        assert board.flash == FULL
        assert "readout protection on" in bench.run("protect", "--readout", *port).out
        assert board.readout_protected
        outcome = bench.run("unprotect", "--readout", "--port", url, "--confirm", "0x410")
        assert "destroys all contents of the board's flash" in outcome.err
        assert "readout protection off" in outcome.out
    assert not board.flash.strip(b"\xff")


def test_protections_that_are_not_meant_are_left(bench: Bench) -> None:
    """Ambiguous or impossible protection changes are refused.

    The cases are neither or both options, a locked board, a chip whose protection is unknown, and an unknown chip.
    """
    closed = SimulatedBoard()
    closed.protect(readout=True)
    with serve_tcp(closed) as url:
        port = ("--port", url, "--confirm", "0x410")
        for command in ("protect", "unprotect"):
            ends(bench.run(command, *port), 2, "exactly one of --readout and --write is needed")
            ends(bench.run(command, "--readout", "--write", *port), 2, "exactly one of --readout and --write is needed")
            ends(bench.run(command, "--write", *port), 3, "unprotect --readout")
        ends(bench.run("protect", "--readout", *port), 3, "readout protection of the")
        named = bench.run("unprotect", "--readout", *port[:2], "--confirm", "ab" * 12)
        ends(named, 3, "unique id cannot be read", "confirm it by its product id, --confirm 0x410")
        ends(bench.run("read", "-o", "x", *port[:2]), 3, "unprotect --readout")
    with serve_tcp(SimulatedBoard(PROFILES["stm32f407vg"])) as url:
        ends(bench.run("protect", "--write", "1", "--port", url, *CONFIRMED), 3, "ST's own tool")
    with serve_tcp(SimulatedBoard(with_product_id(0x999))) as url:
        port = ("--port", url, "--confirm", "0x999")
        for words in (("erase", "--all"), ("protect", "--write"), ("unprotect", "--readout")):
            ends(bench.run(*words, *port), 3, "0x999", "Update BlockOTA")


@contextmanager
def on_a_terminal(*words: str) -> Iterator[Callable[[str], str]]:
    """Run a command on a pseudo-terminal. Yields a function that types an answer and returns the command's output."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "blockota", "board", *words])  # noqa: S606 - typed by a person

    def type_in(answer: str) -> str:
        shown = _printed(terminal, until="to continue: ")
        os.write(terminal, f"{answer}\n".encode())
        return shown + _printed(terminal, until="\0")

    try:
        yield type_in
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _printed(terminal: int, *, until: str) -> str:
    shown = ""
    while until not in shown and select.select([terminal], [], [], 20)[0]:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError:  # the command has ended
            break
    return shown


def test_a_person_types_the_boards_name() -> None:
    """An erase is confirmed by typing the last four characters of the board's unique id."""
    board = SimulatedBoard(flash=FULL)
    with serve_tcp(board) as url:
        with on_a_terminal("erase", "--pages", "5", "--port", url) as type_in:
            shown = type_in("0002")
        assert f"Type the last 4 characters of {UNIQUE_ID}" in shown
        assert "nothing was changed: 0002 was named" in " ".join(shown.split())
        assert board.flash == FULL
        with on_a_terminal("erase", "--pages", "5", "--port", url) as type_in:
            assert "erased page 5" in " ".join(type_in("0001").split())
    assert board.flash == FULL[: 5 * 1024] + b"\xff" * 1024 + FULL[6 * 1024 :]
