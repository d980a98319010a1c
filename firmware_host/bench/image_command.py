"""Run the command that makes the image of one board, such as its serial number and keys.

The command runs without a shell. Its output is the image and may contain keys. The output therefore stays in memory,
and appears in no message and no file. The command's error output is shown to the operator.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from blockota.errors import RefusedError, UsageError, plain
from blockota.shutdown import Stop

Process = subprocess.Popen[bytes]
TIME_LIMIT = 60.0  # seconds
_POLL_SECONDS = 0.01
_PART = 1 << 12
_MAX_MESSAGES, _MAX_LINES = 1 << 13, 20
"""The maximum number of bytes of the error output that are read, and the maximum number of lines that are shown."""
_SHELL_WORDS = frozenset(("|", ">", ">>", "<", ";", "&", "&&", "||"))
"""Operators of a shell, which a program would get as arguments. For example, `echo 1 | tr 1 2` would print its own
second half into the image."""


@dataclass(frozen=True)
class ImageCommand:
    """A program with its arguments, and the maximum time in seconds that it may take."""

    words: tuple[str, ...]
    seconds: float = TIME_LIMIT

    @classmethod
    def parse(cls, text: str) -> ImageCommand:
        """Split a command line into words, as a shell does.

        Variables and file patterns are not expanded, and shell operators are refused.
        """
        try:
            words = tuple(shlex.split(text, posix=os.name == "posix"))
        except ValueError as error:
            # An argument may be secret, so the command is not printed.
            raise UsageError(
                "the command that makes the board's own image cannot be split into words",
                why=str(error).lower(),
                remedy="close every quotation mark",
            ) from error

        if not words or shutil.which(words[0]) is None:
            raise UsageError(
                "the command that makes the board's own image cannot be run",
                why=f"no program {words[0]!r:.80} can be executed" if words else "the command is empty",
                remedy="give a program and its arguments; the command runs without a shell",
            )

        if used := _SHELL_WORDS.intersection(words):
            raise UsageError(
                "the command that makes the board's own image needs a shell",
                why=f"it has the word {min(used)}, but the command runs without a shell",
                remedy="write the commands into a script, and give the script",
            )
        return cls(words)

    def run(
        self, values: Mapping[str, str], *, limit: int, show: Callable[[str], None], stop: Stop | None = None
    ) -> bytes:
        """Run the command once, and return its output.

        At most `limit` + 1 bytes of the output are read. The variables `values` are added to the environment. The
        function `show` receives each line of the error output.

        Raises:
            RefusedError: the command cannot be started, fails, or takes too long.
            KeyboardInterrupt: a stop was requested.
        """
        try:
            process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **values},
                # A group of its own: Ctrl-C reaches the command through this program only, which ends the whole group.
                start_new_session=True,
            )
        except OSError as error:
            raise self._refused("cannot be run", error.strerror or str(error)) from error

        output, messages = _Collector(process.stdout, limit + 1), _Collector(process.stderr, _MAX_MESSAGES)
        try:
            has_ended = self._await(process, output, messages, stop.pause if stop else time.sleep)
        finally:
            if process.poll() is None or output.is_alive() or messages.is_alive():
                _kill(process)
            lines = [line for line in messages.data.decode(errors="replace").splitlines() if line.strip()]
            for line in lines[:_MAX_LINES]:
                show(line)
            if len(lines) > _MAX_LINES:
                show(f"(and {len(lines) - _MAX_LINES} more lines)")

        if not has_ended:
            raise self._refused("takes too long", f"it has not closed its output and ended within {self.seconds:g} s")
        # A process that writes too much was killed, so its status means nothing; the caller refuses the long output.
        if (status := process.returncode) and not output.is_full:
            raise self._refused(
                "failed", f"its exit status is {status}" if status > 0 else f"signal {-status} ended it"
            )
        return bytes(output.data)

    def _await(
        self, process: Process, output: _Collector, messages: _Collector, pause: Callable[[float], None]
    ) -> bool:
        """Wait until the process and its outputs end, or until the output is too long.

        Returns False if the maximum time has passed.
        """
        deadline = time.monotonic() + self.seconds
        while not output.is_full and (output.is_alive() or messages.is_alive() or process.poll() is None):
            if time.monotonic() >= deadline:
                return False
            pause(_POLL_SECONDS)
        return True

    def _refused(self, what: str, why: str) -> RefusedError:
        return RefusedError(
            f"the command that makes the board's own image {what}",
            why=f"{plain(self.words[0])}: {why}; nothing was erased",
            remedy="run the command by itself to find the cause, then flash the board again",
        )


class _Collector(threading.Thread):
    """Reads a pipe to its end, and stores the first `limit` bytes.

    A thread is used because `select` cannot read pipes on Windows.
    """

    def __init__(self, pipe: IO[bytes] | None, limit: int) -> None:
        super().__init__(daemon=True, name="image command")
        self._pipe, self._limit = pipe, limit
        self.data = bytearray()
        self.start()

    @property
    def is_full(self) -> bool:
        return len(self.data) >= self._limit

    def run(self) -> None:
        if self._pipe:
            with self._pipe:
                while part := os.read(self._pipe.fileno(), _PART):
                    self.data += part[: self._limit - len(self.data)]


def _kill(process: Process) -> None:
    """Kill the process and the processes that it started."""
    if os.name == "posix":
        with suppress(ProcessLookupError):  # the group has ended meanwhile
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
