"""The DDI face and the MQTT face refuse state files that are damaged or that another program wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from blockota.errors import RefusedError, StoreError
from blockota.gateway.faces.ddi_state import ActionStore
from blockota.gateway.faces.mqtt_state import ThingStore
from blockota.messaging.documents import JobExecution

Open = Callable[[Path], ActionStore | ThingStore]
FACES = pytest.mark.parametrize("store", [ActionStore, ThingStore])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a state file that does not exist."""
    return tmp_path / "face.sqlite"


def execute(path: Path, statement: str, *values: str) -> None:
    """Execute a statement in a file, as another program does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement, values)


def open_damaged(store: Open, path: Path) -> None:
    """Open a damaged file. The error states the remedy, and what happens without the file."""
    with pytest.raises(StoreError, match=r"face\.sqlite is damaged: .*\. Move the file away; without it, "):
        store(path)


@FACES
def test_a_damaged_file_is_reported(store: Open, path: Path) -> None:
    """A file is reported as damaged if it is not an SQLite file, or if one of its pages is overwritten."""
    path.write_bytes(b"not a database" * 100)
    open_damaged(store, path)
    path.unlink()
    store(path).close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    open_damaged(store, path)


@pytest.mark.parametrize("fields", ["{", "[]", "{}", '{"status": "LOST"}', '{"status": "QUEUED"}'])
def test_a_damaged_execution_is_reported(fields: str, path: Path) -> None:
    """If a row in the MQTT face's file cannot be decoded as an execution, the file is reported as damaged."""
    with closing(ThingStore(path)) as store:
        store.put_execution("acme-thermo2", JobExecution(256, 7))
    execute(path, "UPDATE execution SET fields = ?", fields)
    open_damaged(ThingStore, path)


@FACES
def test_a_foreign_file_is_refused(store: Open, path: Path) -> None:
    """The files of another program, of another face and of a newer version are refused, and are not changed."""
    execute(path, "CREATE TABLE notes (text)")
    before = path.read_bytes()
    with pytest.raises(RefusedError, match=r"is not the state of .* face: another program wrote it\. Use another file"):
        store(path)
    assert path.read_bytes() == before
    path.unlink()
    (ThingStore if store is ActionStore else ActionStore)(path).close()
    with pytest.raises(RefusedError, match="another program wrote it"):
        store(path)
    path.unlink()
    store(path).close()
    execute(path, "PRAGMA user_version = 9")
    with pytest.raises(RefusedError, match=r"a newer version of BlockOTA wrote it\. Update BlockOTA"):
        store(path)


def test_a_file_without_a_mark_is_still_read(path: Path) -> None:
    """A file of an earlier version, which has no application id, is read and then gets the application id."""
    with closing(ActionStore(path)) as actions:
        actions.start(256, 7)
    execute(path, "PRAGMA application_id = 0")
    execute(path, "PRAGMA user_version = 0")
    for _ in range(2):
        with closing(ActionStore(path)) as actions:
            assert actions.device(256).begun == 7
    execute(path, "PRAGMA application_id = 1")
    with pytest.raises(RefusedError, match="another program wrote it"):
        ActionStore(path)
