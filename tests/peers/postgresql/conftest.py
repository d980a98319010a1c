"""A fixture with a PostgreSQL server and its standby."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.operations.database import CloudDatabase
from blockota.operations.schema import METADATA
from tests.peers.postgresql.cluster import PostgresPair, postgres_pair


@pytest.fixture(scope="module")
def servers() -> Iterator[PostgresPair]:
    """Run the servers for a test file."""
    with postgres_pair() as pair:
        yield pair


@pytest.fixture
def database(servers: PostgresPair, tmp_path: Path) -> Iterator[CloudDatabase]:
    """Return an empty database."""
    with CloudDatabase.at(servers.url, folder=tmp_path) as found:
        found.migrate()
        with found.writing() as connection:
            for table in reversed(METADATA.sorted_tables):
                connection.execute(table.delete())
            connection.exec_driver_sql("ALTER SEQUENCE request_number_seq RESTART")
        yield found
