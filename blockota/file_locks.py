"""File locks between processes.

The operating system releases the locks of a process when it ends or is killed. A lock file is never removed, because a
waiting process would then lock the removed file. A lock file is separate from the file that it protects, because on
Windows a locked byte cannot be read through other handles.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

SHARES = 32
"""The number of processes and threads that can have a shared lock at the same time."""
_PAUSE = 0.01
"""Seconds between two attempts to lock. Attempts are repeated because operating systems do not offer a lock with a
timeout."""


class LockHeldError(Exception):
    """Another process or thread held the lock until the timeout."""


@contextmanager
def exclusive_lock(path: Path, *, timeout: float | None = None) -> Iterator[None]:
    """Lock a file against other processes and threads while the ``with`` block runs. The lock is not reentrant.

    Args:
        path: the lock file, created if necessary.
        timeout: seconds to wait for the lock; None waits without a limit.

    Raises:
        LockHeldError: the lock was not free within `timeout`.
        OSError: the file cannot be opened.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with _opened(path) as file:
        while not _try_lock(file):
            _pause(deadline)
        yield


@contextmanager
def shared_lock(path: Path, *, exclusive: bool, timeout: float) -> Iterator[None]:
    """Lock a resource, either shared with other holders or exclusively, while the ``with`` block runs.

    A shared holder locks any one of `SHARES` files. An exclusive holder locks all these files, always in the same
    order, so two exclusive holders cannot deadlock. While an exclusive holder waits for the next file, it keeps the
    files that it has locked. New shared holders therefore cannot delay it forever. The lock is not reentrant.

    Args:
        path: the name of the lock files, to which a number is appended.
        exclusive: whether no other holder may have the lock.
        timeout: seconds to wait for the lock.

    Raises:
        LockHeldError: the lock was not free within `timeout`.
        OSError: a file cannot be opened.
    """
    deadline = time.monotonic() + timeout
    paths = [path.with_name(f"{path.name}.{number}") for number in range(SHARES)]

    with ExitStack() as held:
        if exclusive:
            for one in paths:
                file = held.enter_context(_opened(one))
                while not _try_lock(file):
                    _pause(deadline)
        else:
            while not any(_enter_share(held, one) for one in paths):
                _pause(deadline)
        yield


def _enter_share(held: ExitStack, path: Path) -> bool:
    with ExitStack() as opened:
        if not _try_lock(opened.enter_context(_opened(path))):
            return False
        held.push(opened.pop_all())
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield file
    finally:
        with suppress(OSError):
            os.close(file)  # releases the lock


def _try_lock(file: int) -> bool:
    from filelock import lock_descriptor  # takes 50 ms to load

    return lock_descriptor(file, blocking=False)


def _pause(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise LockHeldError
    time.sleep(_PAUSE)
