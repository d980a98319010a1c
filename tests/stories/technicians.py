"""A technician's bench: boards that are put in and taken out, and commands that run until they are stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blockota.errors import NoAnswerError
from firmware_host.simulator import STM32F103C8, BoardProfile, Faults, SimulatedBoard
from firmware_host.simulator.server import TICK, arriving, serve_connections
from tests.conftest import IMAGES, ROOT
from tests.stories.conftest import PRODUCT, Outcome, Workshop

OLD, NEW, LARGE = (IMAGES / f"bluepill-{version}.bin" for version in ("1.0.0", "1.1.0", "1.2.0"))
STATE = Path(".blockota", "bench")
LOG, JOURNALS = STATE / "bench-log.jsonl", STATE / "interrupted"
INTERRUPTED = 130
PATIENCE = 60.0
"""Seconds within which anything happens, on a machine that does much else."""


def board(
    number: int, *, flash: bytes = b"", faults: Faults | None = None, profile: BoardProfile = STM32F103C8
) -> SimulatedBoard:
    """A board with a unique id of its own."""
    return SimulatedBoard(profile, flash=flash, faults=faults or Faults(), unique_id=number.to_bytes(12))


def unique_id(number: int) -> str:
    """The unique id of `board`, as people see it."""
    return number.to_bytes(12).hex()


class Jig:
    """A TCP port whose boards are put in and taken out while it stays.

    Attributes:
        heard: what the board that is in was sent.
        last_heard: when a board was sent this, its cable comes off.
    """

    def __init__(self) -> None:
        """Empty."""
        self._board: SimulatedBoard | None = None
        self._lock = threading.Lock()
        self.heard = b""
        self.last_heard = b""

    def put(self, one: SimulatedBoard | None, *, is_reset: bool = True) -> None:
        """Take out what is in, and put a board in, or none; putting it in presses reset."""
        with self._lock:
            self._board, self.heard = one, b""
            if one and is_reset:
                one.connect()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the port; yields its URL."""
        with serve_connections(self._talk, port=0) as address:
            yield f"socket://{address}"

    def _talk(self, connection: socket.socket, ended: threading.Event) -> None:
        for data in arriving(connection, ended, tick=lambda: TICK):
            with self._lock:
                self.heard += data
                answer = self._board.feed(data) + self._board.idle(TICK) if self._board else b""
                if self.last_heard and data.endswith(self.last_heard):
                    self._board, self.last_heard, answer = None, b"", b""
            connection.sendall(answer)


@dataclass
class Command:
    """A command that runs in a process of its own.

    Attributes:
        process: the process.
        said: the lines on its stderr so far.
    """

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Collect what is said on stderr, until the process ends."""
        for line in self.process.stderr or ():
            self.said.append(line.rstrip("\n"))

    def wait_for(self, words: str, *, times: int = 1) -> None:
        """Wait until a line has these words, as many times."""
        deadline = time.monotonic() + PATIENCE
        while sum(words in line for line in self.said) < times:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise NoAnswerError(f"the command does not say {words!r}", why="\n".join(self.said))
            time.sleep(0.02)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> Outcome:
        """Wait until the command has ended."""
        out = self.process.stdout.read() if self.process.stdout else ""
        status = self.process.wait(PATIENCE)
        return Outcome(status, out, "\n".join(self.said))


@contextmanager
def running(*words: str) -> Iterator[Command]:
    """Run a command of ``blockota`` in this folder, and kill what is left of it."""
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "blockota", *words], env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        command = Command(process)
        listener = threading.Thread(target=command.listen, daemon=True)
        listener.start()
        try:
            yield command
        finally:
            process.kill()
            listener.join(PATIENCE)


def publish_all(workshop: Workshop) -> Workshop:
    """The same workshop, with 1.0.0 and 1.1.0 published."""
    workshop.publish("1.0.0", OLD)
    workshop.publish("1.1.0", NEW)
    return workshop


WORDS = ("flash", "--product", PRODUCT)
