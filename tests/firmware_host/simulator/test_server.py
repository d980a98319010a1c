"""The simulated board is served on a TCP port and on a pseudo-terminal."""

from __future__ import annotations

import logging
import os
import select
import socket
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from blockota.errors import LinkError
from firmware_host.simulator import Faults, SimulatedBoard, serve_pty, serve_tcp
from tests.conftest import IMAGES
from tests.firmware_host.board_clock import Clock
from tests.support.waiting import DEADLINE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = (IMAGES / "bluepill-1.1.0.bin").read_bytes()
GO_TO_FLASH = b"\x21\xde\x08\x00\x00\x00\x08"
BANNER = b"BlockOTA bluepill 1.1.0 (64 KiB flash, up 0 s)\r\n"
"""Seconds after which a test that waits for an answer fails."""


def connected(url: str) -> socket.socket:
    """Open a TCP connection to the board."""
    host, port = url.removeprefix("socket://").split(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def received(connection: socket.socket | int, length: int) -> bytes:
    """Receive this many bytes, or fewer at the deadline or at the end of the connection."""
    data = b""
    while len(data) < length and select.select([connection], [], [], DEADLINE)[0]:
        room = length - len(data)
        part = os.read(connection, room) if isinstance(connection, int) else connection.recv(room)
        if not part:
            break
        data += part
    return data


@contextmanager
def terminal(path: str, *, baud: int | None = None) -> Iterator[int]:
    """Open the pseudo-terminal as a program does, with this rate."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        if baud is not None:
            settings = termios.tcgetattr(descriptor)
            settings[4:6] = [baud, baud]
            termios.tcsetattr(descriptor, termios.TCSANOW, settings)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def fresh_terminal(path: str) -> Iterator[int]:
    """Open the pseudo-terminal and send 0x7F, repeatedly until the boot ROM answers.

    The server resets the board after it has noticed that the previous program closed the pseudo-terminal.
    """
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        time.sleep(0.02)
        with terminal(path) as line:
            os.write(line, b"\x7f")
            data = b""
            while b"\x79" not in data and select.select([line], [], [], 0.1)[0]:
                data += os.read(line, 4096)
            if b"\x79" in data:
                assert data == b"\x79"
                yield line
                return
    pytest.fail("the board was not reset")


def test_a_connection_reaches_the_rom_and_then_the_application() -> None:
    """The boot ROM and then the application use the same TCP connection."""
    with serve_tcp(SimulatedBoard(flash=IMAGE)) as url, connected(url) as line:
        line.sendall(b"\x7f")
        assert received(line, 1) == b"\x79"
        line.sendall(GO_TO_FLASH)
        assert received(line, 2 + len(BANNER)) == b"\x79\x79" + BANNER


def test_each_connection_is_a_reset() -> None:
    """Each new TCP connection resets the board into its boot ROM."""
    with serve_tcp(SimulatedBoard(flash=IMAGE)) as url:
        for left_behind in (b"", b"\x31", GO_TO_FLASH):
            with connected(url) as line:
                line.sendall(b"\x7f" + left_behind)
                assert received(line, 1) == b"\x79"


def test_noise_comes_before_the_first_answer() -> None:
    """The fault `noise_at_open` also occurs over TCP."""
    with serve_tcp(SimulatedBoard(faults=Faults(noise_at_open=7))) as url, connected(url) as line:
        line.sendall(b"\x7f")
        assert received(line, 8)[7:] == b"\x79"


def test_a_host_that_leaves_within_an_answer_is_not_an_error() -> None:
    """After a host disconnects in the middle of an answer, the next connection is served."""
    with serve_tcp(SimulatedBoard(flash=IMAGE)) as url:
        for _ in range(3):
            with connected(url) as line:
                line.sendall(b"\x7f" + b"\x11\xee\x08\x00\x00\x00\x08\xff\x00" * 200)
        with connected(url) as line:
            line.sendall(b"\x7f")
            assert received(line, 1) == b"\x79"


def test_a_port_in_use_is_a_link_error() -> None:
    """The error for a TCP port in use contains the port and the reason."""
    with serve_tcp(SimulatedBoard()) as url:
        port = int(url.rpartition(":")[2])
        with (
            pytest.raises(LinkError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"),
            serve_tcp(SimulatedBoard(), port=port),
        ):
            pass


def test_a_pseudo_terminal_is_reset_at_each_opening() -> None:
    """Opening the pseudo-terminal, after all programs have closed it, resets the board into its boot ROM."""
    with serve_pty(SimulatedBoard(flash=IMAGE)) as path:
        for _ in range(3):
            with fresh_terminal(path) as line:
                os.write(line, GO_TO_FLASH)
                assert received(line, 2 + len(BANNER)) == b"\x79\x79" + BANNER


def test_bytes_that_a_program_did_not_read_are_discarded() -> None:
    """Bytes that a program did not read are not received by the next program, as on a real port."""
    with serve_pty(SimulatedBoard(flash=IMAGE)) as path:
        with terminal(path) as line:
            os.write(line, b"\x7f" + GO_TO_FLASH)
            assert received(line, 3) == b"\x79" * 3
            assert select.select([line], [], [], DEADLINE)[0]  # the banner, which stays unread
        with fresh_terminal(path) as line:
            os.write(line, b"\x02\xfd")
            assert received(line, 5) == b"\x79\x01\x04\x10\x79"


def test_a_second_program_on_the_terminal_does_not_reset() -> None:
    """A second program that opens the pseudo-terminal does not reset the board."""
    with serve_pty(SimulatedBoard(flash=IMAGE)) as path, terminal(path) as first:
        os.write(first, b"\x7f")
        assert received(first, 1) == b"\x79"
        with terminal(path) as second:
            os.write(second, GO_TO_FLASH)
        assert received(first, 2 + len(BANNER)) == b"\x79\x79" + BANNER


@pytest.mark.parametrize("baud", [termios.B230400, termios.B921600])
def test_the_terminals_rate_is_that_of_the_line(baud: int, caplog: pytest.LogCaptureFixture) -> None:
    """The rate of the pseudo-terminal applies: the boot ROM answers at 230400 baud, but not at 921600."""
    caplog.set_level(logging.WARNING)
    with serve_pty(SimulatedBoard()) as path, terminal(path, baud=baud) as line:
        os.write(line, b"\x7f")
        if baud == termios.B230400:
            assert received(line, 1) == b"\x79"
            return
        eventually(lambda: "921600 baud are too many" in caplog.text, what="the warning")


def test_the_terminals_rate_is_that_of_a_time_model_without_one() -> None:
    """If the time model has no rate, the rate of the pseudo-terminal determines the time."""
    clock = Clock()
    board = SimulatedBoard(times=clock.times(baud=0))
    with serve_pty(board) as path, terminal(path, baud=termios.B9600) as line:
        started = clock.now()
        os.write(line, b"\x7f" + b"\x02\xfd" * 4)
        assert len(received(line, 21)) == 21
    assert clock.now() - started == pytest.approx(30 * 11 / 9600)
