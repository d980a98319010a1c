"""The cloud's database runs on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from blockota.errors import RefusedError, StoreError
from blockota.operations.database import CloudDatabase
from blockota.operations.schema import METADATA
from tests.operations import test_writing
from tests.peers.postgresql.cluster import ENCODED, PASSWORD, USER, PostgresPair

SAME = [
    test_writing.test_requests_are_written_once,
    test_writing.test_a_transaction_that_fails_writes_nothing,
    test_writing.test_every_transaction_changes_a_row,
    test_writing.test_any_number_of_requests_is_written_together,
    test_writing.test_values_return_as_they_were_measured,
    test_writing.test_pages_follow_each_other,
]


@pytest.mark.parametrize("check", SAME, ids=lambda check: check.__name__.removeprefix("test_"))
def test_it_works_as_with_sqlite(check: Callable[[CloudDatabase], None], database: CloudDatabase) -> None:
    """The tests of SQLite pass."""
    check(database)


def test_the_migrations_make_the_tables_of_the_schema(database: CloudDatabase) -> None:
    """The migrations and the schema describe the same tables."""
    database.check()
    assert not database.migrate()
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_newer_version_is_refused(database: CloudDatabase) -> None:
    """A database with tables of a newer version is not used."""
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    try:
        for use in (database.migrate, database.check):
            with pytest.raises(RefusedError, match="a newer version of BlockOTA wrote it"):
                use()
    finally:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")


def test_tables_of_another_program_are_refused(servers: PostgresPair, tmp_path: Path) -> None:
    """A database in which another program has tables with the same names is not changed."""
    servers.primary.ask("CREATE DATABASE other")
    url = f"{servers.url.removesuffix('/blockota')}/other"
    with CloudDatabase.at(url, folder=tmp_path) as other:
        with pytest.raises(RefusedError, match="it has no tables of the cloud"):
            other.check()
        with other.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE reading (note TEXT)")
        with pytest.raises(RefusedError, match="another program created tables with the same names"):
            other.migrate()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ((ENCODED, "falsch%40wort"), 'password authentication failed for user "blockota"'),
        (("/blockota?", "/nothing?"), 'database "nothing" does not exist'),
        ((USER + ":", "nobody:"), 'password authentication failed for user "nobody"'),
    ],
)
def test_a_refused_connection_is_one_sentence(
    servers: PostgresPair, tmp_path: Path, changed: tuple[str, str], sentence: str
) -> None:
    """The error for a refused connection names the servers, the reason and the remedy, but not the password."""
    url = f"{servers.url}?target_session_attrs=any".replace(*changed)
    with CloudDatabase.at(url, folder=tmp_path) as database, pytest.raises(StoreError) as caught:
        database.check()
    assert sentence in str(caught.value)
    assert "Check that the server runs and can be reached, and the user, the password" in str(caught.value)
    assert f"127.0.0.1:{servers.primary.port}" in str(caught.value)
    for secret in (PASSWORD, ENCODED, "falsch"):
        assert secret not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


def test_a_standby_alone_is_not_written(servers: PostgresPair, tmp_path: Path) -> None:
    """A URL that names only the standby is refused, because a standby accepts no writes."""
    hosts = f"127.0.0.1:{servers.primary.port},"
    url = servers.url.replace(hosts, "")
    with CloudDatabase.at(url, folder=tmp_path) as database, pytest.raises(StoreError, match=r"read-only|standby"):
        database.check()


@pytest.mark.parametrize(
    ("configured", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
def test_a_commit_waits_until_the_standby_has_flushed_it(
    servers: PostgresPair, tmp_path: Path, configured: str, used: str
) -> None:
    """If the URL sets ``synchronous_commit`` to a weaker value than ``on``, the connection uses ``on``."""
    url = f"{servers.url}?options=-csynchronous_commit%3D{configured}"
    with CloudDatabase.at(url, folder=tmp_path) as database, database.reading() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == used
