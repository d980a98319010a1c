"""SQLite files of BlockOTA: durable commits, and the refusal of files that are damaged or belong to other programs."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blockota.errors import RefusedError, StoreError
from blockota.file_locks import LockHeldError, exclusive_lock

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


def file_id(path: Path) -> tuple[int, int]:
    """Return the device and inode numbers of a file, which change if another file replaces it.

    Raises:
        OSError: the file does not exist, or its folder cannot be read.
    """
    found = path.stat()
    return found.st_dev, found.st_ino


def prepare_file(database: sqlite3.Connection, path: Path, mark: FileMark) -> None:
    """Make commits durable, and mark a new file.

    An existing file must be undamaged and of the kind `mark`.

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


def close_idle(database: sqlite3.Connection, lock: threading.Lock) -> None:
    """Close a connection when no thread holds its lock: SQLite crashes if a thread still uses the connection."""
    with lock:
        database.close()


def is_owned(path: Path) -> bool:
    """Whether a running process has the owner's lock of an SQLite file."""
    try:
        with exclusive_lock(lock_of(path), timeout=0):
            return False
    except LockHeldError:
        return True
    except OSError:
        return False


def lock_of(path: Path) -> Path:
    """Return the path of the lock file that the owner of an SQLite file locks."""
    return path.with_name(f"{path.name}.lock")


class SqliteFile:
    """An SQLite file that one process uses. Several threads may share it, one transaction at a time.

    Args:
        path: the file. It is created if it does not exist.
        mark: the kind of the file.
        tables: the statements that create its tables.
        is_owner: whether to become the file's only owner. If `is_owner` is False, the file is opened without the
            owner's lock.

    Raises:
        RefusedError: another process uses the file, or the file is of another kind.
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path, mark: FileMark, tables: str, *, is_owner: bool = True) -> None:
        self.path, self._mark, self._lock = path, mark, threading.Lock()
        self._stack = ExitStack()
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_owner:
                self._stack.enter_context(exclusive_lock(lock_of(path), timeout=0))
            self._database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._stack.callback(close_idle, self._database, self._lock)
            prepare_file(self._database, path, mark)
            self._database.executescript(tables)

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file, and let other processes use it."""
        self._stack.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the ``with`` block together. If the block fails, no change is committed.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with self._lock, self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except LockHeldError as error:
            raise RefusedError(
                f"{self.path} is in use",
                why="another process runs with this file",
                remedy="stop the other process, or use another folder",
            ) from error
        except (sqlite3.Error, OSError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if is_damaged(error):
                what, remedy = f"{self.path} is damaged", "restore the file from a backup, or move it away"
            else:
                what, remedy = f"{self.path} cannot be read or written", "check the file's folder and the disk"
            raise StoreError(what, why=why, remedy=remedy) from error
