"""Each fault of the simulated board has its documented effect, and leaves the right state."""

from __future__ import annotations

import logging

import pytest

from firmware_host.simulator import FAULT_NAMES, STM32F103C8, Faults, SimulatedBoard
from tests.firmware_host.simulator.frames import ACK, NACK, SILENCE, summed, writing

GET_ID, ERASE, UNPROTECT = b"\x02\xfd", b"\x43\xbc", b"\x92\x6d"
FLASH = 0x0800_0000
ZEROS = bytes(STM32F103C8.flash_size)
PAGE = STM32F103C8.page_size


def erasing(*pages: int) -> bytes:
    """Return the frames of an Erase Memory command."""
    return ERASE + summed(bytes([len(pages) - 1, *pages]))


def ready(faults: Faults, flash: bytes = b"") -> SimulatedBoard:
    """Return a board with these faults and a synchronised boot ROM."""
    board = SimulatedBoard(flash=flash, faults=faults)
    assert board.feed(b"\x7f").endswith(ACK)
    return board


def test_power_fails_after_a_byte() -> None:
    """With `power_cut_after` the last received byte is not answered, and later bytes are lost."""
    frame = writing(FLASH, b"abcd")
    board = ready(Faults(power_cut_after=len(frame)))
    assert board.feed(frame) == ACK * 2
    assert not board.powered
    assert board.flash[:4] == b"\xff" * 4
    assert board.feed(b"\x7f" * 3) == SILENCE
    board.connect()
    assert board.feed(b"\x7f" + frame) == ACK * 4
    assert board.flash[:4] == b"abcd"


@pytest.mark.parametrize(("number", "kept"), [(1, 0), (2, 2), (4, 6)])
def test_power_fails_before_a_half_word(number: int, kept: int) -> None:
    """With `power_cut_before_program` the half-words before the cut are programmed, and the others stay erased."""
    board = ready(Faults(power_cut_before_program=number))
    assert board.feed(writing(FLASH, b"abcdefgh")) == ACK * 2
    assert board.flash[:8] == b"abcdefgh"[:kept].ljust(8, b"\xff")


@pytest.mark.parametrize("seed", range(4))
def test_power_fails_within_a_half_word(seed: int) -> None:
    """With `power_cut_in_program` a half-word is partly programmed, and the following half-words stay erased."""
    board = ready(Faults(power_cut_in_program=2, seed=seed))
    assert board.feed(writing(FLASH, b"ab\x00\x00efgh")) == ACK * 2
    half = int.from_bytes(board.flash[2:4])
    assert 0 < half < 0xFFFF
    assert board.flash[:2] == b"ab"
    assert board.flash[4:8] == b"\xff" * 4


def test_a_half_programmed_half_word_takes_nothing_but_zero_before_it_is_erased() -> None:
    """Writing a partly programmed half-word again, without an erase, does not change it."""
    board = ready(Faults(power_cut_in_program=1))
    board.feed(writing(FLASH, b"\x12\x34\xff\xff"))
    half = board.flash[:2]
    board.connect()
    assert board.feed(b"\x7f" + writing(FLASH, b"\x12\x34\xff\xff")) == ACK * 4
    assert board.flash[:2] == half != b"\x12\x34"


@pytest.mark.parametrize("seed", range(6))
def test_power_fails_within_an_erase(seed: int) -> None:
    """With `power_cut_in_erase`, the page is partly erased, and no other page changes."""
    board = ready(Faults(power_cut_in_erase=2, seed=seed), flash=ZEROS)
    assert board.feed(erasing(0, 3, 5)) == ACK
    assert board.flash[:PAGE] == b"\xff" * PAGE
    torn = board.flash[3 * PAGE : 4 * PAGE]
    assert 0.2 < sum(byte.bit_count() for byte in torn) / (8 * PAGE) < 0.8
    assert board.flash[PAGE : 3 * PAGE] == bytes(2 * PAGE)
    assert board.flash[4 * PAGE :] == ZEROS[4 * PAGE :]
    again = ready(Faults(power_cut_in_erase=2, seed=seed), flash=ZEROS)
    again.feed(erasing(0, 3, 5))
    assert again.flash == board.flash


@pytest.mark.parametrize("command", [ERASE + b"\xff\x00", UNPROTECT], ids=["mass erase", "readout unprotect"])
def test_power_fails_within_the_erase_of_everything(command: bytes) -> None:
    """A power cut in a global erase leaves every page partly erased, and does not remove readout protection."""
    board = SimulatedBoard(flash=ZEROS, faults=Faults(power_cut_in_erase=1))
    board.protect(readout=command == UNPROTECT)
    assert board.feed(b"\x7f" + command) == ACK * 2
    for start in range(0, len(board.flash), PAGE):
        assert board.flash[start : start + PAGE] not in {bytes(PAGE), b"\xff" * PAGE}
    board.connect()
    assert board.readout_protected == (command == UNPROTECT)


