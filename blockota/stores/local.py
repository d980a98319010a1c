"""The embedded content store: a folder, no daemon.

A block lies in ``blocks/<two letters>/<cid>``, where the letters are the next-to-last two of its CID, and appears
there whole or not at all. A pin is an empty file ``pins/<cid>`` that names a root to keep.
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
"""Blocks that are written to the disk at a time; more are not faster, and each is a block in memory."""


class LocalStore:
    """A content store in a folder, which is made when the first image is put.

    Args:
        folder: where the store lies.
        timeout: seconds to wait for another process that puts or removes files.
    """

    def __init__(self, folder: Path, *, timeout: float = 30.0) -> None:
        """Remember the folder; nothing is read or written yet."""
        self.folder, self._timeout = folder, timeout

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Store a file and pin it; on return all of it is on the disk.

        Where it fails, whole blocks may stay, those that were on their way to the disk among them. They are not pinned;
        the next putting of the file finds them, and `collect` removes them like any others.

        Args:
            stream: the file's bytes.
            on_progress: is told the bytes of each block stored.

        Returns:
            The content address of the file.

        Raises:
            StoreError: the folder cannot be written.
        """
        root = None
        with self._translated(), self.locked(exclusive=False):
            for block in self._written(dag(stream)):
                on_progress(len(block.data))
                root = block.cid
            if root is None:
                raise AssertionError("a DAG has at least one block")
            self.pin(root)
        return root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order; every block is checked before it is yielded.

        Raises:
            StoreError: a block is missing or the folder cannot be read.
            ContentError: a block is corrupt.
        """
        return read_file(cid, self.read_block)

    def has(self, cid: CID) -> bool:
        """Whether the root block is there (`open` tells whether the file is whole).

        Raises:
            StoreError: the folder cannot be read.
        """
        with self._translated():
            return self._block_path(cid).is_file()

    def read_block(self, cid: CID) -> bytes:
        """What the folder has under a block's address, unchecked; at most one byte more than the largest block.

        Raises:
            StoreError: the block is missing, or the folder cannot be read.
        """
        with self._translated(), self.open_block(cid) as file:
            # Not `MAX_BLOCK_SIZE` at once: to have memory for what does not come takes longer than all the reading.
            return file.read(min(os.fstat(file.fileno()).st_size, MAX_BLOCK_SIZE) + 1)

    def open_block(self, cid: CID) -> FileIO:
        """The file of a block, unchecked; the caller closes it.

        Raises:
            NotInStoreError: the block is missing.
            StoreError: the folder cannot be read.
        """
        with self._translated():
            try:
                return FileIO(self._block_path(cid))
            except FileNotFoundError as error:
                raise NotInStoreError(
                    f"the store {self.folder} does not hold {cid}",
                    why="it was never stored here, or was removed",
                    remedy="ask the vendor for the image, or name another store",
                    action=Action.CHOOSE_STORE,
                ) from error

    def write_block(self, block: Block) -> None:
        """Store one block of a file; the caller has checked it. A corrupt one in its place is replaced.

        Raises:
            StoreError: the folder cannot be written.
        """
        path = self._block_path(block.cid)
        with self._translated():
            if _has(path, block.data):
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                file.write(block.data)

    def _written(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Write blocks, and yield each when it is on the disk, in their order; the next ones are hashed meanwhile."""
        waiting: deque[tuple[Block, Future[None]]] = deque()
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="store") as writers:
            for block in blocks:
                others = _WRITERS if block.cid.codec == RAW else 0  # what names blocks comes behind them
                while len(waiting) > others:
                    yield _when_written(*waiting.popleft())
                waiting.append((block, writers.submit(self.write_block, block)))
            while waiting:
                yield _when_written(*waiting.popleft())

    def pin(self, cid: CID) -> None:
        """Mark a root as one to keep.

        Raises:
            StoreError: the folder cannot be written.
        """
        with self._translated():
            self._pin_path(cid).parent.mkdir(parents=True, exist_ok=True)
            self._pin_path(cid).touch()

    def unpin(self, cid: CID) -> None:
        """Take the mark away; the blocks stay until they are collected.

        Raises:
            StoreError: the folder cannot be written.
        """
        with self._translated():
            self._pin_path(cid).unlink(missing_ok=True)

    def pins(self) -> set[CID]:
        """The roots to keep; what lies among the pins and names none is left alone.

        Raises:
            StoreError: the folder cannot be read.
        """
        found = set()
        with self._translated():
            for path in (self.folder / "pins").glob("b*"):
                with suppress(UsageError, ContentError):
                    found.add(CID.parse(path.name))
        return found

    def remove_block(self, cid: CID) -> bool:
        """Remove one block, and what an interrupted writing of it left; whether it was there. See `collection`.

        Raises:
            StoreError: the folder cannot be written.
        """
        path = self._block_path(cid)
        with self._translated():
            was_there = path.exists()
            for left in path.parent.glob(f".{path.name}.*.partial"):
                left.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return was_there

    @contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[None]:
        """Keep removals out from the first block of a file to its pin, and everybody while files are removed.

        What is found there in between stays until the pin is written. The system ends it with the process. It is not
        entered twice by one: whoever keeps removals out must not remove.

        Args:
            exclusive: whether files are removed.

        Raises:
            StoreError: another process does not let go of the store, or the folder cannot be written.
        """
        with self._translated():
            with suppress(FileExistsError):  # where that is no folder, what follows says so
                self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with self._translated():
                self._await(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)

    def _await(self, handle: int, kind: int) -> None:
        until = time.monotonic() + self._timeout
        while not _flock(handle, kind):
            if time.monotonic() >= until:
                others = "stores or fetches" if kind == fcntl.LOCK_EX else "removes"
                raise StoreError(
                    f"the store {self.folder} is in use",
                    why=f"another process {others} files there, and was waited for",
                    remedy="try again when it has ended",
                )
            time.sleep(_LOCK_PAUSE)

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


