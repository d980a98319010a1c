"""The simulator's command line: what it refuses, and that it ends when it is told to."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import serial

from firmware_host.simulator.__main__ import main

WORDS = [sys.executable, "-m", "firmware_host.simulator"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--latency", "16"], "needs a line that takes time"),
        (["--latency", "-1", "--baud", "9600"], "the latency of -1 ms is out of range"),
        (["--latency", "nan", "--baud", "9600"], "the latency of nan ms is out of range"),
        (["--latency", "1e9", "--baud", "9600"], "0 to 1000 milliseconds"),
        (["--fault", "noise-at-open=65537"], "cannot have the value 65537. Write 65536 at most"),
        (["--baud", "line"], "a TCP connection has no rate"),
        (["--fault", "gremlins"], "there is no fault 'gremlins'"),
    ],
)
def test_options_that_make_no_board_are_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is a sentence on stderr and the exit status of a usage error; nothing is served."""
    assert main(words) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""


def test_a_simulator_whose_board_is_busy_ends_when_it_is_told_to() -> None:
    """SIGTERM ends it within seconds, though the board sleeps over a line of 9600 baud."""
    with subprocess.Popen(
        [*WORDS, "--baud", "9600"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as simulator:
        assert simulator.stdout is not None
        host, port = simulator.stdout.readline().strip().removeprefix("socket://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(b"\x55" * 60_000)
            line.settimeout(0.3)
            with pytest.raises(TimeoutError):
                line.recv(1)
            simulator.send_signal(signal.SIGTERM)
            assert simulator.wait(timeout=20) == 0


def test_a_refused_command_leaves_the_signals_as_they_were() -> None:
    """A process that is started later would inherit a blocked SIGTERM, and never end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert main(["--tcp", "0", "--unique-id", "no hex"]) != 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_serial_server_with_any_wiring_can_be_had() -> None:
    """Its URL is what pyserial opens, and a host there drives NRST and BOOT0."""
    words = ["--rfc2217", "--wiring", "rts-dtr", "--invert-boot0", "--baud", "line", "--max-baud", "460800"]
    with subprocess.Popen([*WORDS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        url = simulator.stdout.readline().strip()
        port = serial.serial_for_url(url, do_not_open=True, baudrate=460_800, parity="E", timeout=1)
        port.dtr, port.rts = True, False
        with contextlib.closing(port):
            port.open()
            port.rts = True
            port.rts = False
            time.sleep(0.01)
            port.write(b"\x7f")
            assert port.read(1) == b"\x79"
        simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(timeout=20) == 0
