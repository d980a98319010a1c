"""The cloud's database as an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from blockota.errors import BlockOTAError, RefusedError, StoreError, UsageError
from blockota.files import home_path
from blockota.sqlite_file import file_id, is_damaged

_APPLICATION = 0x424F5443
"""The application id in the file's header (the letters BOTC)."""
LOCKED_SECONDS = 2.0
"""Seconds for which a transaction waits for one of another process."""
_TROUBLES = {
    sqlite3.SQLITE_BUSY: ("another program has locked it", "end the program that uses the file"),
    sqlite3.SQLITE_LOCKED: ("another program has locked it", "end the program that uses the file"),
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space"),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "correct the permissions of the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        "the file is missing, or its folder cannot be read",
        "restore the file; a new one is created by the cloud when it starts",
    ),
}
"""Reason and remedy by SQLite's primary error code."""
_PRIMARY = 0xFF


def opened(url: str, folder: Path) -> SqliteServer:
    """Return the database of a URL such as ``sqlite:///cloud.db``.

    Raises:
        UsageError: the URL names no file.
    """
    path = unquote(url.removeprefix("sqlite:///"))
    if not path or "?" in path or "\0" in path:
        raise UsageError("the database cannot be used", why="its URL is not sqlite:/// followed by the path of a file")
    return SqliteServer(folder / home_path(path))


class SqliteServer:
    """A file of SQLite.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.place = path, str(path)

    def create_engine(self) -> Engine:
        """Create an SQLAlchemy engine without a connection to the database."""
        engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool, hide_parameters=True)

        @event.listens_for(engine, "connect")
        def remember(_database: object, record: ConnectionPoolEntry) -> None:
            record.info["file"] = file_id(self._path)

        @event.listens_for(engine, "checkout")
        def compare(_database: object, record: ConnectionPoolEntry, _proxy: object) -> None:
            with suppress(OSError):
                if file_id(self._path) == record.info["file"]:
                    return
            raise DisconnectionError  # the pool opens the file anew

        return engine

    def begin(self, *, is_writing: bool) -> str:
        """Return the statement that begins a transaction."""
        return "BEGIN IMMEDIATE" if is_writing else "BEGIN"

    def create(self) -> None:
        """Create an empty file if the database file does not exist."""
        if self._path.exists():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o640))

    def check_kind(self, connection: Connection) -> None:
        """Check BlockOTA's application ID in the file's header, and set the ID in a file without tables.

        Raises:
            RefusedError: another program wrote the file.
        """
        if not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
            connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION}")
        if connection.exec_driver_sql("PRAGMA application_id").scalar() != _APPLICATION:
            raise RefusedError(
                f"{self.place} is not a database of the cloud",
                why="another program wrote the file",
                remedy="use another file",
            )

    @contextmanager
    def committing(self, connection: Connection) -> Iterator[None]:
        """Check after a commit that the path of the database still leads to the open file.

        Raises:
            StoreError: the file was deleted or replaced.
        """
        before = connection.connection.info["file"]
        yield

        try:
            after = file_id(self._path)
        except OSError:
            after = None

        if before != after:
            raise StoreError(
                f"the database {self.place} cannot be written",
                why="the file was deleted or replaced while it was open",
                remedy="restore the file",
            )

    def interrupt(self) -> None:
        """Do nothing: a commit to an SQLite file waits for at most `LOCKED_SECONDS` seconds."""

    def translated(self, error: Exception) -> BlockOTAError:
        """Convert an error of SQLite or of the operating system into an error of BlockOTA."""
        if is_damaged(error):
            remedy = "restore the newest copy"
            return StoreError(f"the database {self.place} is damaged", why=str(error), remedy=remedy)
        code = getattr(error, "sqlite_errorcode", None)
        otherwise = (getattr(error, "strerror", None) or str(error), "check the file's folder and the disk")
        why, remedy = _TROUBLES.get(code & _PRIMARY, otherwise) if code else otherwise
        return StoreError(f"the database {self.place} cannot be used", why=why, remedy=remedy)

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: a file that is gone is not created again.
        database = sqlite3.connect(
            f"file:{quote(str(self._path.absolute()))}?mode=rw",
            uri=True,
            timeout=LOCKED_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
        return database
