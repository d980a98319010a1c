"""The fault campaign detects faulty flashers, and each kind of untrue sentence that a flasher can print."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from benchmarks.fault_judge import CaseSituation, SentenceJudge
from benchmarks.fault_link import Mishaps, WirelessLink
from benchmarks.fault_scene import BASE, PAGE, SCENES
from benchmarks.fault_sentences import judge_of
from benchmarks.fault_trial import Ended, FaultCase, attempt, run
from benchmarks.faults import campaign, cases
from benchmarks.figure import Figure, report
from blockota.errors import Action, BoardError
from blockota.model.facts import Passed
from firmware_host.bench.session import ClearedBoard
from firmware_host.flashing.contents import FlashContents, Proof
from firmware_host.flashing.journal import Restore
from firmware_host.flashing.plan import Event, Finished, FlashBuffer, Part, Preserved, Repeated
from firmware_host.simulator import Faults
from tests.support.sampling import sampled

SOME, ALL, LYING, UNCHANGED_TAIL, SAME, *OTHERS = SCENES
FAULTS, SEED = 1400, 6
NO_FAULT = FaultCase(SOME, Proof.NO_STUB, "leading_zero", 1)


class Believing(FlashContents):
    """Flash contents that report every byte as proven, like a flasher that trusts every ACK."""

    def prove(self, wanted: FlashBuffer, spans: Sequence[range]) -> Iterator[int]:
        """Report all bytes as proven without reading them."""
        del wanted
        yield sum(map(len, spans))


def judge_at(case: FaultCase, link: WirelessLink, folder: Path) -> SentenceJudge:
    """Return the judge of a case without a fault."""
    scene = SCENES[case.scene]
    board = link.first
    return judge_of(CaseSituation(scene, board, link, folder, kind="", number=0, is_lasting=False))


def flashed(case: FaultCase, link: WirelessLink, folder: Path) -> Ended:
    """Flash the board of a link once."""
    return attempt(case, judge=judge_at(case, link, folder), spoil=lambda ready: ready)


def test_a_number_without_a_limit_stands_beside_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure without a limit always passes, and the report has null as its limit."""
    assert report([Figure("seconds of another tool", 20.0, "s")]) == 0
    assert '"limit": null' in capsys.readouterr().out


@pytest.mark.sampled
def test_no_single_fault_leads_to_a_wrong_report() -> None:
    """No single fault makes the flasher report a wrong state of the flash, or print an untrue sentence.

    `python -m benchmarks.faults` injects ten thousand faults; this test injects a sample.
    """
    chosen = sampled(cases(FAULTS, seed=SEED), one_in=42)
    outcomes = list(campaign(chosen, workers=1))
    assert len(outcomes) == len(chosen)
    assert not [(str(outcome.case), outcome.wrong) for outcome in outcomes if outcome.wrong]
    assert not [(str(outcome.case), outcome.untrue) for outcome in outcomes if outcome.untrue]
    assert {outcome.end for outcome in outcomes} > {"done", "failed, resumed: done"}


def test_the_simulators_log_level_is_restored() -> None:
    """The fault campaign restores the log level of the simulator at its end."""
    logger = logging.getLogger("firmware_host.simulator")
    before = logger.level
    assert list(campaign([], workers=1)) == []
    assert logger.level == before


NOT_DRAWN = {"seed", "value", "power_cut_in_operation", "torn"}
"""Parameters of other faults, and the power cut that counts programs and erases together: `make power` draws it."""


def test_the_campaign_draws_every_kind_at_every_scene_and_the_same_again() -> None:
    """The fault campaign draws every kind of fault in every scene, and the same faults for the same seed."""
    chosen = cases(FAULTS, seed=SEED)
    assert cases(FAULTS, seed=SEED) == chosen
    assert len(chosen) == len({*chosen}) == FAULTS
    kinds = {field.name for one in (Faults, Mishaps) for field in fields(one)} - NOT_DRAWN
    for scene in SCENES.keys() - {SAME}:
        for proof in Proof:
            assert {case.kind for case in chosen if (case.scene, case.proof) == (scene, proof)} == kinds


def test_the_scenes_have_chips_of_six_families() -> None:
    """The fault campaign flashes chips of six families, whose erased flash reads 0xFF or 0x00."""
    chips = {scene.profile.product_id for scene in SCENES.values()}
    assert chips == {0x410, 0x413, 0x417, 0x460, 0x415, 0x469}
    assert {scene.erased for scene in SCENES.values()} == {b"\xff", b"\x00"}
    assert {len(scene.units) for scene in SCENES.values()} >= {1, 2, 3, 6, 10}


