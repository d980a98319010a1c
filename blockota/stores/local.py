"""The embedded content store: a folder, without a daemon.

A block is the file ``blocks/<shard>/<cid>``, where the shard is the next-to-last two characters of its CID (the
``next-to-last/2`` function of Kubo's flatfs); it appears there whole or not at all. A pin is an empty file
``pins/<cid>``. ``lock`` is locked while files are stored (shared) or removed (exclusive).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from blockota.errors import Action, ContentError, NotInStoreError, StoreError, UsageError
from blockota.files import whole_file
from blockota.formats.car import MAX_BLOCK_SIZE
from blockota.formats.cid import CID, RAW, Block, check_block, dag, read_file, read_links

_LOCK_PAUSE = 0.02
_WRITERS = 4
"""Blocks that are written at the same time; more are not faster, and each takes memory."""


class LocalStore:
    """A content store in a folder, which is created when the first file is stored.

    Every method raises a `StoreError` if the folder cannot be read or written. It waits `timeout` seconds for another
    process that stores or removes files.
    """

    def __init__(self, folder: Path, *, timeout: float = 30.0) -> None:
        self.folder, self._timeout = folder, timeout

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Store and pin a file, and return its content address; on return all of it has been synced to the disk.

        If it fails, whole blocks may remain. They are not pinned: storing the file again reuses them, and `collect`
        removes them. `on_progress` takes the size of each stored block in bytes.
        """
        root = None
        with self._translated(), self.locked(exclusive=False):
            for block in self._written(dag(stream)):
                on_progress(len(block.data))
                root = block.cid  # the last one is the root
            if root is None:
                raise AssertionError("a DAG has at least one block")
            self.pin(root)
        return root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order; each block is checked before it is yielded.

        Raises:
            StoreError: a block is missing, or the folder cannot be read.
            ContentError: a block is corrupt.
        """
        return read_file(cid, self.read_block)

    def has(self, cid: CID) -> bool:
        """Whether the store has the root block; only `open` shows whether the file is whole."""
        with self._translated():
            return self._block_path(cid).is_file()

    def read_block(self, cid: CID) -> bytes:
        """Read a block without checking it, at most one byte more than the largest; a `StoreError` if it is missing."""
        with self._translated(), self.open_block(cid) as file:
            # Not `MAX_BLOCK_SIZE` at once: allocating that much takes longer than reading a small block.
            return file.read(min(os.fstat(file.fileno()).st_size, MAX_BLOCK_SIZE) + 1)

    def open_block(self, cid: CID) -> FileIO:
        """Open the file of a block without checking it; the caller closes it.

        Raises:
            NotInStoreError: the block is missing.
            StoreError: the folder cannot be read.
        """
        with self._translated():
            try:
                return FileIO(self._block_path(cid))
            except FileNotFoundError as error:
                raise NotInStoreError(
                    f"the store {self.folder} does not have {cid}",
                    why="it was never stored there, or was removed",
                    remedy="ask the vendor for the image, or name another store",
                    action=Action.CHOOSE_STORE,
                ) from error

    def write_block(self, block: Block) -> None:
        """Store a block that the caller has checked; a corrupt file under its address is replaced."""
        path = self._block_path(block.cid)
        with self._translated():
            with suppress(OSError):  # a file that cannot be read is replaced
                if path.stat().st_size == len(block.data) and path.read_bytes() == block.data:
                    return
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                file.write(block.data)

    def _written(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Write blocks, and yield each in order when it is on the disk; the next ones are hashed meanwhile."""
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
        """Keep a file when garbage is collected."""
        with self._translated():
            self._pin_path(cid).parent.mkdir(parents=True, exist_ok=True)
            self._pin_path(cid).touch()

    def unpin(self, cid: CID) -> None:
        """Undo `pin`; the blocks stay until they are collected."""
        with self._translated():
            self._pin_path(cid).unlink(missing_ok=True)

    def pins(self) -> set[CID]:
        """The pinned roots; files among the pins whose name is not a CID are ignored."""
        found = set()
        with self._translated():
            for path in (self.folder / "pins").glob("b*"):
                with suppress(UsageError, ContentError):
                    found.add(CID.parse(path.name))
        return found

    def remove_block(self, cid: CID) -> bool:
        """Remove a block and return whether it existed; also partial files that an interrupted write left."""
        path = self._block_path(cid)
        with self._translated():
            existed = path.exists()
            for partial in path.parent.glob(f".{path.name}.*.partial"):
                partial.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return existed

    @contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[None]:
        """Lock the store against other processes: shared while files are stored, exclusively while files are removed.

        A shared lock lasts from the first block of a file to its pin, so that blocks which were found in the store
        stay there. The system ends the lock with the process. It is not reentrant: code under a shared lock must
        not ask for an exclusive one.

        Raises:
            StoreError: another process holds the lock for too long, or the folder cannot be written.
        """
        with self._translated():
            with suppress(FileExistsError):  # a file in the folder's place fails below, with a better error
                self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        kind, until = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, time.monotonic() + self._timeout
        try:
            with self._translated():
                while True:
                    # Not a call that waits: flock(2) has no time limit.
                    try:
                        fcntl.flock(handle, kind | fcntl.LOCK_NB)
                        break
                    except BlockingIOError as error:
                        if time.monotonic() >= until:
                            others = "stores or fetches" if exclusive else "removes"
                            raise StoreError(
                                f"the store {self.folder} is in use",
                                why=f"another process {others} files there, and did not end in time",
                                remedy="try again when it has ended",
                            ) from error
                    time.sleep(_LOCK_PAUSE)
            yield
        finally:
            os.close(handle)

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
    """Remove files from a store under its exclusive lock: mark the needed blocks, sweep the others.

    `keep` lists roots to keep beside the pinned ones, such as those of files that are being fetched. Returns the number
    of removed blocks.

    Only blocks of the dropped files are removed, and none that a pinned or otherwise kept file has too. Blocks go
    before the blocks that link to them, so that the same call completes a sweep that was interrupted.

    Raises:
        StoreError: the folder cannot be read or written, or another process stores files there for too long.
    """
    with store.locked(exclusive=True):
        needed = _reachable([*store.pins(), *keep], store)
        # `_reachable` lists level by level from the roots: in reverse order, children come before their parents.
        return sum(store.remove_block(cid) for cid in reversed(_reachable(dropped, store)) if cid not in needed)


def _reachable(roots: Iterable[CID], store: LocalStore) -> dict[CID, None]:
    """The blocks of files, in order of depth; nothing is known of the blocks below a missing or corrupt one."""
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
