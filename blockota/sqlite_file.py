"""Open SQLite files, refuse files that are damaged or belong to other programs, and execute transactions."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from blockota.errors import Action, RefusedError, StoreError
from blockota.file_locks import LockHeldError, exclusive_lock

MEMORY = Path(":memory:")
"""The path of a database that SQLite stores in memory only."""
_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
_LOCK_SECONDS = 0.2
"""Seconds to wait for the owner's lock, which `is_owned` also takes for an instant."""


@dataclass(frozen=True)
class FileMark:
    """A kind of SQLite file, and the ``application_id`` that identifies files of this kind.

    Attributes:
        application: the ``application_id`` that SQLite stores in files of this kind.
        form: the version of the tables.
        name: the kind in words, such as ``a file of events``.
        use: the reason that the error states if another process owns the file.
        remedy: the remedy that the error states if the file is damaged.
        action: the option that names another file.
        old_table: a table that identifies files of old versions, which did not write an ``application_id``; empty if
            all versions wrote an ``application_id``.
        is_flushed: whether a commit waits until the data are on the disk. If commits do not wait, a power failure can
            lose the commits of the last seconds, but a SIGKILL of the process loses none.
    """

    application: int
    form: int
    name: str
    use: str = "another process runs with this file"
    remedy: str = "restore the file from a backup, or move it away"
    action: Action | None = None
    old_table: str = ""
    is_flushed: bool = True


def file_id(path: Path) -> tuple[int, int]:
    """Return the device and inode numbers of a file, which change if another file replaces it.

    Raises:
        OSError: the file does not exist, or its folder cannot be read.
    """
    found = path.stat()
    return found.st_dev, found.st_ino


def is_damaged(error: Exception) -> bool:
    """Whether an SQLite error shows that the file is damaged, or is not an SQLite file."""
    return getattr(error, "sqlite_errorcode", None) in _DAMAGED


def is_owned(path: Path) -> bool:
    """Whether a running process has the owner's lock of an SQLite file."""
    try:
        with exclusive_lock(_lock_of(path), timeout=0):
            return False
    except LockHeldError:
        return True
    except OSError:
        return False


class SqliteFile:
    """An open SQLite file. Several threads may share it, one transaction at a time.

    Args:
        path: the file, which is created if it does not exist; or `MEMORY`.
        mark: the kind of the file.
        tables: the statements that create its tables.
        is_owner: whether to become the file's only owner. If `is_owner` is False, the file is opened without the
            owner's lock.
        is_checked: whether to search the file for damage. Pass False for a further connection of the same process,
            because the search reads the whole file.

    Raises:
        RefusedError: another process owns the file, or another program or a newer version of BlockOTA wrote it.
        StoreError: the file is damaged, or cannot be read or written.
    """

    def __init__(
        self, path: Path, mark: FileMark, tables: str, *, is_owner: bool = True, is_checked: bool = True
    ) -> None:
        self.path, self._mark, self._lock = path, mark, threading.RLock()
        with self._translated(), ExitStack() as stack:
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_owner:
                stack.enter_context(exclusive_lock(_lock_of(path), timeout=_LOCK_SECONDS))
            self._database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            stack.callback(self._close_idle)
            self._prepare(is_checked=is_checked)
            self._database.executescript(tables)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file when no thread uses it, and let other processes own it. Later calls raise StoreError."""
        self._stack.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the ``with`` block together. If the block fails, no change is committed.

        Raises:
            StoreError: the file is damaged, or cannot be read or written.
        """
        with self._lock, self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Execute one statement outside a transaction, so that its change is committed at once. Returns the rows.

        Raises:
            StoreError: the file is damaged, or cannot be read or written.
        """
        with self._lock, self._translated():
            return self._database.execute(statement, values).fetchall()

    def damaged(self, why: str) -> StoreError:
        """Return the error for a file whose content is damaged."""
        return StoreError(f"{self.path} is damaged", why=why, remedy=self._mark.remedy, action=self._mark.action)

    def _prepare(self, *, is_checked: bool) -> None:
        """Write the mark into a new file, or check an existing file and its mark, and configure the commits."""

        def value(statement: str) -> object:
            return self._database.execute(statement).fetchone()[0]

        mark, tables = self._mark, {name for (name,) in self._database.execute("SELECT name FROM sqlite_master")}
        if not tables or (mark.old_table in tables and value("PRAGMA application_id") == 0):
            script = f"PRAGMA application_id = {mark.application}; PRAGMA user_version = {mark.form}"
            self._database.executescript(script)
        application, form = value("PRAGMA application_id"), value("PRAGMA user_version")
        if (application, form) != (mark.application, mark.form):
            why, remedy = "another program wrote it", "use another file"
            if application == mark.application and isinstance(form, int) and form > mark.form:
                why, remedy = "a newer version of BlockOTA wrote it", "update BlockOTA, or use another file"
            raise RefusedError(f"{self.path} is not {mark.name}", why=why, remedy=remedy, action=mark.action)
        if is_checked and (found := value("PRAGMA quick_check(1)")) != "ok":
            raise self.damaged(str(found))
        # In WAL mode a commit is one append to the log, which FULL flushes to the disk.
        mode = "FULL" if mark.is_flushed else "NORMAL"
        self._database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = {mode}")

    def _close_idle(self) -> None:
        # SQLite crashes if a connection is closed while a thread uses it.
        with self._lock:
            self._database.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except LockHeldError as error:
            remedy = "wait until it ends, stop it, or use another file"
            what = f"{self.path} is in use"
            raise RefusedError(what, why=self._mark.use, remedy=remedy, action=self._mark.action) from error
        except (sqlite3.Error, OSError) as error:
            # An IntegrityError: the file has rows that contradict the new rows.
            if is_damaged(error) or isinstance(error, sqlite3.IntegrityError):
                raise self.damaged(str(error)) from error
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            remedy = "check the file's folder and the disk, or use another file"
            if os.path.isdir(self.path):  # noqa: PTH112 - Path.is_dir fails if the folder cannot be entered
                why = "it is a folder"
            elif getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                why, remedy = "another program locked it", "close the program that uses the file"
            raise StoreError(
                f"{self.path} cannot be read or written",
                why=why,
                remedy=remedy,
                action=self._mark.action,
            ) from error


def _lock_of(path: Path) -> Path:
    """Return the path of the lock file that the owner of an SQLite file locks."""
    return path.with_name(f"{path.name}.lock")
