"""A journal does not match foreign contents, does not overwrite newer bytes, and does not permit downgrades."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blockota.errors import Action, BoardError, FlashProofError, RefusedError, VerificationError
from blockota.formats.firmware_image import FirmwareImage
from blockota.model.facts import Consent
from blockota.model.release import Version
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.journal import FlashJournal
from firmware_host.flashing.plan import Finished, Programmed
from firmware_host.simulator import Faults, SimulatedBoard
from tests.firmware_host.flash_scene import BASE, RunningLink, bench_on, code, known, proven
from tests.firmware_host.flashing.test_resume import AT, BEFORE, CONTENTS, NEW, WANTED, cleared, flash
from tests.firmware_host.scripted_board import KIB


def test_an_interruption_does_not_permit_a_downgrade(tmp_path: Path) -> None:
    """An interrupted run does not permit a downgrade, because its journal records the replaced version."""
    older, oldest = (proven(code(KIB, seed=seed), version=Version(0, seed, 0)) for seed in (9, 8))
    board = SimulatedBoard(flash=CONTENTS)
    for _ in range(2):
        events = cleared(board, tmp_path, proof=Proof.STUB).flash()
        next(event for event in events if isinstance(event, Programmed))
        events.close()
        board = SimulatedBoard(flash=board.flash[: 2 * KIB] + b"\xff" * 62 * KIB)
        bench = bench_on(RunningLink(board))
        journal = FlashJournal(tmp_path, bench.identity.unique_id or "")
        for one in (older, oldest):
            releases = known(WANTED.release, BEFORE.release, older.release, oldest.release)
            with pytest.raises(VerificationError, match=r"a run that replaced 1\.0\.0 by 1\.1\.0 was interrupted"):
                bench.examine(one, known=releases, journal=journal).clear(Consent())


def test_a_run_completed_at_another_bench_reports_what_is_lost(tmp_path: Path) -> None:
    """If only another bench has the journal, check 6 reports that the bytes beside the image are erased."""
    board = SimulatedBoard(flash=CONTENTS)
    events = cleared(board, tmp_path, proof=Proof.STUB).flash()
    next(event for event in events if isinstance(event, Programmed))
    events.close()
    assert "another bench" not in cleared(board, tmp_path, proof=Proof.STUB).passed[0].what
    report = cleared(board, tmp_path / "elsewhere", proof=Proof.STUB).passed[0].what
    assert "an interrupted run of another bench: the bytes beside the image in 0x0800092c-0x08000bff" in report
    assert "are erased, and only the journal of that bench has their former values" in report


def test_a_journal_does_not_explain_what_was_put_on_the_board_since(tmp_path: Path) -> None:
    """A program that another tool wrote after the interruption counts as unknown contents."""
    board = SimulatedBoard(flash=CONTENTS, faults=Faults(power_cut_in_erase=3))
    with pytest.raises(BoardError):
        flash(board, tmp_path, proof=Proof.STUB)
    with pytest.raises(RefusedError, match="has unknown contents"):
        flash(SimulatedBoard(flash=code(3 * KIB, seed=99).data), tmp_path, proof=Proof.STUB)


def test_the_journal_of_two_failed_attempts_does_not_explain_another_program(tmp_path: Path) -> None:
    """After two failed attempts, another product or unknown contents on the board are still detected."""
    board = SimulatedBoard(flash=CONTENTS, faults=Faults(flipped_bit=BASE + 2 * KIB + 20))
    with pytest.raises(FlashProofError):
        flash(board, tmp_path, proof=Proof.STUB)
    lamp = code(3 * KIB, seed=99)
    release = replace(proven(lamp, version=Version(5, 0, 0)).release, product="acme-lamp")
    bench = bench_on(RunningLink(SimulatedBoard(flash=lamp.data)))
    journal = FlashJournal(tmp_path, bench.identity.unique_id or "")
    for others, says in (([release], r"the flash contains acme-lamp 5\.0\.0"), ([], "unknown contents")):
        releases = known(WANTED.release, BEFORE.release, others=others)
        with pytest.raises(VerificationError, match=says):
            bench.examine(WANTED, known=releases, journal=journal).clear(Consent())


def test_newer_bytes_beside_a_whole_image_stay(tmp_path: Path) -> None:
    """Bytes that the application saved beside a complete image are not overwritten from the journal."""
    board = SimulatedBoard(flash=CONTENTS)
    events = cleared(board, tmp_path, proof=Proof.STUB).flash()
    while board.flash[: len(NEW.data)] != NEW.data:
        next(events)
    events.close()
    newer = board.flash[:AT].ljust(3 * KIB, b"\x99") + board.flash[3 * KIB :]
    board = SimulatedBoard(flash=newer)
    flash(board, tmp_path, proof=Proof.STUB)
    assert board.flash == newer
    assert not list(tmp_path.iterdir())


def test_newer_bytes_beside_half_an_image_stay(tmp_path: Path) -> None:
    """If bytes beside an incomplete image are newer than those in the journal, they are kept and reported."""
    board = SimulatedBoard(flash=CONTENTS)
    events = cleared(board, tmp_path, proof=Proof.STUB).flash()
    next(event for event in events if isinstance(event, Programmed))
    events.close()
    newer = board.flash[: 3 * KIB - 8] + b"settings" + board.flash[3 * KIB :]
    board = SimulatedBoard(flash=newer)
    ready = cleared(board, tmp_path, proof=Proof.STUB)
    assert "are not restored" in " ".join(ready.notes)
    assert isinstance([*ready.flash()][-1], Finished)
    assert board.flash == NEW.data + newer[len(NEW.data) :]


def test_another_release_does_not_lose_the_bytes_of_an_interrupted_run(tmp_path: Path) -> None:
    """While the journal has the only copy of bytes that an interrupted run erased, a shorter release is refused."""
    board = SimulatedBoard(flash=CONTENTS)
    events = cleared(board, tmp_path, proof=Proof.STUB).flash()
    next(event for event in events if isinstance(event, Programmed))
    events.close()
    bench = bench_on(RunningLink(board))
    journal = FlashJournal(tmp_path, bench.identity.unique_id or "")
    short = proven(FirmwareImage(NEW.data[:KIB], BASE, "bin"), version=Version(1, 2, 0))
    with pytest.raises(RefusedError, match="are only in the journal") as refused:
        bench.examine(short, known=known(WANTED.release), journal=journal).clear(Consent(replace_unknown=True))
    assert refused.value.action is Action.RESUME_FLASH
