"""The fault campaign detects faulty flashers, and its time formula matches AN3155 and the data sheet."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.closed_form import Line
from benchmarks.fault_scene import BASE, PAGE, SCENES, Mishaps, WirelessLink
from benchmarks.fault_trial import Case, attempt, run
from benchmarks.faults import campaign, cases
from benchmarks.figure import Figure, report
from benchmarks.flash_stages import Stages, WatchedLink
from blockota.model.facts import Consent
from firmware_host.bench.session import BoardSession, ClearedBoard
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.contents import FlashContents, Proof
from firmware_host.flashing.journal import FlashJournal
from firmware_host.flashing.plan import FlashBuffer
from firmware_host.simulator import Faults
from tests.support.sampling import sampled

SOME, ALL, LYING = SCENES
FAULTS, SEED = 300, 6


class Believing(FlashContents):
    """Flash contents whose proof always succeeds, for a flasher that trusts every ACK."""

    def prove(self, wanted: FlashBuffer, spans: Sequence[range]) -> Iterator[int]:
        """Report all bytes as proven without reading them."""
        del wanted
        yield sum(map(len, spans))


def test_the_closed_form_is_that_of_protocol_and_data_sheet() -> None:
    """The calculated flashing time equals a calculation by hand.

    A block takes 268 bytes of 11 bits in each direction and 128 half-words of 52.5 us; one mass erase takes 30 ms.
    """
    block, program = 268 * 11 / 115200, 128 * 52.5e-6
    assert Line(115200, 0).flash_seconds(65536) == pytest.approx(0.03 + 256 * (2 * block + program))
    assert Line(115200, 0).flash_seconds(65536) == pytest.approx(14.85, abs=0.01)
    assert Line(115200, 0.001).flash_seconds(65536) == pytest.approx(14.85 + 1.536, abs=0.01)


def test_a_number_without_a_limit_stands_beside_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure without a limit always passes, and is reported with the limit null."""
    assert report([Figure("seconds of another tool", 20.0, "s")]) == 0
    assert '"limit": null' in capsys.readouterr().out


@pytest.mark.sampled
def test_no_single_fault_leads_to_a_wrong_report() -> None:
    """No single fault makes the flasher report a wrong state of the flash.

    `python -m benchmarks.faults` injects ten thousand faults; this test injects a sample.
    """
    chosen = sampled(cases(FAULTS, seed=SEED), one_in=3)
    outcomes = list(campaign(chosen, workers=1))
    assert len(outcomes) == len(chosen)
    assert not [(str(outcome.case), outcome.wrong) for outcome in outcomes if outcome.wrong]
    assert {outcome.end for outcome in outcomes} > {"done", "failed, resumed: done"}


def test_the_simulators_log_level_is_restored() -> None:
    """The fault campaign restores the log level of the simulator at its end."""
    logger = logging.getLogger("firmware_host.simulator")
    before = logger.level
    assert list(campaign([], workers=1)) == []
    assert logger.level == before


def test_the_campaign_draws_every_kind_at_every_scene_and_the_same_again() -> None:
    """The fault campaign draws every kind of fault in every scene, and the same faults for the same seed."""
    chosen = cases(600, seed=SEED)
    assert cases(600, seed=SEED) == chosen
    assert len(chosen) == len({*chosen}) == 600
    kinds = {(case.scene, case.proof, case.kind, case.resets) for case in chosen}
    assert len(kinds) == 3 * 3 * 23


DEFECTIVE = [
    Case(SOME, Proof.NO_STUB, "flipped_bit", BASE + PAGE + 300),
    Case(SOME, Proof.STUB, "sticky_page", 5),
    Case(ALL, Proof.STUB, "sticky_page", 1),
]


@pytest.mark.parametrize("case", DEFECTIVE, ids=["worn cell", "sticky page", "sticky page in the erase of all"])
def test_a_flasher_that_believes_acknowledgements_is_caught(case: Case, tmp_path: Path) -> None:
    """The fault campaign detects a flasher that trusts acknowledgements, and no error in the real flasher."""
    faulty = run(case, tmp_path, spoil=lambda ready: replace(ready, contents=Believing(ready.board.bootloader)))
    assert "success was reported, and the flash is not as it must be" in faulty.wrong
    assert not run(case, tmp_path).wrong


