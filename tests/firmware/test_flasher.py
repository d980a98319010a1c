"""Flashing against the strict simulated board, whole and interrupted everywhere."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import BoardError, FlashProofError, NoAnswerError, RefusedError
from firmware_host.board import STM32F103C8, Faults, SimulatedBoard, serve_pty, serve_tcp
from firmware_host.board_identity import identify
from firmware_host.bootloader import Bootloader
from firmware_host.chips import Chip, find_chip
from firmware_host.flash_plan import FlashPlan, plan
from firmware_host.flasher import Erased, Event, Finished, Preserved, ReadBack, Written, carry_out, read_flash, start
from firmware_host.image import FirmwareImage, read_image
from firmware_host.link import open_link
from tests.firmware.direct_link import DirectLink

KIB = 1024
BASE = 0x0800_0000
FLASH_SIZE = 64 * KIB
OLD = bytes(index * 7 % 251 for index in range(FLASH_SIZE))
EXAMPLES = Path(__file__).parents[2] / "examples" / "bluepill" / "images"


def code(size: int, *, at: int = BASE, seed: int = 1) -> FirmwareImage:
    """An image of a size, with a plausible vector table and no blank stretch."""
    vectors = (0x2000_5000).to_bytes(4, "little") + (at + 9).to_bytes(4, "little")
    body = bytes((index * 31 + index // 256 + seed) % 255 for index in range(size))
    return FirmwareImage((vectors + body)[:size], at, "bin")


def chip(product_id: int = 0x410) -> Chip:
    """The table's row, which must be there."""
    found = find_chip(product_id)
    assert found is not None
    return found


def planned(image: FirmwareImage) -> FlashPlan:
    """The plan for the simulated board."""
    return plan(chip(), image, flash_size=FLASH_SIZE)


def connected(board: SimulatedBoard) -> Bootloader:
    """A client that has found the board."""
    bootloader = Bootloader(DirectLink(board))
    bootloader.connect()
    return bootloader


def flash(board: SimulatedBoard, image: FirmwareImage) -> list[Event]:
    """Flash an image the ordinary way."""
    return list(carry_out(planned(image), connected(board)))


# The ordinary case


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_an_example_is_flashed_and_starts(version: str) -> None:
    """The example firmware goes in, reads back as itself, and says its version."""
    image = read_image(EXAMPLES / f"bluepill-{version}.elf")
    with serve_tcp(SimulatedBoard(flash=OLD)) as url:
        bootloader = Bootloader(open_link(url))
        bootloader.connect()
        identify(bootloader)
        *_, finished = carry_out(planned(image), bootloader)
        assert isinstance(finished, Finished)
        assert (finished.flash, finished.sha256) == (image.data, hashlib.sha256(image.data).digest())
        assert f"bluepill {version}" in start(bootloader, BASE, listen=5)
        bootloader.link.close()


def test_a_board_on_a_pseudo_terminal_is_flashed() -> None:
    """The same over a pseudo-terminal, where there is no parity."""
    board = SimulatedBoard()
    with serve_pty(board) as path:
        bootloader = Bootloader(open_link(path))
        bootloader.connect()
        assert list(carry_out(planned(code(2 * KIB)), bootloader))
        bootloader.link.close()
    assert board.flash[: 2 * KIB] == code(2 * KIB).data


def test_progress_is_told_in_bytes() -> None:
    """Each kind of event counts up to its total, and they come in order."""
    events = flash(SimulatedBoard(), code(3 * KIB))
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Erased] * 3
    assert kinds.index(Written) < kinds.index(ReadBack) < kinds.index(Finished) == len(kinds) - 1
    for kind in (Erased, Written, ReadBack):
        counts = [event for event in events if isinstance(event, kind)]
        assert counts[-1] == kind(3 * KIB, 3 * KIB)
        assert [event.done for event in counts] == sorted(event.done for event in counts)


