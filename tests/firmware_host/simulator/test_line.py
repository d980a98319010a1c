"""The simulated board on a TCP port and a pseudo-terminal, and its command."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from blockota.errors import LinkError
from firmware_host.simulator import Faults, SimulatedBoard, TimeModel, serve_pty, serve_tcp

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = Path(__file__).parents[3] / "examples" / "bluepill" / "images" / "bluepill-1.1.0.bin"
GO_TO_FLASH = b"\x21\xde\x08\x00\x00\x00\x08"
BANNER = b"BlockOTA bluepill 1.1.0 (64 KiB flash, up 0 s)\r\n"
PATIENCE = 5.0


def connected(url: str) -> socket.socket:
    """Open a TCP connection to the board."""
    host, port = url.removeprefix("socket://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def received(connection: socket.socket | int, length: int) -> bytes:
    """Return so many bytes, or fewer where no more come in time."""
    data = b""
    while len(data) < length and select.select([connection], [], [], PATIENCE)[0]:
        room = length - len(data)
        part = os.read(connection, room) if isinstance(connection, int) else connection.recv(room)
        if not part:
            break
        data += part
    return data


@contextmanager
def terminal(path: str) -> Iterator[int]:
    """Open the pseudo-terminal as a program would."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_a_connection_finds_the_rom_and_hears_the_banner() -> None:
    """ROM and application talk over the same TCP connection."""
    with serve_tcp(SimulatedBoard(flash=IMAGE.read_bytes())) as url, connected(url) as line:
        line.sendall(b"\x7f")
        assert received(line, 1) == b"\x79"
        line.sendall(GO_TO_FLASH)
        assert received(line, 2 + len(BANNER)) == b"\x79\x79" + BANNER


def test_each_connection_is_a_reset() -> None:
    """Whatever ran or waited before, a new connection is answered by the ROM."""
    with serve_tcp(SimulatedBoard(flash=IMAGE.read_bytes())) as url:
        for left_behind in (b"", b"\x31", GO_TO_FLASH):
            with connected(url) as line:
                line.sendall(b"\x7f" + left_behind)
                assert received(line, 1) == b"\x79"


def test_noise_is_heard_before_the_first_answer() -> None:
    """The fault shows on the line, not only in the board."""
    with serve_tcp(SimulatedBoard(faults=Faults(noise_at_open=7))) as url, connected(url) as line:
        line.sendall(b"\x7f")
        assert received(line, 8)[7:] == b"\x79"


def test_a_host_that_vanishes_leaves_the_board_in_service() -> None:
    """A connection that is torn down in the middle of an answer is no error."""
    with serve_tcp(SimulatedBoard(flash=IMAGE.read_bytes())) as url:
        for _ in range(3):
            with connected(url) as line:
                line.sendall(b"\x7f" + b"\x11\xee\x08\x00\x00\x00\x08\xff\x00" * 200)
        with connected(url) as line:
            line.sendall(b"\x7f")
            assert received(line, 1) == b"\x79"


