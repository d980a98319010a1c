"""The host runs the digest program on a simulated board and reads its results."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from blockota.errors import Action, BlockOTAError, BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader.chips import Chip
from firmware_host.flashing.digest_stub import (
    CYCLES_PER_INSTRUCTION,
    DONE,
    RESET_MARGIN,
    TIMEOUT_FACTOR,
    DigestStub,
    Pages,
)
from firmware_host.line.link import QUIET
from firmware_host.simulator import PROFILES, SimulatedBoard
from tests.conftest import IMAGES
from tests.firmware_host.flash_scene import WatchedLink, connected
from tests.firmware_host.scripted_board import KIB, chip
from tests.firmware_host.stub_harness import SLICE, run_stub

FLASH = 0x0800_0000
CONTENTS = hashlib.shake_256(b"firmware").digest(64 * KIB)
GO_FRAME = b"\x21\xde"


class Bench:
    """A simulated board with its bootloader connected, and a `DigestStub` for it."""

    def __init__(self, name: str = "stm32f103c8", *, contents: bytes = CONTENTS) -> None:
        profile = PROFILES[name]
        self.board = SimulatedBoard(profile, flash=contents)
        self.link = WatchedLink(self.board)
        self.bootloader = connected(self.link)
        self.chip = chip(profile.product_id)
        self.bootloader.target(self.chip, flash_size=profile.flash_size)
        self.stub = self.new_stub()
        self.link.sent.clear()

    def new_stub(self) -> DigestStub:
        """Return a `DigestStub` that has no record of the contents of the RAM."""
        size = self.board.profile.flash_size
        return DigestStub(self.bootloader, self.chip, flash_size=size, wait=self.link.wait)


def sha256(start: int, length: int, *, contents: bytes = CONTENTS) -> bytes:
    """Return the expected digest of a range of the flash."""
    return hashlib.sha256(contents[start - FLASH :][:length]).digest()


def twice_flipped(at: int) -> Callable[[bytes], bytes]:
    """Return a function that flips the same bit in two bytes of a long frame, which leaves the checksum valid."""

    def garble(frame: bytes) -> bytes:
        spoilt = bytearray(frame)
        if len(frame) > at + 8:
            spoilt[at] ^= 0x04
            spoilt[at + 3] ^= 0x04
        return bytes(spoilt)

    return garble


def test_several_lengths_and_pages_in_one_pass() -> None:
    """Digests are returned in the order of the requested lengths, including repeated lengths."""
    lengths = [64 * KIB, 0, 1000, 61_234, 1000]
    digests = Bench().stub.run(FLASH, lengths, pages=[Pages(FLASH, KIB, 64)])
    assert digests.sha256 == tuple(sha256(FLASH, length) for length in lengths)
    assert digests.pages == tuple(zlib.crc32(CONTENTS[at : at + KIB]) for at in range(0, 64 * KIB, KIB))


def test_neither_lengths_nor_pages_are_needed() -> None:
    """Page checksums and the digest of a range can be requested separately, even for a range at an odd address."""
    stub = Bench().stub
    assert stub.run(FLASH, [], pages=[Pages(FLASH + KIB, KIB, 2)]).sha256 == ()
    assert stub.run(FLASH + 8193, [5000]).sha256 == (sha256(FLASH + 8193, 5000),)


@pytest.mark.parametrize("name", ["stm32f103c6", "stm32f103c8", "stm32f103rc"])
def test_every_density(name: str) -> None:
    """The digest program runs on chips of low, medium and high density."""
    profile = PROFILES[name]
    contents = hashlib.shake_256(name.encode()).digest(profile.flash_size)
    pages = [Pages(FLASH, profile.page_size, profile.page_count)]
    digests = Bench(name, contents=contents).stub.run(FLASH, [profile.flash_size], pages=pages)
    assert digests.sha256 == (hashlib.sha256(contents).digest(),)
    assert digests.pages[-1] == zlib.crc32(contents[-profile.page_size :])


def test_the_program_is_written_once_a_session() -> None:
    """A second run sends only its parameters. Its digest includes a page that was erased after the first run."""
    bench = Bench()
    bench.stub.run(FLASH, [2 * KIB])
    uploaded = sum(map(len, bench.link.sent))
    bench.bootloader.erase_pages([1])
    bench.link.sent.clear()
    contents = CONTENTS[:KIB] + bytes([0xFF]) * KIB
    assert bench.stub.run(FLASH, [2 * KIB]).sha256 == (sha256(FLASH, 2 * KIB, contents=contents),)
    assert sum(map(len, bench.link.sent)) < uploaded - 900


def test_the_program_is_written_again_when_the_ram_has_lost_it() -> None:
    """The digest program is written again if the RAM no longer contains it."""
    bench = Bench()
    bench.stub.run(FLASH, [KIB])
    bench.bootloader.write(0x2000_0E00, bytes(4))
    bench.link.sent.clear()
    assert bench.stub.run(FLASH, [KIB]).sha256 == (sha256(FLASH, KIB),)
    assert sum(map(len, bench.link.sent)) > 900


def test_the_end_byte_ends_the_wait() -> None:
    """If the program's end byte arrives, the host waits only for the predicted time and for the chip's reset."""
    bench = Bench()
    bench.link.waited = 0.0
    bench.stub.run(FLASH, [64 * KIB])
    # `connect` drains the line before its first byte, while the board starts, and after the answer.
    started = max(chip().ready_seconds + RESET_MARGIN, QUIET)
    assert bench.link.waited == pytest.approx(bench.stub.seconds(FLASH, [64 * KIB]) + started + QUIET)


@pytest.mark.parametrize("heard", [b"", b"\x00"], ids=["nothing", "noise"])
def test_it_works_without_the_end_byte(heard: bytes) -> None:
    """If the program's end byte is lost or garbled, the results are read after a longer wait."""
    bench = Bench()

    def without_done(answer: bytes) -> bytes:
        if answer == DONE and not heard:
            raise NoAnswerError("The board is silent")
        return heard if answer == DONE else answer

    bench.link.change_answer = without_done
    assert bench.stub.run(FLASH, [64 * KIB]).sha256 == (sha256(FLASH, 64 * KIB),)
    if heard:
        assert bench.link.waited > TIMEOUT_FACTOR * bench.stub.seconds(FLASH, [64 * KIB])


