"""Runs commands on a pseudo-terminal. The terminal emulator pyte determines the visible screen."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyte

from tests.support import forks

CTRL_C = "\x03"
_ROWS = 300
"""The number of rows of the screen. It is so large that nothing scrolls away."""
_TIMEOUT = 60.0
"""Seconds without output after which a command counts as hung."""


class _Screen(pyte.Screen):
    """A screen that records texts longer than their line.

    Attributes:
        too_long: texts that were continued on another line.
    """

    def __init__(self, columns: int) -> None:
        self.too_long: list[str] = []
        super().__init__(columns, _ROWS)

    def draw(self, data: str) -> None:
        """Draw a text at the cursor."""
        if self.cursor.x + len(data) > self.columns:
            self.too_long.append(self._line(self.cursor.y).ljust(self.cursor.x) + data)
        super().draw(data)

    @property
    def text(self) -> str:
        """The lines of the screen, without spaces at their ends."""
        # The screen's `display` would take most of a test's time: it has all cells of all rows.
        return "\n".join(map(self._line, range(max(self.buffer, default=0) + 1))).rstrip()

    def _line(self, row: int) -> str:
        cells = self.buffer[row]
        return "".join(cells[column].data for column in range(max(cells, default=-1) + 1)).rstrip()


@dataclass(frozen=True)
class ShownScreen:
    """The text that a command left on the screen.

    Attributes:
        status: the exit status; negative after a hang.
        text: the lines of the screen, without spaces at their ends.
        too_long: texts that were continued on another line.
        is_cursor_visible: whether the cursor is visible at the end.
        raw: all that was printed.
    """

    status: int
    text: str
    too_long: tuple[str, ...]
    is_cursor_visible: bool
    raw: str

    @property
    def words(self) -> list[str]:
        """The words on the screen."""
        return self.text.split()


@dataclass(frozen=True)
class Terminal:
    """A terminal in a folder.

    Attributes:
        folder: the working folder of the commands.
        columns: the width of the terminal.
        environment: environment variables of the commands.
    """

    folder: Path
    columns: int = 80
    environment: dict[str, str] = field(default_factory=lambda: {"TERM": "xterm-256color"})

    def run(self, *words: str, watch: Callable[[str], str] | None = None) -> ShownScreen:
        """Run one ``blockota`` command, and return what it left on the screen.

        The function `watch` receives the screen after each change, and returns the keys to press.
        """
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, self.columns, 0, 0))
        environment = {"NO_COLOR": None, "COLUMNS": None, "LINES": None} | self.environment
        screen, raw = _Screen(self.columns), b""
        stream = pyte.ByteStream(screen)
        try:
            with forks.started(
                ["-m", "blockota", *words],
                folder=self.folder,
                environment=environment,
                streams=dict.fromkeys(range(3), slave),
            ) as process:
                # The slave stays open, so the end of the terminal is the end of the process.
                while ready := select.select((master, process), [], [], _TIMEOUT)[0]:
                    if master not in ready:
                        break
                    part = os.read(master, 1 << 16)
                    raw += part
                    stream.feed(part)
                    if watch:
                        os.write(master, watch(screen.text).encode())
                else:
                    process.kill()
                status = process.wait()
        finally:
            os.close(slave)
            os.close(master)
        return ShownScreen(
            status,
            screen.text,
            tuple(screen.too_long),
            not screen.cursor.hidden,
            raw.decode(errors="replace"),
        )