@given(start=st.integers(0, 8 * KIB - 1), size=st.integers(1, 4 * KIB))
@settings(max_examples=40, deadline=None)
def test_bytes_beside_the_image_stay(start: int, size: int) -> None:
    """Wherever an image begins and ends, only its own bytes change."""
    board, image = SimulatedBoard(flash=OLD), code(size, at=BASE + start)
    flash(board, image)
    assert board.flash == OLD[:start] + image.data + OLD[start + size :]


def test_preserved_bytes_are_handed_over_before_anything_is_erased() -> None:
    """A caller can keep them in a file, in case the board is unplugged halfway."""
    first, second, *_ = flash(SimulatedBoard(flash=OLD), code(100, at=BASE + 1000))
    assert first == Preserved(BASE, OLD[:1000])
    assert second == Preserved(BASE + 1100, OLD[1100 : 2 * KIB])


def test_blank_blocks_are_not_written() -> None:
    """What is 0xFF after the erase needs no writing, but it is read back."""
    image = FirmwareImage(code(KIB).data + b"\xff" * (6 * KIB) + b"end!", BASE, "bin")
    board = SimulatedBoard(flash=OLD[: 8 * KIB])
    events = flash(board, image)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.written < 3 * KIB
    assert finished.flash == board.flash[: len(image.data)] == image.data


def test_an_image_that_is_blank_all_over_is_erased_and_proven() -> None:
    """A configuration of nothing but 0xFF is a valid, if odd, image."""
    board = SimulatedBoard(flash=OLD)
    *_, finished = flash(board, FirmwareImage(b"\xff" * KIB, BASE + KIB, "bin"))
    assert isinstance(finished, Finished)
    assert (finished.written, finished.flash) == (0, b"\xff" * KIB)


def test_flash_is_read_in_blocks() -> None:
    """Any length is read, in blocks of at most 256 bytes."""
    bootloader = connected(SimulatedBoard(flash=OLD))
    identify(bootloader)
    blocks = list(read_flash(bootloader, BASE + 3, length=1000))
    assert [len(block) for block in blocks] == [256, 256, 256, 232]
    assert b"".join(blocks) == OLD[3:1003]


# What goes wrong


def test_a_bootloader_that_cannot_write_is_refused_before_anything_is_erased() -> None:
    """The commands that are needed are looked up first."""
    commands = bytes((0x00, 0x01, 0x02, 0x11, 0x43))
    board = SimulatedBoard(replace(STM32F103C8, commands=commands), flash=OLD)
    with pytest.raises(RefusedError, match="cannot flash: its commands are 00, 01, 02, 11, 43"):
        flash(board, code(KIB))
    assert board.flash == OLD


@pytest.mark.parametrize(
    ("faults", "protected"),
    [(Faults(flipped_bit=BASE + 700), ()), (Faults(sticky_page=1), ()), (Faults(flipped_bit=BASE + 2046), ())],
)
def test_flash_that_does_not_take_the_image_is_found_by_reading(faults: Faults, protected: tuple[int, ...]) -> None:
    """A bad bit, a page that does not erase and protected pages are all acknowledged; reading finds them."""
    board = SimulatedBoard(flash=OLD, faults=faults)
    board.protect(pages=protected)
    with pytest.raises(
        FlashProofError,
        match=r"^check 10 failed, the flash does not hold what was written: at 0x0800.* it reads 0x.. instead of 0x",
    ) as failure:
        flash(board, code(2 * KIB))
    assert "replace the board" in failure.value.remedy
    assert "erased 2 of 2 pages, wrote 1 of 2" in failure.value.why


