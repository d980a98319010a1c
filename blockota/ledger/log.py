"""Append entries to a log in a folder of this machine, and publish them.

An entry passes through the same stages as in Tessera:

1. `TileLog.append` assigns an index to each entry, and writes the entries to one new file in ``pending/``.
2. `TileLog.publish` integrates the entries: it writes the entry bundles and the tiles of the larger tree.
3. `TileLog.publish` then signs a checkpoint of the larger tree, asks witnesses to sign the checkpoint, and writes the
   file ``checkpoint``. Meanwhile, further entries can be appended.
4. `TileLog.publish` finally removes the files that the checkpoint made superfluous: partial tiles that became full, and
   the files in ``pending/``.

Every file is first written in ``new/`` and then renamed. An entry counts as published only if the checkpoint includes
the entry. A tile depends only on the entries, and entries in ``pending/`` never change. A writer that was stopped
between two steps can therefore repeat all steps. Only one process writes at a time. Any number of processes may read.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blockota.errors import RefusedError, StoreError, UsageError
from blockota.file_locks import LockHeldError, exclusive_lock
from blockota.files import make_names_durable, whole_file
from blockota.formats.notes import Checkpoint, Note, NoteSigner
from blockota.formats.tlog import (
    MAX_ENTRY_SIZE,
    TILE_WIDTH,
    ReadNode,
    TreeEdge,
    TreeHead,
    join_entries,
    leaf_hash,
    read_from_tiles,
    split_entries,
    tiles_of,
)
from blockota.ledger.reader import CHECKPOINT, LogReader

_PENDING, _NEW, _LOCK, _TILES = "pending", "new", "lock", "tile"
_BATCH_NAME = re.compile(r"(\d{15})-(\d+)", re.ASCII)

Cosign = Callable[[Note, ReadNode], Note]
"""Asks witnesses to sign a checkpoint, and returns the checkpoint with their signatures. The `ReadNode` reads the tree
of the checkpoint."""


class LogDisk:
    """Writes and removes the files of a log's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._changed: set[Path] = set()

    def write(self, path: str, data: bytes) -> None:
        """Write a file, which is complete or absent after a crash. The file's name is durable after `sync`."""
        target = self.folder / path
        parent = target.parent
        self._changed.add(parent)
        if not parent.is_dir():
            for folder in parent.parents:
                self._changed.add(folder)
                if folder.exists():
                    break
            parent.mkdir(parents=True, exist_ok=True)

        with whole_file(target, staging=self.folder / _NEW) as file:
            file.write(data)

    def sync(self) -> None:
        """Make the names of new files and folders durable."""
        for folder in self._changed:
            make_names_durable(folder)
        self._changed.clear()

    def remove(self, path: str) -> None:
        """Remove a file or a folder, if it exists."""
        target = self.folder / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _PendingBatch:
    """A file in ``pending/`` with the entries of one call of `TileLog.append`."""

    first: int
    count: int

    @property
    def stop(self) -> int:
        return self.first + self.count

    @property
    def path(self) -> str:
        return f"{_PENDING}/{self.first:015}-{self.count}"


