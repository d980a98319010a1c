"""stm32loader, an independent client, accepts the simulated board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from firmware_host.simulator import PROFILES, STM32F103C8, WIRINGS, SimulatedBoard, serve_rfc2217, serve_tcp

IMAGE = Path(__file__).parents[3] / "examples" / "bluepill" / "images" / "bluepill-1.1.0.bin"
BANNER = b"BlockOTA bluepill 1.1.0 (64 KiB flash, up 0 s)\r\n"
WRITTEN = IMAGE.read_bytes().ljust(STM32F103C8.flash_size, b"\xff")
TIMEOUT = 60
DATA = bytes(range(1, 251)) * 4
"""A multiple of 8 bytes: stm32flash pads to 4 bytes only, and L4 and G0 refuse a last write of 4 bytes."""


class ProbedBoard(SimulatedBoard):
    """A board that records the output of its application, because a tool may discard the output when the tool ends."""

    sent = b""

    def run(self, seconds: float) -> bytes:
        """Run the application, and record its output."""
        sent = super().run(seconds)
        self.sent += sent
        return sent


STM32LOADER = """
import serial
from stm32loader.__main__ import main
serial.Serial = lambda port, **settings: serial.serial_for_url(port, **settings)
main()
"""
"""A start of stm32loader that opens URLs: the tool needs DTR and RTS, which a pseudo-terminal does not have."""


def run_stm32loader(*options: str, family: str = "F1") -> subprocess.CompletedProcess[str]:
    """Run PyPI's stm32loader on a ``socket://`` or ``rfc2217://`` URL."""
    # pyserial's client uses deprecated names of the threading module.
    warnings = ["-W", "ignore::DeprecationWarning"]
    command = [sys.executable, *warnings, "-c", STM32LOADER, "--family", family, "--no-progress", "--port", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)


def test_stm32loader_identifies_the_board() -> None:
    """stm32loader reads the board's product id, flash size and unique id."""
    with serve_tcp(SimulatedBoard(unique_id=bytes(range(12)))) as url:
        result = run_stm32loader(url)
    assert result.returncode == 0, result.stderr
    assert "Chip id: 0x410 (STM32F10x Medium-density)" in result.stderr
    assert "Flash size: 64 KiB" in result.stderr
    assert "0100-0302-07060504-0B0A0908" in result.stderr


def test_stm32loader_writes_verifies_and_starts() -> None:
    """stm32loader overwrites old contents, verifies the image, and starts the firmware."""
    board = ProbedBoard(flash=bytes(STM32F103C8.page_size))
    with serve_tcp(board) as url:
        result = run_stm32loader(url, "--erase", "--write", "--verify", "--go-address", "0x08000000", str(IMAGE))
    assert result.returncode == 0, result.stderr
    assert "Verification OK" in result.stderr
    assert board.flash == WRITTEN
    assert board.sent.startswith(BANNER)


def test_stm32loader_is_refused_under_readout_protection() -> None:
    """stm32loader ends with an error on a readout-protected board, whose flash is unchanged."""
    board = SimulatedBoard(flash=IMAGE.read_bytes())
    board.protect(readout=True)
    with serve_tcp(board) as url:
        result = run_stm32loader(url, "--erase", "--write", str(IMAGE))
    assert result.returncode == 1
    assert "NACK" in result.stderr
    assert board.flash == WRITTEN


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of arbitrary bytes, for chips whose code is not emulated."""
    file = tmp_path / "data.bin"
    file.write_bytes(DATA)
    return file


@pytest.mark.parametrize(
    ("name", "family"), [("stm32f429zi", "F4"), ("stm32l011k4", "L0"), ("stm32g071rb", "G0")], ids=["f4", "l0", "g0"]
)
def test_stm32loader_writes_by_way_of_a_serial_server(name: str, family: str, *, data: Path) -> None:
    """stm32loader resets and flashes boards of three chip families through an RFC 2217 serial server."""
    board = SimulatedBoard(PROFILES[name], flash=b"\x5a" * 1000)
    with serve_rfc2217(board) as url:
        result = run_stm32loader(url, "--erase", "--write", "--verify", str(data), family=family)
    assert result.returncode == 0, result.stderr
    assert f"Flash size: {PROFILES[name].flash_size // 1024} KiB" in result.stderr
    assert board.flash == DATA.ljust(PROFILES[name].flash_size, PROFILES[name].erased)
    assert not board.boot0  # stm32loader sets BOOT0 to 0 at its end, so that the firmware starts


def test_stm32loader_finds_the_rom_behind_swapped_lines() -> None:
    """stm32loader reaches the boot ROM if RTS drives reset and DTR drives BOOT0."""
    with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS["rts-dtr"]) as url:
        assert run_stm32loader(url, "--swap-rts-dtr").returncode == 0
