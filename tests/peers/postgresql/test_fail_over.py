"""After the primary or its standby is killed, no acknowledged request is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from blockota.errors import StoreError
from blockota.operations.database import CloudDatabase
from blockota.operations.schema import REQUEST
from blockota.operations.writing import write_requests
from tests.peers.postgresql.cluster import PostgresPair, postgres_pair
from tests.support.cloud import CLOUD, accepted
from tests.support.waiting import eventually

BEFORE, AFTER = 200, 200
"""The numbers of requests that are acknowledged before and after the primary is killed."""


@pytest.fixture
def pair() -> Iterator[PostgresPair]:
    """Run new servers for each test."""
    with postgres_pair() as found:
        yield found


class Writer:
    """Writes requests one after the other in a thread, and repeats those that were not acknowledged."""

    def __init__(self, database: CloudDatabase) -> None:
        self._database = database
        self._is_asked = threading.Event()
        self.acknowledged, self.failures = list[int](), list[str]()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread."""
        self._is_asked.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._is_asked.is_set():
            try:
                with self._database.writing() as connection:
                    write_requests(connection, [accepted(number)], cloud=CLOUD, now=number)
            except StoreError as error:
                self.failures.append(str(error))
                self._is_asked.wait(0.02)
                continue
            self.acknowledged.append(number)
            number += 1


def stored(database: CloudDatabase) -> set[bytes]:
    """Return the digests of all requests in a database."""
    with database.reading() as connection:
        return {digest for (digest,) in connection.execute(REQUEST.select().with_only_columns(REQUEST.c.digest))}


def test_the_primary_is_killed_and_the_writer_goes_on(pair: PostgresPair, tmp_path: Path) -> None:
    """Every acknowledged request is on the promoted standby, and the same writer continues on this server."""
    with CloudDatabase.at(pair.url, folder=tmp_path) as database:
        database.migrate()
        with Writer(database) as writer:
            eventually(lambda: len(writer.acknowledged) >= BEFORE, what="requests before the kill")
            pair.primary.kill()
            eventually(lambda: writer.failures, what="a failure of the writer")
            before = len(writer.acknowledged)
            pair.promote()
            eventually(lambda: len(writer.acknowledged) >= before + AFTER, what="requests after the kill")
        assert {accepted(number).digest for number in writer.acknowledged} <= stored(database)
    assert all("cannot be used" in failure or "standby" in failure for failure in writer.failures)


def test_without_its_standby_the_primary_acknowledges_nothing(pair: PostgresPair, tmp_path: Path) -> None:
    """A commit waits until the standby has the rows.

    If an administrator cancels the wait for the standby, the commit fails. A repeated commit fails as well.
    """
    with CloudDatabase.at(pair.url, folder=tmp_path) as database:
        database.migrate()
        pair.standby.kill()
        with Writer(database) as writer:
            for count in (1, 2):
                waiting = eventually(pair.wait_of_primary, what="a commit that waits")
                pair.primary.ask(f"SELECT pg_cancel_backend({waiting})")
                eventually(lambda: len(writer.failures) == count, what="the failure")  # noqa: B023 - called at once
            assert not writer.acknowledged
            assert "may not have all rows on its standby" in writer.failures[0]
            pair.standby.start()
            eventually(lambda: len(writer.acknowledged) >= AFTER, what="requests after the return of the standby")
        assert {accepted(number).digest for number in writer.acknowledged} <= stored(database)
