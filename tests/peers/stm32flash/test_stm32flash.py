"""Debian's stm32flash accepts the simulated board as an STM32."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from firmware_host.simulator import PROFILES, STM32F103C8, SimulatedBoard, serve_pty
from scripts.peers import find_program
from tests.firmware_host.line.test_other_tools import BANNER, DATA, IMAGE, TIMEOUT, WRITTEN, ProbedBoard


def run_stm32flash(*options: str) -> subprocess.CompletedProcess[str]:
    """Run Debian's stm32flash without parity, which a pseudo-terminal does not have."""
    command = [find_program("stm32flash"), "-m", "8n1", "-b", "115200", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)


def test_stm32flash_identifies_the_board() -> None:
    """stm32flash reads the product id and the bootloader version of the simulated board."""
    with serve_pty(SimulatedBoard()) as path:
        result = run_stm32flash(path)
    assert result.returncode == 0, result.stderr
    assert "Version      : 0x22" in result.stdout
    assert "0x0410 (STM32F10xxx Medium-density)" in result.stdout


def test_stm32flash_writes_verifies_and_starts() -> None:
    """stm32flash overwrites old contents, verifies the image, and starts the firmware."""
    board = ProbedBoard(flash=bytes(STM32F103C8.page_size))
    with serve_pty(board) as path:
        result = run_stm32flash("-w", str(IMAGE), "-v", "-g", "0x0", path)
    assert result.returncode == 0, result.stderr
    assert board.flash == WRITTEN
    assert board.sent.startswith(BANNER)


@pytest.mark.parametrize("options", [["-w", str(IMAGE)], ["-r", "/dev/null"]])
def test_stm32flash_is_refused_under_readout_protection(options: list[str]) -> None:
    """stm32flash fails on a readout-protected board, whose flash is unchanged."""
    board = SimulatedBoard(flash=IMAGE.read_bytes())
    board.protect(readout=True)
    with serve_pty(board) as path:
        result = run_stm32flash(*options, path)
    assert result.returncode == 1
    assert "Got NACK from device" in result.stderr
    assert board.flash == WRITTEN


def test_stm32flash_finds_write_protected_pages_when_it_verifies() -> None:
    """stm32flash detects a write-protected page only when it verifies the flash."""
    board = SimulatedBoard()
    board.protect(pages=[0])
    with serve_pty(board) as path:
        result = run_stm32flash("-w", str(IMAGE), "-v", "-n", "1", path)
    assert result.returncode == 1
    assert "Failed to verify at address 0x08000000" in result.stderr


@pytest.mark.parametrize(
    "name", ["stm32f103zg", "stm32f107vc", "stm32f446re", "stm32l053r8", "stm32l433rc", "stm32l412kb", "stm32g0b1re"]
)
def test_stm32flash_writes_every_family(name: str, tmp_path: Path) -> None:
    """stm32flash erases, writes and verifies boards of every chip family."""
    data = tmp_path / "data.bin"
    data.write_bytes(DATA)
    board = SimulatedBoard(PROFILES[name], flash=b"\x5a" * 1000)
    with serve_pty(board) as path:
        result = run_stm32flash("-w", str(data), "-v", path)
    assert result.returncode == 0, result.stderr
    assert board.flash[: len(DATA)] == DATA