class TileLog:
    """A log in a folder of this machine.

    Args:
        folder: the folder of the log, which is created with the first entry.
        disk: writes the files; replaced in tests, to stop a writer between any two writes.
        timeout: the maximum time to wait for another process that writes to the log, in seconds.
    """

    def __init__(self, folder: Path, *, disk: LogDisk | None = None, timeout: float = 30.0) -> None:
        self.folder, self._disk, self._timeout = folder, disk or LogDisk(folder), timeout
        self.published = LogReader(str(folder.absolute()), self.read_file)
        self._tail: tuple[int, list[bytes]] = 0, []  # the size of the log after an append, and its newest entries

    def __len__(self) -> int:
        """Return the number of entries, including entries that are not published yet."""
        batches = self._batches()
        return max(self.published.head().size, batches[-1].stop if batches else 0)

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """Yield all entries from an index on, including entries that are not published yet.

        Another thread or process may publish during the iteration. Entries then move from ``pending/`` into bundles.
        """
        place = start
        while True:
            size = self.published.head().size
            if place < size:
                yield from self.published.entries(place, size)
                place = size

            # Behind the published entries, the log continues in the batches that wait for `publish`.
            for batch in self._batches(since=place):
                if batch.first > place or (entries := self._read_batch(batch)) is None:
                    break  # the entries at this place were published since they were listed
                yield from entries[place - batch.first :]
                place = batch.stop
            if place >= self.published.head().size:
                return

    def read_file(self, path: str) -> bytes | None:
        """Return the content of a file of the folder; None if there is no such file."""
        try:
            return (self.folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def append(self, entries: Iterable[bytes]) -> list[int]:
        """Append entries durably.

        Either all entries are appended, or no entry is appended. If an entry equals one of the newest entries, it is
        not appended again, and the index of the equal entry is returned. A caller that was stopped during the call can
        therefore repeat the call. The newest entries are the last 256 entries, or as many entries as the call has if it
        has more than 256.

        Args:
            entries: the entries, at most 65,535 bytes each.

        Returns:
            The index of each entry.

        Raises:
            UsageError: an entry is too large.
            ContentError: the log is damaged.
            StoreError: the folder cannot be written, or another process writes.
        """
        with self._writing():
            given, first = list(entries), len(self)
            count = max(TILE_WIDTH, len(given))
            newest = self._newest(count, before=first)
            # Of two equal entries, the first counts.
            indices = dict(zip(reversed(newest), range(first - 1, -1, -1), strict=False))
            if (largest := max(map(len, given), default=0)) > MAX_ENTRY_SIZE:
                why = f"it has {largest:,} bytes, and an entry has at most {MAX_ENTRY_SIZE:,}"
                raise UsageError("the entry cannot be appended", why=why)

            added = [entry for entry in dict.fromkeys(given) if entry not in indices]
            indices.update(zip(added, range(first, first + len(added)), strict=True))
            if added:
                self._disk.write(_PendingBatch(first, len(added)).path, join_entries(added))
                self._disk.sync()
                self._tail = first + len(added), [*newest, *added][-count:]
            return [indices[entry] for entry in given]

    def publish(self, signer: NoteSigner, *, cosign: Cosign | None = None) -> Note:
        """Integrate the appended entries, and publish a checkpoint of the larger tree.

        Args:
            signer: the log's key. Its name is the log's origin.
            cosign: asks witnesses for their signatures, which become part of the published checkpoint.

        Raises:
            RefusedError: the log has another origin, or a witness has seen another history of the log.
            ContentError: the log is damaged; nothing was signed.
            StoreError: the folder cannot be written, or another process writes.
        """
        with self._writing():
            before = self.published.note()
            edge = self._edge(before, signer)
            batches = self._batches()
            since = min([edge.size, *(batch.first for batch in batches)])
            self._integrate(batches, edge)
            head = edge.head()

        # The lock is released, because a witness may take long and entries are appended meanwhile. Tiles and batches
        # are on the disk before a witness sees the tree, because it never signs another tree of this size.
        is_same = before is not None and Checkpoint.parse(before.text).head == head
        note = before if before and is_same and before.is_signed_by(signer.key) else None
        note = note or Checkpoint(signer.key.name, head).signed(signer)
        if cosign:
            note = cosign(note, read_from_tiles(self.published.read_tile, head.size))

        with self._writing():
            now = self.published.note()
            if now and Checkpoint.parse(now.text).head.size > head.size:  # another process was faster
                return now
            if note != now:
                self._disk.write(CHECKPOINT, note.encode())
                self._disk.sync()
            self._remove_superfluous(head, since=since)
            return note

    def _integrate(self, batches: Sequence[_PendingBatch], edge: TreeEdge) -> None:
        """Write the bundles and tiles of the tree that includes the entries of the batches."""
        added = [entry for batch in batches if batch.first >= edge.size for entry in self._read_batch(batch) or ()]
        self._write_bundles(added, edge)
        for tile, content in edge.grow(map(leaf_hash, added)):
            self._disk.write(tile.path, content)
        self._disk.sync()

    def _remove_superfluous(self, head: TreeHead, *, since: int) -> None:
        """Remove the partial tiles and pending files that a new checkpoint replaces.

        The files in ``pending/`` are removed last. If a writer is stopped before this last step, the next call of
        `publish` finds these files, and removes the remaining partial tiles.
        """
        for tile in tiles_of(head.size, since=since):
            if tile.width == TILE_WIDTH:
                self._disk.remove(f"{tile.path}.p")
        for batch in self._batches():
            if batch.stop <= head.size:
                self._disk.remove(batch.path)

    def _edge(self, note: Note | None, signer: NoteSigner) -> TreeEdge:
        """Return the right edge of the published tree, after a check that the tree matches the checkpoint."""
        if note is None:
            return TreeEdge()

        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != signer.key.name:
            raise RefusedError(
                f"the checkpoint of {self.folder} is not signed",
                why=f"the log has the origin {checkpoint.origin}, but the key belongs to {signer.key.name}",
                remedy="use the origin of the log, or another folder for another log",
            )
        try:
            note.is_signed_by(signer.key)
        except ValueError as error:
            raise self.published.damaged(str(error)) from error

        edge = TreeEdge.read(self.published.read_tile, checkpoint.head.size)
        if edge.head() != checkpoint.head:
            raise self.published.damaged("its tiles do not belong to the root in its checkpoint")
        return edge

    def _write_bundles(self, added: list[bytes], edge: TreeEdge) -> None:
        since = edge.size
        size, first = since + len(added), since - since % TILE_WIDTH
        # The entries of the last partial bundle are written again, into one that is signed.
        partial = list(self.published.entries(first, since)) if added else []
        if partial and list(map(leaf_hash, partial)) != edge.levels[0]:
            raise self.published.damaged(f"the entries from {first} to {since - 1} do not belong to its tiles")
        waiting = [*partial, *added]
        for tile in tiles_of(size, since=since):
            if tile.level is not None:
                return
            begin = tile.index * TILE_WIDTH - first
            self._disk.write(tile.path, join_entries(waiting[begin : begin + tile.width]))

    def _newest(self, count: int, *, before: int) -> list[bytes]:
        """Return up to `count` entries that precede the index `before`.

        The entries are in memory if the last call of `append` wrote them; otherwise, they are read from the disk.
        """
        stop, tail = self._tail
        count = min(count, before)
        return (
            tail[len(tail) - count :] if stop == before and len(tail) >= count else list(self.entries(before - count))
        )

    def _batches(self, *, since: int = 0) -> list[_PendingBatch]:
        """Return the files in ``pending/`` with entries from the index `since` on, in the order of their entries.

        Raises:
            ContentError: entries before or between these files are missing.
        """
        folder, has_tiles = self.folder / _PENDING, (self.folder / _TILES).exists()
        names = [_BATCH_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
        batches = sorted(
            (_PendingBatch(int(name[1]), int(name[2])) for name in names if name), key=lambda one: one.first
        )

        size = self.published.head().size
        if not batches and not size and has_tiles and not self.published.note():
            raise self.published.damaged("it has tiles, and neither a checkpoint nor pending entries")

        expected = size
        for batch in batches:
            if batch.stop > size:
                if batch.first != expected:
                    raise self.published.damaged(f"{batch.path} is there, and the entry {expected} is expected next")
                expected = batch.stop
        return [batch for batch in batches if batch.stop > since]

    def _read_batch(self, batch: _PendingBatch) -> list[bytes] | None:
        """Return the entries of a batch; None if the file was removed because the entries were published."""
        try:
            entries = split_entries((self.folder / batch.path).read_bytes())
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and self.published.head().size >= batch.stop:
                return None
            raise self.published.damaged(f"{batch.path}: {error}") from error
        if len(entries) != batch.count:
            raise self.published.damaged(f"{batch.path} has {len(entries)} entries")
        return entries

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Lock the log against other writers, and remove the unfinished files of a writer that was stopped."""
        try:
            (self.folder / _NEW).mkdir(parents=True, exist_ok=True)
            with exclusive_lock(self.folder / _LOCK, timeout=self._timeout):
                for left in (self.folder / _NEW).iterdir():
                    left.unlink()
                yield
        except LockHeldError as error:
            raise StoreError(
                f"the log {self.published.name} is in use",
                why=f"another process has been writing to the log for more than {self._timeout:g} seconds",
                remedy="wait until that process ends, or stop it; only one process can write to a log",
            ) from error
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(
            f"the log {self.published.name} cannot be used",
            why=error.strerror or str(error),
            remedy="name a folder that this user may write, on a disk with free space",
        )
