"""The embedded content store: a folder, without a daemon.

A block is the file ``blocks/<shard>/<cid>``. The shard is the third-last and the second-last character of the CID, as
in Kubo's function ``next-to-last/2``. A block file is created atomically. A pin is an empty file ``pins/<cid>``. The
files ``lock.0``, ``lock.1`` … form one lock: processes that store files share the lock, and a process that removes
files has the lock exclusively.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from blockota.errors import Action, ContentError, NotInStoreError, StoreError, UsageError
from blockota.file_locks import LockHeldError, shared_lock
from blockota.files import whole_file
from blockota.formats.car import MAX_BLOCK_SIZE
from blockota.formats.cid import CID, RAW, Block, check_block, dag, read_file, read_links

_WRITERS = 4
"""The number of blocks that are written concurrently. A larger number takes more memory and is not faster."""


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting.

    Without `O_NONBLOCK`, opening a named pipe in place of a block file would block forever.
    """
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such flag, and no pipes in folders


class LocalStore:
    """A content store in a folder, which is created when the first file is stored.

    Every method raises a `StoreError` if the folder cannot be read or written. `timeout` is the time in seconds to wait
    for another process that stores or removes files.
    """

    def __init__(self, folder: Path, *, timeout: float = 30.0) -> None:
        self.folder, self._timeout = folder, timeout

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Store and pin a file, and return its CID. On return, the whole file has been synced to the disk.

        After a failure, complete blocks without a pin may remain. Unpinned blocks are reused if the file is stored
        again, and are removed by `collect`. `on_progress` is called with the size of each stored block in bytes.
        """
        root = None
        with self._translated(), self.locked(exclusive=False):
            for block in self._written(dag(stream)):
                on_progress(len(block.data))
                root = block.cid  # the last block is the root
            if root is None:
                raise AssertionError("a DAG has at least one block")
            self.pin(root)
        return root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order. Each block is verified before it is yielded.

        Raises:
            StoreError: a block is missing, or the folder cannot be read.
            ContentError: a block is corrupt.
        """
        return read_file(cid, self.read_block)

    def has(self, cid: CID) -> bool:
        """Whether the store has the root block. Only `open` shows whether the file is complete."""
        with self._translated():
            return self._block_path(cid).is_file()

    def read_block(self, cid: CID) -> bytes:
        """Read at most `MAX_BLOCK_SIZE` + 1 bytes of a block without verifying them.

        Raises the errors of `open_block`.
        """
        with self._translated(), self.open_block(cid) as file:
            # read() allocates the requested size; for a small block, allocating `MAX_BLOCK_SIZE` would take longer.
            return file.read(min(os.fstat(file.fileno()).st_size, MAX_BLOCK_SIZE) + 1) or b""

    def open_block(self, cid: CID) -> FileIO:
        """Open the file of a block without verifying the block. The caller closes the file.

        Raises:
            NotInStoreError: the block is missing.
            StoreError: the folder cannot be read.
        """
        with self._translated():
            try:
                return FileIO(self._block_path(cid), opener=_open_at_once)
            except FileNotFoundError as error:
                raise NotInStoreError(
                    f"the store {self.folder} does not have {cid}",
                    why="the block was never stored there, or was removed",
                    remedy="ask the vendor for the image, or name another store",
                    action=Action.CHOOSE_STORE,
                ) from error

    def write_block(self, block: Block) -> None:
        """Store a block that the caller has verified. A corrupt file of the same CID is replaced."""
        path = self._block_path(block.cid)
        with self._translated():
            with suppress(OSError):  # a file that cannot be read is replaced
                if path.stat().st_size == len(block.data) and path.read_bytes() == block.data:
                    return
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                file.write(block.data)

    def _written(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Write blocks in threads, and yield the blocks in order, each after it was written."""
        pending: deque[tuple[Block, Future[None]]] = deque()
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="store") as writers:
            for block in blocks:
                # An inner block is written after all blocks that it links to.
                others = _WRITERS if block.cid.codec == RAW else 0
                while len(pending) > others:
                    yield _when_written(*pending.popleft())
                pending.append((block, writers.submit(self.write_block, block)))
            while pending:
                yield _when_written(*pending.popleft())

    def pin(self, cid: CID) -> None:
        """Protect a file from garbage collection."""
        with self._translated():
            self._pin_path(cid).parent.mkdir(parents=True, exist_ok=True)
            self._pin_path(cid).touch()

    def unpin(self, cid: CID) -> None:
        """Remove the pin of a file. The file's blocks stay in the store until the next `collect`."""
        with self._translated():
            self._pin_path(cid).unlink(missing_ok=True)

    def pins(self) -> set[CID]:
        """Return the pinned roots. Files in ``pins`` whose name is not a CID are ignored."""
        found = set()
        with self._translated():
            for path in (self.folder / "pins").glob("b*"):
                with suppress(UsageError, ContentError):
                    found.add(CID.parse(path.name))
        return found

    def remove_block(self, cid: CID) -> bool:
        """Remove a block, and partial files of interrupted writes of the block. Returns whether the block existed."""
        path = self._block_path(cid)
        with self._translated():
            existed = path.exists()
            for partial in path.parent.glob(f".{path.name}.*.partial"):
                partial.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return existed

    @contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[None]:
        """Lock the store: shared with other processes to store files, or exclusively to remove files.

        A process that stores a file keeps the shared lock from the file's first block until the file is pinned. Other
        processes therefore cannot remove blocks of the unpinned file. The operating system releases the lock when the
        process ends. The lock is not reentrant: code with a shared lock must not request an exclusive lock.

        Raises:
            StoreError: another process holds the lock for too long, or the folder cannot be written.
        """
        with self._translated(), suppress(FileExistsError):  # if a file has this name, the lock fails below
            self.folder.mkdir(parents=True, exist_ok=True)

        with ExitStack() as held:
            try:
                with self._translated():
                    lock = shared_lock(self.folder / "lock", exclusive=exclusive, timeout=self._timeout)
                    held.enter_context(lock)
            except LockHeldError as error:
                others = "stores or fetches" if exclusive else "removes"
                raise StoreError(
                    f"the store {self.folder} is in use",
                    why=f"another process {others} files in the store, and did not end in time",
                    remedy="try again when the other process has ended",
                ) from error
            yield

    def _block_path(self, cid: CID) -> Path:
        name = str(cid)
        return self.folder / "blocks" / name[-3:-1] / name

    def _pin_path(self, cid: CID) -> Path:
        return self.folder / "pins" / str(cid)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"the store {self.folder} cannot be used",
                why=error.strerror or str(error),
                remedy="check the folder's permissions and the disk's free space",
            ) from error


