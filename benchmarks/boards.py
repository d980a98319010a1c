"""The simulated board as a separate process, so that board and flasher do not slow each other.

Where the system allows it the board goes before all other processes, as nothing that runs on a host slows hardware. It
is the same for every flasher.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.closed_form import Line

LINE = Line(baud=115200, latency=0.001)
"""The line between board and host."""


@dataclass(frozen=True)
class Board:
    """A board that waits in its boot ROM.

    Attributes:
        url: ``socket://HOST:PORT``, or the path of a pseudo-terminal.
        file: keeps its flash.
    """

    url: str
    file: Path

    @property
    def flash(self) -> bytes:
        """The present contents of its flash."""
        return self.file.read_bytes()


@contextmanager
def board(contents: bytes, *, terminal: bool = False) -> Iterator[Board]:
    """Power up an STM32F103 with 64 KiB of flash that takes the time of the model.

    Args:
        contents: the first contents of its flash.
        terminal: serve it on a pseudo-terminal, not on a TCP port.
    """
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
