"""The cloud's database in SQLite: schema versions and errors."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from blockota.errors import RefusedError, StoreError, UsageError
from blockota.operations import database as database_module
from blockota.operations import queries, sqlite
from blockota.operations.database import CloudDatabase
from blockota.operations.schema import METADATA, VERSION
from blockota.operations.writing import write_requests
from tests.support.cloud import CLOUD, accepted

URL = "sqlite:///cloud.db"


def stored(database: CloudDatabase) -> int:
    """Return the number of requests in a database."""
    with database.reading() as connection:
        return len(queries.requests_of(connection, accepted(0).gateway))


def write(database: CloudDatabase, *numbers: int) -> set[bytes]:
    """Store requests, and return the digests of the new requests."""
    with database.writing() as connection:
        return write_requests(connection, map(accepted, numbers), cloud=CLOUD, now=1_800_000_000)


def move(source: Path, target: Path) -> None:
    """Move all files of a database into another folder."""
    target.mkdir(exist_ok=True)
    for file in source.glob("cloud.db*"):
        file.rename(target / file.name)


def test_the_migrations_make_the_tables_of_the_schema(tmp_path: Path) -> None:
    """The migrations and the schema describe the same tables, and the schema names the last migration."""
    with CloudDatabase.at(URL, folder=tmp_path) as database:
        assert database.migrate()
        assert not database.migrate()
        database.check()
        with database.reading() as connection:
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    migrations = Path(database_module.__file__).with_name("migrations")
    config = Config()
    config.set_main_option("script_location", str(migrations))
    assert ScriptDirectory.from_config(config).get_heads() == [VERSION]


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A database with the tables of a newer version is refused and not changed."""
    with CloudDatabase.at(URL, folder=tmp_path) as database:
        database.migrate()
        write(database, 1)
        with sqlite3.connect(tmp_path / "cloud.db") as file:
            file.execute("UPDATE alembic_version SET version_num = '9999'")
        for use in (database.migrate, database.check):
            with pytest.raises(RefusedError, match=r"a newer version of BlockOTA wrote it.*Update BlockOTA"):
                use()
        assert stored(database) == 1


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    """An SQLite file of another program is refused and not changed."""
    with sqlite3.connect(tmp_path / "cloud.db") as file:
        file.execute("CREATE TABLE notes (text TEXT)")
    with CloudDatabase.at(URL, folder=tmp_path) as database:
        for use in (database.migrate, database.check):
            with pytest.raises(RefusedError, match="another program wrote the file"):
                use()
    with sqlite3.connect(tmp_path / "cloud.db") as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    """A damaged file is refused with an error that names the file and the remedy."""
    (tmp_path / "cloud.db").write_bytes(b"no database " * 1000)
    with (
        CloudDatabase.at(URL, folder=tmp_path) as database,
        pytest.raises(StoreError, match=r"cloud.db is damaged: file is not a database. Restore the newest copy."),
    ):
        database.migrate()


def test_a_database_that_was_not_set_up_is_refused(tmp_path: Path) -> None:
    """Opening for reading does not create a missing file; an empty file is refused because it has no tables."""
    with CloudDatabase.at(URL, folder=tmp_path) as database:
        with pytest.raises(StoreError, match="the file is missing"):
            database.check()
        assert not list(tmp_path.iterdir())
        (tmp_path / "cloud.db").touch()
        with pytest.raises(RefusedError, match="it has no tables of the cloud"):
            database.check()