def test_a_port_in_use_is_a_link_error() -> None:
    """The sentence names the port."""
    with serve_tcp(SimulatedBoard()) as url:
        port = int(url.rpartition(":")[2])
        with (
            pytest.raises(LinkError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"),
            serve_tcp(SimulatedBoard(), port=port),
        ):
            pass


def test_a_pseudo_terminal_finds_the_rom_at_each_opening() -> None:
    """The first program that opens it after the others closed it presses reset."""
    with serve_pty(SimulatedBoard(flash=IMAGE.read_bytes())) as path:
        for _ in range(3):
            with terminal(path) as line:
                os.write(line, b"\x7f" + GO_TO_FLASH)
                assert received(line, 3 + len(BANNER)) == b"\x79\x79\x79" + BANNER
            time.sleep(0.2)


def test_what_one_program_left_unread_the_next_does_not_hear() -> None:
    """As on a real port, closing it forgets what was received."""
    with serve_pty(SimulatedBoard(flash=IMAGE.read_bytes())) as path:
        with terminal(path) as line:
            os.write(line, b"\x7f" + GO_TO_FLASH)
            time.sleep(0.2)
        time.sleep(0.2)
        with terminal(path) as line:
            os.write(line, b"\x7f\x02\xfd")
            assert received(line, 6) == b"\x79\x79\x01\x04\x10\x79"


def test_a_second_program_on_the_terminal_does_not_reset() -> None:
    """A terminal that stays open hears what another program started."""
    with serve_pty(SimulatedBoard(flash=IMAGE.read_bytes())) as path, terminal(path) as first:
        os.write(first, b"\x7f")
        assert received(first, 1) == b"\x79"
        with terminal(path) as second:
            os.write(second, GO_TO_FLASH)
        assert received(first, 2 + len(BANNER)) == b"\x79\x79" + BANNER


@pytest.mark.parametrize(("baud", "answer"), [(termios.B230400, b"\x79"), (termios.B921600, b"")])
def test_a_terminals_rate_is_the_lines(baud: int, answer: bytes) -> None:
    """A ROM is deaf to one that is too high for it."""
    with serve_pty(SimulatedBoard()) as path, terminal(path) as line:
        settings = termios.tcgetattr(line)
        settings[4:6] = [baud, baud]
        termios.tcsetattr(line, termios.TCSANOW, settings)
        os.write(line, b"\x7f")
        assert received(line, len(answer)) == answer
        time.sleep(0.1)
        assert not select.select([line], [], [], 0)[0]


def test_a_terminals_rate_is_the_time_models() -> None:
    """Where the model has none: 1 + 1 + 28 bytes at 9600 baud."""
    with serve_pty(SimulatedBoard(times=TimeModel())) as path, terminal(path) as line:
        settings = termios.tcgetattr(line)
        settings[4:6] = [termios.B9600, termios.B9600]
        termios.tcsetattr(line, termios.TCSANOW, settings)
        begun = time.monotonic()
        os.write(line, b"\x7f" + b"\x02\xfd" * 4)
        assert len(received(line, 21)) == 21
        assert 30 * 11 / 9600 <= time.monotonic() - begun < 0.5


def simulate(*options: str) -> subprocess.Popen[str]:
    """Start the command."""
    command = [sys.executable, "-m", "firmware_host.simulator", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_its_url_and_ends_on_a_signal(tmp_path: Path, stop: signal.Signals) -> None:
    """One line on stdout at once, the board's log on stderr, status 0, the flash kept."""
    flash = tmp_path / "board.flash"
    with simulate("--flash", str(flash), "--fault", "lost-ack=100", "--write-protected", "0-3,60") as command:
        assert command.stdout is not None
        url = command.stdout.readline().strip()
        with connected(url) as line:
            line.sendall(b"\x7f\x31\xce\x08\x00\x20\x00\x28\x03abcd\x07")
            assert received(line, 4) == b"\x79" * 4
        command.send_signal(stop)
        rest, log = command.communicate(timeout=PATIENCE)
    assert (command.returncode, rest) == (0, "")
    assert "waits for 0x7F" in log
    assert flash.read_bytes()[0x2000:0x2004] == b"abcd"


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--tcp", "70000"], 2, "not a TCP port"),
        (["--chip", "z80"], 2, "invalid choice"),
        (["--fault", "rust"], 2, "no fault 'rust'"),
        (["--write-protected", "3-1"], 2, "pages '3-1'"),
        (["--write-protected", "64"], 2, "up to 63"),
        (["--unique-id", "12"], 2, "24 hex digits"),
        (["--flash", "/"], 4, "flash file /"),
    ],
)
def test_what_cannot_be_simulated_is_one_sentence(options: list[str], status: int, *, words: str) -> None:
    """Usage errors end with status 2, others with 4, and no traceback is shown."""
    with simulate(*options) as command:
        out, log = command.communicate(timeout=PATIENCE)
    assert (command.returncode, out) == (status, "")
    assert words in log
    assert "Traceback" not in log


def test_a_port_in_use_ends_the_command_with_status_4() -> None:
    """One clear sentence on stderr."""
    with serve_tcp(SimulatedBoard()) as url, simulate("--tcp", url.rpartition(":")[2]) as command:
        _, log = command.communicate(timeout=PATIENCE)
    assert command.returncode == 4
    assert "Address already in use" in log.splitlines()[-1]
