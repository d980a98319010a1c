"""A failed proof starts a second attempt, and an interrupted second attempt is reported correctly."""

from __future__ import annotations

import itertools
from collections import deque

import pytest

from benchmarks.fault_link import Mishaps, WirelessLink
from benchmarks.fault_scene import PAGE, SCENES
from blockota.errors import BoardError
from blockota.model.facts import Consent
from firmware_host.bench.session import BoardSession, ClearedBoard
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.plan import Checked, Erased, Finished, Repeated
from firmware_host.simulator import Faults, SimulatedBoard

SCENE = SCENES["some pages"]
PROOFS = pytest.mark.parametrize("proof", Proof, ids=[proof.value for proof in Proof])


def cleared(board: SimulatedBoard, mishaps: Mishaps, *, proof: Proof) -> tuple[ClearedBoard, WirelessLink]:
    """Return a board that has passed checks 6 to 9, and its link."""
    link = WirelessLink(board, mishaps)
    bootloader = Bootloader(link)
    bootloader.connect()
    bench = BoardSession(bootloader, identify(bootloader), (), link.wait)
    proven, known = SCENE.proven()
    return bench.examine(proven, known=known, proof=proof).clear(Consent()), link


def reading_starts(proof: Proof) -> int:
    """Return the number of a byte that the board sends during the final proof."""
    ready, link = cleared(SCENE.board(Faults()), Mishaps(), proof=proof)
    sent = [link.sent for event in ready.flash() if isinstance(event, Checked)]
    return sent[-2] - 20


def stray_byte(proof: Proof) -> Mishaps:
    """Return a fault that inserts a byte into the board's answers during the proof."""
    return Mishaps(insert_sent=reading_starts(proof), value=0x13)


@PROOFS
def test_a_byte_too_many_in_the_proof_costs_a_second_attempt(proof: Proof) -> None:
    """If an additional byte arrives during the proof, a second attempt or a second hash is made, and succeeds."""
    board = SCENE.board(Faults())
    ready, _ = cleared(board, stray_byte(proof), proof=proof)
    events = list(ready.flash())
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, Repeated) for event in events) == (proof is not Proof.STUB)
    assert board.flash == SCENE.after


def cut_in_erase(number: int) -> tuple[SimulatedBoard, str]:
    """Cut the power in an erase of a run with two attempts; return the board and the text of the error."""
    board = SCENE.board(Faults(power_cut_in_erase=number))
    ready, _ = cleared(board, stray_byte(Proof.NO_STUB), proof=Proof.NO_STUB)
    with pytest.raises(BoardError) as error:
        deque(ready.flash(), maxlen=0)
    return board, str(error.value)


def test_a_second_attempt_does_not_say_that_nothing_else_was_changed() -> None:
    """An error in the first erase of a second attempt mentions the pages that the first attempt wrote."""
    ready, link = cleared(SCENE.board(Faults()), Mishaps(), proof=Proof.NO_STUB)
    assert list(ready.flash())
    board, error = cut_in_erase(link.erases + 1)
    assert board.flash[PAGE:] == SCENE.after[PAGE:]
    assert "this was the second attempt; the board acknowledged: erased 0 of 6 pages" in error
    assert "what the board will start; the other pages were written, but are not proven" in error


def test_every_erase_of_a_second_attempt_can_be_the_last() -> None:
    """Only a power cut in the first erase of the first attempt is reported with "nothing else was changed"."""
    errors = [cut_in_erase(number)[1] for number in range(1, 9)]
    assert ["nothing else was changed" in error for error in errors] == [True] + [False] * 7
    assert all("will not start a half written image" in error for error in errors[1:3] + errors[4:])


@pytest.mark.parametrize("kind", ["flip_sent", "insert_sent"])
def test_a_garbled_read_of_the_first_words_condemns_no_page(kind: str) -> None:
    """If the first words are garbled on the line, they are read again, and the page does not count as defective."""
    ready, link = cleared(SCENE.board(Faults()), Mishaps(), proof=Proof.NO_STUB)
    at = next(link.sent for event in ready.flash() if isinstance(event, Erased)) - 3
    faults = Faults(flip_sent=at) if kind == "flip_sent" else Faults()
    mishaps = Mishaps() if kind == "flip_sent" else Mishaps(insert_sent=at)
    board = SCENE.board(faults)
    ready, _ = cleared(board, mishaps, proof=Proof.NO_STUB)
    events = list(ready.flash())
    assert isinstance(events[-1], Finished)
    assert not any(isinstance(event, Repeated) for event in events)
    assert board.flash == SCENE.after


def test_bytes_beside_the_image_count_as_lost_until_they_are_proven() -> None:
    """An error before the proof reports the bytes beside the image as not written back or not proven."""
    errors = [interrupted(number) for number in range(19)]
    stated = [next((words for words in BESIDE if words in error), "") for error in errors]
    assert [words for words, _ in itertools.groupby(stated)] == ["", *BESIDE, ""]


BESIDE = ("beside the image are not all written back", "beside the image are acknowledged, but not proven")


def interrupted(number: int) -> str:
    """Return the text of the error if the operator interrupts flashing after this many events."""
    ready, _ = cleared(SCENE.board(Faults()), Mishaps(), proof=Proof.STUB)
    events = ready.flash()
    deque(itertools.islice(events, number + 1), maxlen=0)
    with pytest.raises(BoardError) as error:
        events.throw(KeyboardInterrupt())
    return str(error.value)