def test_a_locked_database_is_an_error_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process locks the file, a write raises an error.

    After the other process has ended its transaction, the next write succeeds.
    """
    monkeypatch.setattr(sqlite, "LOCKED_SECONDS", 0.05)
    with CloudDatabase.at(URL, folder=tmp_path) as database:
        database.migrate()
        other = sqlite3.connect(tmp_path / "cloud.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"another program has locked it. End the program"):
            write(database, 1)
        other.execute("COMMIT")
        other.close()
        assert len(write(database, 1)) == 1
        assert stored(database) == 1


def test_a_file_that_is_deleted_during_a_transaction_is_an_error(tmp_path: Path) -> None:
    """Rows that are written into a deleted file are not acknowledged, although SQLite reports success."""
    with CloudDatabase.at(URL, folder=tmp_path) as database:
        database.migrate()

        def write_while_it_is_moved() -> None:
            with database.writing() as connection:
                assert write_requests(connection, [accepted(1)], cloud=CLOUD, now=0)
                move(tmp_path, tmp_path / "kept")

        with pytest.raises(StoreError, match="the file was deleted or replaced while it was open"):
            write_while_it_is_moved()
        with pytest.raises(StoreError, match="the file is missing"):
            write(database, 2)


def test_a_file_that_is_gone_acknowledges_nothing_until_it_is_back(tmp_path: Path) -> None:
    """While the database file is missing, a write raises an error and makes no new file.

    After the file is restored, the next write succeeds.
    """
    used, kept = tmp_path / "used", tmp_path / "kept"
    used.mkdir()
    with CloudDatabase.at(URL, folder=used) as database:
        database.migrate()
        assert len(write(database, 1)) == 1
        move(used, kept)
        with pytest.raises(StoreError, match=r"the file is missing.* Restore the file"):
            write(database, 2)
        assert not list(used.iterdir())
        move(kept, used)
        assert len(write(database, 1, 2)) == 1
        assert stored(database) == 2


def test_a_full_disk_acknowledges_nothing(tmp_path: Path) -> None:
    """When the disk is full, new rows are not acknowledged, and the rows that were acknowledged before remain."""
    program = """
import resource, signal, sys
from pathlib import Path
from blockota.errors import StoreError
from blockota.operations.database import CloudDatabase
from blockota.operations.writing import write_requests
from tests.support.cloud import CLOUD, accepted

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with CloudDatabase.at("sqlite:///cloud.db", folder=Path(sys.argv[1])) as database:
    database.migrate()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
    for number in range(1000):
        try:
            with database.writing() as connection:
                write_requests(connection, [accepted(number, readings=100)], cloud=CLOUD, now=0)
        except StoreError as error:
            sys.exit(f"{number} {error}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    number, _, sentence = done.stderr.partition(" ")
    assert done.returncode == 1
    assert "cannot be used" in sentence
    assert "Traceback" not in sentence
    assert int(number) > 0
    with CloudDatabase.at(URL, folder=tmp_path) as database, database.reading() as connection:
        for index in range(int(number)):
            assert queries.request(connection, index + 1)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/db",
        "cloud.db",
        "sqlite:///",
        "sqlite:///cloud.db?mode=ro",
        "postgresql://blockota:geheim/x@db1/blockota",
        "postgresql://blockota:ge@heim@db1/blockota",
        "postgresql://blockota:12,geheim/y@db1",
        "postgresql://db1:geheim/blockota",
        "postgresql://[geheim]/blockota",
    ],
)
def test_other_urls_are_refused_without_a_secret(tmp_path: Path, url: str) -> None:
    """A database URL of another form is refused, and the error contains no part of the URL."""
    with pytest.raises(UsageError) as caught:
        CloudDatabase.at(url, folder=tmp_path)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    ["postgresql://blockota:geheim%40x@127.0.0.1:1,[::1]:1/db", "postgresql://127.0.0.1:1/db?password=geheim%40x"],
)
def test_a_server_out_of_reach_is_named_without_the_password(tmp_path: Path, url: str) -> None:
    """The error names the servers and the database, and contains no part of the password."""
    with CloudDatabase.at(url, folder=tmp_path) as database, pytest.raises(StoreError) as caught:
        database.check()
    assert "127.0.0.1:1" in str(caught.value)
    assert "Check that the server runs and can be reached" in str(caught.value)
    assert "geheim" not in str(caught.value) + repr(caught.value.__cause__)
