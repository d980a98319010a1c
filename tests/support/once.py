"""Work that is done once in a test run, although several workers need its result."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Lock a file while the block runs; other processes wait."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return a folder, made by the first process that asks for it while others wait.

    Args:
        folder: the path of the result.
        make: creates the result at the path that it is given. If it raises, the next process tries again.
    """
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            make(unfinished)
            unfinished.rename(folder)
    return folder
