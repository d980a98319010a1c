"""A process that uses a local store at the same time as other processes.

``python -m tests.support.store_process FOLDER WORK ARGUMENT`` prints ``ready`` at its start and ``done`` at its end.
"""

from __future__ import annotations

import hashlib
import io
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blockota.formats.cid import CHUNK_SIZE, CID, cid_of
from blockota.stores.local import LocalStore, collect
from blockota.stores.search import SearchStage, find_image
from blockota.stores.source import Source
from tests.support import forks
from tests.support.fetch_samples import IMAGE, ROOT
from tests.support.samples import release_of
from tests.support.sampling import EXHAUSTIVE

SHARED = hashlib.shake_128(b"shared").digest(CHUNK_SIZE)
FILES = [SHARED + bytes((number,)) * 1000 for number in range(4)]
"""Files of two leaves and a root, which share their first leaf."""
TURNS = 10 if EXHAUSTIVE else 4


def fetch(store: LocalStore, url: str) -> None:
    """Download the image from a source into the store."""
    say("ready")
    stage = SearchStage("the source", lambda: [Source(url)])
    find_image(release_of(IMAGE, dag_root=ROOT.digest), store, stages=[stage], into=io.BytesIO())


def hold(store: LocalStore, kind: str) -> None:
    """Lock the store until a line arrives on stdin."""
    with store.locked(exclusive=kind == "alone"):
        say("ready")
        sys.stdin.readline()


def put(store: LocalStore, number: str) -> None:
    """Repeatedly store a file, check that it is complete while pinned, and unpin it."""
    data = FILES[int(number)]
    say("ready")
    for _ in range(TURNS):
        began = time.monotonic()
        cid = store.put(io.BytesIO(data))
        assert b"".join(store.open(cid)) == data
        store.unpin(cid)
        time.sleep(2 * (time.monotonic() - began))  # lets the processes that remove blocks run


def sweep(store: LocalStore, _: str) -> None:
    """Remove unpinned blocks repeatedly, and a last time after a line arrives on stdin."""
    roots, is_over = addresses(), False
    say("ready")
    while not is_over:
        is_over = bool(select.select([sys.stdin], [], [], 0.001)[0])
        collect(store, roots, keep=())


def addresses() -> list[CID]:
    """Return the CIDs of the sample files."""
    return [cid_of(io.BytesIO(data)) for data in FILES]


def say(word: str) -> None:
    """Print a line for the parent process."""
    print(word, flush=True)  # noqa: T201 - the parent process reads it


@dataclass(frozen=True)
class StoreProcess:
    """A process that works on a store.

    Attributes:
        process: the process.
        stdin: the descriptor through which lines are sent to the process.
    """

    process: forks.Process
    stdin: int

    def end(self) -> str:
        """Send a line, and return the process's output until its end."""
        os.write(self.stdin, b"\n")
        return self.process.communicate()[0]


@contextmanager
def working(folder: Path, work: str, argument: str = "") -> Iterator[StoreProcess]:
    """Start a process on the store, and wait until it is ready."""
    words = ["-m", "tests.support.store_process", str(folder), work, argument]
    read, write = os.pipe()
    with (
        os.fdopen(read),
        os.fdopen(write, "wb"),
        forks.started(words, folder=forks.ROOT, streams={0: read}) as process,
    ):
        assert process.stdout.readline() == "ready\n"
        yield StoreProcess(process, write)


WORK: dict[str, Callable[[LocalStore, str], None]] = {"fetch": fetch, "hold": hold, "put": put, "sweep": sweep}

if __name__ == "__main__":
    WORK[sys.argv[2]](LocalStore(Path(sys.argv[1])), sys.argv[3])
    say("done")
