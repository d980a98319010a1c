"""The simulated board takes realistic time, and loses bytes that arrive while it is busy."""

from __future__ import annotations

import struct
import time

import pytest

from firmware_host.simulator import STM32F103C8, Faults, SimulatedBoard, TimeModel
from tests.firmware_host.board_clock import Clock
from tests.firmware_host.simulator.frames import ACK, at, counted

RAM, STACK, AIRCR_RESET = 0x2000_0200, 0x2000_5000, (0xE000_ED0C, 0x05FA_0004)
BYTE = 11 / 115200
LOOPS = 100_000
PROGRAM_SECONDS = 2 * LOOPS * 1.3 / 24e6
"""Two instructions per loop of 1.3 cycles each, at the 24 MHz that the boot ROM has set (AN2606)."""
BOOT = STM32F103C8.boot_seconds


def counting(loops: int) -> bytes:
    """Return a program for RAM that counts down, stores 0x600D0001 in RAM, and requests a reset."""
    # ldr r0, loops; 1: subs r0, #1; bne 1b; ldr r1, at; ldr r2, mark; str r2, [r1]; the same for AIRCR; b .
    code = bytes.fromhex("0448 0138 fdd1 0449 044a 0a60 0449 054a 0a60 fee7")
    data = struct.pack("<5I", loops, RAM + 0x100, 0x600D_0001, *AIRCR_RESET)
    return struct.pack("<2I", STACK, RAM + 9) + code + data


def uploaded(board: SimulatedBoard, program: bytes) -> None:
    """Write a program to RAM with Write Memory."""
    frames = (b"\x7f", b"\x31\xce", at(RAM), counted(program))
    assert b"".join(map(board.feed, frames)) == ACK * 4


def gone(board: SimulatedBoard) -> None:
    """Send Go with the address of the program in RAM."""
    assert board.feed(b"\x21\xde") + board.feed(at(RAM)) == ACK * 2


@pytest.fixture
def clock() -> Clock:
    """A simulated clock."""
    return Clock()


@pytest.fixture
def board(clock: Clock) -> SimulatedBoard:
    """A board at 115200 baud that has just started a program in RAM."""
    board = SimulatedBoard(times=clock.times())
    uploaded(board, counting(LOOPS))
    gone(board)
    return board


def test_a_program_in_ram_takes_its_instructions_time(board: SimulatedBoard, clock: Clock) -> None:
    """A program in RAM runs for its computed time, at 24 MHz and 1.3 cycles per instruction."""
    clock.wait(PROGRAM_SECONDS - 3e-4)
    board.idle(0)
    assert board.application is not None
    clock.wait(6e-4)
    board.idle(0)
    assert board.application is None


def test_what_a_program_left_in_ram_is_read_after_its_reset(board: SimulatedBoard, clock: Clock) -> None:
    """After a program's reset the boot ROM reads the word that the program stored in RAM."""
    clock.wait(PROGRAM_SECONDS + BOOT + 1e-3)
    assert board.feed(b"\x7f") == ACK
    reading = (b"\x11\xee", at(RAM + 0x100), b"\x03\xfc")
    assert b"".join(map(board.feed, reading)) == ACK * 3 + b"\x01\x00\x0d\x60"


def test_without_a_model_a_program_runs_as_long_as_it_is_let() -> None:
    """Without a time model, a program in RAM makes progress only during calls of `run`."""
    board = SimulatedBoard()
    uploaded(board, counting(LOOPS))
    gone(board)
    board.run(PROGRAM_SECONDS)
    assert board.feed(b"\x7f") == ACK


def test_a_byte_while_a_program_runs_is_lost(board: SimulatedBoard, clock: Clock) -> None:
    """A byte that arrives while a program runs is lost, and the boot ROM answers the next 0x7F."""
    assert board.feed(b"\x7f") == b""
    clock.wait(PROGRAM_SECONDS + BOOT + 1e-3)
    assert board.feed(b"\x7f") == ACK
    assert board.feed(b"\x02\xfd")[:1] == ACK


def test_a_byte_across_the_reset_makes_the_rom_deaf(clock: Clock) -> None:
    """If a byte is on the line during the reset, the boot ROM measures a wrong rate and does not respond."""
    board = SimulatedBoard(times=clock.times(baud=1200))
    uploaded(board, counting(LOOPS))
    gone(board)
    clock.wait(PROGRAM_SECONDS - 11 / 1200 / 2)
    assert board.feed(b"\x7f") == b""
    clock.wait(1)
    assert board.feed(b"\x7f") == b""
    board.reset()
    assert board.feed(b"\x7f") == ACK


@pytest.mark.parametrize(("early", "later"), [(BYTE + 1e-4, ACK), (BYTE / 2, b"")], ids=["lost", "deaf"])
def test_the_rom_listens_a_while_after_the_reset(clock: Clock, early: float, *, later: bytes) -> None:
    """A byte during the boot ROM's start-up (1.227 ms) is lost; a byte that ends after the start-up is misread."""
    board = SimulatedBoard(times=clock.times())
    assert board.feed(b"\x7f") + board.feed(b"\x73\x8c") == ACK * 3
    clock.wait(BOOT - early)
    assert board.feed(b"\x7f") == b""
    clock.wait(1)
    assert board.feed(b"\x7f") == later


def test_an_answer_comes_at_its_moment_whatever_the_simulator_computed() -> None:
    """The computing time of the simulator shortens the time that it waits before an answer."""
    clock, looks, waits = Clock(), list[float](), list[float]()

    def now() -> float:
        """Return the time; after the first call, the clock has jumped by 0.1 s."""
        looks.append(clock.now())
        return looks[-1] + (0.1 if len(looks) > 1 else 0.0)

    board = SimulatedBoard(times=TimeModel(baud=9600, latency=0.2, wait=waits.append, now=now))
    clock.wait(1)
    looks.clear()
    assert board.feed(b"\x7f") == ACK
    assert waits == [pytest.approx(0.1 + 2 * 11 / 9600)]


def test_frames_take_the_line_one_after_the_other(clock: Clock) -> None:
    """A frame that the host writes in parts takes as long as on a real line."""
    board = SimulatedBoard(times=clock.times())
    before = clock.now()
    board.feed(b"\x7f")
    for byte in b"\x02\xfd":
        board.feed(bytes([byte]))
    assert clock.now() - before == pytest.approx(9 * BYTE)


def test_without_another_clock_the_machines_is_waited_for() -> None:
    """Without a simulated clock, reading 256 bytes takes at least the time of the line."""
    board = SimulatedBoard(times=TimeModel(baud=460800))
    board.feed(b"\x7f")
    started = time.monotonic()
    for frame in (b"\x11\xee", at(0x0800_0000), b"\xff\x00"):
        board.feed(frame)
    assert time.monotonic() - started >= 268 * 11 / 460800


def test_a_power_cut_ends_a_program_in_ram_and_ram_is_lost(clock: Clock) -> None:
    """After a power cut, RAM does not contain the previous program."""
    board = SimulatedBoard(times=clock.times(), faults=Faults(power_cut_after=60))
    uploaded(board, counting(LOOPS)[:40])
    board.feed(b"\x7f" * 12)
    assert not board.powered
    board.connect()
    assert board.feed(b"\x7f") == ACK
    reading = (b"\x11\xee", at(RAM), b"\x03\xfc")
    assert b"".join(map(board.feed, reading))[3:] != counting(LOOPS)[:4]