@pytest.mark.parametrize(
    ("lengths", "pages"),
    [([0], 0), ([63], 1), ([KIB, 5000, 64 * KIB], 0), ([60_000], 64), (list(range(8)), 3)],
    ids=["least", "two-blocks", "three", "whole", "eight"],
)
def test_the_foreseen_time_is_enough_and_not_much_more(lengths: list[int], pages: int) -> None:
    """The predicted time covers all executed instructions, with at most 2 ms to spare."""
    seconds = Bench().stub.seconds(FLASH, lengths, pages=[Pages(FLASH, KIB, pages)])
    outcome = run_stub(CONTENTS, FLASH, lengths=lengths, pages=[Pages(FLASH, KIB, pages)])
    executed = (outcome.instructions - SLICE) * CYCLES_PER_INSTRUCTION / 24e6
    assert executed <= seconds <= executed + 0.002


def test_nothing_is_sent_while_it_runs() -> None:
    """After Go the first byte sent is 0x7F, because any other byte would make the bootloader measure a wrong speed."""
    bench = Bench()
    bench.stub.run(FLASH, [4 * KIB])
    after = bench.link.sent[bench.link.sent.index(GO_FRAME) + 2 :]
    assert after[0] == b"\x7f"


def test_a_board_that_resets_into_its_application() -> None:
    """If BOOT0 is 0, the bootloader does not return after the run, and the error advises to set BOOT0."""
    bench = Bench()
    bench.board.boot0 = False
    with pytest.raises(NoAnswerError) as caught:
        bench.stub.run(FLASH, [KIB])
    assert "BOOT0" in caught.value.remedy
    assert caught.value.action is Action.FLASH_WITHOUT_STUB


def test_a_board_that_resets_into_an_application_that_talks() -> None:
    """If an application sends output after the run, the output is not accepted as an answer of the bootloader."""
    bench = Bench(contents=(IMAGES / "bluepill-1.1.0.bin").read_bytes())
    bench.board.boot0 = False
    with pytest.raises(NoAnswerError, match="was not recognised after hashing"):
        bench.stub.run(FLASH, [500])


def test_a_program_that_does_not_end() -> None:
    """A digest program that does not end causes a timeout error."""
    bench = Bench()
    bench.link.stands_still = True
    with pytest.raises(NoAnswerError, match="was not recognised after hashing"):
        bench.stub.run(FLASH, [KIB])


def test_a_program_corrupted_in_its_head_is_not_started() -> None:
    """Go is not sent if the program's first bytes are read back with other values."""
    bench = Bench()
    bench.link.change = twice_flipped(20)
    with pytest.raises(BoardProtocolError, match="not started"):
        bench.stub.run(FLASH, [KIB])
    assert GO_FRAME not in bench.link.sent


@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "stale"])
def test_a_program_corrupted_behind_its_head_gives_no_result(*, stale: bool) -> None:
    """A corrupted program returns no results, and results of an earlier run are not accepted."""
    bench = Bench()
    if stale:
        bench.stub.run(FLASH, [KIB])
    bench.link.change = twice_flipped(200)
    with pytest.raises(BoardProtocolError, match="did not return the digest"):
        bench.new_stub().run(FLASH, [KIB])
    bench.link.change = bytes
    assert bench.new_stub().run(FLASH, [KIB]).sha256 == (sha256(FLASH, KIB),)


def test_parameters_that_arrived_wrong_are_noticed() -> None:
    """Corrupted parameters of a second run are detected, and the next run succeeds."""
    bench = Bench()
    bench.stub.run(FLASH, [KIB])
    bench.link.change = twice_flipped(24)
    with pytest.raises(BoardProtocolError, match="did not return the digest"):
        bench.stub.run(FLASH, [KIB])
    bench.link.change = bytes
    assert bench.stub.run(FLASH, [KIB]).sha256 == (sha256(FLASH, KIB),)


