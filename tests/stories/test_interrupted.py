"""Interrupted flash runs: the state of the flash, and the result of repeating the command."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.errors import Action, BoardError, NoAnswerError, VerificationError
from blockota.model.facts import Consent, KnownReleases, ProvenRelease
from blockota.model.release import Region, Release, Version
from blockota.model.verification import prove_release
from firmware_host.bench.session import BoardSession
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.plan import Finished, Programmed
from firmware_host.simulator import STM32F103C8, Faults, SimulatedBoard, serve_tcp
from tests.conftest import IMAGES
from tests.firmware_host.direct_link import DirectLink
from tests.firmware_host.flash_scene import RunningLink, bench_on
from tests.stories.conftest import Workshop, publish_first
from tests.support.samples import PRODUCT, TRUST, answer_with, release_of
from tests.support.sampling import sampled

IMAGE, NEXT, LARGE = ((IMAGES / f"bluepill-{version}.bin").read_bytes() for version in ("1.0.0", "1.1.0", "1.2.0"))
FOREIGN = b"\xff" * 256 + b"somebody else's program"
NO_CONSENT = Consent()


def proven(image: bytes, version: Version) -> ProvenRelease:
    """Return an image as a release of this version that has passed checks 1 to 5."""
    answer = answer_with(release=release_of(image, version=version))
    return prove_release(answer, TRUST, read_image=lambda _: image)


FIRST, SECOND, THIRD = (proven(image, Version(1, minor, 0)) for minor, image in enumerate((IMAGE, NEXT, LARGE)))
HISTORY: tuple[Release, ...] = (FIRST.release, SECOND.release, THIRD.release)


def bench_of(board: SimulatedBoard) -> BoardSession:
    """Return a session with a simulated board in this process, in which timeouts take no time."""
    return bench_on(RunningLink(board))


def searched(*history: Release) -> KnownReleases:
    """Return the chain's record with these releases and no other product."""
    return KnownReleases(history, lambda: ())


def run(board: SimulatedBoard, wanted: ProvenRelease, *, consent: Consent = NO_CONSENT) -> str:
    """Clear, flash and prove a board (checks 6 to 10), and return the text of check 6.

    The chain's record contains the wanted release and the older releases.
    """
    history = [release for release in HISTORY if release.version <= wanted.release.version]
    cleared = bench_of(board).examine(wanted, known=searched(*history)).clear(consent)
    *_, finished = cleared.flash()
    assert isinstance(finished, Finished)
    assert cleared.prove_flash(finished).number == 10
    return cleared.passed[0].what


@pytest.mark.sampled
def test_a_first_flashing_that_was_cut_anywhere_is_finished_by_the_same_command() -> None:
    """If a first flash run is interrupted at any byte, repeating the command completes the board."""
    reports: set[str] = set()
    until_proven = _bytes_until_proven()
    # Near the end of the range only the proof is missing, so the last cut is always tested.
    for cut in (*sampled(range(1, until_proven, 7), one_in=4), until_proven - 1):
        board = SimulatedBoard(faults=Faults(silent_after=cut))
        try:
            run(board, FIRST)
        except BoardError:
            reports.add(_run_again(board))
        assert board.flash == IMAGE.ljust(len(board.flash), b"\xff"), cut
    assert reports == {"blank flash", "an interrupted run", "already"}


def _run_again(board: SimulatedBoard) -> str:
    what = run(board, FIRST)
    if "holds 1.0.0 already" in what:
        return "already"
    return what.split(" replaces ")[1].split(";")[0].split(" of another")[0]


@pytest.mark.sampled
def test_an_update_that_was_cut_is_finished_at_the_latest_with_replace_unknown() -> None:
    """If an update is interrupted during the erase, ``--replace-unknown`` completes the update."""
    kinds: set[str] = set()
    for cut in sampled(range(3000, 45_000, 4001), one_in=3):
        board = SimulatedBoard(flash=NEXT, faults=Faults(silent_after=cut))
        try:
            run(board, THIRD)
        except NoAnswerError as error:
            kinds.add("half done" if error.action is Action.REPLACE_UNKNOWN else error.why.rpartition("; ")[2])
            run(board, THIRD, consent=Consent(replace_unknown=True))
        assert board.flash[: len(LARGE)] == LARGE, cut
    assert kinds == {"half done"}


def test_an_update_that_was_cut_after_the_erase_is_known_again() -> None:
    """If an update is interrupted after the erase, repeating the command completes the update."""
    board = SimulatedBoard(flash=IMAGE)
    events = bench_of(board).examine(SECOND, known=searched(*HISTORY)).clear(NO_CONSENT).flash()
    next(event for event in events if isinstance(event, Programmed))
    events.close()
    assert "1.1.0 replaces an interrupted run" in run(board, SECOND)