# Faulty flashers

DEFECTIVE = [
    FaultCase(SOME, Proof.NO_STUB, "flipped_bit", BASE + PAGE + 300),
    FaultCase(SOME, Proof.STUB, "sticky_page", 5),
    FaultCase(ALL, Proof.STUB, "sticky_page", 1),
]


@pytest.mark.parametrize("case", DEFECTIVE, ids=["worn cell", "sticky page", "sticky page in the erase of all"])
def test_a_flasher_that_believes_acknowledgements_is_caught(case: FaultCase, tmp_path: Path) -> None:
    """The fault campaign finds errors in a flasher that trusts acknowledgements, and finds none in the real flasher."""
    faulty = run(case, tmp_path, spoil=lambda ready: replace(ready, contents=Believing(ready.board.bootloader)))
    assert "success was reported, and the flash is not as it must be" in faulty.wrong
    real = run(case, tmp_path)
    assert (real.wrong, real.untrue) == ((), ())


def test_commands_that_the_line_changed_are_refused_before_anything_is_erased(tmp_path: Path) -> None:
    """If a flipped bit changes the list of commands, flashing is refused, and the next run completes."""
    ends = [run(FaultCase(LYING, Proof.STUB, "flip_sent", number, seed=1), tmp_path) for number in range(4, 15)]
    assert any(outcome.end == "refused, resumed: done" for outcome in ends)
    assert not any(outcome.wrong or outcome.untrue for outcome in ends)


def test_a_worn_cell_beside_the_image_fails_the_proof_of_a_resumed_run_as_well(tmp_path: Path) -> None:
    """A worn flash cell beside the image fails check 10 in the first run and again in the resumed run."""
    outcome = run(FaultCase(ALL, Proof.READ_BACK, "flipped_bit", BASE + 6086), tmp_path)
    assert outcome.end == "failed, resumed: failed"
    assert (outcome.wrong, outcome.untrue) == ((), ())


def test_a_flasher_that_erases_what_the_chip_does_not_report_is_caught(tmp_path: Path) -> None:
    """The fault campaign detects a flasher that erases flash beyond the size that the chip reports."""
    case = FaultCase(LYING, Proof.NO_STUB, "flip_received", 1_000_000)
    assert run(case, tmp_path, spoil=lambda ready: replace(ready, board=replace(ready.board, may_erase_all=True))).wrong
    assert not run(case, tmp_path).wrong


class Going(WirelessLink):
    """A link that records how many bytes the board had received at the last start of the digest program."""

    last = at_go = 0

    def write(self, data: bytes, /) -> None:
        """Send a frame to the board; record the byte count at the address of a program in RAM."""
        super().write(data)
        if data == b"\x21\xde":
            self.at_go = self.received + 5
        elif self.at_go == self.received and data[:1] == b"\x20":
            self.last = self.received


def test_a_flasher_that_takes_another_board_for_the_first_is_caught(tmp_path: Path) -> None:
    """The fault campaign detects a flasher that writes to a replacement board, connected during the hashing."""

    def without_mark(ready: ClearedBoard) -> ClearedBoard:
        ready.board.bootloader.mark = None
        return ready

    case = FaultCase(ALL, Proof.STUB, "swap_after", 0)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    link = Going(SCENES[ALL].board(Faults()), Mishaps())
    assert flashed(case, link, tmp_path / "first").name == "done"
    swapped = replace(case, number=link.last)
    assert "the other board is changed" in run(swapped, tmp_path / "second", spoil=without_mark).wrong
    assert not run(swapped, tmp_path / "second").wrong


def test_a_flasher_that_loses_the_bytes_beside_the_image_is_caught(tmp_path: Path) -> None:
    """The fault campaign detects a flasher without a journal, which loses the bytes beside the image."""
    case = FaultCase(SOME, Proof.STUB, "power_cut_before_program", 600)
    wrong = run(case, tmp_path, spoil=lambda ready: replace(ready, run=None)).wrong
    assert any("nothing says how to complete it" in sentence for sentence in wrong)
    assert any("the flash is not as it must be" in sentence for sentence in wrong)
    assert not run(case, tmp_path).wrong


# Untrue sentences


@dataclass(frozen=True)
class Telling(ClearedBoard):
    """A board whose flasher reports false events."""

    tell: Callable[[Iterable[Event]], Iterator[Event]] = iter

    def flash(self) -> Generator[Event]:
        """Flash the board, and report the events as changed by `tell`."""
        yield from self.tell(super().flash())