@pytest.mark.parametrize("at", [0, 3, 4, 7])
def test_a_wrong_nonce_or_closing_word(at: int) -> None:
    """Results with a wrong nonce or complement of the nonce are refused."""
    bench = Bench()

    def garbled(answer: bytes) -> bytes:
        return answer[:at] + bytes((answer[at] ^ 1,)) + answer[at + 1 :] if len(answer) == 40 else answer

    bench.link.change_answer = garbled
    with pytest.raises(BoardProtocolError, match="did not return the digest"):
        bench.stub.run(FLASH, [KIB])


@pytest.mark.parametrize(
    ("start", "lengths", "pages"),
    [
        (FLASH, [64 * KIB + 1], []),
        (FLASH - 1, [10], []),
        (FLASH + 64 * KIB, [1], []),
        (FLASH, range(9), []),
        (FLASH, [-1], []),
        (FLASH, [], [Pages(FLASH, KIB, 65)]),
        (FLASH, [], [Pages(FLASH - KIB, KIB, 1)]),
        (FLASH, [], [Pages(FLASH + 2, KIB, 1)]),
        (FLASH, [], [Pages(FLASH, 1022, 1)]),
        (FLASH, [], [Pages(FLASH, 0, 1)]),
        (FLASH, [], [Pages(FLASH + KIB, KIB, -1)]),
        (FLASH, [], [Pages(FLASH, 4, 16 * KIB)]),
        (FLASH, [], [Pages(FLASH, KIB)] * 4),
    ],
    ids=[
        "end",
        "before",
        "after",
        "nine",
        "negative",
        "pages",
        "page-before",
        "odd",
        "broken",
        "none",
        "less",
        "ram",
        "four",
    ],
)
def test_what_it_cannot_do_is_refused_before_a_byte_goes_out(
    start: int, lengths: list[int], pages: list[Pages]
) -> None:
    """A range beyond the flash, invalid pages, or more than eight lengths are refused before a byte is sent."""
    bench = Bench()
    with pytest.raises(RefusedError, match="cannot be hashed on the chip"):
        bench.stub.run(start, lengths, pages=pages)
    assert bench.link.sent == []


@pytest.mark.parametrize(
    "other",
    [chip(0x445), replace(chip(), bootloader_ram=range(0x2000_0200, 0x2000_0F00))],
    ids=["no-ram", "little-ram"],
)
def test_a_chip_that_cannot_run_it_is_refused(other: Chip) -> None:
    """A chip that cannot run the digest program is refused, with the advice to read the flash back."""
    bench = Bench()
    with pytest.raises(RefusedError) as caught:
        DigestStub(bench.bootloader, other, flash_size=64 * KIB).run(FLASH, [KIB])
    assert caught.value.action is Action.FLASH_WITHOUT_STUB
    assert bench.link.sent == []


def test_each_error_has_its_three_parts() -> None:
    """The error for a missing digest has a statement, a reason and a remedy."""
    bench = Bench()
    bench.link.change = twice_flipped(200)
    with pytest.raises(BlockOTAError) as caught:
        bench.stub.run(FLASH, [KIB])
    assert caught.value.what
    assert caught.value.why
    assert caught.value.remedy


def test_the_longest_wait_is_bounded() -> None:
    """The longest wait for the digest program is less than one second for 64 KiB."""
    assert (1 + TIMEOUT_FACTOR) * Bench().stub.seconds(FLASH, [64 * KIB], pages=[Pages(FLASH, KIB, 64)]) < 1.0


@pytest.mark.parametrize(
    ("name", "hidden", "alone"),
    [
        ("stm32f103c8", None, True),
        ("stm32f103c8", b"", True),
        ("stm32f103c8", b"\0", False),
        ("stm32f103c8", b"half", False),
        ("stm32f401re", b"", True),
        ("stm32f030f4", None, False),
        ("stm32g071rb", None, True),
    ],
    ids=["no memory", "erased", "used", "less than the range", "the largest", "no fault handler", "the largest, v6-M"],
)
def test_what_lies_behind_the_reported_flash_is_known(name: str, hidden: bytes | None, alone: object) -> None:
    """Flash beyond the reported size counts as absent only if the core can detect missing memory and finds no data."""
    profile = PROFILES[name]
    size = profile.flash_size
    if hidden is not None and name == "stm32f103c8":
        whole = size * 3 // 2 if hidden == b"half" else 2 * size
        profile = replace(profile, flash_size=whole, reported_flash_size=size)
    board = SimulatedBoard(profile, flash=b"\x5a" * size + (hidden or b""))
    link = WatchedLink(board)
    bootloader = connected(link)
    bootloader.target(chip(profile.product_id), flash_size=size)
    stub = DigestStub(bootloader, chip(profile.product_id), flash_size=size, wait=link.wait)
    assert stub.has_no_hidden_flash() is alone
    link.sent.clear()
    assert stub.run(FLASH, [8]).sha256 == (hashlib.sha256(b"\x5a" * 8).digest(),)
