"""Locks between processes: exclusive and shared locks, timeouts, and processes that are killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from blockota.file_locks import SHARES, LockHeldError, exclusive_lock, shared_lock
from tests.conftest import ROOT
from tests.support.bench_logs import bench_log
from tests.support.waiting import DEADLINE

HOLD = """
import sys
from pathlib import Path
from blockota.file_locks import exclusive_lock, shared_lock
path, kind = Path(sys.argv[1]), sys.argv[2]
lock = exclusive_lock(path) if kind == "alone" else shared_lock(path, exclusive=kind == "all", timeout=0)
with lock:
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that keeps a lock until it reads a line or is killed."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), kind], stdin=pipe, stdout=pipe, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_an_exclusive_lock_has_one_holder(tmp_path: Path) -> None:
    """A lock of another process is not granted within the timeout.

    After the process with the lock ends, the lock is granted.
    """
    with held(tmp_path / "lock", "alone") as process:
        with pytest.raises(LockHeldError), exclusive_lock(tmp_path / "lock", timeout=0.05):
            pass
        process.communicate("\n")
        with exclusive_lock(tmp_path / "lock", timeout=DEADLINE):
            pass


@pytest.mark.parametrize("kind", ["alone", "shared", "all"])
def test_a_killed_holder_leaves_no_lock(tmp_path: Path, kind: str) -> None:
    """The locks of a killed process are released, although their files still exist."""
    path = tmp_path / "lock"
    with held(path, kind) as process:
        process.kill()
        process.wait(DEADLINE)
    assert list(tmp_path.iterdir())
    lock = exclusive_lock(path, timeout=0) if kind == "alone" else shared_lock(path, exclusive=True, timeout=0)
    with lock:
        pass


def test_a_killed_writer_does_not_stop_the_bench_log(tmp_path: Path) -> None:
    """A bench log can be written after the process that had locked it was killed."""
    log = bench_log(tmp_path / "log")
    log.check()
    with held(tmp_path / "log" / "bench-lock", "alone") as process:
        process.kill()
        process.wait(DEADLINE)
    log.check()


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    """If two threads request an exclusive lock, one thread gets the lock only after the other has released it."""
    order, is_started = [], threading.Event()

    def second() -> None:
        is_started.set()
        with exclusive_lock(tmp_path / "lock"):
            order.append("second")

    with exclusive_lock(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert is_started.wait(DEADLINE)
        order.append("first")
    thread.join(DEADLINE)
    assert order == ["first", "second"]


def test_shared_locks_exclude_an_exclusive_one(tmp_path: Path) -> None:
    """Several holders can share a lock. An exclusive lock is granted only if no other process has the lock."""
    path = tmp_path / "lock"
    with ExitStack() as stack:
        for _ in range(SHARES):
            stack.enter_context(shared_lock(path, exclusive=False, timeout=0))
        with pytest.raises(LockHeldError), shared_lock(path, exclusive=False, timeout=0):
            pass
        with pytest.raises(LockHeldError), shared_lock(path, exclusive=True, timeout=0):
            pass
    with shared_lock(path, exclusive=True, timeout=0):
        with pytest.raises(LockHeldError), shared_lock(path, exclusive=False, timeout=0):
            pass
        with pytest.raises(LockHeldError), shared_lock(path, exclusive=True, timeout=0):
            pass


def test_a_refused_lock_keeps_nothing(tmp_path: Path) -> None:
    """A refused exclusive lock leaves none of its lock files locked."""
    path = tmp_path / "lock"
    with ExitStack() as stack:
        first, second = (stack.enter_context(ExitStack()) for _ in range(2))
        for holder in (first, second):
            holder.enter_context(shared_lock(path, exclusive=False, timeout=0))
        first.close()  # the exclusive lock gets the first file, and waits for the second one
        with pytest.raises(LockHeldError), shared_lock(path, exclusive=True, timeout=0):
            pass
        stack.enter_context(shared_lock(path, exclusive=False, timeout=0))
    with shared_lock(path, exclusive=True, timeout=0):
        pass


def test_an_error_in_the_block_releases_the_lock(tmp_path: Path) -> None:
    """An exception within the ``with`` block passes through, and releases the lock."""
    with pytest.raises(KeyError), exclusive_lock(tmp_path / "lock"):
        raise KeyError
    with exclusive_lock(tmp_path / "lock", timeout=0):
        pass


def test_a_missing_folder_is_an_operating_system_error(tmp_path: Path) -> None:
    """Locking a file in a missing folder raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError), exclusive_lock(tmp_path / "missing" / "lock"):
        pass
