"""Helpers of the flashing tests: boards that are connected and removed, and commands that run until stopped."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from firmware_host.bench.watch import ABSENT, REMOVED
from firmware_host.bootloader.an3155 import SYNC
from firmware_host.simulator import STM32F103C8, BoardProfile, Faults, SimulatedBoard, TimeModel
from firmware_host.simulator.server import TICK, arriving, serve_connections
from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.support import forks

OLD, NEW, LARGE = (IMAGES / f"bluepill-{version}.bin" for version in ("1.0.0", "1.1.0", "1.2.0"))
STATE = Path(".blockota", "bench")
LOG, JOURNALS = STATE / "log", STATE / "interrupted"
INTERRUPTED = 130
TIMEOUT = 120.0
"""Seconds after which a test fails instead of waiting longer."""


def board(
    number: int,
    *,
    flash: bytes = b"",
    faults: Faults | None = None,
    profile: BoardProfile = STM32F103C8,
    times: TimeModel | None = None,
) -> SimulatedBoard:
    """Return a simulated board with this number as its unique id."""
    unique_id = number.to_bytes(12)
    return SimulatedBoard(profile, flash=flash, faults=faults or Faults(), unique_id=unique_id, times=times)


def unique_id(number: int) -> str:
    """Return the unique id of board `number` in the form that commands print."""
    return number.to_bytes(12).hex()


class Jig:
    """A TCP port that stays open while boards are connected and removed.

    Attributes:
        heard: the bytes sent to the connected board.
        last_heard: bytes after which the cable is disconnected.
    """

    def __init__(self) -> None:
        self._board: SimulatedBoard | None = None
        self._next: SimulatedBoard | None = None
        self._changed = threading.Condition()
        self._polls = 0
        self.heard = b""
        self.last_heard = b""

    def put(self, one: SimulatedBoard | None, *, is_reset: bool = True) -> None:
        """Replace the connected board by another board, or by None for an empty port; by default, reset the new board.

        The board is reset just before the next poll, because a reset in the middle of a poll would have to be repeated
        (see `BoardPort.poll`).
        """
        with self._changed:
            self._board, self._next, self.heard = (None, one, b"") if is_reset else (one, None, b"")

    def take_out(self) -> None:
        """Remove the board, and wait until the command has polled often enough to detect the removal."""
        self.put(None)
        with self._changed:
            until = self._polls + REMOVED + ABSENT + 1
            assert self._changed.wait_for(lambda: self._polls >= until, TIMEOUT)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the TCP port, and yield its URL."""
        with serve_connections(self._talk, port=0) as address:
            yield f"socket://{address}"

    def _talk(self, connection: socket.socket, ended: threading.Event) -> None:
        for data in arriving(connection, ended, tick=lambda: TICK):
            with self._changed:
                self.heard += data
                is_poll = data.startswith(bytes((SYNC,)))
                self._polls += is_poll
                if is_poll and self._next:
                    self._board, self._next = self._next, None
                    self._board.connect()
                answer = self._board.feed(data) + self._board.idle(TICK) if self._board else b""
                if self.last_heard and data.endswith(self.last_heard):
                    self._board, self.last_heard, answer = None, b"", b""
                self._changed.notify_all()
            connection.sendall(answer)


@dataclass
class Command:
    """A command in a separate process.

    Attributes:
        process: the process of the command.
        errors: its stderr.
        printed: the lines on stderr so far.
    """

    process: forks.Process
    errors: IO[str]
    printed: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _has_ended: bool = False

    def listen(self) -> None:
        """Collect the command's lines on stderr until its process ends."""
        for line in self.errors:
            with self._changed:
                self.printed.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def wait_for(self, words: str, *, times: int = 1) -> None:
        """Wait until at least this many printed lines contain these words."""

        def is_printed() -> bool:
            return sum(words in line for line in self.printed) >= times

        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or is_printed(), TIMEOUT)
            assert is_printed(), "\n".join([f"the command does not print {words!r}", *self.printed])

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> Outcome:
        """Wait until the command has ended, and return its status and output."""
        out = self.process.stdout.read()
        status = self.process.wait(TIMEOUT)
        with self._changed:
            assert self._changed.wait_for(lambda: self._has_ended, TIMEOUT)
        return Outcome(status, out, "\n".join(self.printed))


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until a condition of a simulated board is true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():  # polls more often than `eventually`, because a board is written only for a short time
        assert time.monotonic() < deadline, "the condition does not come about"
        time.sleep(0.002)


@contextmanager
def running(*words: str) -> Iterator[Command]:
    """Run a ``blockota`` command in this folder, and kill its process if it is still running at the end."""
    read, write = os.pipe()
    with os.fdopen(read) as errors, forks.started(["-m", "blockota", *words], streams={2: write}) as process:
        os.close(write)
        command = Command(process, errors)
        listener = threading.Thread(target=command.listen, daemon=True)
        listener.start()
        try:
            yield command
        finally:
            process.kill()
            listener.join(TIMEOUT)


def publish_all(workshop: Workshop) -> None:
    """Publish releases 1.0.0 and 1.1.0 of the test product."""
    workshop.publish("1.0.0", OLD)
    workshop.publish("1.1.0", NEW)


WORDS = ("flash", "--product", PRODUCT)
