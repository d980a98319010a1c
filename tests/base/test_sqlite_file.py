"""Errors of SQLite files that cannot be used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from blockota.errors import StoreError
from blockota.sqlite_file import FileMark, SqliteFile

MARK = FileMark(0x5445_5354, 1, "a file of a test", "another process has it", "use another file")


def test_a_file_that_cannot_be_inspected_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """A name that the file system refuses gives a StoreError, although the system also refuses to inspect the file."""
    with pytest.raises(StoreError, match=r"cannot be read or written.*Check the file's folder"):
        SqliteFile(tmp_path / ("x" * 300), MARK, "CREATE TABLE IF NOT EXISTS one (value)")


def test_a_folder_is_named(tmp_path: Path) -> None:
    """If the path is a folder, the error states that."""
    with pytest.raises(StoreError, match="it is a folder"):
        SqliteFile(tmp_path, MARK, "CREATE TABLE IF NOT EXISTS one (value)")


def test_a_file_that_another_program_locks_is_named(tmp_path: Path) -> None:
    """If another program holds SQLite's lock, the error asks the user to close that program."""
    path = tmp_path / "one.sqlite"
    with SqliteFile(path, MARK, "CREATE TABLE IF NOT EXISTS one (value)") as file:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        file.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(StoreError, match="another program locked it"), file.transaction():
            pass
        other.close()
