"""Read a published log: its checkpoint, its entries, and proofs about them.

A log is a set of files (C2SP tlog-tiles), in a folder or behind a URL. The reader takes a function that reads a file by
its path. The reader itself does not depend on disks or networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blockota.errors import ContentError, RefusedError
from blockota.formats.notes import Checkpoint, Note
from blockota.formats.tlog import (
    EMPTY_TREE,
    HASH_SIZE,
    TILE_WIDTH,
    ReadNode,
    Tile,
    TreeHead,
    is_consistent,
    is_included,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    read_from_tiles,
    split_entries,
    tree_head,
)

CHECKPOINT = "checkpoint"
"""The path of the signed checkpoint of a log."""

ReadFile = Callable[[str], bytes | None]
"""Returns the content of a file of a log; None if the log has no such file."""


@dataclass(frozen=True)
class EntryProof:
    """An entry of a log with its inclusion proof (RFC 9162, section 2.1.3) in the tree of a checkpoint."""

    index: int
    entry: bytes
    path: tuple[bytes, ...]
    checkpoint: Note


class LogReader:
    """Reads a log. The signatures of the checkpoint are not verified here.

    Args:
        name: the folder or the URL of the log, for errors.
        read_file: reads a file of the log.
    """

    def __init__(self, name: str, read_file: ReadFile) -> None:
        self.name, self._read_file = name, read_file

    def note(self) -> Note | None:
        """Return the published checkpoint with its signatures; None if the log has published nothing.

        Raises:
            ContentError: the file is not a checkpoint.
        """
        raw = self._read_file(CHECKPOINT)
        if raw is None:
            return None
        try:
            note = Note.parse(raw)
            Checkpoint.parse(note.text)
        except ValueError as error:
            raise self.damaged(f"{CHECKPOINT}: {error}") from error
        return note

    def head(self) -> TreeHead:
        """Return size and root of the published tree."""
        note = self.note()
        return Checkpoint.parse(note.text).head if note else EMPTY_TREE

    def head_at(self, size: int) -> TreeHead:
        """Return size and root of the tree of the first `size` entries.

        The first `size` entries must be published.
        """
        self._check_published(size)
        return tree_head(self._nodes(), size)

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the published entries from `start` up to, but not including, `stop`."""
        size = self._check_published(stop)
        for index in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            first = index * TILE_WIDTH
            bundle = Tile(None, index, min(size - first, TILE_WIDTH))
            yield from self._bundle(bundle)[max(start - first, 0) : stop - first]

    def prove_inclusion(self, index: int) -> EntryProof:
        """Return an entry with its inclusion proof in the published tree.

        Raises:
            RefusedError: the entry is not published.
            ContentError: the log is damaged.
        """
        self._check_published(index + 1)
        note = self.note()
        if note is None:
            raise self.damaged("its checkpoint was removed")
        head = Checkpoint.parse(note.text).head

        # The proof is checked before it is returned, so that damage is reported here and not by a verifier.
        entry = next(self.entries(index, index + 1))
        path = prove_inclusion(read_from_tiles(self.read_tile, head.size), index, head.size)
        if not is_included(leaf_hash(entry), index, head, path):
            raise self.damaged(f"the entry {index} does not belong to the root in the checkpoint")
        return EntryProof(index, entry, tuple(path), note)

    def prove_consistency(self, earlier: int, size: int) -> list[bytes]:
        """Return the proof that the tree of the first `size` entries extends the tree of the first `earlier` entries.

        Raises:
            RefusedError: the entries are not published, or the tree of `earlier` entries is the larger tree.
            ContentError: the log is damaged.
        """
        self._check_published(size)
        if earlier > size:
            raise RefusedError(f"a tree of size {size} does not continue a tree of size {earlier}")
        nodes = self._nodes()
        proof = prove_consistency(nodes, earlier, size)
        if not is_consistent(tree_head(nodes, earlier), tree_head(nodes, size), proof):
            raise self.damaged(f"its trees of sizes {earlier} and {size} do not belong together")
        return proof

    def read_tile(self, tile: Tile) -> bytes:
        """Return the content of a tile of hashes.

        If a full tile has replaced the partial tile, the full tile is read.

        Raises:
            ContentError: the file is missing, or has a wrong number of hashes.
        """
        content, width = self._read_with_full(tile)
        if len(content) != width * HASH_SIZE:
            raise self.damaged(f"{tile.path} does not have {width} hashes")
        return content[: tile.width * HASH_SIZE]

    def _bundle(self, tile: Tile) -> list[bytes]:
        """Return the entries of a bundle."""
        content, width = self._read_with_full(tile)
        try:
            entries = split_entries(content)
        except ValueError as error:
            raise self.damaged(f"{tile.path}: {error}") from error
        if len(entries) != width:
            raise self.damaged(f"{tile.path} does not have {width} entries")
        return entries[: tile.width]

    def _read_with_full(self, tile: Tile) -> tuple[bytes, int]:
        """Return the content and the width of a tile.

        If a full tile has replaced the partial tile, the content and the width of the full tile are returned.
        """
        for found in (tile, Tile(tile.level, tile.index)):
            content = self._read_file(found.path)
            if content is not None:
                return content, found.width
        raise self.damaged(f"{tile.path} is missing")

    def damaged(self, why: str) -> ContentError:
        """Return the error for a log whose files contradict each other."""
        return ContentError(
            f"the log {self.name} is damaged",
            why=why,
            remedy="restore its files from a copy that is not older than the newest checkpoint",
        )

    def _nodes(self) -> ReadNode:
        return read_from_tiles(self.read_tile, self.head().size)

    def _check_published(self, stop: int) -> int:
        """Return the size of the published tree, after a check that the tree includes the entries before `stop`."""
        size = self.head().size
        if stop > size:
            newer = "publish a checkpoint first"
            raise RefusedError(
                f"the log {self.name} has not published the entry {stop - 1}",
                why=f"its checkpoint has the size {size}",
                remedy=f"name an entry below {size}, or {newer} if the entry is newer" if size else newer,
            )
        return size
