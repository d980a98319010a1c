"""The archive of the operations room, in one SQLite file.

The archive stores the verified entries of the followed logs, and the events of all chains. It also stores the sessions
and dismissals of signed-in persons. The pages read it. If the file is lost, the room reads the entries and events
again. The sessions and dismissals are then lost.

Every function that changes the archive commits before it returns. The threads of the room share one connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from blockota.errors import StoreError
from blockota.formats.tlog import EMPTY_TREE, TreeHead
from blockota.model.receipt import EntryKind, LogEntry
from blockota.sqlite_file import FileMark, SqliteFile, file_id

MAX_NUMBER = (1 << 63) - 1
"""The largest number of SQLite. An entry of a log can name devices and orders with one bit more."""
_MARK = FileMark(
    0x424F5452,
    1,
    "an archive of the operations room",
    remedy="restore the newest copy; without a copy, move the file away: the room then reads the logs and chains"
    " again, shows dismissed warnings as open, and ends all sessions",
)
_TABLES = """
CREATE TABLE IF NOT EXISTS entry (
    keeper BLOB NOT NULL, number INTEGER NOT NULL, time INTEGER NOT NULL, kind INTEGER NOT NULL,
    device INTEGER NOT NULL, product TEXT, version TEXT, level TEXT, update_order INTEGER, text TEXT, raw BLOB NOT NULL,
    PRIMARY KEY (keeper, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_of_device ON entry (device, time);
CREATE INDEX IF NOT EXISTS entry_of_kind ON entry (kind, time);
CREATE INDEX IF NOT EXISTS entry_of_order ON entry (update_order, kind) WHERE update_order IS NOT NULL;
CREATE INDEX IF NOT EXISTS report_of_order ON entry (update_order, time, number)
    WHERE update_order IS NOT NULL AND kind >= 5;
CREATE INDEX IF NOT EXISTS warning_text ON entry (kind, time, number, keeper, device, text) WHERE kind = 8;
CREATE INDEX IF NOT EXISTS entry_by_time ON entry (time);
CREATE TABLE IF NOT EXISTS running (
    device INTEGER NOT NULL, product TEXT NOT NULL, version TEXT NOT NULL, level TEXT, kind INTEGER NOT NULL,
    time INTEGER NOT NULL, update_order INTEGER, keeper BLOB NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (device, product)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS running_version ON running (product, version);
CREATE TABLE IF NOT EXISTS seen (device INTEGER PRIMARY KEY, time INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS counted (kind INTEGER PRIMARY KEY, entries INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS followed_log (keeper BLOB PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS happening (
    chain INTEGER NOT NULL, position INTEGER NOT NULL, block INTEGER NOT NULL, time INTEGER NOT NULL,
    contract TEXT NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (chain, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS happening_by_time ON happening (time);
CREATE INDEX IF NOT EXISTS happening_by_name ON happening (name, time);
CREATE INDEX IF NOT EXISTS happening_by_subject ON happening (subject, time);
CREATE TABLE IF NOT EXISTS dismissal (
    keeper BLOB NOT NULL, number INTEGER NOT NULL, who TEXT NOT NULL, time INTEGER NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (keeper, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ticket (hash BLOB PRIMARY KEY, account TEXT NOT NULL, text TEXT NOT NULL,
    signature BLOB NOT NULL, until INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL,
    time INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS session (
    hash BLOB PRIMARY KEY, account TEXT NOT NULL, csrf TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
    number INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class ArchivedEntry:
    """An entry of a log that the room verified.

    Attributes:
        keeper: UUID of the identity that writes the log.
        number: index of the entry in the log.
        time: Unix time of the entry, by the clock of the log's writer.
        kind: kind of the entry.
        device: number of the device; 0 if the entry is not about a device.
        product: product of the release; None if the entry names no release.
        version: version of the release; None if the entry names no release.
        level: evidence level of an installation; None if the entry has no level.
        order: number of the order; None if the entry names no order.
        text: text of the entry; None if the entry has no text.
    """

    keeper: UUID
    number: int
    time: int
    kind: EntryKind
    device: int
    product: str | None
    version: str | None
    level: str | None
    order: int | None
    text: str | None


@dataclass(frozen=True)
class Running:
    """The release that a device runs, according to the newest entry about the device.

    Attributes:
        kind: kind of the entry. An entry of the kind CLAIMED contains only a claim of the device, which does not count
            as an installation.
    """

    device: int
    product: str
    version: str
    level: str | None
    kind: EntryKind
    time: int
    order: int | None
    keeper: UUID
    number: int


@dataclass(frozen=True)
class Happening:
    """An event of a contract, with a description.

    Attributes:
        chain: id of the chain.
        position: position of the event in the chain.
        block: number of the block.
        time: Unix time of the block.
        contract: name of the contract.
        name: name of the event.
        subject: the identity, device, order, product or agreement that the event is about.
        text: a description of the event.
        hash: hash of the transaction, 32 bytes.
    """

    chain: int
    position: int
    block: int
    time: int
    contract: str
    name: str
    subject: str
    text: str
    hash: bytes


AnnounceEntry = Callable[[sqlite3.Connection, UUID, int, LogEntry], None]
AnnounceHappenings = Callable[[sqlite3.Connection, Sequence[Happening]], None]


class RoomArchive:
    """The archive.

    Args:
        path: the file, which is created if it does not exist.

    Raises:
        RefusedError: another program, or a newer version of BlockOTA, wrote the file.
        StoreError: the file is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _MARK, _TABLES, is_owner=False)
        self._file_id = file_id(path)

    def __enter__(self) -> Self:
        """Return the archive."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database."""
        self._file.close()

    @property
    def trouble(self) -> str:
        """Why the archive cannot be written: its file was deleted or replaced. Empty if the file is still in place.

        SQLite continues to write to a deleted file, but its changes are lost when the room stops.
        """
        with suppress(OSError):
            if file_id(self._file.path) == self._file_id:
                return ""
        return f"{self._file.path} was deleted or replaced while the room used it"

    def check_file(self) -> None:
        """Check that a change would be stored in the file at the path of the archive.

        Raises:
            StoreError: the file was deleted or replaced.
        """
        if trouble := self.trouble:
            raise StoreError(
                f"the archive {self._file.path.name} cannot be written",
                why=trouble,
                remedy="stop the room, restore the file, and start the room again",
            )

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._file.execute(statement, values)

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the ``with`` block together, or roll all of them back after an exception.

        Raises:
            StoreError: the file cannot be written, or was deleted or replaced.
        """
        self.check_file()
        with self._file.transaction() as database:
            yield database

    def log_head(self, keeper: UUID) -> TreeHead:
        """Return the size and the root of the tree of the archived entries of a log."""
        found = self.rows("SELECT size, root FROM followed_log WHERE keeper = ?", (keeper.bytes,))
        return TreeHead(*found[0]) if found else EMPTY_TREE

    def add_entries(
        self,
        keeper: UUID,
        entries: Iterable[tuple[int, bytes, LogEntry | None]],
        head: TreeHead,
        announce: AnnounceEntry | None = None,
    ) -> None:
        """Add the next verified entries of a log.

        Args:
            keeper: UUID of the identity that writes the log.
            entries: for each log entry: its number, its bytes and the decoded entry. The decoded entry is None if the
                bytes are not valid, or if a number in the entry is too large for SQLite.
            head: size and root of the log after these entries.
            announce: called for each valid entry, within the transaction.
        """
        with self.changing() as database:
            for number, raw, entry in entries:
                _add_entry(database, keeper, number, raw, entry)
                if announce and entry:
                    announce(database, keeper, number, entry)
            row = (keeper.bytes, head.size, head.root)
            database.execute("INSERT OR REPLACE INTO followed_log VALUES (?, ?, ?)", row)

    def add_happenings(self, happenings: Sequence[Happening], announce: AnnounceHappenings | None = None) -> None:
        """Add events of one chain, and replace events that are already in the archive.

        Args:
            happenings: the events in the order of the chain. The archive may already contain later events of the chain,
                because another reader of the same chain may be ahead.
            announce: called with the events that are new in the archive, within the transaction.
        """
        rows = (
            (one.chain, one.position, one.block, one.time, one.contract, one.name, one.subject, one.text, one.hash)
            for one in happenings
        )

        with self.changing() as database:
            if announce and happenings:
                statement = "SELECT position FROM happening WHERE chain = ? AND position BETWEEN ? AND ?"
                ends = happenings[0].chain, happenings[0].position, happenings[-1].position
                known = {position for (position,) in database.execute(statement, ends)}
                announce(database, [one for one in happenings if one.position not in known])
            database.executemany("INSERT OR REPLACE INTO happening VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def drop_happenings(self, chain: int, first_block: int, contracts: Iterable[str]) -> None:
        """Delete the events of some contracts from a block onwards, because a reorganisation replaced the block.

        Args:
            chain: id of the chain.
            first_block: the first block that may have been replaced.
            contracts: the names of the contracts whose events are deleted.
        """
        rows = [(chain, first_block, contract) for contract in contracts]
        with self.changing() as database:
            database.executemany("DELETE FROM happening WHERE chain = ? AND block >= ? AND contract = ?", rows)


def entry_of(row: Sequence[Any]) -> ArchivedEntry:
    """Convert a row with the columns of `ENTRY_COLUMNS` into an entry."""
    keeper, number, time, kind, *rest = row
    return ArchivedEntry(UUID(bytes=keeper), number, time, EntryKind(kind), *rest)


ENTRY_COLUMNS = "keeper, number, time, kind, device, product, version, level, update_order, text"
"""The columns from which `entry_of` makes an entry."""


def _add_entry(database: sqlite3.Connection, keeper: UUID, number: int, raw: bytes, entry: LogEntry | None) -> None:
    """Add one entry, and update the release that the archive records for the entry's device."""
    if entry is None:  # kept as an event without a time, so that a page can show that the log has it
        text = "not an entry that the room can read"
        row = (keeper.bytes, number, 0, EntryKind.EVENT, 0, None, None, None, None, text, raw)
        database.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        return

    release, level = entry.release, entry.level and str(entry.level)
    named = (release.product, str(release.version)) if release else (None, None)
    database.execute(
        "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (keeper.bytes, number, entry.time, entry.kind, entry.device, *named, level, entry.order, entry.source, raw),
    )
    database.execute(
        "INSERT INTO counted VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET entries = entries + 1", (int(entry.kind),)
    )

    if not entry.device:
        return
    database.execute(
        "INSERT INTO seen VALUES (?, ?) ON CONFLICT (device) DO UPDATE SET time = max(time, excluded.time)",
        (entry.device, entry.time),
    )

    # An older entry, read later from another log, does not replace a newer release.
    if entry.kind.names_running_image and release:
        database.execute(
            "INSERT INTO running VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device, product) DO UPDATE SET "
            "version = excluded.version, level = excluded.level, kind = excluded.kind, time = excluded.time, "
            "update_order = excluded.update_order, keeper = excluded.keeper, number = excluded.number "
            "WHERE excluded.time >= time",
            (entry.device, *named, level, int(entry.kind), entry.time, entry.order, keeper.bytes, number),
        )
