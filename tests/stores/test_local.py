"""The embedded store verifies blocks when they are read, and leaves no partial block."""

from __future__ import annotations

import hashlib
import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.errors import Action, ContentError, StoreError, UsageError
from blockota.formats.cid import CHUNK_SIZE, CID, cid_of
from blockota.stores.local import LocalStore, collect
from blockota.stores.store import open_store

LARGE = hashlib.shake_128(b"three blocks").digest(2 * CHUNK_SIZE + 5)
ABSENT = cid_of(io.BytesIO(b"never stored"))
NO_CREDENTIALS = 65534


class BrokenStream(io.BytesIO):
    """An input file whose storage medium fails after the first chunk."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the first chunk, then raise an error."""
        if self.tell() >= CHUNK_SIZE:
            raise RuntimeError("the medium is gone")
        return super().read(size)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store in a folder that does not exist yet."""
    return LocalStore(tmp_path / "a" / "store")


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Path]:
    """A folder without permissions; if the tests run as root, root becomes another user during the test."""
    folder = tmp_path / "forbidden"
    folder.mkdir(mode=0)
    user = os.geteuid()
    os.seteuid(user or NO_CREDENTIALS)
    yield folder
    os.seteuid(user)
    folder.chmod(0o700)


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """Limit each file that this process may write to the size of half a chunk."""
    limit, ceiling = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_SIZE // 2, ceiling))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, ceiling))


def block_files(store: LocalStore) -> list[Path]:
    """Return all block files, including partial ones."""
    return [path for path in (store.folder / "blocks").rglob("*") if path.is_file()]


def path_of(store: LocalStore, cid: CID) -> Path:
    """Return the path of a block, as the docstring of `blockota.stores.local` defines it."""
    return store.folder / "blocks" / str(cid)[-3:-1] / str(cid)


@pytest.mark.parametrize("data", [b"", b"hello", LARGE], ids=["empty", "one block", "three blocks"])
def test_what_was_put_is_opened(store: LocalStore, data: bytes) -> None:
    """A stored file is pinned, and read back by its CID."""
    seen: list[int] = []
    cid = store.put(io.BytesIO(data), on_progress=seen.append)
    assert cid == cid_of(io.BytesIO(data))
    assert b"".join(store.open(cid)) == data
    assert store.has(cid)
    assert (store.folder / "pins" / str(cid)).is_file()
    assert sum(seen) >= len(data)


def test_a_new_store_is_empty(store: LocalStore) -> None:
    """A query of a store whose folder does not exist finds nothing and does not create the folder."""
    assert not store.has(ABSENT)
    assert not store.folder.exists()


def test_pins_are_put_and_taken_away(store: LocalStore) -> None:
    """A pin can be removed twice in a row, and set again. The blocks stay."""
    cid = store.put(io.BytesIO(b"hello"))
    store.unpin(cid)
    store.unpin(cid)
    assert list((store.folder / "pins").iterdir()) == []
    store.pin(cid)
    assert (store.folder / "pins" / str(cid)).is_file()
    assert b"".join(store.open(cid)) == b"hello"


def test_putting_again_writes_nothing(store: LocalStore) -> None:
    """Storing a file again does not write its existing blocks again."""
    store.put(io.BytesIO(LARGE))
    before = {path: path.stat().st_mtime_ns for path in block_files(store)}
    store.put(io.BytesIO(LARGE))
    assert {path: path.stat().st_mtime_ns for path in block_files(store)} == before


@pytest.mark.parametrize("number", range(4))
def test_a_corrupt_block_is_found_and_healed(store: LocalStore, number: int) -> None:
    """A changed block causes an error when its file is read; storing the file again repairs the block."""
    cid = store.put(io.BytesIO(LARGE))
    path = sorted(block_files(store))[number]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ContentError, match=rf"the block {path.name} is corrupt: .* Store the image again"):
        list(store.open(cid))
    store.put(io.BytesIO(LARGE))
    assert b"".join(store.open(cid)) == LARGE


@pytest.mark.parametrize("size", [0, 1, 4, CHUNK_SIZE])
def test_a_cut_or_grown_block_is_found(store: LocalStore, size: int) -> None:
    """A truncated or extended block file is reported as corrupt."""
    cid = store.put(io.BytesIO(b"hello"))
    with path_of(store, cid).open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ContentError, match="is corrupt"):
        list(store.open(cid))


def test_a_block_like_a_disk_is_not_read_into_memory(store: LocalStore) -> None:
    """A sparse file of 1 TiB in place of a block is reported as corrupt, without reading all of it."""
    cid = store.put(io.BytesIO(b"hello"))
    with path_of(store, cid).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ContentError, match="is corrupt"):
        list(store.open(cid))


@pytest.mark.parametrize("number", range(4))
def test_a_missing_block_is_named(store: LocalStore, number: int) -> None:
    """The error for a missing block contains the CID of the block, and the remedy to choose another store."""
    cid = store.put(io.BytesIO(LARGE))
    path = sorted(block_files(store))[number]
    path.unlink()
    with pytest.raises(StoreError, match=rf"does not have {path.name}: ") as caught:
        list(store.open(cid))
    assert caught.value.action is Action.CHOOSE_STORE


def test_an_interrupted_put_leaves_no_trace_of_a_block(store: LocalStore) -> None:
    """If reading the image fails, complete blocks stay in the store, but no partial block and no pin."""
    with pytest.raises(RuntimeError, match="the medium is gone"):
        store.put(BrokenStream(LARGE))
    assert [path.name for path in block_files(store)] == [str(cid_of(io.BytesIO(LARGE[:CHUNK_SIZE])))]
    assert not (store.folder / "pins").exists()


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    """If the path of the store's folder is a file, then storing, reading and pinning raise an error."""
    (tmp_path / "store").write_bytes(b"")
    store = LocalStore(tmp_path / "store")
    for action in (lambda: store.put(io.BytesIO(b"x")), lambda: list(store.open(ABSENT)), lambda: store.pin(ABSENT)):
        with pytest.raises(StoreError, match="Not a directory"):
            action()


