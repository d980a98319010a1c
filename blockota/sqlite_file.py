"""SQLite files of BlockOTA: durable commits, and the refusal of files that are damaged or belong to other programs."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from blockota.errors import RefusedError

_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


@dataclass(frozen=True)
class FileMark:
    """The mark by which a kind of SQLite file is recognised.

    Attributes:
        application: the ``application_id`` that SQLite stores in files of this kind.
        form: the version of the tables.
        name: the kind in words, such as ``a file of events``.
    """

    application: int
    form: int
    name: str


def prepare_file(database: sqlite3.Connection, path: Path, mark: FileMark) -> None:
    """Make commits durable, and mark a new file.

    An existing file must be of this kind and undamaged.

    Raises:
        RefusedError: another program, or a newer version of BlockOTA, wrote the file.
        sqlite3.Error: the file is damaged or cannot be used; `is_damaged` distinguishes the two cases.
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
    """Whether an SQLite error shows that the file is damaged, or is not an SQLite file."""
    return getattr(error, "sqlite_errorcode", None) in _DAMAGED
