"""Runs commands on a pseudo-terminal, and reads what a person sees on the screen, with the emulator pyte."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyte

from tests.conftest import ROOT

_ROWS = 500
"""Rows of the screen: nothing scrolls away, except in commands with more output."""
_PATIENCE = 60.0
"""Seconds without output after which a command counts as hung."""


class _Screen(pyte.Screen):
    """A screen that records the texts that did not fit into their line.

    Attributes:
        too_long: texts that the terminal had to continue on another line.
    """

    def __init__(self, columns: int) -> None:
        self.too_long: list[str] = []
        super().__init__(columns, _ROWS)

    def draw(self, data: str) -> None:
        """Draw a text at the cursor."""
        if self.cursor.x + len(data) > self.columns:
            self.too_long.append(self.display[self.cursor.y][: self.cursor.x] + data)
        super().draw(data)


@dataclass(frozen=True)
class Shown:
    """What a command left on the screen.

    Attributes:
        status: the exit status.
        lines: the lines of the screen, without spaces at their ends.
        too_long: texts that the terminal had to continue on another line.
        is_cursor_visible: whether the cursor is visible at the end.
        raw: all bytes that were printed.
    """

    status: int
    lines: tuple[str, ...]
    too_long: tuple[str, ...]
    is_cursor_visible: bool
    raw: bytes

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    @property
    def words(self) -> str:
        """The whole screen as one line, to find sentences that were wrapped."""
        return " ".join(self.text.split())


def on_terminal(
    *words: str,
    folder: Path,
    columns: int = 80,
    typed: str = "",
    term: str = "xterm-256color",
    watch: Callable[[str, subprocess.Popen[bytes]], None] | None = None,
    **environment: str,
) -> Shown:
    """Run one ``blockota`` command on a terminal, and return what it left on the screen."""
    command = [sys.executable, "-m", "blockota", *words]
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    screen = _Screen(columns)
    stream, raw = pyte.ByteStream(screen), b""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT), "TERM": term} | environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        os.write(master, typed.encode())
        with suppress(OSError):  # Linux reports the end of a terminal as EIO
            while select.select([master], [], [], _PATIENCE)[0] and (part := os.read(master, 65536)):
                raw += part
                stream.feed(part)
                if watch:
                    watch("\n".join(line.rstrip() for line in screen.display), process)
        os.close(master)  # a command that still waits for input gets SIGHUP
        status = process.wait()
    lines = "\n".join(line.rstrip() for line in screen.display).rstrip().split("\n")
    return Shown(status, tuple(lines), tuple(screen.too_long), not screen.cursor.hidden, raw)