@pytest.mark.parametrize("has_writer", [False, True])
def test_a_pipe_in_place_of_a_block_is_not_waited_for(store: LocalStore, *, has_writer: bool) -> None:
    """A named pipe in place of a block is a corrupt block, because opening the pipe would block forever."""
    cid = store.put(io.BytesIO(b"image"))
    path = path_of(store, cid)
    path.unlink()
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR) if has_writer else None
    try:
        assert store.read_block(cid) == b""
    finally:
        if writer is not None:
            os.close(writer)


def test_a_folder_in_place_of_a_block_is_reported(store: LocalStore) -> None:
    """A folder in place of a block file causes an error when the file is stored or read."""
    cid = cid_of(io.BytesIO(b"hello"))
    path_of(store, cid).mkdir(parents=True)
    assert not store.has(cid)
    for action in (lambda: store.put(io.BytesIO(b"hello")), lambda: list(store.open(cid))):
        with pytest.raises(StoreError, match="cannot be used: Is a directory"):
            action()


def test_a_folder_without_permission_is_reported(forbidden: Path) -> None:
    """If a store's folder has no permissions, every operation raises an error with the reason."""
    store = LocalStore(forbidden / "store")
    actions = (
        lambda: store.put(io.BytesIO(b"x")),
        lambda: list(store.open(ABSENT)),
        lambda: store.has(ABSENT),
        lambda: store.pin(ABSENT),
        lambda: store.unpin(ABSENT),
    )
    for action in actions:
        with pytest.raises(StoreError, match=r"cannot be used: Permission denied\. Check the folder's permissions"):
            action()


def test_a_full_disk_leaves_no_partial_block(store: LocalStore, small_files_only: None) -> None:
    """If the disk is full, the store keeps no partial block, and the error contains the reason.

    A smaller block that another thread was writing may remain. This block is complete and unpinned, and can be removed.
    """
    del small_files_only
    with pytest.raises(StoreError, match=r"cannot be used: File too large\. .*free space"):
        store.put(io.BytesIO(LARGE))
    left = [CID.parse(path.name) for path in block_files(store)]
    assert set(left) <= {cid_of(io.BytesIO(LARGE[2 * CHUNK_SIZE :]))}
    assert all(CID.of(cid.codec, store.read_block(cid)) == cid for cid in left)
    assert store.pins() == set()
    assert collect(store, left, keep=()) == len(left)
    assert block_files(store) == []


def test_a_block_that_fails_is_reported_however_many_follow(store: LocalStore) -> None:
    """If one of several concurrent block writes fails, storing the file fails, and nothing is pinned."""
    image = b"".join(bytes((number,)) * CHUNK_SIZE for number in range(24))
    path_of(store, cid_of(io.BytesIO(image[7 * CHUNK_SIZE : 8 * CHUNK_SIZE]))).mkdir(parents=True)
    progress = list[int]()
    with pytest.raises(StoreError, match="Is a directory"):
        store.put(io.BytesIO(image), on_progress=progress.append)
    assert len(progress) == 7
    assert store.pins() == set()


def test_a_store_is_chosen_by_its_url(tmp_path: Path) -> None:
    """``file:FOLDER`` opens the embedded store in that folder."""
    store = open_store(f"file:{tmp_path}")
    assert isinstance(store, LocalStore)
    assert store.folder == tmp_path


@pytest.mark.parametrize("url", ["", "file:", "file", "./store", "kubo:", "ftp://x", "file:~nobody-of-that-name/x"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    """A URL of an unknown form is a usage error."""
    with pytest.raises(UsageError):
        open_store(url)
