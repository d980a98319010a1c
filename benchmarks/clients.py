"""Run many clients that fetch the same file simultaneously, and check the files that they accepted.

``python -m benchmarks.clients FOLDER NUMBER`` starts a number of clients, each in its own process. Each line of
standard input is a JSON object with the download and its start time; each line of standard output is a JSON object with
the results.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from benchmarks.figure import ROOT, plain_digest
from blockota.errors import BlockOTAError, ContentError
from blockota.formats.cid import CID
from blockota.stores.fetch import FileDestination, FileFetch
from blockota.stores.http import HttpClient
from blockota.stores.source import Limits, Source

_HEAD_START = 1.0


@dataclass(frozen=True)
class Task:
    """The download that every client makes.

    Attributes:
        url: the server's URL.
        size: the size of the file in bytes.
        sha256: digest of the published file, in hex; accepted files are compared with it afterwards.
        cid: the file's content address, with which a client verifies the blocks.
        path: path of the plain file on the server, for clients that do not use `cid`.
        is_checked: whether clients that fetch the plain file compare its digest before they accept it.
    """

    url: str
    size: int
    sha256: str
    cid: str
    path: str = ""
    is_checked: bool = True


@dataclass(frozen=True)
class ClientOutcome:
    """The results of all clients.

    Attributes:
        times: the duration in seconds of each client that accepted a file.
        refusals: the errors of the clients that did not accept a file.
        unverified: the number of bytes of accepted files that differ from the published file.
    """

    times: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    unverified: int = 0

    def __add__(self, other: ClientOutcome) -> ClientOutcome:
        """Combine two results."""
        return ClientOutcome(
            self.times + other.times, self.refusals + other.refusals, unverified=self.unverified + other.unverified
        )


class Crowd:
    """A process whose child processes are clients that wait for a task."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def fetch(self, task: Task) -> ClientOutcome:
        """Let all clients fetch the same file simultaneously."""
        # The monotonic clock has the same value in every process.
        order = json.dumps({"begin": time.monotonic() + _HEAD_START, "task": asdict(task)})
        print(order, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline() if self._process.stdout else ""
        return ClientOutcome(**json.loads(answer))


@contextmanager
def crowd(folder: Path, *, clients: int) -> Iterator[Crowd]:
    """Start a number of clients, which write their files into a folder."""
    command = [sys.executable, "-m", "benchmarks.clients", str(folder), str(clients)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Crowd(process)


def visit(task: Task, path: Path, *, begin: float) -> ClientOutcome:
    """Run one client from the common start time until the last byte of the file was written."""
    path.unlink(missing_ok=True)
    time.sleep(max(0.0, begin - time.monotonic()))
    try:
        if task.path:
            take_plain(task, path)
        else:
            with path.open("w+b") as file:
                FileFetch(CID.parse(task.cid), [Source(task.url)], size=task.size, into=FileDestination(file)).run()
    except BlockOTAError as error:
        return ClientOutcome(refusals=[str(error)])
    return ClientOutcome(times=[time.monotonic() - begin])


def take_plain(task: Task, path: Path) -> None:
    """Download the plain file with BlockOTA's HTTP client.

    Raises:
        ContentError: the task requires a check, and the file has another SHA-256.
    """
    session, digest = HttpClient(Source(task.url), Limits()), hashlib.sha256()
    with path.open("wb") as file:
        for part in session.get(task.path, accept="*/*", limit=task.size).parts():
            if task.is_checked:
                digest.update(part)
            file.write(part)
    session.close()
    if task.is_checked and digest.hexdigest() != task.sha256:
        raise ContentError("the file is refused", why="it has another SHA-256")


def main(folder: Path, clients: int) -> None:
    """Run the clients until standard input ends."""
    paths = [folder / f"client-{number}" for number in range(clients)]
    # Every process gets one task, because a process that has a task waits for the common start time.
    with ProcessPoolExecutor(clients, get_context("fork")) as processes:
        for line in sys.stdin:
            order = json.loads(line)
            task, begin = Task(**order["task"]), order["begin"]
            visits = [processes.submit(visit, task, path, begin=begin) for path in paths]
            outcomes = [each.result() for each in visits]
            # Accepted files are compared with the published file after the measurement.
            accepted = [path for path, outcome in zip(paths, outcomes, strict=True) if outcome.times]
            wrong = [path for path in accepted if plain_digest(path).hex() != task.sha256]
            found = ClientOutcome(unverified=sum(path.stat().st_size for path in wrong))
            print(json.dumps(asdict(sum(outcomes, found))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
