"""Where a fetch puts what has arrived: a file, the local store, or both; threads share them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from blockota.errors import StoreError
from blockota.formats.cid import CID, Block
from blockota.stores.local import LocalStore


class InFile:
    """Put a file's bytes where they belong in a file that is open for reading and writing and can seek.

    Args:
        file: the file, empty.
        store: a store that keeps the blocks as well, so that a later fetch goes on where this one ended. Where it
            fails, the file comes all the same.

    Attributes:
        store_error: why the store keeps nothing any more.
    """

    def __init__(self, file: BinaryIO, *, store: LocalStore | None = None) -> None:
        """Begin with what the store holds."""
        self._file, self._store = file, store
        self.store_error: StoreError | None = None
        self._places: dict[CID, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def held(self, cid: CID) -> bytes | None:
        """A leaf that was written here, or a block of the store that can be read.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock, _translated():
            if cid in self._places:
                offset, size = self._places[cid]
                self._file.seek(offset)
                return self._file.read(size)
        try:
            return InStore(self._store).held(cid) if self._store else None
        except StoreError:
            return None

    def keep(self, block: Block, offsets: Sequence[int]) -> None:
        """Write a leaf at all of its places.

        Raises:
            StoreError: the file cannot be written.
        """
        if self._store and self.store_error is None:
            try:
                InStore(self._store).keep(block, offsets)
            except StoreError as error:
                self.store_error = error
        with self._lock, _translated():
            for offset in offsets:
                self._file.seek(offset)
                self._file.write(block.data)
                self._places[block.cid] = offset, len(block.data)


class InStore:
    """Put a file's blocks into the local store; `LocalStore.open` yields it when the fetch has ended.

    Args:
        store: the store.
    """

    def __init__(self, store: LocalStore) -> None:
        """Begin with what the store holds."""
        self._store = store

    def held(self, cid: CID) -> bytes | None:
        """A block of the store."""
        return self._store.read_block(cid) if self._store.has(cid) else None

    def keep(self, block: Block, offsets: Sequence[int]) -> None:  # noqa: ARG002 - a store has no offsets
        """Store a block."""
        self._store.write_block(block)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            "the fetched file cannot be written",
            why=error.strerror or str(error),
            remedy="check the disk's free space",
        ) from error