def test_commands_that_the_line_changed_are_refused_before_anything_is_erased(tmp_path: Path) -> None:
    """If a flipped bit changes the list of commands, flashing is refused, and the next run completes."""
    outcome = run(Case(LYING, Proof.STUB, "flip_sent", 204, seed=1416), tmp_path)
    assert outcome.end == "refused, resumed: done"
    assert not outcome.wrong


def test_a_worn_cell_beside_the_image_fails_the_proof_of_a_resumed_run_as_well(tmp_path: Path) -> None:
    """A worn flash cell beside the image fails check 10 in the first run and again in the resumed run."""
    outcome = run(Case(ALL, Proof.READ_BACK, "flipped_bit", BASE + 6086), tmp_path)
    assert outcome.end == "failed, resumed: failed"
    assert not outcome.wrong


def test_a_flasher_that_erases_what_the_chip_does_not_report_is_caught(tmp_path: Path) -> None:
    """The fault campaign detects a flasher that erases flash beyond the size that the chip reports."""
    case = Case(LYING, Proof.NO_STUB, "flip_received", 1_000_000)
    assert run(case, tmp_path, spoil=lambda ready: replace(ready, board=replace(ready.board, may_erase_all=True))).wrong
    assert not run(case, tmp_path).wrong


class Going(WirelessLink):
    """A link that records the number of bytes that the board has received when a program is started."""

    last = 0

    def write(self, data: bytes, /) -> None:
        """Pass a frame to the board; at Go, record the byte count up to the end of the following address frame."""
        super().write(data)
        if data == b"\x21\xde":
            self.last = self.received + 5


def test_a_flasher_that_takes_another_board_for_the_first_is_caught(tmp_path: Path) -> None:
    """The fault campaign detects a flasher that writes a board which was connected during the hashing."""

    def without_mark(ready: ClearedBoard) -> ClearedBoard:
        ready.board.bootloader.mark = None
        return ready

    case = Case(ALL, Proof.STUB, "swap_after", 0)
    link = Going(SCENES[ALL].board(Faults()), Mishaps())
    assert attempt(link, case, folder=tmp_path, spoil=lambda ready: ready, resumes=False).name == "done"
    swapped = replace(case, number=link.last)
    assert "the other board is changed" in run(swapped, tmp_path, spoil=without_mark).wrong
    assert not run(swapped, tmp_path).wrong


def test_a_flasher_that_loses_the_bytes_beside_the_image_is_caught(tmp_path: Path) -> None:
    """The fault campaign detects a flasher without a journal, which loses the bytes beside the image."""
    case = Case(SOME, Proof.STUB, "power_cut_before_program", 600)
    wrong = run(case, tmp_path, spoil=lambda ready: replace(ready, run=None)).wrong
    assert any("nothing says how to complete it" in sentence for sentence in wrong)
    assert any("the flash is not as it must be" in sentence for sentence in wrong)
    assert not run(case, tmp_path).wrong


@pytest.mark.parametrize("kind", ["lose_received", "lose_sent", "insert_received", "insert_sent"])
def test_a_fault_affects_one_byte(kind: str) -> None:
    """A line fault affects only the byte with the given number."""
    link = WirelessLink(SCENES[SOME].board(Faults()), Mishaps(**{kind: 2}, value=0))
    link.write(b"\x7f")
    link.write(b"\x02")
    link.write(b"\xfd")
    received = link.drain()
    expected = {"lose_sent": b"\x79\x01\x04\x10\x79", "insert_sent": b"\x79\x00\x79\x01\x04\x10\x79"}
    # The board receives only half of the command, or the inserted byte as its first half.
    expected |= {"lose_received": b"\x79", "insert_received": b"\x79\x1f"}
    assert received == expected[kind]


def test_stages_tell_where_the_time_goes(tmp_path: Path) -> None:
    """`Stages` assigns every second of a flash run to a named stage."""
    moments = iter(range(1_000_000))
    stages = Stages(lambda: float(next(moments)))
    link = WirelessLink(SCENES[SOME].board(Faults()), Mishaps())
    bootloader = Bootloader(WatchedLink(link, stages))
    bootloader.connect()
    bench = BoardSession(bootloader, identify(bootloader), (), link.wait)
    wanted, known = SCENES[SOME].proven()
    assert list(bench.examine(wanted, known=known, journal=FlashJournal(tmp_path, "board")).clear(Consent()).flash())
    stages.turn_to("end")
    assert sum(stages.seconds.values()) == next(moments) - 1
    assert {*stages.seconds} == {
        *("connect", "identify", "upload", "hash", "come back", "results", "erase", "write", "read back"),
        "wait for a quiet line",
    }
