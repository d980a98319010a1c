"""The flasher hashes the flash on the chip, and reads the flash back if hashing fails."""

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
from firmware_host.flashing.plan import Finished, FlashPlan, Programmed, Repeated, wanted_contents
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
"""The command frames of Go and Read Memory, and the length frame of a whole block of 256 bytes."""
RESULTS = 40
"""Length in bytes of the results with one digest."""
HASHED_FROM = 2049
"""The smallest number of bytes that the chip hashes in less time than the host reads them."""


def on_chip(board: SimulatedBoard, *, plan: FlashPlan = PLAN, proof: Proof = Proof.STUB) -> tuple[WatchedLink, OnChip]:
    """Return a link to a board, and a reader of the board's flash that hashes on the chip."""
    link = WatchedLink(board)
    bench = bench_on(link)
    stub = DigestStub(bench.bootloader, chip(), flash_size=FLASH_SIZE, wait=link.wait)
    link.sent.clear()
    return link, OnChip(bench.bootloader, stub, plan=plan, proof=proof)


def same_answers(one: FlashContents, other: FlashContents) -> None:
    """Assert that two ways to read the flash return equal digests, checksums and bytes."""
    lengths = [HASHED_FROM, len(IMAGE.data), 5]
    assert one.sha256(BASE, lengths) == other.sha256(BASE, lengths)
    assert [one.checksum(unit) for unit in PLAN.units] == [other.checksum(unit) for unit in PLAN.units]
    assert one.read(range(BASE + 3, BASE + 600)) == other.read(range(BASE + 3, BASE + 600)) == OLD[3:600]


def test_both_ways_give_the_same_answers() -> None:
    """Hashing on the chip and reading back give equal digests, checksums and bytes."""
    link, contents = on_chip(SimulatedBoard(flash=OLD))
    same_answers(contents, FlashContents(bench_on(RunningLink(SimulatedBoard(flash=OLD))).bootloader))
    assert contents.sha256(BASE, [7000]) == (hashlib.sha256(OLD[:7000]).digest(),)
    assert contents.checksum(PLAN.units[2]) == zlib.crc32(OLD[2 * KIB : 3 * KIB])
    assert link.sent.count(GO) == 2


def test_one_run_answers_what_was_announced() -> None:
    """A single run on the chip computes the requested digests and the checksums of all pages."""
    link, contents = on_chip(SimulatedBoard(flash=OLD))
    contents.expect(BASE, [3000, 4000, 5000])
    assert contents.checksum(PLAN.units[6]) == zlib.crc32(OLD[6 * KIB : 7 * KIB])
    assert contents.sha256(BASE, [5000, 3000]) == tuple(hashlib.sha256(OLD[:end]).digest() for end in (5000, 3000))
    assert link.sent.count(GO) == 1
    contents.changed()
    assert contents.checksum(PLAN.units[0]) == zlib.crc32(OLD[:KIB])
    assert link.sent.count(GO) == 2


def test_more_lengths_than_one_run_takes() -> None:
    """One run on the chip hashes at most eight lengths.

    If several runs would take longer than reading the flash, the flash is read.
    """
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
    ("proof", "method", "read"), [(Proof.STUB, "stub", 3), (Proof.READ_BACK, "read-back", 25)], ids=["stub", "read"]
)
def test_a_flash_is_proven_as_it_was_asked_for(proof: Proof, method: str, read: int) -> None:
    """The flash is proven by a digest computed on the chip or by reading every block, as requested."""
    link, contents = on_chip(SimulatedBoard(flash=IMAGE.data), proof=proof)
    assert list(contents.prove(wanted_contents(PLAN), [IMAGE.span]))[-1] == len(IMAGE.data)
    assert contents.method == method
    assert link.sent.count(READ) == read


def test_the_proof_names_the_byte_that_is_wrong() -> None:
    """If the digest differs, the differing page is read and the error contains the wrong byte's address."""
    wrong = bytearray(IMAGE.data)
    wrong[3 * KIB + 77] ^= 1
    _, contents = on_chip(SimulatedBoard(flash=bytes(wrong)))
    with pytest.raises(FlashProofError, match=r"the byte at 0x08000c4d was read as 0x.. instead of 0x"):
        list(contents.prove(wanted_contents(PLAN), [IMAGE.span]))


def test_a_garbled_digest_is_asked_for_again() -> None:
    """If a digest is garbled on the line, the flash is hashed once more, and no page is read."""
    erased = b"\xff" * len(PLAN.seal)
    link, contents = on_chip(SimulatedBoard(flash=erased + IMAGE.data[len(erased) :]))

    def garbled(data: bytes) -> bytes:
        if len(data) != RESULTS:
            return data
        link.change_answer = bytes
        return bytes([*data[:-1], data[-1] ^ 0x40])

    link.change_answer = garbled
    assert list(contents.prove(wanted_contents(PLAN), PLAN.body)) == [len(IMAGE.data) - len(erased)]
    assert link.sent.count(GO) == 2
    assert not [frame for frame in link.sent if frame.startswith(b"\x08")]


