"""Read the logs of a city, and verify their new entries.

For each log, the steps are:

1. A present or earlier log key of the log's identity in IdentityRegistry signed the checkpoint.
2. The entries since the last reading are added to the verified tree. The new tree has the root of the checkpoint, which
   proves that the log has only appended entries.
3. The newest anchor on the chain is the root of the log at the anchored size.

If a step fails, the later steps are skipped, and the pages show the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from blockota.errors import BlockOTAError, RefusedError, UsageError
from blockota.formats.notes import Checkpoint, Note, NoteAlgorithm, VerifierKey
from blockota.formats.tlog import HASH_SIZE, TILE_WIDTH, Tile, TreeEdge, TreeHead, leaf_hash
from blockota.ledger.reader import LogReader
from blockota.model.anchored_log import AnchoredLog
from blockota.model.receipt import LogEntry
from blockota.operations.archive import MAX_NUMBER, AnnounceEntry, RoomArchive

_TILE_HEIGHT = TILE_WIDTH.bit_length() - 1
_AT_ONCE = 4096
"""The number of entries that are verified and archived together."""


@dataclass(frozen=True)
class FollowedLog:
    """The state of a log that the room follows.

    Attributes:
        keeper: UUID of the identity that writes the log.
        place: the folder or URL of the log.
        head: size and root of the verified part of the log.
        published: the size that the newest checkpoint states; None if no checkpoint was read.
        read_at: Unix time of the last successful reading; None if there was none.
        trouble: why the log cannot be read or verified; empty if the log was verified.
        is_lie: whether the log contradicts the registered keys, an earlier tree or its anchor.
        witnesses: the names in the signatures of the checkpoint, except the name of the log itself.
    """

    keeper: UUID
    place: str
    head: TreeHead
    published: int | None = None
    read_at: int | None = None
    trouble: str = ""
    is_lie: bool = False
    witnesses: tuple[str, ...] = ()


class LogFollower:
    """Follows one log.

    Args:
        keeper: UUID of the identity that writes the log.
        reader: reads the log.
        archive: the archive that stores the verified entries.
        announce: called for each new entry, within the transaction that adds the entry.
    """

    def __init__(
        self, keeper: UUID, reader: LogReader, archive: RoomArchive, announce: AnnounceEntry | None = None
    ) -> None:
        self.keeper, self.reader, self._archive, self._announce = keeper, reader, archive, announce
        self.state = FollowedLog(keeper, reader.name, archive.log_head(keeper))

    def update(self, keys: Sequence[bytes], anchored: AnchoredLog | None, *, clock: Callable[[], float]) -> int:
        """Read the entries since the last reading. A failure is recorded in `state`.

        Args:
            keys: the present and earlier log keys of the identity in the registry.
            anchored: the newest anchor of the log.
            clock: returns the Unix time.

        Returns:
            The number of new entries.
        """
        before = self._archive.log_head(self.keeper)
        note: Note | None = None
        trouble, is_lie = "", False

        try:
            note = self.reader.note()
            if note is not None:
                self.check_signature(note, keys)
                self._read(before, Checkpoint.parse(note.text).head)
                self._check_anchor(anchored)
        except BlockOTAError as error:
            trouble = f"{error.what}: {error.why}" if error.why else error.what
            is_lie = isinstance(error, RefusedError)

        # What could not be read this time keeps the value of the last reading.
        head = self._archive.log_head(self.keeper)
        state = replace(self.state, head=head, trouble=trouble, is_lie=is_lie)
        if note is not None:
            published = Checkpoint.parse(note.text).head.size
            state = replace(state, published=published, witnesses=_cosigners(note))
        if not trouble:
            state = replace(state, read_at=int(clock()))
        self.state = state
        return head.size - before.size

    def check_signature(self, note: Note, keys: Sequence[bytes]) -> None:
        """(1) Check that a key in the registry signed the checkpoint.

        Raises:
            UsageError: the registry has no key for this log.
            RefusedError: no key in the registry signed the checkpoint.
            ContentError: the first line of the checkpoint is not a valid key name.
        """
        if not keys:
            # This is not a contradiction in the log: its keeper is not enrolled yet, or was enrolled without a log key.
            raise UsageError(
                f"the registry has no log key of {self.keeper}",
                why="the identity is not enrolled, or has no log key",
                remedy="enrol the identity with the key of its log",
            )

        origin = note.text.partition("\n")[0]
        try:
            trusted = [VerifierKey(origin, NoteAlgorithm.ED25519, key) for key in keys]
            if any(note.is_signed_by(key) for key in trusted):
                return
        except ValueError as error:
            raise self.reader.damaged(str(error)) from error

        raise RefusedError(
            f"the log {self.reader.name} does not belong to {self.keeper}",
            why="its checkpoint is not signed with a log key that the registry has for this identity",
            remedy="correct the folder or URL of this identity's log in the settings",
        )

    def _read(self, before: TreeHead, head: TreeHead) -> None:
        """(2) Check that the new entries extend the verified tree to the tree of the checkpoint."""
        if head.size < before.size:
            raise self._contradicts(f"it had {before.size} entries before, and its checkpoint states {head.size}")
        if self.reader.head_at(head.size) != head:
            raise self._contradicts(f"its hashes do not have the root of its checkpoint of size {head.size}")

        # Of the verified tree, the room has only size and root. The hashes at its edge must have the same root.
        edge = TreeEdge.read(partial(self._read_tile, head.size), before.size)
        if edge.head() != before:
            raise self._contradicts(f"its first {before.size} entries are not those that it had before")

        # Each part is archived as soon as it is verified, so the next reading continues after it.
        for start in range(before.size, head.size, _AT_ONCE):
            step = self.reader.head_at(min(start + _AT_ONCE, head.size))
            self.reader.prove_consistency(step.size, head.size)
            found = list(enumerate(self.reader.entries(start, step.size), start))
            for _ in edge.grow(leaf_hash(raw) for _, raw in found):
                pass
            if edge.head() != step:
                raise self._contradicts(f"its entries {start} to {step.size - 1} do not belong to its checkpoint")
            decoded = ((number, raw, _decoded(raw)) for number, raw in found)
            self._archive.add_entries(self.keeper, decoded, step, self._announce)

    def _read_tile(self, size: int, tile: Tile) -> bytes:
        """Return the hashes of a partial tile, read from the tile at the same place in the tree of size `size`.

        A log may have deleted the partial tile of an earlier size. The later tile begins with the same hashes.
        """
        level = tile.level or 0
        width = min((size >> _TILE_HEIGHT * level) - tile.index * TILE_WIDTH, TILE_WIDTH)
        return self.reader.read_tile(Tile(tile.level, tile.index, width))[: tile.width * HASH_SIZE]

    def _check_anchor(self, anchored: AnchoredLog | None) -> None:
        """(3) Check that the anchored tree is an earlier or the present tree of this log."""
        if anchored is None:
            return
        size = self._archive.log_head(self.keeper).size
        if anchored.size > size:
            raise self._contradicts(f"{anchored.size} entries were anchored, and it shows {size}")
        if self.reader.head_at(anchored.size).root != anchored.root:
            raise self._contradicts(f"its root at size {anchored.size} is not the anchored root")

    def _contradicts(self, why: str) -> RefusedError:
        return RefusedError(
            f"the log {self.reader.name} contradicts itself",
            why=why,
            remedy="keep its files as evidence, and report the log to the city",
        )


def _decoded(raw: bytes) -> LogEntry | None:
    """Decode an entry; None for an entry that cannot be decoded, or whose numbers are too large for SQLite."""
    try:
        entry = LogEntry.decode(raw)
    except RefusedError:
        return None
    return entry if max(entry.device, entry.order or 0) <= MAX_NUMBER else None


def _cosigners(note: Note) -> tuple[str, ...]:
    """Return the names in the signatures of a checkpoint, except the name of the log itself."""
    origin = note.text.partition("\n")[0]
    return tuple(dict.fromkeys(one.name for one in note.signatures if one.name != origin))