def with_note(ready: ClearedBoard, note: str) -> ClearedBoard:
    """Add a note to the notes about the examination."""
    ready.contents.notes = (note,)
    return ready


def with_check(ready: ClearedBoard, check: Passed) -> ClearedBoard:
    """Replace the list of passed checks by a single check."""
    return replace(ready, passed=(check,))


def telling(ready: ClearedBoard, tell: Callable[[Iterable[Event]], Iterator[Event]]) -> ClearedBoard:
    """Make the flasher report the events as changed by `tell`."""
    return Telling(**vars(ready), tell=tell)


def finishing(ready: ClearedBoard, change: Callable[[Finished], Finished]) -> ClearedBoard:
    """Change the last event."""
    return telling(ready, lambda events: (change(one) if isinstance(one, Finished) else one for one in events))


def before(ready: ClearedBoard, event: Event) -> ClearedBoard:
    """Report an event that did not happen."""

    def tell(events: Iterable[Event]) -> Iterator[Event]:
        yield event
        yield from events

    return telling(ready, tell)


def failing(ready: ClearedBoard, why: str, remedy: str, action: Action | None = None) -> ClearedBoard:
    """Fail at the first event after the journal is written, with an untrue error."""

    def tell(events: Iterable[Event]) -> Iterator[Event]:
        # The event of the first erase.
        for event in events:
            if not isinstance(event, Preserved):
                raise BoardError("flashing was interrupted", why=why, remedy=remedy, action=action)
            yield event

    return telling(ready, tell)


NOT_RESTORED = (
    "The journal's bytes from 0x08001658 to 0x08001800 are not restored, because the flash has newer bytes at these "
    "addresses."
)
AGAIN = "set BOOT0 to 1, reset the board, and run the same command again"
LIES: dict[str, Callable[[ClearedBoard], ClearedBoard]] = {
    "a new sentence": lambda ready: with_note(ready, "The flash was looked at."),
    "the chip did not hash": lambda ready: with_note(
        ready, "The flash is read back, because the chip did not hash it itself (no bootloader answers on X: silent)."
    ),
    "not restored": lambda ready: replace(ready, back=Restore((), (NOT_RESTORED,))),
    "replaced": lambda ready: with_check(
        ready, Passed(6, "1.1.0 replaces blank flash; the vendor sets no minimum version")
    ),
    "held already": lambda ready: with_check(
        ready, Passed(6, "the board holds 1.1.0 already; the vendor sets no minimum version")
    ),
    "another size": lambda ready: with_check(ready, Passed(7, "the board's product id is 0x410, its flash 0x0+1")),
    "no known protection": lambda ready: with_check(
        ready, Passed(8, "readout protection is off; this chip does not report its write protection")
    ),
    "other vectors": lambda ready: with_check(
        ready, Passed(9, "stack pointer 0x20000000 in RAM, reset vector 0x08000009 inside the image")
    ),
    "bytes written back": lambda ready: before(ready, Preserved(BASE + 5720, b"x" * 400)),
    "repeated": lambda ready: before(
        ready, Repeated("the byte at 0x08000000 was read as 0x12 instead of 0x00; this was not needed")
    ),
    "a byte that reads otherwise": lambda ready: before(
        ready, Repeated("the byte at 0x08000000 was read as 0x12 instead of 0x00")
    ),
    "the method": lambda ready: finishing(ready, lambda end: replace(end, method="stub")),
    "too few pages written": lambda ready: finishing(
        ready, lambda end: replace(end, summary=replace(end.summary, programmed=Part(1, 1024)))
    ),
    "nothing changed": lambda ready: failing(ready, "nothing was changed", AGAIN),
    "only the first page changed": lambda ready: failing(
        ready, "whether page 7 is erased is unknown, and so is what the board will start", AGAIN
    ),
    "pages written": lambda ready: failing(
        ready, "the board acknowledged: erased 4 of 4 pages, wrote 3 of 4; nothing else was changed", AGAIN
    ),
    "all written": lambda ready: failing(
        ready, "the whole image is written, but its first words are not proven", AGAIN
    ),
    "proven": lambda ready: failing(ready, "the flash is proven to contain the image", AGAIN),
    "sealed": lambda ready: failing(
        ready,
        "the image is proven except for its first words, and whether those are written is unknown",
        AGAIN,
    ),
    "bytes beside": lambda ready: failing(
        ready,
        "the bytes 0x08001658 to 0x08001659 beside the image are not all written back; nothing else was changed",
        AGAIN,
    ),
    "a resumption without journal": lambda ready: failing(
        replace(ready, run=None), "nothing else was changed", AGAIN, Action.RESUME_FLASH
    ),
    "worn out": lambda ready: failing(
        ready, "nothing else was changed", "otherwise the page is worn out: replace the board"
    ),
}