@pytest.mark.parametrize(("faults", "protected"), [(Faults(sticky_page=0), ()), (Faults(), (0, 1, 2, 3))])
def test_a_first_page_that_does_not_erase_ends_it_there(faults: Faults, protected: tuple[int, ...]) -> None:
    """The old program stays whole: no other page goes before the old vector table is seen to be gone."""
    old, new = ((EXAMPLES / f"bluepill-{version}.bin").read_bytes() for version in ("1.1.0", "1.2.0"))
    board = SimulatedBoard(flash=old, faults=faults)
    board.protect(pages=protected)
    before = board.flash
    with pytest.raises(FlashProofError, match=r"page 0 does not erase, .* nothing else was changed") as failure:
        flash(board, FirmwareImage(new, BASE, "bin"))
    assert "replace the board" in failure.value.remedy
    assert board.flash == before


@pytest.mark.parametrize("behind", [0, 1, 50])
def test_a_byte_that_changes_beside_the_image_is_found(behind: int) -> None:
    """All that was erased is read back: what is not the image's has to be what it was."""
    image = code(KIB + 584)
    board = SimulatedBoard(faults=Faults(flipped_bit=image.span.stop + behind))
    with pytest.raises(FlashProofError, match=f"at {image.span.stop + behind:#010x} it reads 0xfe instead of 0xff"):
        flash(board, image)


def test_a_bad_bit_in_the_vector_table_is_found_last() -> None:
    """When the very first words read back wrong, the error says that all is written and they are not right."""
    with pytest.raises(BoardError, match=r"at 0x08000001 .* wrote 2 of 2; everything is written, but its first words"):
        flash(SimulatedBoard(faults=Faults(flipped_bit=BASE + 1)), code(2 * KIB))


def interrupted_after(count: int, image: FirmwareImage, *, old: bytes = OLD) -> tuple[SimulatedBoard, str]:
    """A board whose cable comes off after `count` bytes of flashing, and what the error says, if it comes to one."""
    board = SimulatedBoard(flash=old, faults=Faults(silent_after=count))
    try:
        flash(board, image)
    except NoAnswerError as error:
        return board, str(error)
    return board, ""


def test_a_cable_pulled_at_any_byte_leaves_what_the_error_says() -> None:
    """At every byte sent: the flash is untouched, or cannot start and a second run writes it whole, or it is done."""
    # Two pages, mostly blank, so that every byte can be tried: code, then a little at the start of page 1,
    # and behind it bytes of somebody else's.
    image = FirmwareImage(code(40).data.ljust(KIB, b"\xff") + code(20).data, BASE, "bin")
    old = OLD[:KIB].ljust(2 * KIB - 12, b"\xff") + b"other's data" + OLD[2 * KIB :]
    outcomes: list[str] = []
    while not outcomes or outcomes[-1] != "done":
        board, said = interrupted_after(len(outcomes) + 1, image, old=old)
        outcomes.append(_check_interruption(board, image, said=said, old=old))
    order = [name for name, _ in groupby(outcomes)]
    assert order == ["untouched", "unknown", "erased", "sealing", "proving", "done"]


def _check_interruption(board: SimulatedBoard, image: FirmwareImage, *, said: str, old: bytes) -> str:
    """Compare what the error says with what the flash holds; then flash again, and expect all to be well."""
    outcome, found, size = _outcome(said), board.flash, len(image.data)
    holds = {
        "untouched": found == old,
        "unknown": found[:8] in (old[:8], b"\xff" * 8),
        "erased": found[:8] == b"\xff" * 8,
        "sealing": found[8:size] == image.data[8:],
        "proving": found[:size] == image.data,
        "done": found[:size] == image.data,
    }
    assert holds[outcome], said
    kept = found[size : 2 * KIB] == old[size : 2 * KIB]
    assert kept or "beside the image are not all written back" in said
    assert found[2 * KIB :] == old[2 * KIB :]
    if outcome != "done":
        flash(board, image)
    assert board.flash[:size] == image.data
    return outcome