@pytest.mark.parametrize(
    "contents",
    [
        FOREIGN,
        b"\xff" * (len(IMAGE) - 1) + b"\1",
        IMAGE[:-1] + b"\1",
        b"\xff" * 8 + IMAGE[8:-1] + b"\1",
        IMAGE[:8],
        b"\xff" * 7 + IMAGE[7:],
    ],
    ids=["behind a block", "last byte", "whole but for one", "half written but for one", "first words", "one of them"],
)
def test_one_unexplained_byte_makes_the_contents_unknown(contents: bytes) -> None:
    """If one byte is neither erased nor equal to the image's byte, the contents of the flash count as unknown."""
    board = SimulatedBoard(flash=contents)
    with pytest.raises(VerificationError, match="the board has unknown contents"):
        run(board, FIRST, consent=Consent(allow_downgrade=True))
    assert board.flash.startswith(contents)
    assert "unknown contents" in run(board, FIRST, consent=Consent(replace_unknown=True))


@pytest.mark.parametrize("written", [range(8, 584), range(8, 300), range(200, 584), range(583, 584), range(8, 9)])
def test_what_a_cut_run_leaves_is_known_again(written: range) -> None:
    """A partly written image whose first words are erased is recognised as an interrupted run."""
    contents = bytes(byte if at in written else 0xFF for at, byte in enumerate(IMAGE))
    assert "replaces an interrupted run" in run(SimulatedBoard(flash=contents), FIRST)


def test_a_board_that_falls_silent_while_it_is_read_was_not_changed() -> None:
    """A board that stops answering while its flash is read is reported as not changed."""
    board = SimulatedBoard(flash=LARGE, faults=Faults(silent_after=90))
    with pytest.raises(NoAnswerError, match=r"fell silent in Read Memory.*; nothing was changed"):
        run(board, SECOND)


def test_a_chip_that_no_table_has_is_refused_as_such() -> None:
    """Check 7 refuses a board with a chip that BlockOTA does not support."""
    board = SimulatedBoard(replace(STM32F103C8, product_id=0x7FF))
    release = replace(FIRST.release, chip_id=0x7FF)
    wanted = prove_release(answer_with(release=release), TRUST, read_image=lambda _: IMAGE)
    with pytest.raises(VerificationError, match="check 7 failed, the board's chip is not supported") as error:
        run(board, wanted)
    assert error.value.number == 7


def test_a_release_beyond_the_flash_is_not_read() -> None:
    """Check 7 refuses a release that is larger than the board's flash."""
    image = IMAGE.ljust(80 * 1024, b"\1")
    large = replace(PRODUCT, region=Region(PRODUCT.region.start, 1 << 20))
    answer = answer_with(release=release_of(image), product=large)
    with pytest.raises(VerificationError, match="check 7 failed, the image does not fit"):
        run(SimulatedBoard(), prove_release(answer, TRUST, read_image=lambda _: image))


def test_an_interruption_between_two_events_reports_the_state() -> None:
    """A KeyboardInterrupt between two flashing events is reported with the state of the board."""
    events = bench_of(SimulatedBoard()).examine(FIRST, known=searched(FIRST.release)).clear(NO_CONSENT).flash()
    next(event for event in events if isinstance(event, Programmed))
    says = r"interrupted: the board acknowledged: erased 0 of 0 pages, .*will not start a half written image"
    with pytest.raises(BoardError, match=says):
        events.throw(KeyboardInterrupt())


# Interruptions of the ``blockota flash`` command


@pytest.fixture
def published(workshop: Workshop) -> Workshop:
    """Return a test workshop with the published release 1.0.0."""
    return workshop.after(publish_first)


@contextmanager
def served(board: SimulatedBoard) -> Iterator[str]:
    """Serve a board on a TCP port, and yield its URL."""
    with serve_tcp(board) as url:
        yield url


def test_a_flipped_bit_ends_as_check_10(published: Workshop) -> None:
    """A bit that flips in the flash during writing fails check 10 with exit status 4."""
    with served(SimulatedBoard(faults=Faults(flipped_bit=0x0800_0100))) as url:
        outcome = published.flash(url, "--json")
    assert outcome.status == 4
    assert "check 10 failed, the flash does not contain the written bytes" in outcome.err
    assert outcome.json["error"]["kind"] == "FlashProofError"
    assert outcome.json["error"].get("check", 10) == 10


