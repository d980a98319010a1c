"""Requests are written in groups, and acknowledged after the commit."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.model.reading import SensorReading
from blockota.operations import queries
from blockota.operations.database import CloudDatabase
from blockota.operations.writing import AcceptedRequest, write_requests
from tests.support.cloud import CLOUD, GATEWAY, START, VALIDATOR, accepted
from tests.support.identities import UUIDS
from tests.support.stored_readings import latest_values, newest_readings, things

URL = "sqlite:///cloud.db"
KILLS = 2


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CloudDatabase]:
    """Return an empty database."""
    with CloudDatabase.at(URL, folder=tmp_path) as found:
        found.migrate()
        yield found


def write(database: CloudDatabase, *requests: AcceptedRequest, now: int = START) -> int:
    """Write requests, and return how many were new."""
    with database.writing() as connection:
        return len(write_requests(connection, requests, cloud=CLOUD, now=now))


def test_a_request_is_on_the_disk_after_the_transaction(database: CloudDatabase, tmp_path: Path) -> None:
    """Another connection sees a request and its readings after the commit, and not before."""
    with sqlite3.connect(tmp_path / "cloud.db") as file:
        with database.writing() as connection:
            assert write_requests(connection, [accepted(7, readings=2)], cloud=CLOUD, now=START + 61)
            assert not file.execute("SELECT * FROM request").fetchall()
        assert file.execute("SELECT raw, arrived FROM request").fetchall() == [(accepted(7).raw, START + 61)]
        assert file.execute("SELECT value FROM reading").fetchall() == [(7000.0,), (7001.0,)]


def test_requests_are_written_once(database: CloudDatabase) -> None:
    """A repeated request, in the same transaction or later, is stored and counted once."""
    assert write(database, accepted(1), accepted(2), accepted(1)) == 2
    assert write(database, accepted(2), accepted(3)) == 1
    assert write(database) == 0
    with database.reading() as connection:
        assert queries.minutes(connection, 0, START + 60) == [queries.MinuteCount(START, 3, 3)]
        assert len(newest_readings(connection, "256")) == 3


def test_a_transaction_that_fails_writes_nothing(database: CloudDatabase) -> None:
    """If the `with` block of a transaction raises an exception, none of the changes is stored."""

    def fail() -> None:
        with database.writing() as connection:
            write_requests(connection, [accepted(1)], cloud=CLOUD, now=START)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.reading() as connection:
        assert queries.requests_of(connection, GATEWAY) == []
        assert queries.last_batches(connection) == {}


def test_every_transaction_changes_a_row(database: CloudDatabase) -> None:
    """Each transaction updates the cloud's row.

    A commit waits for the standby server only if it has changes.
    """
    for number in (1, 2):
        write(database, accepted(1), now=START + number)
        with database.reading() as connection:
            assert queries.last_batches(connection) == {CLOUD: START + number}


def test_any_number_of_requests_is_written_together(database: CloudDatabase) -> None:
    """Requests that exceed the parameter limit of one SQL statement are all stored."""
    assert write(database, *(accepted(number) for number in range(12_000))) == 12_000
    assert write(database, *(accepted(number) for number in range(11_000, 12_001))) == 1


def test_values_return_as_they_were_measured(database: CloudDatabase) -> None:
    """Numbers, texts and flags are read back unchanged, the newest first.

    `latest` returns the newest reading of each quantity.
    """
    readings = (
        SensorReading("acme/1", 10.5, "temperature", -2.25, "Cel"),
        SensorReading("acme/1", 12, "open", value=True),
        SensorReading("acme/1", 11, "open", value=False),
        SensorReading("acme/1", 9, "state", "true"),
    )
    with database.writing() as connection:
        write_requests(
            connection, [AcceptedRequest(b"one", GATEWAY, VALIDATOR, None, readings)], cloud=CLOUD, now=START
        )
        late = AcceptedRequest(b"two", UUIDS[9], VALIDATOR, 5, (SensorReading("acme/1", 8, "state", "late"),))
        write_requests(connection, [late], cloud=CLOUD, now=START)
    with database.reading() as connection:
        found = [one.reading for one in newest_readings(connection, "acme/1", limit=4)]
        assert found == [readings[1], readings[2], readings[0], readings[3]]
        newest = latest_values(connection, "acme/1")
        assert [one.reading for one in newest] == [readings[1], readings[3], readings[0]]
        assert things(connection) == newest
        evidence = queries.request(connection, newest[0].request)
        assert evidence
        assert (evidence.raw, evidence.time, evidence.gateway, evidence.validator) == (
            *(b"one", START, GATEWAY),
            VALIDATOR,
        )
        assert queries.gateway_counts(connection, 0, START + 1) == {
            GATEWAY: queries.MinuteCount(START, 1, 4),
            UUIDS[9]: queries.MinuteCount(START, 1, 1),
        }


def test_pages_follow_each_other(database: CloudDatabase) -> None:
    """Requests and devices are read page by page, each exactly once."""
    with database.writing() as connection:
        write_requests(connection, [accepted(n, thing=f"{n:03}") for n in range(120)], cloud=CLOUD, now=START)
    with database.reading() as connection:
        numbers, before = list[int](), None
        while page := queries.requests_of(connection, GATEWAY, before=before):
            numbers += [one.number for one in page]
            before = numbers[-1]
        assert numbers == list(range(120, 0, -1))
        names, after = list[str](), ""
        while found := things(connection, after=after):
            names += [one.reading.thing for one in found]
            after = names[-1]
        assert names == [f"{n:03}" for n in range(120)]


def test_a_kill_loses_no_acknowledged_request(database: CloudDatabase, tmp_path: Path) -> None:
    """After a kill during writes, all acknowledged requests are in the database."""
    program = """
import sys
from pathlib import Path
from blockota.operations.database import CloudDatabase
from blockota.operations.writing import write_requests
from tests.support.cloud import CLOUD, accepted

first = int(sys.argv[2])
database = CloudDatabase.at("sqlite:///cloud.db", folder=Path(sys.argv[1]))
for number in range(first, first + 100_000, 5):
    requests = [accepted(number + index) for index in range(5)]
    with database.writing() as connection:
        write_requests(connection, requests, cloud=CLOUD, now=number)
    print(number, flush=True)
"""
    acknowledged = set[int]()
    for kill in range(KILLS):
        command = [sys.executable, "-c", program, str(tmp_path), str(kill * 100_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for count, line in enumerate(process.stdout, 1):
                acknowledged |= {int(line) + index for index in range(5)}
                if count == 40 + 30 * kill:
                    process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    with database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT digest FROM request").fetchall()
        readings = connection.exec_driver_sql("SELECT count(*) FROM reading").scalar()
    assert len(acknowledged) >= 40 * KILLS
    assert {accepted(number).digest for number in acknowledged} <= {digest for (digest,) in rows}
    assert readings == len(rows)
