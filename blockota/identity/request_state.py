"""The data of a receiver of requests on its disk: the ids of accepted requests, and entries that wait for the log.

Another party can record a request and send it again. With the stored ids, the receiver recognises this request even
after a restart. An id is deleted after `KEPT_SECONDS`, because a request of this age is refused as too old.
`RequestState` is one SQLite file. The file is also the outbox from which the service appends the log entries of
warnings to its log.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Self
from uuid import UUID

from blockota.model.request import WINDOW
from blockota.sqlite_file import FileMark, SqliteFile

RequestName = tuple[UUID, str]
"""The sender of a request, and the name that the sender gave to it."""
KEPT_SECONDS = 2 * WINDOW
"""Seconds for which a name is kept."""
BATCH = 256
"""The largest number of entries that are appended to the log together."""
_MARK = FileMark(0x424F5452, 1, "the state of a receiver of requests")
"""The application id in the file's header (the letters BOTR), and the version of the tables."""
_TABLES = """
CREATE TABLE IF NOT EXISTS seen (
    sender BLOB NOT NULL, name TEXT NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (sender, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, entry BLOB NOT NULL);
"""


class RequestState:
    """The state of a receiver of requests. Several threads may share it.

    Args:
        path: the SQLite file, which is created if it does not exist.

    Raises:
        RefusedError: another process uses the file, or the file is not the state of a receiver.
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _MARK, _TABLES)
        rows = self._file.execute("SELECT sender, name, time FROM seen ORDER BY time")
        self._waiting = int(self._file.execute("SELECT count(*) FROM outbox")[0][0])
        self._seen: dict[RequestName, int] = {(UUID(bytes=sender), name): time for sender, name, time in rows}
        """The time of each name, the oldest first."""

    def __enter__(self) -> Self:
        """Return the state."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def __contains__(self, name: object) -> bool:
        """Whether a request with this sender and id was accepted earlier."""
        return name in self._seen

    def names(self) -> list[RequestName]:
        """Return the stored senders and ids, the oldest first."""
        return list(self._seen)

    def commit(self, names: Iterable[RequestName], entries: Iterable[bytes], *, now: int) -> None:
        """Write the ids of requests and log entries to the disk.

        Args:
            names: senders and ids of accepted requests.
            entries: entries for the log.
            now: Unix time.

        Raises:
            StoreError: the file cannot be written. Nothing was changed.
        """
        named, added = list(names), list(entries)
        old = [name for name, _ in takewhile(lambda one: one[1] < now - KEPT_SECONDS, self._seen.items())]
        if not named and not added and not old:
            return

        with self._file.transaction() as database:
            database.executemany("DELETE FROM seen WHERE sender = ? AND name = ?", [(s.bytes, n) for s, n in old])
            database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", [(s.bytes, n, now) for s, n in named])
            database.executemany("INSERT INTO outbox (entry) VALUES (?)", [(entry,) for entry in added])

        for name in old:
            del self._seen[name]
        for name in named:
            # The names stay in the order of their times, so that the oldest are found first.
            self._seen.pop(name, None)
            self._seen[name] = now
        self._waiting += len(added)

    def waiting(self) -> int:
        """Return the number of entries that are not in the log yet."""
        return self._waiting

    def outbox(self, limit: int = BATCH) -> list[tuple[int, bytes]]:
        """Return the oldest entries with their sequence numbers."""
        if not self._waiting:
            return []
        return self._file.execute("SELECT sequence, entry FROM outbox ORDER BY sequence LIMIT ?", (limit,))

    def appended(self, positions: Iterable[tuple[int, int]], /) -> None:
        """Remove entries that were appended to the log, by their sequence numbers."""
        sequences = [(sequence,) for sequence, _ in positions]
        with self._file.transaction() as database:
            database.executemany("DELETE FROM outbox WHERE sequence = ?", sequences)
        self._waiting -= len(sequences)
