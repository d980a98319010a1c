"""Processes that share a store do not remove blocks that another process stored or found but has not pinned yet."""

from __future__ import annotations

import io
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from blockota import file_locks
from blockota.errors import StoreError
from blockota.formats.cid import CHUNK_SIZE, CID
from blockota.stores.local import LocalStore, collect
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT
from tests.support.hostile_gateway import Handler, honest, serving
from tests.support.store_process import FILES, working
from tests.support.waiting import DEADLINE


def test_a_fetch_keeps_what_it_found_until_its_pin_is_written(tmp_path: Path) -> None:
    """While a fetch uses a block of another file, other processes cannot remove this file, and the fetch completes."""
    store, release, is_asked = LocalStore(tmp_path, timeout=0.3), threading.Event(), threading.Event()
    old = store.put(io.BytesIO(IMAGE[:CHUNK_SIZE] + b"old"))
    store.unpin(old)

    def waits(handler: Handler, data: bytes) -> None:
        if data == b"end":
            is_asked.set()
            release.wait(DEADLINE)
        honest(handler, data)

    with serving(BLOCKS, waits, has_car=False) as gateway, working(tmp_path, "fetch", gateway.url) as process:
        assert is_asked.wait(DEADLINE)
        with pytest.raises(StoreError, match=r"is in use: another process stores or fetches files"):
            collect(store, [old], keep=())
        release.set()
        assert process.end() == "done\n"
    assert collect(store, [old], keep=()) == 2
    assert b"".join(store.open(ROOT)) == IMAGE


def test_a_killed_fetch_does_not_block_others(tmp_path: Path) -> None:
    """The lock of a killed process is released, so another process can remove files."""
    store = LocalStore(tmp_path, timeout=DEADLINE)
    old = store.put(io.BytesIO(b"old"))
    store.unpin(old)
    with working(tmp_path, "hold") as process:
        process.process.kill()
        assert collect(store, [old], keep=()) == 1


def test_who_removes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storing a file waits until a removal in another process has ended; after the timeout, an error is raised."""
    with working(tmp_path, "hold", "alone") as process:
        with pytest.raises(StoreError, match=r"is in use: another process removes files"):
            LocalStore(tmp_path, timeout=0.3).put(io.BytesIO(b"new"))
        is_waiting, found = threading.Event(), list[CID]()
        monkeypatch.setattr(file_locks, "_pause", lambda _: is_waiting.set())
        putting = threading.Thread(target=lambda: found.append(LocalStore(tmp_path).put(io.BytesIO(b"new"))))
        putting.start()
        assert is_waiting.wait(DEADLINE)
        assert found == []
        process.end()
        putting.join(DEADLINE)
    assert LocalStore(tmp_path).has(found[0])


def test_many_put_at_once(tmp_path: Path) -> None:
    """A process can store a file while another process stores files."""
    with working(tmp_path, "hold"):
        assert LocalStore(tmp_path, timeout=0).put(io.BytesIO(b"new"))


@pytest.mark.sampled
def test_processes_that_put_and_remove_at_random_lose_nothing(tmp_path: Path) -> None:
    """Processes that store, pin and remove files with a common block concurrently do not lose a block."""
    with ExitStack() as stack:
        sweepers = [stack.enter_context(working(tmp_path, "sweep")) for _ in range(2)]
        putters = [stack.enter_context(working(tmp_path, "put", str(number))) for number in range(len(FILES))]
        for process in (*putters, *sweepers):
            assert process.end() == "done\n"
    assert not [path for path in (tmp_path / "blocks").rglob("*") if path.is_file()]