def _outcome(said: str) -> str:
    words = {
        "nothing was changed": "untouched",
        "No bootloader": "untouched",
        "in Get": "untouched",
        "the board will not start a half written image": "erased",
        "is unknown, and so is what the board will start": "unknown",
        "whether those are written is unknown": "sealing",
        "but its first words are not proven": "proving",
    }
    return next((outcome for phrase, outcome in words.items() if phrase in said), "done")


def test_the_report_counts_what_was_done() -> None:
    """The technician reads how far it went, in pages, as it was at that moment."""
    image = code(4 * KIB)
    for count in range(60, 4300, 211):
        board, said = interrupted_after(count, image)
        pages = [slice(at, at + KIB) for at in range(0, 4 * KIB, KIB)]
        whole = sum(board.flash[page] == image.data[page] for page in pages)
        untouched = sum(board.flash[page] == OLD[page] for page in pages)
        counts = re.search(r"erased (\d) of 4 pages, wrote (\d) of 4", said)
        assert counts, said
        # What was done and not acknowledged any more is not counted.
        assert int(counts[1]) in (4 - untouched, 3 - untouched)
        assert int(counts[2]) in (whole, whole - 1)


@pytest.mark.parametrize("number", range(1, 60))
def test_an_acknowledgement_that_is_lost_never_ends_in_success_unproven(number: int) -> None:
    """Whichever ACK is lost, the run fails and says so, or what it proved is what the flash holds."""
    board, image = SimulatedBoard(flash=OLD, faults=Faults(lost_ack=number)), code(KIB + 10)
    try:
        *_, finished = flash(board, image)
    except BoardError:
        flash(board, image)
    else:
        assert isinstance(finished, Finished)
        assert finished.sha256 == hashlib.sha256(image.data).digest()
    assert board.flash[: len(image.data)] == image.data


def test_an_interruption_from_the_keyboard_says_what_is_half_done() -> None:
    """Control-C in the middle is told like a pulled cable."""

    class ImpatientLink(DirectLink):
        """A link whose user gives up at the first block that is written."""

        def write(self, data: bytes, /) -> None:
            """Hand a frame over, unless it is Write Memory."""
            if data == b"\x31\xce":
                raise KeyboardInterrupt
            super().write(data)

    bootloader = Bootloader(ImpatientLink(SimulatedBoard(flash=OLD)))
    bootloader.connect()
    with pytest.raises(BoardError, match=r"interrupted: erased 2 of 2 pages, wrote 0 of 2; .*will not start"):
        list(carry_out(planned(code(2 * KIB)), bootloader))


def test_an_image_that_does_not_begin_the_flash_is_reported_as_such() -> None:
    """A second component's half image does not stop the board from starting its first."""
    with pytest.raises(NoAnswerError, match="the image's first words, in page 8, read erased"):
        flash(SimulatedBoard(flash=OLD, faults=Faults(silent_after=400)), code(4 * KIB, at=BASE + 8 * KIB))


# Starting


class TalkingLink(DirectLink):
    """A board that says something when it is started."""

    speech = b""

    def write(self, data: bytes, /) -> None:
        """Hand a frame over; the speech follows the ACK of Go's address."""
        super().write(data)
        self._received += self.speech if len(data) == 5 else b""


def test_what_a_board_prints_cannot_drive_the_terminal() -> None:
    """Control characters, direction marks and bytes that are no UTF-8 are made visible."""
    link = TalkingLink(SimulatedBoard(flash=code(KIB).data))
    link.speech = "ok\r\n\x1b[2J\x07 grün \u202e".encode() + b"\xff\n"
    bootloader = Bootloader(link)
    bootloader.connect()
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    assert start(bootloader, BASE, listen=0.1) == "ok\n\\x1b[2J\\x07 grün \\u202e\\xff\n"


def test_a_board_that_says_nothing_is_started_all_the_same() -> None:
    """Silence after Go is no error: not every program prints."""
    bootloader = connected(SimulatedBoard(flash=code(KIB).data))
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    assert start(bootloader, BASE, listen=0.05) == ""
