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
from blockota.operations.writing import AcceptedRequest, GroupWriter, write_requests
from tests.support.cloud import CLOUD, GATEWAY, START, VALIDATOR, accepted
from tests.support.identities import UUIDS

URL = "sqlite:///cloud.db"
KILLS = 4


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CloudDatabase]:
    """Return an empty database."""
    with CloudDatabase.at(URL, folder=tmp_path) as found:
        found.migrate()
        yield found


def test_a_request_is_on_the_disk_when_it_is_acknowledged(database: CloudDatabase, tmp_path: Path) -> None:
    """Another connection sees the request with its readings as soon as the writer has acknowledged it."""
    with GroupWriter(database, CLOUD, clock=lambda: START + 61) as writer:
        assert writer.write([accepted(7, readings=2)]).result() == 1
        with sqlite3.connect(tmp_path / "cloud.db") as file:
            assert file.execute("SELECT raw, arrived FROM request").fetchall() == [(accepted(7).raw, START + 61)]
            assert file.execute("SELECT value FROM reading").fetchall() == [(7000.0,), (7001.0,)]


def test_requests_are_written_once(database: CloudDatabase) -> None:
    """A request that is repeated, in one group or later, is stored and counted once."""
    with GroupWriter(database, CLOUD, clock=lambda: START) as writer:
        assert writer.write([accepted(1), accepted(2), accepted(1)]).result() == 2
        assert writer.write([accepted(2), accepted(3)]).result() == 1
        assert writer.write([]).result() == 0
    with database.reading() as connection:
        assert queries.minutes(connection, 0, START + 60) == [queries.MinuteCount(START, 3, 3)]
        assert len(queries.newest_readings(connection, "256")) == 3


def test_waiting_requests_share_a_commit(database: CloudDatabase) -> None:
    """Requests that arrive while a commit waits for the file are committed together."""
    with GroupWriter(database, CLOUD) as writer:
        with database.writing():  # the file is locked, so that the requests must wait
            done = [writer.write([accepted(number)]) for number in range(100)]
        assert [one.result() for one in done] == [1] * 100
        # The first group can have been gathered before the others had arrived.
        assert writer.groups <= 2
        assert writer.requests == 100


def test_a_writer_that_stops_writes_what_waits(database: CloudDatabase) -> None:
    """Requests that wait when the writer stops are written and acknowledged."""
    with GroupWriter(database, CLOUD) as writer:
        done = [writer.write([accepted(number)]) for number in range(10)]
    assert [one.result(timeout=0) for one in done] == [1] * 10


def test_every_transaction_changes_a_row(database: CloudDatabase) -> None:
    """A group without a new request changes the row of its cloud, so that its commit waits for a standby."""
    for number in (1, 2):
        with database.writing() as connection:
            write_requests(connection, [accepted(1)], cloud=CLOUD, now=START + number)
        with database.reading() as connection:
            assert queries.last_batches(connection) == {CLOUD: START + number}


def test_values_return_as_they_were_measured(database: CloudDatabase) -> None:
    """Numbers, texts and flags return as such, the newest first; `latest` has the newest of each quantity."""
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
        found = [one.reading for one in queries.newest_readings(connection, "acme/1", limit=4)]
        assert found == [readings[1], readings[2], readings[0], readings[3]]
        newest = queries.latest_values(connection, "acme/1")
        assert [one.reading for one in newest] == [readings[1], readings[3], readings[0]]
        assert queries.things(connection) == newest
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
    """Requests and devices are read page by page, without gaps and repetitions."""
    with database.writing() as connection:
        write_requests(connection, [accepted(n, thing=f"{n:03}") for n in range(120)], cloud=CLOUD, now=START)
    with database.reading() as connection:
        numbers, before = list[int](), None
        while page := queries.requests_of(connection, GATEWAY, before=before):
            numbers += [one.number for one in page]
            before = numbers[-1]
        assert numbers == list(range(120, 0, -1))
        names, after = list[str](), ""
        while found := queries.things(connection, after=after):
            names += [one.reading.thing for one in found]
            after = names[-1]
        assert names == [f"{n:03}" for n in range(120)]


def test_a_kill_loses_no_acknowledged_request(database: CloudDatabase, tmp_path: Path) -> None:
    """A writer that is killed while it writes has lost none of the requests that it acknowledged."""
    program = """
import sys
from pathlib import Path
from blockota.operations.database import CloudDatabase
from blockota.operations.writing import GroupWriter
from tests.support.cloud import CLOUD, accepted

first = int(sys.argv[2])
database = CloudDatabase.at("sqlite:///cloud.db", folder=Path(sys.argv[1]))
with GroupWriter(database, CLOUD) as writer:
    waiting = []
    for number in range(first, first + 100_000):
        waiting.append((number, writer.write([accepted(number)])))
        if len(waiting) == 50:
            for one, done in waiting[:25]:
                done.result()
                print(one, flush=True)
            del waiting[:25]
"""
    acknowledged = set[int]()
    for kill in range(KILLS):
        command = [sys.executable, "-c", program, str(tmp_path), str(kill * 100_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for count, line in enumerate(process.stdout, 1):
                acknowledged.add(int(line))
                if count == 40 + 30 * kill:
                    process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    with database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT digest FROM request").fetchall()
        readings = connection.exec_driver_sql("SELECT count(*) FROM reading").scalar()
    assert len(acknowledged) >= 40 * KILLS
    assert {accepted(number).digest for number in acknowledged} <= {digest for (digest,) in rows}
    assert readings == len(rows)
