"""The flasher's use of hashing on the chip, and its fallback to reading back."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from blockota.errors import Action, BoardProtocolError, FlashProofError, NoAnswerError
from blockota.model.facts import Consent
from blockota.model.release import Version
from firmware_host.bench.session import ClearedBoard
from firmware_host.flashing.contents import FlashContents, OnChip, Proof, read_twice
from firmware_host.flashing.digest_stub import DigestStub
from firmware_host.flashing.events import Finished, Programmed, Repeated
from firmware_host.flashing.plan import FlashPlan, wanted_contents
from firmware_host.simulator import Faults, SimulatedBoard
from tests.firmware_host.flash_scene import (
    BASE,
    FLASH_SIZE,
    OLD,
    RunningLink,
    WatchedLink,
    bench_on,
    code,
    known,
    planned,
    proven,
)
from tests.firmware_host.scripted_board import KIB, chip

IMAGE = code(6 * KIB + 100)
PLAN = planned(IMAGE)
GO, READ, BLOCK = b"\x21\xde", b"\x11\xee", b"\xff\x00"
"""Frames that start the program, begin a read of memory, and read a whole block of flash."""
RESULTS = 40
"""Bytes of an answer with one digest."""
HASHED_FROM = 2049
"""Bytes from which on it takes less time to hash them on the chip."""


def on_chip(board: SimulatedBoard, *, plan: FlashPlan = PLAN, proof: Proof = Proof.STUB) -> tuple[WatchedLink, OnChip]:
    """A link to a board, and its contents as hashed on the chip."""
    link = WatchedLink(board)
    bench = bench_on(link)
    stub = DigestStub(bench.bootloader, chip(), flash_size=FLASH_SIZE, wait=link.wait)
    link.sent.clear()
    return link, OnChip(bench.bootloader, stub, plan=plan, proof=proof)


def same_answers(one: FlashContents, other: FlashContents) -> None:
    """Assert that both ways return the same."""
    lengths = [HASHED_FROM, len(IMAGE.data), 5]
    assert one.sha256(BASE, lengths) == other.sha256(BASE, lengths)
    assert [one.checksum(unit) for unit in PLAN.units] == [other.checksum(unit) for unit in PLAN.units]
    assert one.read(range(BASE + 3, BASE + 600)) == other.read(range(BASE + 3, BASE + 600)) == OLD[3:600]


def test_both_ways_give_the_same_answers() -> None:
    """Digests, sums and bytes are the same by hashing and by reading."""
    link, contents = on_chip(SimulatedBoard(flash=OLD))
    same_answers(contents, FlashContents(bench_on(RunningLink(SimulatedBoard(flash=OLD))).bootloader))
    assert contents.sha256(BASE, [7000]) == (hashlib.sha256(OLD[:7000]).digest(),)
    assert contents.checksum(PLAN.units[2]) == zlib.crc32(OLD[2 * KIB : 3 * KIB])
    assert link.sent.count(GO) == 2


def test_one_run_answers_what_was_announced() -> None:
    """One run computes the sums of all pages and the announced digests, and nothing is requested twice."""
    link, contents = on_chip(SimulatedBoard(flash=OLD))
    contents.expect(BASE, [3000, 4000, 5000])
    assert contents.checksum(PLAN.units[6]) == zlib.crc32(OLD[6 * KIB : 7 * KIB])
    assert contents.sha256(BASE, [5000, 3000]) == tuple(hashlib.sha256(OLD[:end]).digest() for end in (5000, 3000))
    assert link.sent.count(GO) == 1
    contents.changed()
    assert contents.checksum(PLAN.units[0]) == zlib.crc32(OLD[:KIB])
    assert link.sent.count(GO) == 2


def test_more_lengths_than_one_run_takes() -> None:
    """Eight lengths are hashed per run; beyond a number of lengths the flash is read instead."""
    link, contents = on_chip(SimulatedBoard(flash=OLD))
    lengths = range(9000, 9020)
    expected = tuple(hashlib.sha256(OLD[:length]).digest() for length in lengths)
    assert contents.sha256(BASE, lengths) == expected
    assert link.sent.count(GO) == 3
    contents.changed()
    link.sent.clear()
    assert contents.sha256(BASE, range(3000, 3020)) == tuple(
        hashlib.sha256(OLD[:length]).digest() for length in range(3000, 3020)
    )
    assert (link.sent.count(GO), link.sent.count(READ)) == (0, 12)


@pytest.mark.parametrize(
    ("proof", "method", "read"), [(Proof.STUB, "stub", 4), (Proof.READ_BACK, "read-back", 25)], ids=["stub", "read"]
)
def test_a_flash_is_proven_as_it_was_asked_for(proof: Proof, method: str, read: int) -> None:
    """The proof is one run with its results and the board's identity, or a read of every block."""
    link, contents = on_chip(SimulatedBoard(flash=IMAGE.data), proof=proof)
    assert list(contents.prove(wanted_contents(PLAN), [IMAGE.span]))[-1] == len(IMAGE.data)
    assert contents.method == method
    assert link.sent.count(READ) == read


