"""``flash --resume`` completes a board after an interrupted flash run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockota.bindings.block_ota import publish_call, revoke_call
from blockota.model.release import Version
from firmware_host.bench.log import read_log
from firmware_host.simulator import Faults, SimulatedBoard, TimeModel, serve_rfc2217, serve_tcp
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.technicians import (
    INTERRUPTED,
    JOURNALS,
    LARGE,
    LOG,
    OLD,
    WORDS,
    board,
    running,
    unique_id,
    wait_until,
)
from tests.support.samples import release_of

IMAGE = LARGE.read_bytes()
REST = b"\x5a" * 300
RESUMED = ("--image", str(LARGE))


@pytest.fixture
def published(workshop: Workshop) -> Workshop:
    """Return a test workshop with release 1.0.0 in the store, and 1.2.0 on the chain only."""
    return workshop.after(publish_to_resume)


def publish_to_resume(workshop: Workshop) -> None:
    """Publish release 1.0.0 with its image, and 1.2.0 on the chain only."""
    workshop.publish("1.0.0", OLD)
    workshop.decide(publish_call([release_of(IMAGE, version=Version(1, 2, 0))]))


def journals() -> list[Path]:
    """Return the journal files of interrupted flash runs."""
    return sorted(JOURNALS.glob("*.json"))


def interrupted_flash(workshop: Workshop, url: str) -> Outcome:
    """Run ``flash`` on a board that fails during writing, and return the outcome."""
    outcome = workshop.flash(url, "--image", str(LARGE), "--no-stub")
    assert outcome.status == 4, outcome.err
    assert [one.stem for one in journals()] == [unique_id(1)]
    assert f"`blockota flash --resume --port {url}`" in outcome.err
    return outcome


class CountedBoard(SimulatedBoard):
    """A simulated board that counts the bytes sent by the host."""

    heard = 0

    def feed(self, data: bytes) -> bytes:
        """Count and process bytes from the host."""
        self.heard += len(data)
        return super().feed(data)


def holding_old(**faults: int) -> SimulatedBoard:
    """Return a board with release 1.0.0, and with foreign bytes in the last page that 1.2.0 uses."""
    flash = OLD.read_bytes().ljust(len(IMAGE), b"\xff") + REST
    return board(1, flash=flash, faults=Faults(**faults))


@pytest.mark.parametrize(
    ("fault", "says", "then"),
    [
        ({"power_cut_in_erase": 1}, "whether page 0 is erased is unknown", "half written"),
        ({"power_cut_before_program": 1}, "the vector table in page 0 reads erased, so the board will not", "blank"),
        ({"power_cut_in_program": 20_000}, "will not start a half written image", "half written"),
        ({"power_cut_in_program": 30_000}, "will not start a half written image", "half written"),
    ],
    ids=["first erase", "first write", "write", "late write"],
)
def test_a_power_cut_is_reported_and_completed(
    published: Workshop, fault: dict[str, int], says: str, then: str
) -> None:
    """After a power cut, the error reports the board's state, and ``--resume`` completes the board."""
    with serve_tcp(cut := holding_old(**fault)) as url:
        assert says in interrupted_flash(published, url).err
        assert cut.flash != IMAGE
        outcome = published.run("flash", "--resume", "--port", url, *RESUMED)
    assert outcome.status == 0, outcome.err
    assert "was interrupted on this board" in outcome.err
    assert "the board holds acme-thermo2 1.2.0" in outcome.out
    assert cut.flash.startswith(IMAGE + REST)
    assert not journals()
    fields = [line.fields for line in read_log(LOG)]
    assert [(one["before"], one["after"], one["result"][:4]) for one in fields] == [
        ("1.0.0", "", fields[0]["result"][:4]),
        (then, "1.2.0", "done"),
    ]
    assert says in fields[0]["result"]


@pytest.mark.parametrize("part", [0.55, 0.7, 0.85], ids=lambda part: f"{part:.0%}")
def test_a_cable_that_comes_off_in_the_middle_of_a_frame_needs_no_reset(published: Workshop, part: float) -> None:
    """A board disconnected in the middle of a frame is completed by ``--resume`` without a reset."""
    counted = CountedBoard(flash=OLD.read_bytes())
    with serve_tcp(counted) as url:
        assert published.flash(url, "--image", str(LARGE), "--no-stub").status == 0
    with serve_tcp(
        cut := board(1, flash=OLD.read_bytes(), faults=Faults(unplug_after=int(counted.heard * part)))
    ) as url:
        interrupted_flash(published, url)
        outcome = published.run("flash", "--resume", "--port", url, *RESUMED)
    assert outcome.status == 0, outcome.err
    assert cut.flash.startswith(IMAGE)


