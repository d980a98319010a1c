"""``flash --watch`` flashes one board after another at the same port until Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from blockota.bindings.block_ota import revoke_call
from blockota.chain.local import free_port
from blockota.model.release import Version
from firmware_host.bench.log import read_log
from firmware_host.bootloader.an3155 import Command
from firmware_host.simulator import STM32F103C8, Faults, serve_rfc2217
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.technicians import INTERRUPTED, LOG, NEW, OLD, WORDS, Jig, board, publish_all, running, unique_id

STM32F103CB = replace(STM32F103C8, name="stm32f103cb", flash_size=128 * 1024)
SYNC = 0x7F
NEXT = "Take the board out"


@pytest.fixture
def published(workshop: Workshop) -> Workshop:
    """Return a test workshop with the published releases 1.0.0 and 1.1.0."""
    return workshop.after(publish_all)


@pytest.fixture
def jig() -> Iterator[tuple[Jig, str]]:
    """Yield a test jig and the URL of its port."""
    one = Jig()
    with one.served() as url:
        yield one, url


@pytest.mark.usefixtures("published")
def test_boards_are_flashed_one_after_another(jig: tuple[Jig, str]) -> None:
    """``flash --watch`` flashes and logs three boards in turn, and prints one JSON object at the end."""
    place, url = jig
    boards = [board(1), board(2, flash=OLD.read_bytes()), board(3, flash=NEW.read_bytes())]
    with running(*WORDS, "--watch", "--port", url, "--json") as work:
        work.wait_for("Put a board in, with BOOT0 at 1")
        assert set(place.heard) <= {SYNC}
        for number, one in enumerate(boards, 1):
            place.put(one)
            work.wait_for(f"Line {number} of the bench log")
            work.wait_for(NEXT, times=number)
            place.put(None)
        work.interrupt()
        outcome = work.end()
    assert outcome.status == INTERRUPTED
    results = outcome.json["results"]
    assert [(one["board"]["uniqueId"], one["before"], one["result"]) for one in results] == [
        (unique_id(1), "blank", "done"),
        (unique_id(2), "1.0.0", "done"),
        (unique_id(3), "1.1.0", "already"),
    ]
    assert all(one.flash.startswith(NEW.read_bytes()) for one in boards)
    assert [line.fields["board"] for line in read_log(LOG)] == [unique_id(number) for number in (1, 2, 3)]
    assert outcome.err.splitlines()[-1] == "Stopped. 3 boards are done, 0 failed."


@pytest.mark.usefixtures("published")
def test_a_board_that_stays_is_not_flashed_again(jig: tuple[Jig, str]) -> None:
    """A board that was flashed is not flashed again after a reset or a reconnection."""
    place, url = jig
    with running(*WORDS, "--watch", "--port", url) as work:
        work.wait_for("Put a board in")
        place.put(one := board(1))
        work.wait_for(NEXT)
        place.take_out()
        place.put(one)
        work.wait_for(f"Board {unique_id(1)} is there still or again, and is not flashed again")
        place.put(board(2))
        work.wait_for(NEXT, times=2)
        work.interrupt()
        outcome = work.end()
    assert [line.fields["board"] for line in read_log(LOG)] == [unique_id(1), unique_id(2)]
    assert "2 boards are done, 0 failed" in outcome.err
    assert [word in outcome.out for word in ("PORT", unique_id(1), unique_id(2))] == [True] * 3


@pytest.mark.usefixtures("published")
def test_a_board_that_failed_is_tried_again_when_it_is_put_in_again(jig: tuple[Jig, str]) -> None:
    """A board that failed is retried after it was reconnected, and its interrupted run is resumed."""
    place, url = jig
    with running(*WORDS, "--watch", "--port", url, "--no-stub") as work:
        work.wait_for("Put a board in")
        place.put(broken := board(1, flash=OLD.read_bytes(), faults=Faults(power_cut_in_program=20)))
        work.wait_for("put in again, this one is tried again")
        assert broken.flash[:8] == b"\xff" * 8
        place.take_out()
        place.put(broken)
        work.wait_for("Line 2 of the bench log")
        work.interrupt()
        outcome = work.end()
    assert "was interrupted on this board" in outcome.err
    assert "1 board is done, 1 failed" in outcome.err
    before = [(line.fields["before"], line.fields["after"]) for line in read_log(LOG)]
    assert before == [("1.0.0", ""), ("half written", "1.1.0")]
    assert broken.flash.startswith(NEW.read_bytes())


@pytest.mark.usefixtures("published")
def test_boards_with_unreadable_unique_ids_are_distinct(jig: tuple[Jig, str]) -> None:
    """Two readout-protected boards have unreadable unique ids.

    ``flash --watch`` treats them as different boards, and refuses each.
    """
    place, url = jig
    with running(*WORDS, "--watch", "--port", url) as work:
        work.wait_for("Put a board in")
        for number in (1, 2):
            closed = board(number)
            closed.protect(readout=True)
            place.put(closed)
            work.wait_for(f"Line {number} of the bench log")
            place.take_out()
        work.interrupt()
        work.end()
    assert not any("None" in line for line in work.printed)
    assert [line.fields["board"] for line in read_log(LOG)] == ["", ""]


@pytest.mark.usefixtures("published")
def test_a_board_whose_cable_came_off_is_gone_on_with(jig: tuple[Jig, str]) -> None:
    """A board that was disconnected during an erase is completed without a reset.

    The pages beside the image are kept.
    """
    place, url = jig
    place.last_heard = bytes((Command.ERASE, Command.ERASE ^ 0xFF))
    flash = OLD.read_bytes().ljust(127 * 1024, b"\xff") + b"calibration".ljust(1024, b"!")
    with running(*WORDS, "--watch", "--port", url) as work:
        work.wait_for("Put a board in")
        place.put(cut := board(1, flash=flash, profile=STM32F103CB))
        work.wait_for("put in again, this one is tried again")
        place.take_out()
        place.put(cut, is_reset=False)
        work.wait_for("Line 2 of the bench log")
        work.interrupt()
        work.end()
    assert [line.fields["after"] for line in read_log(LOG)] == ["", "1.1.0"]
    assert (cut.flash[: len(NEW.read_bytes())], cut.flash[127 * 1024 :]) == (NEW.read_bytes(), flash[127 * 1024 :])


def test_a_release_that_is_revoked_meanwhile_is_refused_from_then_on(published: Workshop, jig: tuple[Jig, str]) -> None:
    """``flash --watch`` reads the chain for each board, so a revoked release is refused for the next board."""
    place, url = jig
    with running(*WORDS, "--watch", "--port", url) as work:
        work.wait_for("Put a board in")
        place.put(board(1))
        work.wait_for(NEXT)
        published.decide(revoke_call(PRODUCT, Version(1, 1, 0), reason="it overheats"))
        place.put(second := board(2))
        work.wait_for("check 3 failed, acme-thermo2 1.1.0 is revoked")
        work.wait_for("Line 2 of the bench log")
        work.interrupt()
        work.end()
    assert set(second.flash) == {0xFF}
    last = [line.fields for line in read_log(LOG)][-1]
    assert (last["board"], last["after"], last["result"].partition(":")[0]) == (
        unique_id(2),
        "",
        "check 3 failed, acme-thermo2 1.1.0 is revoked",
    )


@pytest.mark.usefixtures("published")
def test_a_port_that_vanishes_is_waited_for() -> None:
    """``flash --watch`` waits for a port that vanishes together with its adapter."""
    port = free_port()
    url, options = f"rfc2217://127.0.0.1:{port}", ("--wiring", "dtr-rts", "--baud", "auto")
    with running(*WORDS, "--watch", "--port", url, *options, "--json") as work:
        work.wait_for("Waiting for the port")
        with serve_rfc2217(first := board(1), port=port):
            work.wait_for("Line 1 of the bench log")
            work.wait_for(f"Board {unique_id(1)} is there still or again")
        work.wait_for("Waiting for the port", times=2)
        with serve_rfc2217(second := board(2, flash=OLD.read_bytes()), port=port):
            work.wait_for("Line 2 of the bench log")
            work.interrupt()
            outcome = work.end()
    assert [one["result"] for one in outcome.json["results"]] == ["done", "done"]
    assert first.flash[:620] == second.flash[:620] == NEW.read_bytes()


@pytest.mark.usefixtures("published")
def test_a_board_with_a_program_that_talks_is_not_taken_for_one_to_flash(jig: tuple[Jig, str]) -> None:
    """Output of a running application is not mistaken for a bootloader's response."""
    talker = board(1, flash=NEW.read_bytes())
    talker.boot0 = False
    place, url = jig
    place.put(talker)
    with running(*WORDS, "--watch", "--port", url) as work:
        work.wait_for("Put a board in")
        place.take_out()
        work.interrupt()
        assert work.end().err.splitlines()[-1] == "Stopped. No board was flashed."