def test_the_proof_names_the_byte_that_is_wrong() -> None:
    """If a digest differs, the differing page is read to name the wrong byte."""
    wrong = bytearray(IMAGE.data)
    wrong[3 * KIB + 77] ^= 1
    _, contents = on_chip(SimulatedBoard(flash=bytes(wrong)))
    with pytest.raises(FlashProofError, match=r"at 0x08000c4d it reads 0x.. instead of 0x"):
        list(contents.prove(wanted_contents(PLAN), [IMAGE.span]))


def test_a_garbled_digest_is_asked_for_again() -> None:
    """A digest that differs while no page differs is requested again; a right second answer is a proof."""
    link, contents = on_chip(SimulatedBoard(flash=IMAGE.data))

    def garbled(data: bytes) -> bytes:
        if len(data) != RESULTS:
            return data
        link.change_answer = bytes
        return bytes([*data[:-1], data[-1] ^ 0x40])

    link.change_answer = garbled
    assert list(contents.prove(wanted_contents(PLAN), [IMAGE.span])) == [len(IMAGE.data)]
    assert link.sent.count(GO) == 2


def cleared(link: RunningLink, *, proof: Proof = Proof.STUB) -> ClearedBoard:
    """A board with an older release, ready to be flashed."""
    before = proven(code(6 * KIB, seed=5), version=Version(1, 0, 0)).release
    return bench_on(link).examine(proven(IMAGE), known=known(before), proof=proof).clear(Consent())


def old_board(faults: Faults | None = None) -> SimulatedBoard:
    """A board with the older release."""
    return SimulatedBoard(flash=code(6 * KIB, seed=5).data, faults=faults or Faults())


def no_go(data: bytes) -> bytes:
    """Garble every Go command, so that the board refuses it."""
    return b"\x21\x00" if data == GO else data


def test_a_board_that_refuses_the_program_is_read_back() -> None:
    """A board that refuses the program is flashed with reading back, and a note gives the reason."""
    board = old_board()
    link = WatchedLink(board)
    link.change = no_go
    ready = cleared(link)
    *_, end = ready.flash()
    assert isinstance(end, Finished)
    assert (end.method, board.flash[: len(IMAGE.data)]) == ("read-back", IMAGE.data)
    assert ready.notes[0].startswith("The flash is read back, because the chip did not hash it itself (")
    assert link.sent.count(GO) == 1


def test_a_board_that_refuses_the_program_at_the_end_is_read_back() -> None:
    """If the program is refused at the proof, the flash is read back in the same run."""
    board = old_board()
    link = WatchedLink(board)
    ready = cleared(link)
    events = ready.flash()
    next(event for event in events if isinstance(event, Programmed))
    link.change = no_go
    *_, end = events
    assert isinstance(end, Finished)
    assert (end.method, len(ready.notes)) == ("read-back", 1)
    assert board.flash[: len(IMAGE.data)] == IMAGE.data


def test_a_board_that_does_not_come_back_is_named_and_not_changed() -> None:
    """A board that does not return from the program is not changed; the error names the option to avoid the program."""
    board = old_board()
    before = board.flash
    link = WatchedLink(board)
    link.stands_still = True
    with pytest.raises(NoAnswerError, match=r"did not come back .* nothing was changed") as silent:
        cleared(link)
    assert silent.value.action is Action.FLASH_WITHOUT_STUB
    assert board.flash == before


def test_a_board_that_does_not_come_back_at_the_end_names_the_remedy() -> None:
    """After all is written, the same command without the program verifies and completes the flash."""
    link = WatchedLink(old_board())
    events = cleared(link).flash()
    next(event for event in events if isinstance(event, Programmed))
    link.stands_still = True
    with pytest.raises(NoAnswerError, match="will not start a half written image") as silent:
        list(events)
    assert silent.value.action is Action.FLASH_WITHOUT_STUB


def test_no_program_is_run_if_switched_off() -> None:
    """On request, contents and proof are both read without a program."""
    link = WatchedLink(old_board())
    *_, end = cleared(link, proof=Proof.NO_STUB).flash()
    assert isinstance(end, Finished)
    assert (end.method, link.sent.count(GO)) == ("read-back", 0)


