"""Measure the local store against SHA-256, without which nothing can be stored or believed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, folder_on_disk, in_turns, seconds_of, throughput
from blockota.stores.local import LocalStore

SIZE = 256 << 20
RUNS = 7
_THEIRS = (
    "Theirs: `hashlib.file_digest` of the same file. Both read files that the system has in memory; the store lies on "
    "the disk of this clone."
)


def figures() -> Iterator[Figure]:
    """Putting a file into an empty store, and reading it back, each block checked."""
    with folder_on_disk() as folder:
        image = folder / "image.bin"
        with image.open("wb") as file:
            for _ in range(SIZE >> 20):
                file.write(os.urandom(1 << 20))
        # Pending writes of the file and of the previous store are flushed outside the measured time.
        pairs = in_turns(lambda: put(image, folder / "new"), lambda: digest(image), runs=RUNS, between=os.sync)
        yield throughput(
            f"local put of {SIZE >> 20} MiB, of SHA-256's throughput",
            pairs,
            at_least=50,
            times="Ours: `LocalStore.put` of a file into an empty store, on whose return every block is on the disk "
            f"(fsync) and pinned. {_THEIRS} It writes nothing, and so has nothing to sync.",
        )
        yield _read_figure(image, folder / "store")


def _read_figure(image: Path, folder: Path) -> Figure:
    store = LocalStore(folder)
    with image.open("rb") as file:
        cid = store.put(file)

    def read() -> float:
        return seconds_of(lambda: deque(store.open(cid), maxlen=0))

    return throughput(
        f"local verified read of {SIZE >> 20} MiB, of SHA-256's throughput",
        in_turns(read, lambda: digest(image), runs=RUNS),
        at_least=50,
        times=f"Ours: `LocalStore.open` to its end, every block checked, its bytes dropped. {_THEIRS} "
        "Neither writes or syncs anything.",
    )


def put(image: Path, folder: Path) -> float:
    """Seconds of putting a file into a store that is made for it, and removed again outside of them."""

    def work() -> None:
        with image.open("rb") as file:
            LocalStore(folder).put(file)

    seconds = seconds_of(work)
    shutil.rmtree(folder)
    return seconds


def digest(image: Path) -> float:
    """Seconds of a file's plain SHA-256."""

    def work() -> None:
        with image.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    return seconds_of(work)
