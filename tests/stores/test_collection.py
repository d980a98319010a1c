"""Removal of files from the embedded store, which keeps the blocks that other files need."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from blockota.formats.cid import CHUNK_SIZE, CID
from blockota.stores.local import LocalStore, collect

SHARED = hashlib.shake_128(b"shared").digest(CHUNK_SIZE)
OLD, NEW = SHARED + b"old", SHARED + b"new"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


def put(store: LocalStore, data: bytes) -> CID:
    """Store and pin a file."""
    return store.put(io.BytesIO(data))


def blocks(store: LocalStore) -> int:
    """Return the number of block files."""
    return sum(path.is_file() for path in (store.folder / "blocks").rglob("*"))


def test_an_unpinned_file_is_removed_but_for_what_others_need(store: LocalStore) -> None:
    """Removing a file removes its blocks, except a leaf that the file shares with another file."""
    old, new = put(store, OLD), put(store, NEW)
    store.unpin(old)
    assert collect(store, [old], keep=()) == 2
    assert b"".join(store.open(new)) == NEW
    assert not store.has(old)


def test_a_pinned_file_stays(store: LocalStore) -> None:
    """A pinned file is not removed."""
    old = put(store, OLD)
    assert collect(store, [old], keep=()) == 0
    assert b"".join(store.open(old)) == OLD


def test_a_file_that_is_being_fetched_stays(store: LocalStore) -> None:
    """An unpinned file is not removed if `keep` contains its root; `keep` lists the files that are being fetched."""
    old, new = put(store, OLD), put(store, NEW)
    for root in (old, new):
        store.unpin(root)
    collect(store, [old], keep=[new])
    assert b"".join(store.open(new)) == NEW


def test_files_that_were_not_named_stay(store: LocalStore) -> None:
    """Only files in the list of dropped files are removed; other files without a pin remain."""
    other, old = put(store, b"a cached image"), put(store, OLD)
    store.unpin(other)
    store.unpin(old)
    collect(store, [old], keep=())
    assert store.has(other)
    assert blocks(store) == 1


@pytest.mark.parametrize("leaf", [SHARED, b"old"], ids=["first", "last"])
def test_a_sweep_that_was_cut_short_is_finished(store: LocalStore, leaf: bytes) -> None:
    """After a removal was interrupted, a second call completes it."""
    old = put(store, OLD)
    store.unpin(old)
    store.remove_block(CID.of(0x55, leaf))
    assert store.has(old)
    assert collect(store, [old], keep=()) == 2
    assert blocks(store) == 0


def test_what_an_interrupted_writing_left_goes_along(store: LocalStore) -> None:
    """A partial file beside a block is removed together with the block."""
    cid = put(store, b"one block")
    store.unpin(cid)
    [path] = [path for path in (store.folder / "blocks").rglob("*") if path.is_file()]
    path.with_name(f".{path.name}.abc.partial").write_bytes(b"one")
    collect(store, [cid], keep=())
    assert blocks(store) == 0


def test_a_pin_without_its_blocks_does_no_harm(store: LocalStore) -> None:
    """Neither an invalid pin nor a pinned file with a missing block prevents the removal of another file."""
    old, new = put(store, OLD), put(store, NEW)
    store.remove_block(new)
    (store.folder / "pins" / "bnothing").touch()
    store.unpin(old)
    collect(store, [old], keep=())
    assert not store.has(old)