def test_power_fails_while_the_option_bytes_are_erased() -> None:
    """A power cut in the erase of the option bytes leaves the flash protected from reading."""
    board = ready(Faults(power_cut_in_erase=1, seed=1))
    board.feed(b"\x63\x9c" + summed(b"\x00\x05"))
    board.connect()
    assert board.readout_protected


def test_an_unplugged_cable_leaves_the_rom_in_its_half_frame() -> None:
    """With `unplug_after`, the boot ROM still waits for the missing part of a frame after the reconnection."""
    frame = writing(FLASH, b"abcd")
    board = ready(Faults(unplug_after=1 + 10))
    assert board.feed(frame) == ACK * 2
    assert board.connect() == SILENCE
    assert board.feed(b"\x7f") == SILENCE
    assert board.flash[:4] == b"\xff" * 4
    board.feed(frame[11:])
    board.connect()
    assert board.feed(b"\x7f") == ACK


def test_a_rest_of_a_frame_completes_it_after_the_cable_is_back() -> None:
    """The second part of a frame completes the frame even if it is sent after the cable was reconnected."""
    frame = writing(FLASH, b"abcd")
    board = ready(Faults(unplug_after=1 + 10))
    board.feed(frame)
    board.connect()
    assert board.feed(frame[10:]) == ACK
    assert board.flash[:4] == b"abcd"


def test_a_cable_that_comes_off_in_an_answer_loses_its_rest() -> None:
    """With `unplug_after_sent`, the missing part of the answer is lost, and the boot ROM accepts the next command."""
    board = ready(Faults(unplug_after_sent=3))
    assert board.feed(GET_ID) == b"\x79\x01"
    assert board.feed(GET_ID) == SILENCE
    board.connect()
    assert board.feed(GET_ID) == b"\x79\x01\x04\x10\x79"


def test_a_bit_that_flips_on_the_way_to_the_board_arrives() -> None:
    """A byte whose bit flips on the way to the board is received, and the frame's checksum is wrong."""
    board = ready(Faults(flip_received=12, seed=5))
    assert board.feed(writing(FLASH, b"abcd")) == ACK * 2 + NACK
    assert board.feed(writing(FLASH, b"abcd")) == ACK * 3


def test_a_bit_that_flips_in_an_answer_is_received() -> None:
    """A bit that flips in an answer changes one byte that the host receives."""
    board = ready(Faults(flip_sent=4, seed=4))
    assert board.feed(GET_ID) == b"\x79\x01\x14\x10\x79"
    assert board.feed(GET_ID) == b"\x79\x01\x04\x10\x79"


def test_a_flipped_bit_in_the_first_0x7f_makes_the_rom_deaf() -> None:
    """If a bit flips in the first 0x7F, the boot ROM measures a wrong rate and does not respond."""
    board = SimulatedBoard(faults=Faults(flip_received=1))
    assert board.feed(b"\x7f\x7f\x7f") == SILENCE


@pytest.mark.parametrize(
    ("faults", "answer"),
    [
        (Faults(extra_ack=1), ACK * 2),
        (Faults(leading_zero=1), b"\x00" + ACK),
        (Faults(extra_ack=1, leading_zero=1), b"\x00" + ACK * 2),
    ],
    ids=["extra ack", "leading zero", "both"],
)
def test_the_first_answer_of_some_roms_is_longer(faults: Faults, answer: bytes) -> None:
    """The faults `leading_zero` and `extra_ack` add bytes to the first answer after each reset only."""
    board = SimulatedBoard(faults=faults)
    for _ in range(2):
        assert board.feed(b"\x7f") == answer
        assert board.feed(b"\x7f\x7f" + GET_ID) == NACK + b"\x79\x01\x04\x10\x79"
        board.reset()


def test_every_fault_has_a_name(caplog: pytest.LogCaptureFixture) -> None:
    """Every fault can be set by its name, and such a board answers the first byte."""
    caplog.set_level(logging.INFO)
    for name in FAULT_NAMES:
        board = SimulatedBoard(faults=Faults().adding(f"{name}=2"))
        assert board.feed(b"\x7f")
        assert getattr(Faults().adding(f"{name}=2"), name.replace("-", "_")) == 2