def test_a_damaged_journal_of_another_board_is_ignored(published: Workshop) -> None:
    """A damaged journal of another board does not prevent ``--resume``."""
    with serve_tcp(cut := holding_old(power_cut_in_program=20_000)) as url:
        interrupted_flash(published, url)
        (JOURNALS / f"{unique_id(2)}.json").write_text("{")
        outcome = published.run("flash", "--resume", "--port", url, *RESUMED)
    assert outcome.status == 0, outcome.err
    assert cut.flash.startswith(IMAGE + REST)


def test_the_same_command_completes_it_as_well(published: Workshop) -> None:
    """Repeating the ``flash`` command completes an interrupted board as ``--resume`` does."""
    with serve_tcp(holding_old(power_cut_in_program=20_000)) as url:
        interrupted_flash(published, url)
        assert published.flash(url, "--image", str(LARGE)).status == 0
        outcome = published.run("flash", "--resume", "--port", url)
    assert outcome.status == 3
    assert "no interrupted run to resume" in outcome.err


def test_another_board_is_not_resumed(published: Workshop) -> None:
    """``--resume`` refuses a board or a release that differs from the journal of the interrupted run."""
    with serve_tcp(holding_old(power_cut_in_program=20_000)) as url:
        interrupted_flash(published, url)
        named = published.run("flash", "--resume", "--port", url, "--product", PRODUCT, "--version", "1.0.0")
        other = published.run("flash", "--resume", "--port", url, "--version", "1.0.0")
    with serve_tcp(board(2)) as url:
        outcome = published.run("flash", "--resume", "--port", url)
    assert (named.status, other.status, outcome.status) == (3, 3, 3)
    assert "the command names 1.0.0; nothing was changed" in other.err
    assert "acme-thermo2 1.2.0 was interrupted on this board: the command names acme-thermo2 1.0.0" in named.err
    assert f"no journal for {unique_id(2)}, only for {unique_id(1)}" in outcome.err
    assert journals()


def test_a_release_that_was_revoked_since_is_not_completed(published: Workshop) -> None:
    """``--resume`` refuses a release that was revoked after the interruption.

    The board can be flashed with another release.
    """
    cut = board(1, flash=OLD.read_bytes(), faults=Faults(power_cut_in_program=20_000))
    with serve_tcp(cut) as url:
        interrupted_flash(published, url)
        published.decide(revoke_call(PRODUCT, Version(1, 2, 0), reason="it overheats"))
        outcome = published.run("flash", "--resume", "--port", url, "--json")
        assert (outcome.status, outcome.json["error"]["check"]) == (3, 3)
        assert "`blockota flash --product acme-thermo2`" in outcome.err
        assert published.flash(url).status == 0
    assert cut.flash.startswith(OLD.read_bytes())
    assert not journals()


def test_bytes_of_a_revoked_release_s_journal_are_not_dropped_silently(published: Workshop) -> None:
    """Another release is refused while a journal contains bytes that are no longer in the flash.

    After the user moves the journal away, the release is flashed.
    """
    with serve_tcp(cut := holding_old(power_cut_in_program=20_000)) as url:
        interrupted_flash(published, url)
        published.decide(revoke_call(PRODUCT, Version(1, 2, 0), reason="it overheats"))
        refused = published.flash(url)
        journals()[0].rename("kept.json")
        assert published.flash(url).status == 0
    assert refused.status == 3
    assert f"move the journal {unique_id(1)}.json away" in refused.err
    assert REST.hex() in Path("kept.json").read_text()
    assert cut.flash.startswith(OLD.read_bytes())


@contextmanager
def served_slowly() -> Iterator[tuple[SimulatedBoard, str]]:
    """Serve a simulated board at 115200 baud behind an adapter with a reset line."""
    slow = SimulatedBoard(unique_id=(1).to_bytes(12), times=TimeModel(baud=115200))
    with serve_rfc2217(slow) as url:
        yield slow, url


@pytest.mark.usefixtures("published")
def test_control_c_reports_what_is_half_done(workshop: Workshop) -> None:
    """Ctrl-C during writing exits with 130 and keeps the journal, and ``--resume`` completes the board."""
    way = ("--wiring", "dtr-rts")
    with served_slowly() as (slow, url):
        with running(*WORDS, *RESUMED, "--port", url, *way, "--json") as work:
            wait_until(lambda: bool(slow.flash.strip(b"\xff")))
            work.interrupt()
            outcome = work.end()
        assert outcome.status == INTERRUPTED
        (result,) = outcome.json["results"]
        assert "will not start a half written image" in result["error"]["why"]
        assert f"`blockota flash --resume --port {url} --wiring dtr-rts --baud 115200`" in result["error"]["remedy"]
        assert outcome.err.splitlines()[-1].startswith("Stopped. Flashing was interrupted: ")
        assert len(journals()) == 1
        (line,) = read_log(LOG)
        assert line.fields["result"].startswith("flashing was interrupted: ")
        again = workshop.run("flash", "--resume", "--port", url, *way, *RESUMED, "--json")
    assert again.status == 0, again.err
    assert again.json["results"][0]["before"] == "half written"
    assert slow.flash.startswith(IMAGE)