def _flock(handle: int, kind: int) -> bool:
    """Lock a file, and say whether that was possible now."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _when_written(block: Block, writing: Future[None]) -> Block:
    writing.result()
    return block


def _has(path: Path, data: bytes) -> bool:
    """Whether a file has these bytes; one that cannot be read has not, and may be replaced."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def collect(store: LocalStore, dropped: Iterable[CID], *, keep: Iterable[CID]) -> int:
    """Remove files from the store, while nobody puts or fetches anything there.

    Args:
        store: the store.
        dropped: the roots of the files; one that is pinned stays.
        keep: roots whose blocks stay besides those of the pinned ones, such as of files that are being fetched.

    Returns:
        How many blocks were removed.

    Raises:
        StoreError: the folder cannot be read or written, or another process puts files there for too long.
    """
    with store.locked(exclusive=True):
        needed = _blocks([*store.pins(), *keep], store)
        # Marked level by level from the root: backwards, no block goes before those below it.
        doomed = [cid for cid in reversed(_blocks(dropped, store)) if cid not in needed]
        return sum(store.remove_block(cid) for cid in doomed)


def _blocks(roots: Iterable[CID], store: LocalStore) -> dict[CID, None]:
    """The blocks of files, as far as they can be known; below a missing or corrupt one nothing can be read anyway."""
    found = dict.fromkeys(roots)
    level = list(found)
    while level:
        below = dict.fromkeys(child for cid in level for child in _children(cid, store))
        level = [cid for cid in below if cid not in found]
        found |= dict.fromkeys(level)
    return found


def _children(cid: CID, store: LocalStore) -> list[CID]:
    if cid.codec == RAW:
        return []
    try:
        data = check_block(cid, store.read_block(cid))
        return [link.cid for link in read_links(Block(cid, data))]
    except (StoreError, ContentError):
        return []