def collect(store: LocalStore, dropped: Iterable[CID], *, keep: Iterable[CID]) -> int:
    """Remove files from a store under its exclusive lock, and return the number of removed blocks.

    `keep` lists the roots of files that are kept although they are not pinned, such as files that are being fetched.

    A block of a dropped file is removed unless a pinned or kept file also contains the block. A block is removed after
    all blocks below it, so that a repeated call can complete an interrupted removal.

    Raises:
        StoreError: the folder cannot be read or written, or another process holds the lock for too long.
    """
    with store.locked(exclusive=True):
        needed = _reachable([*store.pins(), *keep], store)
        # Blocks are listed level by level from the roots; in reverse order, children come before parents.
        return sum(store.remove_block(cid) for cid in reversed(_reachable(dropped, store)) if cid not in needed)


def _reachable(roots: Iterable[CID], store: LocalStore) -> dict[CID, None]:
    """Return the CIDs of the files' blocks, level by level, without the blocks below a missing or corrupt block."""
    found = dict.fromkeys(roots)
    level = list(found)
    while level:
        below: dict[CID, None] = {}
        for cid in level:
            if cid.codec != RAW:
                with suppress(StoreError, ContentError):
                    links = read_links(Block(cid, check_block(cid, store.read_block(cid))))
                    below |= dict.fromkeys(link.cid for link in links)

        level = [cid for cid in below if cid not in found]
        found |= dict.fromkeys(level)
    return found


def _when_written(block: Block, writing: Future[None]) -> Block:
    writing.result()
    return block