def cleared(link: RunningLink, *, proof: Proof = Proof.STUB) -> ClearedBoard:
    """Return a board that contains an older release, after checks 6 to 9."""
    before = proven(code(6 * KIB, seed=5), version=Version(1, 0, 0)).release
    return bench_on(link).examine(proven(IMAGE), known=known(before), proof=proof).clear(Consent())


def old_board(faults: Faults | None = None) -> SimulatedBoard:
    """Return a board with the older release."""
    return SimulatedBoard(flash=code(6 * KIB, seed=5).data, faults=faults or Faults())


def no_go(data: bytes) -> bytes:
    """Garble a Go command, so that the board refuses it."""
    return b"\x21\x00" if data == GO else data


def test_a_board_that_refuses_the_program_is_read_back() -> None:
    """If the board refuses to start the digest program, the flash is read back, and a note gives the reason."""
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
    """If the board refuses the digest program at the proof, the flash is read back in the same run."""
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
    """A board that does not return from the digest program before the first erase is not changed."""
    board = old_board()
    before = board.flash
    link = WatchedLink(board)
    link.stands_still = True
    with pytest.raises(NoAnswerError, match=r"was not recognised .* nothing was changed") as silent:
        cleared(link)
    assert silent.value.action is Action.FLASH_WITHOUT_STUB
    assert board.flash == before


def test_a_board_that_does_not_come_back_at_the_end_names_the_remedy() -> None:
    """If the digest program of the proof does not end, the error advises to flash without this program."""
    link = WatchedLink(old_board())
    events = cleared(link).flash()
    next(event for event in events if isinstance(event, Programmed))
    link.stands_still = True
    with pytest.raises(NoAnswerError, match="will not start a half written image") as silent:
        list(events)
    assert silent.value.action is Action.FLASH_WITHOUT_STUB


def test_no_program_is_run_if_switched_off() -> None:
    """With `Proof.NO_STUB`, the flash is read and proven without starting a program on the chip."""
    link = WatchedLink(old_board())
    *_, end = cleared(link, proof=Proof.NO_STUB).flash()
    assert isinstance(end, Finished)
    assert (end.method, link.sent.count(GO)) == ("read-back", 0)


def again(board: SimulatedBoard, *, proof: Proof) -> tuple[Finished, WatchedLink]:
    """Flash a board that has the release already; return the result and the link."""
    link = WatchedLink(board)
    ready = bench_on(link).examine(proven(IMAGE), known=known(), proof=proof).clear(Consent())
    *_, end = ready.flash()
    assert isinstance(end, Finished)
    assert end.summary.identical.units == 7
    return end, link


def test_the_same_image_is_proven_as_it_was_asked_for() -> None:
    """An unchanged image is proven by the requested method, and its flash is not hashed twice."""
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
    with pytest.raises(FlashProofError, match=r"at 0x08001863 was read as .*; nothing was changed"):
        list(ready.flash())
    assert board.flash[: len(IMAGE.data)] == IMAGE.data


@pytest.mark.parametrize(
    ("size", "seed", "method"),
    [(2048, 1, "stub"), (2048, 2, "read-back"), (2052, 1, "stub"), (2052, 2, "stub")],
    ids=["same short", "short", "same", "longer"],
)
def test_the_result_names_the_proof_that_was_used(size: int, seed: int, method: str) -> None:
    """The result contains the method that actually proved the flash."""
    image = code(size, at=BASE + 512)
    before = proven(code(size, at=BASE + 512, seed=seed), version=Version(1, 0, 0))
    link = WatchedLink(SimulatedBoard(flash=bytes(512) + before.image))
    ready = bench_on(link).examine(proven(image), known=known(before.release)).clear(Consent())
    looked = link.sent.count(GO) if seed > 1 else 0
    *_, end = ready.flash()
    assert isinstance(end, Finished)
    assert (end.method, link.sent.count(GO) > looked) == (method, method == "stub")


def test_a_short_flash_is_read() -> None:
    """An image of 2 KiB is read back, because sending the digest program would not be faster."""
    link = WatchedLink(SimulatedBoard())
    ready = bench_on(link).examine(proven(code(2 * KIB)), known=known()).clear(Consent())
    assert isinstance([*ready.flash()][-1], Finished)
    assert link.sent.count(GO) == 0


def test_a_wrong_hint_costs_time_and_nothing_else() -> None:
    """If a wrong checksum makes a changed page look unchanged, the proof fails and all pages are written."""
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
    """If two reads of the same bytes differ, an error is raised."""
    link = RunningLink(SimulatedBoard(flash=OLD, faults=Faults(flip_sent=500)))
    bootloader = bench_on(link).bootloader
    with pytest.raises(BoardProtocolError, match="corrupts bytes"):
        read_twice(bootloader, range(BASE, BASE + KIB))
