"""A simulated board as a separate process, and the third-party flashers that are compared with BlockOTA's flasher.

If the system allows it, the board's process runs with real-time priority, so that other processes do not slow the
simulated board. The flashers run at normal priority. Every flasher uses the same simulated board. Each run of a flasher
is a new process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import seconds_of
from firmware_host.simulator import PROFILES, SimulatedBoard

BAUD, LATENCY = 115200, 0.001
"""The speed of the serial line in bits per second, and the latency of its adapter in seconds."""
TIMEOUT = 300
_STM32LOADER = """
import serial
from stm32loader.__main__ import main
serial.Serial = lambda port, **settings: serial.serial_for_url(port, **settings)
main()
"""
"""stm32loader cannot open URLs, and sets DTR and RTS, which a pseudo-terminal does not have."""


@dataclass(frozen=True)
class ServedBoard:
    """A board in its boot ROM, at a ``socket://`` URL or on a pseudo-terminal; `file` contains the board's flash."""

    url: str
    file: Path

    @property
    def flash(self) -> bytes:
        """The current contents of the board's flash."""
        return self.file.read_bytes()


@contextmanager
def board(
    contents: bytes, *, part: str = "stm32f103c8", terminal: bool = False, is_timed: bool = True
) -> Iterator[ServedBoard]:
    """Start a simulated board with this chip; `is_timed` simulates the durations of line and flash operations."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flash"
        file.write_bytes(SimulatedBoard(PROFILES[part], flash=contents).flash)  # the rest of the flash is erased
        words = ["--chip", part, "--flash", str(file), *(["--pty"] if terminal else [])]
        if is_timed:
            words += ["--baud", str(BAUD), "--latency", f"{LATENCY * 1000:g}"]
        command = [sys.executable, "-m", "firmware_host.simulator", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                with suppress(OSError, AttributeError):
                    os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
                url = process.stdout.readline() if process.stdout else ""
                yield ServedBoard(url.strip(), file)
            finally:
                process.send_signal(signal.SIGTERM)


def stm32flash(image: bytes, *, over: bytes, part: str = "stm32f103c8") -> float:
    """Return the seconds that Debian's stm32flash takes to write an image over other contents, verify and start it.

    Raises:
        RuntimeError: stm32flash failed, or the flash does not contain the image.
    """
    program = shutil.which("stm32flash")
    if program is None:
        raise RuntimeError("stm32flash is not installed (Debian: apt install stm32flash)")
    # A pseudo-terminal has no parity.
    words = [program, "-m", "8n1", "-b", "115200", "-w", "IMAGE", "-v", "-g", "0x0", "BOARD"]
    return _seconds(words, image, over=over, part=part)


def stm32loader(image: bytes, *, over: bytes) -> float:
    """Return the seconds that PyPI's stm32loader takes to erase the flash, write an image, verify and start it.

    Raises:
        RuntimeError: stm32loader failed, or the flash does not contain the image.
    """
    words = ["--family", "F1", "--no-progress", "--port", "BOARD"]
    words += ["--erase", "--write", "--verify", "--go-address", "0x08000000", "IMAGE"]
    return _seconds([sys.executable, "-c", _STM32LOADER, *words], image, over=over)


def _seconds(command: list[str], image: bytes, *, over: bytes, part: str = "stm32f103c8") -> float:
    terminal = "8n1" in command
    with tempfile.NamedTemporaryFile(suffix=".bin") as file, board(over, part=part, terminal=terminal) as one:
        Path(file.name).write_bytes(image)
        names = {"IMAGE": file.name, "BOARD": one.url}
        words = [names.get(word, word) for word in command]

        def run() -> None:
            result = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
            if result.returncode:
                raise RuntimeError(f"{words} failed: {result.stderr[-500:]}")

        seconds = seconds_of(run)
        if one.flash[: len(image)] != image:
            raise RuntimeError(f"after {words} the flash does not contain the image")
        return seconds
