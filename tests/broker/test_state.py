"""The state file of a broker: files of earlier versions and of other programs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from blockota.broker.state import BrokerState
from blockota.errors import Action, RefusedError


def test_a_file_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    """A state file of version 0.1, which lacks the application's mark, is read; another broker is refused."""
    path = tmp_path / "broker.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE identity (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        database.execute("INSERT INTO identity VALUES ('broker', '0x1')")
        database.execute("CREATE TABLE liars (url TEXT)")
    for _ in range(2):
        with BrokerState(path, {"broker": "0x1"}) as state:
            assert not state.memory().files
        with pytest.raises(RefusedError, match="belongs to another broker"):
            BrokerState(path, {"broker": "0x2"})


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    """An SQLite file of another program is refused, and gets no tables of a broker."""
    path = tmp_path / "notes.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE notes (text)")
    before = path.read_bytes()
    with pytest.raises(RefusedError, match="is not the state of a broker: another program wrote it") as caught:
        BrokerState(path, {})
    assert (caught.value.action, path.read_bytes()) == (Action.NAME_STATE_FILE, before)
