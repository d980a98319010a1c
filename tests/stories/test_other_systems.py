"""The bench works without the modules of POSIX, which Windows does not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from firmware_host.bench.log import read_log
from firmware_host.simulator import SimulatedBoard, serve_tcp
from tests.conftest import ROOT
from tests.stories.conftest import PRODUCT, Workshop, publish_first
from tests.stories.technicians import LOG, OLD, TIMEOUT

SYSTEMS = (sys.platform, "win32")
EVERY_MODULE = """
import importlib, pkgutil, firmware_host
for module in pkgutil.walk_packages(firmware_host.__path__, "firmware_host."):
    importlib.import_module(module.name)
"""


def run_elsewhere(system: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that imitates another operating system: Python's modules for POSIX are missing."""
    command = [sys.executable, "-m", "tests.support.other_system", system, *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=TIMEOUT, env={"PYTHONPATH": str(ROOT)}
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_board_is_flashed_over_tcp(workshop: Workshop, system: str) -> None:
    """Without the modules of POSIX, a board is flashed and proven, and the bench log records it."""
    workshop.after(publish_first)
    board = SimulatedBoard()
    with serve_tcp(board) as url:
        done = run_elsewhere(system, "flash", "--product", PRODUCT, "--port", url)
    assert done.returncode == 0, done.stderr
    assert board.flash.startswith(OLD.read_bytes())
    assert len(list(read_log(LOG))) == 1
    assert workshop.run("board", "log").status == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_board_commands_run(tmp_path: Path, system: str) -> None:
    """Without the modules of POSIX, a board is identified, examined, read and erased."""
    board = SimulatedBoard(flash=OLD.read_bytes())
    file = tmp_path / "flash.bin"
    confirm = ("--confirm", "424c4f434b4f544100000001")
    for words in (("identify",), ("doctor",), ("read", "-o", str(file)), ("erase", "--pages", "0", *confirm)):
        with serve_tcp(board) as url:
            done = run_elsewhere(system, "board", *words, "--port", url)
        assert done.returncode == 0, done.stderr
    assert file.read_bytes().startswith(OLD.read_bytes())
    assert set(board.flash) == {0xFF}


def test_a_missing_port_has_the_names_of_windows() -> None:
    """On Windows, the remedy for a missing port names a COM port."""
    done = run_elsewhere("win32", "board", "identify", "--port", "COM99")
    assert done.returncode == 4
    assert "such as COM3" in done.stderr


def test_every_module_of_the_bench_can_be_imported() -> None:
    """Without the modules of POSIX, every module of `firmware_host` can be imported, including the simulator."""
    program = f"import tests.support.other_system as other\nother.hide('win32'){EVERY_MODULE}"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
