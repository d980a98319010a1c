"""Blocks on their way from the store to clients: each is read and checked once for all who want it at a time."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from io import FileIO

from blockota.errors import StoreError
from blockota.formats.car import MAX_BLOCK_SIZE
from blockota.formats.cid import CID, check_block
from blockota.repository.catalogue import BlockStore, FileStore

CAPACITY = 64 << 20
"""Bytes of blocks that are kept at hand; a quarter of them where blocks are files, which the system keeps."""
_READERS = 4


class Blocks:
    """Checked blocks; the last used ones are kept in memory.

    Args:
        store: where they come from; it is read in threads.
        capacity: bytes that are kept; None is the usual.

    Attributes:
        failed: the blocks that the store did not give the last time, or gave otherwise than they have to be.
    """

    def __init__(self, store: BlockStore, *, capacity: int | None = None) -> None:
        """Nothing is read yet."""
        usual = CAPACITY // 4 if isinstance(store, FileStore) else CAPACITY
        self._store, self._left = store, usual if capacity is None else capacity
        self.failed: set[CID] = set()
        self._kept: OrderedDict[CID, bytes] = OrderedDict()
        self._coming: dict[CID, asyncio.Future[bytes]] = {}
        self._checked: dict[CID, tuple[int, ...]] = {}
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="blocks")

    @property
    def are_files(self) -> bool:
        """Whether each is a file of its own in the store."""
        return isinstance(self._store, FileStore)

    def file(self, cid: CID, *, size: int) -> FileIO | None:
        """A block's file, where it was checked before and nobody wrote to it since; the caller closes it.

        Args:
            cid: the block.
            size: the bytes that it has to have.
        """
        if cid not in self._checked or not isinstance(self._store, FileStore):
            return None
        try:
            file = self._store.open_block(cid)
        except StoreError:
            return None
        state = _state(file)
        if state == self._checked[cid] and state[0] == size:
            return file
        file.close()
        return None

    async def get(self, cid: CID) -> bytes:
        """One block.

        Raises:
            StoreError: the store does not give it.
            ContentError: what it gives is another.
        """
        if cid in self._kept:
            self._kept.move_to_end(cid)
            return self._kept[cid]
        coming = self._coming.get(cid)
        if coming is None:
            coming = self._coming[cid] = asyncio.get_running_loop().run_in_executor(self._threads, self._read, cid)
            coming.add_done_callback(lambda done: self._arrived(cid, done))
        # One client that goes away must not take the block from the others.
        return await asyncio.shield(coming)

    def prefetch(self, cid: CID) -> None:
        """Begin to read a block that will be wanted next, where it cannot be sent as a file."""
        if cid not in self._kept and cid not in self._coming and cid not in self._checked:
            asyncio.ensure_future(self.get(cid)).add_done_callback(_forget)

    def _read(self, cid: CID) -> bytes:
        if not isinstance(self._store, FileStore):
            return check_block(cid, self._store.read_block(cid))
        with self._store.open_block(cid) as file:
            state = _state(file)
            # Memory for what does not come would take longer than all the reading.
            data = file.read(min(state[0], MAX_BLOCK_SIZE) + 1)
        if self._checked.get(cid) != state:
            check_block(cid, data)
            self._checked[cid] = state
        return data

    def _arrived(self, cid: CID, done: asyncio.Future[bytes]) -> None:
        del self._coming[cid]
        if done.cancelled() or done.exception():
            self.failed.add(cid)
            return
        self.failed.discard(cid)
        self._kept[cid] = done.result()
        self._left -= len(done.result())
        while self._left < 0:
            _, dropped = self._kept.popitem(last=False)
            self._left += len(dropped)


def _state(file: FileIO) -> tuple[int, ...]:
    """What changes when somebody writes to a file, or puts another in its place."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _forget(done: asyncio.Future[bytes]) -> None:
    """Whoever asks for the block itself is told why it does not come."""
    if not done.cancelled():
        done.exception()