def test_a_board_that_cannot_start_is_flashed_all_the_same(published: Workshop) -> None:
    """If the connection is lost after check 10, flashing succeeds.

    A note states that it is not known whether the program runs.
    """
    sent = _bytes_until_proven()
    with served(SimulatedBoard(faults=Faults(silent_after=sent))) as url:
        outcome = published.flash(url, "--json")
    assert outcome.status == 0, outcome.err
    (result,) = outcome.json["results"]
    assert (result["banner"], result["passed"]) == ("", list(range(1, 11)))
    assert "but it is not known whether its program runs" in outcome.err
    assert "BOOT0 at 0" in outcome.err


def _bytes_until_proven() -> int:
    """Return the number of bytes that the host sends until check 10 of a flash run for release 1.0.0."""

    class CountingLink(DirectLink):
        """A link that counts the bytes that the host sends."""

        count = 0

        def write(self, data: bytes, /) -> None:
            """Count the bytes, and send them to the board."""
            self.count += len(data)
            super().write(data)

    link = CountingLink(SimulatedBoard())
    bootloader = Bootloader(link)
    bootloader.connect()
    bench = BoardSession(bootloader, identify(bootloader), ())
    cleared = bench.examine(FIRST, known=searched(FIRST.release)).clear(NO_CONSENT)
    assert list(cleared.flash())
    return link.count


def test_bytes_beside_the_image_are_in_the_journal_while_they_are_nowhere_else(published: Workshop) -> None:
    """An interrupted run stores the bytes beside the image in its journal.

    The next run restores these bytes.
    """
    beside = bytes(range(256))
    flash = b"\xff" * 768 + beside
    board = SimulatedBoard(flash=flash, faults=Faults(silent_after=_bytes_until_proven() // 2))
    journals = Path(".blockota", "bench", "interrupted")
    with served(board) as url:
        cut = published.flash(url)
        kept = [journal.read_text() for journal in journals.iterdir()]
        again = published.flash(url)
    assert cut.status == 4
    assert f"`blockota flash --resume --port {url}`" in cut.err
    assert [beside.hex() in text for text in kept] == [True]
    assert again.status == 0, again.err
    assert "255 bytes beside the image" in again.out
    assert bytes(board.flash[768:1024]) == beside
    assert not list(journals.iterdir())


@pytest.mark.parametrize("kind", ["hex", "elf"])
def test_an_image_from_a_stick_may_be_hex_or_elf(published: Workshop, board_url: str, kind: str) -> None:
    """``flash`` accepts a .hex or .elf image, and compares its flat binary with the chain's SHA-256."""
    outcome = published.flash(board_url, "--image", str(IMAGES / f"bluepill-1.0.0.{kind}"), "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["results"][0]["sha256"] == hashlib.sha256(IMAGE).hexdigest()
    assert "Reading the contents of the board's flash" in outcome.err


class InterruptedLink(DirectLink):
    """A link that raises KeyboardInterrupt while the host waits for a response."""

    def __init__(self, board: SimulatedBoard) -> None:
        """Connect to a board; reads are interrupted only after `strike_after` is set."""
        super().__init__(board)
        self.strike_after: int | None = None

    def read(self, size: int, *, timeout: float) -> bytes:
        """Read bytes from the board, or raise KeyboardInterrupt."""
        if self.strike_after is not None:
            self.strike_after -= 1
            if self.strike_after < 0:
                self.strike_after = None
                raise KeyboardInterrupt
        return super().read(size, timeout=timeout)


def interrupted_after(reads: int) -> tuple[SimulatedBoard, BoardError | None]:
    """Flash a blank board with an interrupt at the given read, and return the board and the error."""
    board = SimulatedBoard()
    link = InterruptedLink(board)
    bootloader = Bootloader(link)
    bootloader.connect()
    cleared = BoardSession(bootloader, identify(bootloader), ()).examine(FIRST, known=searched()).clear(NO_CONSENT)
    link.strike_after = reads
    try:
        assert isinstance([*cleared.flash()][-1], Finished)
    except BoardError as error:
        return board, error
    return board, None


def test_control_c_while_flashing_reports_what_is_half_done() -> None:
    """Ctrl-C at any read during flashing reports the board's state, and a second run completes the board."""
    reasons = set()
    for reads in itertools.count():
        board, error = interrupted_after(reads)
        if error is None:
            break
        assert error.exit_status == 4
        assert error.what == "flashing was interrupted"
        reasons.add(error.why)
        run(board, FIRST, consent=Consent(allow_downgrade=True))
        assert bytes(board.flash[: len(IMAGE)]) == IMAGE
    assert len(reasons) > 3
