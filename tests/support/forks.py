"""Runs Python programs as processes forked from a server that has already imported the libraries.

Each program has its own process, as if `subprocess` had started it. Forking saves only the time for imports.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.support.waiting import DEADLINE

ROOT = Path(__file__).resolve().parents[2]
APE = str(Path(sys.executable).with_name("ape"))
"""The program of Ape."""
ADDRESS = "BLOCKOTA_FORK_SERVER"
"""The environment variable with the path of the server's socket, which all test workers share."""


@contextmanager
def server() -> Iterator[None]:
    """Run the server that forks programs. The server imports the libraries when the first program is started."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder) / "server")
        listener.bind(path)
        listener.listen(64)
        life, ends = os.pipe()
        command = [sys.executable, "-m", "tests.support.fork_server", str(life)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=listener.fileno(), stdout=subprocess.DEVNULL, pass_fds=[life]
        )
        os.close(life)
        os.environ[ADDRESS] = path
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            os.close(ends)
            process.wait()


@dataclass
class Process:
    """A program that was started.

    Attributes:
        pid: the process id.
        stdout: the program's output.
        returncode: the exit status. The exit status is negative if a signal ended the program, and None before `wait`.
    """

    pid: int
    stdout: IO[str]
    _connection: socket.socket
    _errors: IO[bytes]
    returncode: int | None = field(default=None, init=False)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the program."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = DEADLINE) -> int:
        """Wait until the program has ended, and return its exit status."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = int(self._connection.recv(16))
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status if the program has ended."""
        return self.wait() if self.returncode is None and select.select([self], [], [], 0)[0] else self.returncode

    def fileno(self) -> int:
        """Return a descriptor for `select`. The descriptor becomes readable when the program has ended."""
        return self._connection.fileno()

    def communicate(self, timeout: float = DEADLINE) -> tuple[str, str]:
        """Wait for the end of the program; return the remaining output and the errors.

        After the timeout, the program is killed.
        """
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        try:
            out = self.stdout.read()
            self.wait()
        finally:
            timer.cancel()
        return out, self.errors

    @property
    def errors(self) -> str:
        """The text that the program has written to stderr."""
        number = self._errors.fileno()  # the program shares the position in the file
        return os.pread(number, os.fstat(number).st_size, 0).decode()


@contextmanager
def started(
    words: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str | None] | None = None,
    streams: dict[int, int] | None = None,
    preloaded: Sequence[str] = (),
) -> Iterator[Process]:
    """Run a Python program, and kill it at the end of the `with` block.

    Args:
        words: the arguments of Python: ``-m MODULE``, ``-c CODE`` or a file, and the program's own arguments.
        folder: the working folder; by default the present one.
        environment: further environment variables. The value None removes a variable.
        streams: descriptors for stdin (0), stdout (1) and stderr (2). By default, stdin is empty, stdout is
            `Process.stdout`, and stderr is `Process.errors`. If stdin is a terminal, it becomes the program's
            controlling terminal.
        preloaded: modules that the server imports first, and keeps for later programs.
    """
    read, write = os.pipe()
    with (
        nullcontext() if ADDRESS in os.environ else server(),  # outside of pytest
        tempfile.TemporaryFile() as errors,
        os.fdopen(read, newline="\n") as stdout,
        socket.socket(socket.AF_UNIX) as connection,
        Path(os.devnull).open() as nothing,
    ):
        given = {0: nothing.fileno(), 1: write, 2: errors.fileno()} | (streams or {})
        changed = {**os.environ, **(environment or {})}
        variables = {name: value for name, value in changed.items() if value is not None}
        request = {"words": list(words), "folder": str(folder or Path.cwd()), "environment": variables}
        request["preloaded"] = list(preloaded)
        connection.settimeout(DEADLINE)
        connection.connect(os.environ[ADDRESS])
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [given[number] for number in range(3)])
        os.close(write)
        process = Process(int(connection.recv(16)), stdout, connection, errors)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def run(
    words: Sequence[str], *, folder: Path | None = None, environment: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end, and return its status and output.

    The parameters are the same as those of `started`.
    """
    with started(words, folder=folder, environment=environment) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(list(words), process.wait(), out, err)
