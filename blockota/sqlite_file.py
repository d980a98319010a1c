"""SQLite files of ours: durable commits, files of other programs, and damaged files."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from blockota.errors import RefusedError

_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


@dataclass(frozen=True)
class FileMark:
    """The mark of a kind of file.

    Attributes:
        application: SQLite's ``application_id`` of the kind.
        form: version of its tables.
        name: what such a file is, such as ``a file of events``.
    """

    application: int
    form: int
    name: str


def prepare_file(database: sqlite3.Connection, path: Path, mark: FileMark) -> None:
    """Make commits durable, and mark a new file; check that an existing file is of this kind, and whole.

    Raises:
        RefusedError: another program, or a newer version of BlockOTA, wrote the file.
        sqlite3.Error: the file is damaged or cannot be used; `is_damaged` tells them apart.
    """

    def value(statement: str) -> object:
        return database.execute(statement).fetchone()[0]

    if not value("SELECT count(*) FROM sqlite_master"):
        database.executescript(f"PRAGMA application_id = {mark.application}; PRAGMA user_version = {mark.form}")
    application, form = value("PRAGMA application_id"), value("PRAGMA user_version")
    if (application, form) != (mark.application, mark.form):
        is_newer = application == mark.application and isinstance(form, int) and form > mark.form
        raise RefusedError(
            f"{path} is not {mark.name}",
            why="a newer version of BlockOTA wrote it" if is_newer else "another program wrote it",
            remedy="update BlockOTA, or use another file" if is_newer else "use another file",
        )
    if (found := value("PRAGMA quick_check(1)")) != "ok":
        error = sqlite3.DatabaseError(str(found))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    # WAL and FULL: a commit is one append to the log that is flushed to disk.
    database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")


def is_damaged(error: Exception) -> bool:
    """Whether an error of SQLite shows that its file is damaged, or is not an SQLite file."""
    return getattr(error, "sqlite_errorcode", None) in _DAMAGED