TRUTHS: dict[str, Callable[[ClearedBoard], ClearedBoard]] = {
    "a check": lambda ready: with_check(ready, ready.passed[0]),
    "an event": lambda ready: finishing(ready, lambda end: end),
    "an error": lambda ready: failing(ready, "nothing else was changed", AGAIN),
    "a resumption": lambda ready: failing(ready, "nothing else was changed", AGAIN, Action.RESUME_FLASH),
}


@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
def test_a_true_sentence_is_not_caught(truth: Callable[[ClearedBoard], ClearedBoard], tmp_path: Path) -> None:
    """The fault campaign accepts true sentences.

    The test injects true sentences as the next test injects untrue sentences.
    """
    assert not run(NO_FAULT, tmp_path, spoil=truth).untrue


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_an_untrue_sentence_is_caught(lie: Callable[[ClearedBoard], ClearedBoard], tmp_path: Path) -> None:
    """The fault campaign detects an untrue or unknown sentence of each kind."""
    assert run(NO_FAULT, tmp_path, spoil=lie).untrue


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("proof", Proof, ids=[proof.value for proof in Proof])
def test_every_sentence_of_a_run_without_a_fault_is_true(scene: str, proof: Proof, tmp_path: Path) -> None:
    """Without a fault, every scene is flashed, and all printed sentences are known and true."""
    outcome = run(FaultCase(scene, proof, "leading_zero", 1), tmp_path)
    assert (outcome.end, outcome.wrong, outcome.untrue) == ("done", (), ())
    assert outcome.sentences >= 10


STARTS = [
    "The program was not started: the board is still in its bootloader.",
    "The board was reset to start its program.",
    (
        "The bootloader acknowledged the start of the program. The chip was not reset, so its clocks and peripherals "
        "keep the bootloader's settings. Nothing was written, so the bench did not wait for the program's output."
    ),
    "Board: STM32F10x medium-density, bootloader 2.2, unique id 000000000000000000000000",
    "Reading the contents of the board's flash; nothing is changed before check 9 has passed.",
    "Line 1 of the bench log, SHA-256 " + "0" * 64,
    "board 1: 0 good, 1 bad",
    "A run with acme-thermo2 1.1.0 was interrupted on this board: /nowhere.",
]


@pytest.mark.parametrize("sentence", STARTS)
def test_an_untrue_sentence_of_the_bench_is_caught(sentence: str, tmp_path: Path) -> None:
    """An untrue sentence of the bench about the board's identity, the log or the start of the program is detected."""
    link = WirelessLink(SCENES[SOME].board(Faults()), Mishaps())
    judge = judge_at(NO_FAULT, link, tmp_path)
    assert attempt(NO_FAULT, judge=judge, spoil=lambda ready: ready).name == "done"
    assert not judge.untrue
    judge.sentence(sentence)
    assert judge.untrue


def test_bytes_beside_the_image_are_not_reported_if_their_page_stays(tmp_path: Path) -> None:
    """The sentence that bytes beside the image were written back is untrue if no page with these bytes was erased."""
    link = WirelessLink(SCENES[UNCHANGED_TAIL].board(Faults()), Mishaps())
    case = replace(NO_FAULT, scene=UNCHANGED_TAIL)
    judge = judge_at(case, link, tmp_path)
    assert attempt(case, judge=judge, spoil=lambda ready: ready).name == "done"
    assert judge.restored == 0
    judge.sentence("400 bytes beside the image, in the same pages, were written back")
    assert judge.untrue


@pytest.mark.parametrize("kind", ["lose_received", "lose_sent", "insert_received", "insert_sent"])
def test_a_fault_affects_one_byte(kind: str) -> None:
    """A line fault with number n affects only byte n."""
    link = WirelessLink(SCENES[SOME].board(Faults()), Mishaps(**{kind: 2}, value=0))
    link.write(b"\x7f")
    link.write(b"\x02")
    link.write(b"\xfd")
    received = link.drain()
    expected = {"lose_sent": b"\x79\x01\x04\x10\x79", "insert_sent": b"\x79\x00\x79\x01\x04\x10\x79"}
    # The board receives only half of the command, or the inserted byte as its first half.
    expected |= {"lose_received": b"\x79", "insert_received": b"\x79\x1f"}
    assert received == expected[kind]
