"""Read and verify blocks of the store for clients. A block that several clients request together is read only once."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import Protocol, runtime_checkable

from blockota.errors import ContentError, StoreError
from blockota.formats.car import MAX_BLOCK_SIZE
from blockota.formats.cid import CID, check_block
from blockota.repository.answers import Piece

CAPACITY = 64 << 20
"""Bytes of blocks that are kept in memory. A quarter of this is kept if blocks are files, which the kernel caches."""
PART_SIZE = 1 << 17
"""Bytes of a block that are sent at once. A client that does not read occupies this much memory."""
_READERS = 4


@runtime_checkable
class BlockStore(Protocol):
    """A store from which single blocks are read."""

    def has(self, cid: CID) -> bool:
        """Whether the store has a block."""

    def read_block(self, cid: CID) -> bytes:
        """Return the unverified bytes of a block."""


@runtime_checkable
class FileStore(Protocol):
    """A store with a file for each block. For a slow client, the file stays open, instead of the block in memory."""

    def open_block(self, cid: CID) -> FileIO:
        """Open the unverified file of a block. The caller closes the file."""


class Blocks:
    """Reads and verifies blocks, and caches the most recently used blocks in memory.

    Args:
        store: the store, which is read in threads.
        capacity: bytes of blocks to keep in memory; None means the default.

    Attributes:
        failed: the blocks that could not be read at the last attempt, because they were missing or corrupt.
    """

    def __init__(self, store: BlockStore, *, capacity: int | None = None) -> None:
        default = CAPACITY // 4 if isinstance(store, FileStore) else CAPACITY
        self._store, self._left = store, default if capacity is None else capacity
        self.failed: set[CID] = set()
        self._kept: OrderedDict[CID, bytes] = OrderedDict()
        self._pending: dict[CID, asyncio.Future[bytes]] = {}
        self._verified: dict[CID, tuple[int, ...]] = {}
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="blocks")

    async def stream(
        self, pieces: Sequence[bytes | Piece], *, part_size: int = PART_SIZE
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of pieces, in parts of about `part_size` bytes.

        Raises:
            StoreError: the store does not have a block.
            ContentError: a block is corrupt.
        """
        waiting = b""  # the few bytes before a block, sent in one packet with the block
        for number, piece in enumerate(pieces):
            if isinstance(piece, bytes):
                waiting += piece
                continue
            following = next((other for other in pieces[number + 1 : number + 3] if isinstance(other, Piece)), None)
            cid = following.block.cid if following else None
            if cid and cid not in self._kept and cid not in self._pending and cid not in self._verified:
                # Begin to read the next block. An error of this read is reported when that block is sent.
                reading = asyncio.ensure_future(self.get(cid))
                reading.add_done_callback(lambda done: done.cancelled() or done.exception())

            async for part in self._parts(piece, part_size):
                yield waiting + part if waiting else part
                waiting = b""
        if waiting:
            yield waiting

    async def get(self, cid: CID) -> bytes:
        """Read one block.

        Raises:
            StoreError: the store does not have the block.
            ContentError: the block is corrupt.
        """
        if cid in self._kept:
            self._kept.move_to_end(cid)
            return self._kept[cid]
        pending = self._pending.get(cid)
        if pending is None:
            pending = self._pending[cid] = asyncio.get_running_loop().run_in_executor(self._threads, self._read, cid)
            pending.add_done_callback(lambda done: self._finish(cid, done))
        # A client that disconnects must not cancel the read for the others.
        return await asyncio.shield(pending)

    def open(self, cid: CID, *, size: int) -> FileIO | None:
        """Open a block's file if the file was verified and has not changed since. The caller closes the file."""
        if cid not in self._verified or not isinstance(self._store, FileStore):
            return None

        try:
            file = self._store.open_block(cid)
        except StoreError:
            return None

        state = _state(file)
        if state == self._verified[cid] and state[0] == size:
            return file
        file.close()
        return None

    async def _parts(self, piece: Piece, size: int) -> AsyncIterator[bytes]:
        block = piece.block
        file = self.open(block.cid, size=block.size)
        data = b"" if file else await self.get(block.cid)
        if file is None and len(data) != block.size:
            # The response's length, which the client already has, is computed from the length in the parent.
            why = f"the block has {len(data)} bytes, its parent records {block.size}"
            raise ContentError(f"{block.cid} is not served", why=why)
        if file is None and isinstance(self._store, FileStore):
            file = self.open(block.cid, size=block.size)  # the file is known to be verified
        if file is None:
            for first in range(piece.first, piece.stop, size):
                yield data[first : min(first + size, piece.stop)]
            return

        del data  # a slow client occupies the open file, not the block in memory
        with file:
            for first in range(piece.first, piece.stop, size):
                count = min(size, piece.stop - first)
                part = os.pread(file.fileno(), count, first)
                if len(part) != count:
                    raise ContentError(f"{block.cid} is corrupt", why="its file became shorter while it was sent")
                yield part

    def _read(self, cid: CID) -> bytes:
        if not isinstance(self._store, FileStore):
            return check_block(cid, self._store.read_block(cid))
        with self._store.open_block(cid) as file:
            state = _state(file)
            # read() allocates the requested size; requesting MAX_BLOCK_SIZE for a small block would take longer.
            data = file.read(min(state[0], MAX_BLOCK_SIZE) + 1)
        if self._verified.get(cid) != state:
            check_block(cid, data)
            self._verified[cid] = state
        return data

    def _finish(self, cid: CID, done: asyncio.Future[bytes]) -> None:
        del self._pending[cid]
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
    """Return the attributes of a file that change if the file is written to or replaced."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
