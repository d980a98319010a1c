"""The simulated board as a separate process, and the flashers that ours is measured against.

Where the system allows it the board goes before all other processes, as nothing that runs on a host slows hardware. It
is the same for every flasher, and each flasher is started as its user starts it: a process for one board.
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

from benchmarks.closed_form import Line
from benchmarks.figure import seconds_of

LINE = Line(baud=115200, latency=0.001)
"""The line between board and host."""
TIMEOUT = 120
_STM32LOADER = """
import serial
from stm32loader.__main__ import main
serial.Serial = lambda port, **settings: serial.serial_for_url(port, **settings)
main()
"""
"""stm32loader opens no URLs by itself, and sets DTR and RTS, which a pseudo-terminal does not have."""


@dataclass(frozen=True)
class Board:
    """A board that waits in its boot ROM at a ``socket://`` URL or a pseudo-terminal; the file keeps its flash."""

    url: str
    file: Path

    @property
    def flash(self) -> bytes:
        """The present contents of its flash."""
        return self.file.read_bytes()


@contextmanager
def board(contents: bytes, *, terminal: bool = False) -> Iterator[Board]:
    """Power up an STM32F103 with 64 KiB of flash with these contents, which takes the time of the model."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flash"
        file.write_bytes(contents)
        words = ["--flash", str(file), "--baud", str(LINE.baud), "--latency", f"{LINE.latency * 1000:g}"]
        command = [sys.executable, "-m", "firmware_host.simulator", *words, *(["--pty"] if terminal else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                with suppress(OSError, AttributeError):
                    os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
                url = process.stdout.readline() if process.stdout else ""
                yield Board(url.strip(), file)
            finally:
                process.send_signal(signal.SIGTERM)


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
            result = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
            if result.returncode:
                raise RuntimeError(f"{words} failed: {result.stderr[-500:]}")

        seconds = seconds_of(run)
        if one.flash[: len(image)] != image:
            raise RuntimeError(f"{words} left another image")
        return seconds
