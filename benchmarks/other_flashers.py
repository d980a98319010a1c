"""The flashers that ours is measured against, each started as its user starts it: a process for one board."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.boards import board
from benchmarks.figure import seconds_of

PATIENCE = 120
_STM32LOADER = """
import serial
from stm32loader.__main__ import main
serial.Serial = lambda port, **settings: serial.serial_for_url(port, **settings)
main()
"""
"""stm32loader opens no URLs by itself, and sets DTR and RTS, which a pseudo-terminal does not have."""


def stm32flash(image: bytes, *, over: bytes) -> float:
    """Seconds that Debian's stm32flash takes to write an image over other contents, verify it and start it.

    Raises:
        RuntimeError: it failed, or the flash does not hold the image.
    """
    program = shutil.which("stm32flash")
    if program is None:
        raise RuntimeError("stm32flash is not installed (Debian: apt install stm32flash)")
    # A pseudo-terminal has no parity.
    return _seconds([program, "-m", "8n1", "-b", "115200", "-w", "IMAGE", "-v", "-g", "0x0", "BOARD"], image, over=over)


def stm32loader(image: bytes, *, over: bytes) -> float:
    """Seconds that PyPI's stm32loader takes to erase everything, write an image, verify it and start it.

    Raises:
        RuntimeError: it failed, or the flash does not hold the image.
    """
    words = ["--family", "F1", "--no-progress", "--port", "BOARD"]
    words += ["--erase", "--write", "--verify", "--go-address", "0x08000000", "IMAGE"]
    return _seconds([sys.executable, "-c", _STM32LOADER, *words], image, over=over)


def _seconds(command: list[str], image: bytes, *, over: bytes) -> float:
    with tempfile.NamedTemporaryFile(suffix=".bin") as file, board(over, terminal="8n1" in command) as one:
        Path(file.name).write_bytes(image)
        names = {"IMAGE": file.name, "BOARD": one.url}
        words = [names.get(word, word) for word in command]

        def run() -> None:
            result = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
            if result.returncode:
                raise RuntimeError(f"{words} failed: {result.stderr[-500:]}")

        seconds = seconds_of(run)
        if one.flash[: len(image)] != image:
            raise RuntimeError(f"{words} left another image")
        return seconds
