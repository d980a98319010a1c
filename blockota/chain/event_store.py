"""The events and block hashes of one chain, in memory or in an SQLite file.

Every function that changes the store commits its changes before it returns. If a process is killed, the next process
therefore continues with the first block that is not stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from blockota.chain.records import HASH_SIZE, INDEX_BITS, BlockHead, Log
from blockota.errors import RefusedError
from blockota.ethereum import to_checksum_address
from blockota.sqlite_file import MEMORY, FileMark, SqliteFile

_MARK = FileMark(
    0x424F5441,
    1,
    "a file of events",
    use="another process follows the chain with this file",
    remedy="move the file away; the events are then read from the chain again",
)
_KNOWN_BLOCKS = 1024
"""The number of blocks whose hashes are kept to detect a reorganisation: the chain's first block and the newest blocks.
"""
EVENT_TABLES = """
CREATE TABLE IF NOT EXISTS followed_chain (chain_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS followed_blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS followed_contracts (
    id INTEGER PRIMARY KEY, address BLOB NOT NULL UNIQUE, first_block INTEGER NOT NULL, next_block INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS followed_events (
    position INTEGER PRIMARY KEY, contract INTEGER NOT NULL, block_hash BLOB NOT NULL, "transaction" BLOB NOT NULL,
    topics BLOB NOT NULL, data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS followed_reorganisations (first_block INTEGER NOT NULL);
"""
"""The tables of a store. The file of a store may have other tables, too."""


class EventStore:
    """The stored events and block hashes of one chain. Only one process at a time can use a file.

    Args:
        file: an open file that has the tables `EVENT_TABLES`. With None as the file, the events are stored in memory.
    """

    def __init__(self, file: SqliteFile | None = None) -> None:
        self._file = file or SqliteFile(MEMORY, _MARK, EVENT_TABLES, is_owner=False)

    @classmethod
    def open(cls, path: Path, *, chain_id: int) -> Self:
        """Open the file of a chain, or create it.

        Args:
            path: the file. SQLite adds files with the endings ``-wal`` and ``-shm`` in the same folder.
            chain_id: the chain's id.

        Raises:
            RefusedError: the file has the events of another chain, belongs to another program or to a newer version
                of BlockOTA, or is in use.
            StoreError: the file is damaged, or cannot be read or written.
        """
        store = cls(SqliteFile(path, _MARK, EVENT_TABLES))
        try:
            store._belong_to(chain_id)
        except BaseException:
            store.__exit__()
            raise
        return store

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database. Any later use of the store raises a StoreError."""
        self._file.close()

    def blocks(self) -> dict[int, bytes]:
        """Return the hashes of the known blocks by number, in ascending order."""
        return dict(self._file.execute("SELECT number, hash FROM followed_blocks ORDER BY number"))

    def put_block(self, block: BlockHead) -> None:
        """Store the hash of a block. The oldest known blocks are deleted, except the chain's first block."""
        with self._file.transaction() as database:
            database.execute("INSERT OR REPLACE INTO followed_blocks VALUES (?, ?)", (block.number, block.hash))
            _forget_old_blocks(database)

    def next_block(self, contract: str, *, first_block: int) -> int:
        """Return the number of the first block for which the store does not have a contract's events yet.

        Args:
            contract: the contract's address.
            first_block: the first block whose events the caller needs.
        """
        found = self._file.execute(
            "SELECT next_block FROM followed_contracts WHERE address = ? AND first_block <= ?",
            (_raw(contract), first_block),
        )
        return max(found[0][0], first_block) if found else first_block

    def append(self, contracts: Sequence[str], first: int, last: int, logs: Sequence[Log]) -> None:
        """Store the events of contracts in the blocks `first` to `last`, and the hash of each block with an event.

        The new events replace all stored events of these contracts in block `first` and later blocks.
        """
        with self._file.transaction() as database:
            numbers = {one.lower(): _follow(database, one, first=first, last=last) for one in contracts}
            rows = [_row(log, numbers[log.address.lower()]) for log in logs]
            database.executemany("INSERT INTO followed_events VALUES (?, ?, ?, ?, ?, ?)", rows)

            hashes = {log.block_number: log.block_hash for log in logs}
            database.executemany("INSERT OR REPLACE INTO followed_blocks VALUES (?, ?)", hashes.items())
            _forget_old_blocks(database)

    def events(self, contracts: Iterable[str], *, first_block: int = 0) -> Iterator[Log]:
        """Yield the stored events of contracts, oldest first, beginning with the block `first_block`."""
        wanted = {_raw(one) for one in contracts}
        numbers = self._file.execute("SELECT id, address FROM followed_contracts")
        names = {number: to_checksum_address(address) for number, address in numbers if address in wanted}

        rows = self._file.execute(
            'SELECT position, contract, topics, data, "transaction", block_hash FROM followed_events '  # noqa: S608
            f"WHERE position >= ? AND contract IN ({', '.join('?' * len(names))}) ORDER BY position",
            (first_block << INDEX_BITS, *names),
        )

        for position, contract, topics, data, transaction, block_hash in rows:
            words = tuple([topics[start : start + HASH_SIZE] for start in range(0, len(topics), HASH_SIZE)])
            block, index = divmod(position, 1 << INDEX_BITS)
            yield Log(words, data, block, transaction, names[contract], index, block_hash)

    def drop(self, first: int) -> None:
        """Delete a replaced block and all later blocks with their events, and record the reorganisation."""
        with self._file.transaction() as database:
            database.execute("DELETE FROM followed_blocks WHERE number >= ?", (first,))
            database.execute("DELETE FROM followed_events WHERE position >= ?", (first << INDEX_BITS,))
            database.execute("UPDATE followed_contracts SET next_block = min(next_block, ?)", (first,))
            database.execute("INSERT INTO followed_reorganisations VALUES (?)", (first,))

    def reorganised_from(self) -> int | None:
        """Return the first block dropped since the last call of `acknowledge`; None if no block was dropped."""
        first: int | None = self._file.execute("SELECT min(first_block) FROM followed_reorganisations")[0][0]
        return first

    def acknowledge(self) -> None:
        """Forget the recorded reorganisations."""
        if self.reorganised_from() is not None:
            with self._file.transaction() as database:
                database.execute("DELETE FROM followed_reorganisations")

    def _belong_to(self, chain_id: int) -> None:
        found = self._file.execute("SELECT chain_id FROM followed_chain")
        if not found:
            with self._file.transaction() as database:
                database.execute("INSERT INTO followed_chain VALUES (?)", (chain_id,))
        elif found != [(chain_id,)]:
            raise RefusedError(
                f"{self._file.path} belongs to another chain",
                why=f"the file has the events of chain {found[0][0]}, but the node serves chain {chain_id}",
                remedy="use another file for this chain, or correct the network's url in blockota.toml",
            )


def _follow(database: sqlite3.Connection, contract: str, *, first: int, last: int) -> int:
    """Record that the events of a contract up to the block `last` are stored. Returns the contract's id."""
    database.execute(
        "INSERT INTO followed_contracts (address, first_block, next_block) VALUES (?, ?, ?) ON CONFLICT (address) "
        "DO UPDATE SET first_block = min(first_block, excluded.first_block), next_block = excluded.next_block",
        (_raw(contract), first, last + 1),
    )
    found = database.execute("SELECT id FROM followed_contracts WHERE address = ?", (_raw(contract),))
    number: int = found.fetchone()[0]
    database.execute("DELETE FROM followed_events WHERE contract = ? AND position >= ?", (number, first << INDEX_BITS))
    return number


def _forget_old_blocks(database: sqlite3.Connection) -> None:
    oldest = "SELECT number FROM followed_blocks ORDER BY number DESC LIMIT 1 OFFSET ?"
    database.execute(
        f"DELETE FROM followed_blocks WHERE number > 0 AND number < ({oldest})",  # noqa: S608 - a constant
        (_KNOWN_BLOCKS - 2,),
    )


def _row(log: Log, contract: int) -> tuple[Any, ...]:
    """Return the columns of an event, in the order of the table."""
    return log.position, contract, log.block_hash, log.transaction, b"".join(log.topics), log.data


def _raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])