def again(board: SimulatedBoard, *, proof: Proof) -> tuple[Finished, WatchedLink]:
    """Flash a board that has the release already."""
    link = WatchedLink(board)
    ready = bench_on(link).examine(proven(IMAGE), known=known(), proof=proof).clear(Consent())
    *_, end = ready.flash()
    assert isinstance(end, Finished)
    assert end.summary.identical.units == 7
    return end, link


def test_the_same_image_is_proven_as_it_was_asked_for() -> None:
    """An unchanged image is proven by reading every block, or by the digest of the first look."""
    end, link = again(SimulatedBoard(flash=IMAGE.data), proof=Proof.READ_BACK)
    assert (end.method, link.sent.count(GO), link.sent.count(BLOCK)) == ("read-back", 1, 24)
    end, link = again(SimulatedBoard(flash=IMAGE.data), proof=Proof.STUB)
    assert (end.method, link.sent.count(GO), link.sent.count(BLOCK)) == ("stub", 1, 0)
    end, link = again(SimulatedBoard(flash=IMAGE.data), proof=Proof.NO_STUB)
    assert (end.method, link.sent.count(GO), link.sent.count(BLOCK)) == ("read-back", 0, 25)


def test_a_byte_that_only_reading_shows_is_not_proven() -> None:
    """A byte that reads back wrong fails the read-back proof, although the digest on the chip matches."""
    board = SimulatedBoard(flash=IMAGE.data)
    link = WatchedLink(board)
    ready = bench_on(link).examine(proven(IMAGE), known=known(), proof=Proof.READ_BACK).clear(Consent())
    link.change_answer = lambda data: bytes([*data[:-1], data[-1] ^ 1]) if len(data) == 100 else data
    with pytest.raises(FlashProofError, match=r"at 0x08001863 it reads .*; nothing was changed"):
        list(ready.flash())
    assert board.flash[: len(IMAGE.data)] == IMAGE.data


@pytest.mark.parametrize(
    ("size", "seed", "method"),
    [(2048, 1, "stub"), (2048, 2, "read-back"), (2052, 1, "stub"), (2052, 2, "stub")],
    ids=["same short", "short", "same", "longer"],
)
def test_the_result_names_the_proof_that_was_used(size: int, seed: int, method: str) -> None:
    """The result names the proof used: a written short image was read, an unchanged one hashed."""
    image = code(size, at=BASE + 512)
    before = proven(code(size, at=BASE + 512, seed=seed), version=Version(1, 0, 0))
    link = WatchedLink(SimulatedBoard(flash=bytes(512) + before.image))
    ready = bench_on(link).examine(proven(image), known=known(before.release)).clear(Consent())
    looked = link.sent.count(GO) if seed > 1 else 0
    *_, end = ready.flash()
    assert isinstance(end, Finished)
    assert (end.method, link.sent.count(GO) > looked) == (method, method == "stub")


def test_a_short_flash_is_read() -> None:
    """A short flash is read, because writing the program to RAM takes as long."""
    link = WatchedLink(SimulatedBoard())
    ready = bench_on(link).examine(proven(code(2 * KIB)), known=known()).clear(Consent())
    assert isinstance([*ready.flash()][-1], Finished)
    assert link.sent.count(GO) == 0


def test_a_wrong_hint_costs_time_and_nothing_else() -> None:
    """If a page is wrongly taken for identical, the digest of the whole differs and all is written."""
    board = old_board()
    link, wanted = WatchedLink(board), wanted_contents(PLAN)
    sums = [wanted.checksum(unit.span) for unit in PLAN.units]

    def colliding(data: bytes) -> bytes:
        return data[:12] + sums[3].to_bytes(4, "little") + data[16:] if len(data) == 4 * len(sums) else data

    link.change_answer = colliding
    ready = cleared(link)
    events = list(ready.flash())
    end = events[-1]
    assert isinstance(end, Finished)
    assert sum(isinstance(event, Repeated) for event in events) == 1
    assert end.summary.identical.units == 0
    assert board.flash[: len(IMAGE.data)] == IMAGE.data


def test_bytes_that_are_read_twice_must_be_the_same() -> None:
    """Two reads must agree, because Read Memory's answer has no checksum."""
    link = RunningLink(SimulatedBoard(flash=OLD, faults=Faults(flip_sent=500)))
    bootloader = bench_on(link).bootloader
    with pytest.raises(BoardProtocolError, match="garbles bytes"):
        read_twice(bootloader, range(BASE, BASE + KIB))
