"""Bytes are garbled on a line with a wrong rate or parity, and the boot ROM measures the rate."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_host.simulator import STM32F103C8, LineSettings, SimulatedBoard
from firmware_host.simulator.line import received
from tests.firmware_host.board_clock import Clock

ACK, SILENCE, GET_ID, ID = b"\x79", b"", b"\x02\xfd", b"\x79\x01\x04\x10\x79"
EVEN = LineSettings(115200)
NONE = LineSettings(115200, "N")


@given(data=st.binary(max_size=40), error=st.floats(-0.02, 0.02))
def test_two_clocks_may_differ_by_two_per_cent(data: bytes, error: float) -> None:
    """Bytes are received correctly if the two rates differ by at most 2 %."""
    assert received(data, EVEN, heard=LineSettings(round(115200 * (1 + error)))) == data


@given(byte=st.integers(0, 255), parity=st.sampled_from("NO"))
def test_a_single_byte_arrives_with_any_parity(byte: int, parity: str) -> None:
    """A single byte is received correctly without parity or with odd parity."""
    assert received(bytes([byte]), LineSettings(115200, parity), heard=EVEN) == bytes([byte])


def test_bytes_without_parity_that_follow_each_other_are_garbled() -> None:
    """Consecutive bytes without parity are garbled: a start bit arrives in place of the stop bit."""
    assert received(bytes(range(32)), NONE, heard=EVEN) != bytes(range(32))


@pytest.mark.parametrize("baud", [57600, 100000, 128000, 230400])
def test_another_rate_garbles(baud: int) -> None:
    """Bytes sent at another rate are garbled in both directions."""
    other, data = LineSettings(baud), b"BlockOTA"
    assert received(data, other, heard=EVEN) != data
    assert received(data, EVEN, heard=other) != data


def test_a_line_of_unknown_rate_is_never_garbled() -> None:
    """Bytes on a line without a rate, such as a TCP connection, are not garbled."""
    assert received(b"abc", LineSettings(), heard=EVEN) == b"abc"


def test_the_rom_keeps_the_rate_of_the_first_byte_until_reset() -> None:
    """The boot ROM uses the rate of the first byte until a reset, and does not understand another rate."""
    board = SimulatedBoard()
    board.set_line(LineSettings(57600))
    assert board.feed(b"\x7f") + board.feed(GET_ID) == ACK + ID
    board.set_line(EVEN)
    assert board.feed(GET_ID) != ID
    board.reset()
    assert board.feed(b"\x7f") + board.feed(GET_ID) == ACK + ID


@pytest.mark.parametrize(("baud", "answer"), [(256_000, ACK), (460_800, SILENCE)])
def test_a_rate_above_the_chips_makes_the_rom_deaf(
    baud: int, *, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """After a first byte at too high a rate, the boot ROM does not respond until a reset."""
    caplog.set_level(logging.INFO)
    board = SimulatedBoard()
    board.set_line(LineSettings(baud))
    assert board.feed(b"\x7f") == answer
    assert ("too many for this ROM" in caplog.text) == (answer == SILENCE)
    board.set_line(EVEN)
    board.reset()
    assert board.feed(b"\x7f") == ACK


def test_a_faster_chip_can_be_had() -> None:
    """A profile can allow 460800 baud, which some real boards accept."""
    board = SimulatedBoard(replace(STM32F103C8, max_baud=460_800))
    board.set_line(LineSettings(460_800))
    assert board.feed(b"\x7f") == ACK


def test_without_parity_the_rom_answers_single_bytes_and_no_frame() -> None:
    """Without parity the boot ROM acknowledges 0x7F, but does not understand a two-byte command."""
    board = SimulatedBoard()
    board.set_line(NONE)
    assert board.feed(b"\x7f") == ACK
    assert board.feed(GET_ID) != ID


def test_a_model_with_a_rate_of_its_own_ignores_the_hosts() -> None:
    """The rate of the time model takes precedence over the host's rate."""
    board = SimulatedBoard(times=Clock().times(baud=9600))
    board.set_line(LineSettings(460_800, "N"))
    assert board.feed(b"\x7f") + board.feed(GET_ID) == ACK + ID


def test_a_model_without_a_rate_takes_the_hosts() -> None:
    """If the time model has no rate, the host's rate determines the time."""
    clock = Clock()
    board = SimulatedBoard(times=clock.times(baud=0))
    board.set_line(LineSettings(1200))
    before = clock.now()
    board.feed(b"\x7f")
    assert clock.now() - before == pytest.approx(22 / 1200)


def test_a_break_is_not_0x7f_and_later_a_zero() -> None:
    """After a break before the first byte, the boot ROM does not respond; a later break counts as a zero byte."""
    board = SimulatedBoard()
    board.hear_break()
    assert board.feed(b"\x7f") == SILENCE
    board.reset()
    assert board.feed(b"\x7f") == ACK
    board.hear_break()
    assert board.feed(b"\xff")[:1] == ACK


def test_nrst_stops_the_board_and_its_release_starts_what_boot0_selects() -> None:
    """The board does not answer while NRST is low; when NRST rises, BOOT0 selects boot ROM or application."""
    board = SimulatedBoard()
    board.hold_reset(low=True)
    assert board.feed(b"\x7f") == SILENCE
    board.hold_reset(low=False)
    assert board.feed(b"\x7f") == ACK
    board.boot0 = False
    board.hold_reset(low=True)
    board.hold_reset(low=False)
    assert board.feed(b"\x7f") == SILENCE


def test_a_rom_listens_a_while_after_nrst_rises() -> None:
    """A byte that arrives before the boot time of the ROM has passed is lost."""
    clock = Clock()
    board = SimulatedBoard(times=clock.times())
    board.hold_reset(low=True)
    board.hold_reset(low=False)
    assert board.feed(b"\x7f") == SILENCE
    clock.wait(STM32F103C8.boot_seconds)
    assert board.feed(b"\x7f") == ACK
