"""``python -m firmware_host.simulator`` reports errors, ends on signals and serves boards."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import serial

from firmware_host.simulator import SimulatedBoard, serve_tcp
from firmware_host.simulator.__main__ import main, simulate
from tests.support.waiting import DEADLINE

COMMAND = [sys.executable, "-m", "firmware_host.simulator"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--latency", "16"], 2, "--latency has no effect without --baud"),
        (["--fault", "noise-at-open=65537"], 2, "cannot have the value 65537. Write a number up to 65536"),
        (["--baud", "line"], 2, "a TCP connection has no baud rate"),
        (["--fault", "gremlins"], 2, "unknown fault 'gremlins'"),
        (["--write-protected", "3-1"], 2, "pages '3-1'"),
        (["--write-protected", "64"], 2, "up to 63"),
        (["--flash", "/"], 4, "flash file /"),
        (["--second-bank-page", "256"], 2, "the chip has one bank"),
        (["--chip", "stm32g0b1re", "--second-bank-page", "127"], 2, "page 127 is in the first bank"),
        (["--parity", "none"], 2, "a TCP connection and a pseudo-terminal carry bytes without a parity bit"),
        (["--pty", "--rs485"], 2, "a TCP connection and a pseudo-terminal have no RTS"),
        (["--rfc2217", "--rs485"], 2, "Choose a wiring without RTS"),
        (["--rfc2217", "--invert-rs485"], 2, "--invert-rs485 has no effect without --rs485"),
    ],
)
def test_impossible_boards_are_refused(
    words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Invalid board settings print an error to stderr and give the error's exit status."""
    assert main(words) == status
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tcp", "70000"], "not a TCP port"),
        (
            ["--tcp", "seventy"],
            "seventy is not a TCP port. List the options with `python -m firmware_host.simulator --help`",
        ),
        (["--wat"], "unrecognized arguments: --wat"),
        (["--chip", "z80"], "choose one of stm32c011f6, stm32c031c6"),
        (["--latency=-1", "--baud", "9600"], "-1 is not a delay of 0 to 1000 milliseconds"),
        (["--latency", "nan", "--baud", "9600"], "nan is not a delay"),
        (["--latency", "1001", "--baud", "9600"], "1001 is not a delay"),
        (["--latency", "soon", "--baud", "9600"], "soon is not a delay"),
        (["--unique-id", "12"], "24 hex digits"),
    ],
)
def test_malformed_options_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A malformed option ends the command with status 2."""
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", [620, 65_537])
def test_a_file_that_is_not_the_flash_of_the_chip_is_not_overwritten(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--flash`` refuses an image, a settings file and the flash of another chip, and does not change the file."""
    file = tmp_path / "app.bin"
    file.write_bytes(bytes(size))
    assert main(["--flash", str(file)]) == 2
    assert f"{file} is not a flash file of an stm32f103c8: it has {size:,} bytes" in capsys.readouterr().err
    assert file.read_bytes() == bytes(size)


def test_the_help_text_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No line of the help text is wider than a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert not [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]


def test_a_port_in_use_ends_the_command_with_status_4(capsys: pytest.CaptureFixture[str]) -> None:
    """A TCP port in use ends the command with status 4 and the system's reason."""
    with serve_tcp(SimulatedBoard()) as url:
        assert main(["--tcp", url.rpartition(":")[2]]) == 4
    assert "Address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_url_and_ends_on_a_signal(tmp_path: Path, stop: signal.Signals) -> None:
    """The command prints its URL, ends on SIGINT or SIGTERM with status 0, and keeps the flash file."""
    flash = tmp_path / "board.flash"
    words = ["--flash", str(flash), "--fault", "lost-ack=100", "--write-protected", "0-3,60"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        host, port = simulator.stdout.readline().strip().removeprefix("socket://").split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as line:
            line.sendall(b"\x7f\x31\xce\x08\x00\x20\x00\x28\x03abcd\x07")
            answer = b""
            while len(answer) < 4:
                answer += line.recv(4)
            assert answer == b"\x79" * 4
        simulator.send_signal(stop)
        rest, log = simulator.communicate(timeout=DEADLINE)
    assert (simulator.returncode, rest) == (0, "")
    assert "waits for 0x7F" in log
    assert flash.read_bytes()[0x2000:0x2004] == b"abcd"


def test_the_second_bank_can_begin_with_another_page_number(tmp_path: Path) -> None:
    """``--second-bank-page 256`` makes 256 the page number of the second bank's first page."""
    flash = tmp_path / "board.flash"
    flash.write_bytes(bytes(512 * 1024))

    def erase(url: str) -> None:
        host, port = url.removeprefix("socket://").split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as line:
            line.sendall(b"\x7f\x44\xbb\x00\x00\x01\x00\x01")
            answer = b""
            while len(answer) < 3:
                answer += line.recv(3)
            assert answer == b"\x79" * 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(["--chip", "stm32g0b1re", "--second-bank-page", "256", "--flash", str(flash)], erase)
    assert flash.read_bytes() == bytes(256 * 1024) + b"\xff" * 2048 + bytes(254 * 1024)


def test_a_busy_simulator_ends_on_a_signal() -> None:
    """SIGTERM ends the command even while the simulated board receives bytes at 9600 baud."""
    with subprocess.Popen(
        [*COMMAND, "--baud", "9600"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as simulator:
        assert simulator.stdout is not None
        host, port = simulator.stdout.readline().strip().removeprefix("socket://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(b"\x55" * 60_000)
            line.settimeout(0.3)
            with pytest.raises(TimeoutError):
                line.recv(1)
            simulator.send_signal(signal.SIGTERM)
            assert simulator.wait(timeout=DEADLINE) == 0


def test_a_refused_command_leaves_the_signals_as_they_were() -> None:
    """A refused command does not leave signals blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert main(["--tcp", "0", "--rs485"]) != 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_serial_server_with_another_wiring() -> None:
    """With `--rfc2217`, pyserial resets the board through the configured wiring."""
    words = ["--rfc2217", "--wiring", "rts-dtr", "--invert-boot0", "--baud", "line", "--max-baud", "460800"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        url = simulator.stdout.readline().strip()
        port = serial.serial_for_url(url, do_not_open=True, baudrate=460_800, parity="E", timeout=DEADLINE)
        port.dtr, port.rts = True, False
        with contextlib.closing(port):
            port.open()
            port.rts = True
            port.rts = False
            time.sleep(0.01)  # the ROM of an STM32F103 listens 1.2 ms after a reset
            port.write(b"\x7f")
            assert port.read(1) == b"\x79"
        simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(timeout=DEADLINE) == 0
