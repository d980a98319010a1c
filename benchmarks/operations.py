"""Measure the cloud's database in SQLite: ``python -m benchmarks.operations [--quick] [--json]``.

The database contains 1,000,000 readings in 100,000 requests, from 1,000 devices at 100 gateways, and per-minute counts
for 7 days. With ``--quick``, the database contains a tenth of the readings and requests.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, insert

from benchmarks.figure import Figure, folder_on_disk, options, report
from blockota.model.reading import SensorReading
from blockota.operations import queries
from blockota.operations.database import CloudDatabase
from blockota.operations.schema import ALL_GATEWAYS, MINUTE
from blockota.operations.writing import AcceptedRequest, write_requests
from tests.support.stored_readings import latest_values, newest_readings, things

THINGS, GATEWAYS, READINGS_OF_A_REQUEST = 1000, 100, 10
REQUESTS, QUICK_REQUESTS = 100_000, 10_000
GROUP = 200
"""The number of requests in a transaction."""
RUNS = 21
START = 1_800_000_000
MINUTES = 7 * 24 * 60
RAW_SIZE = 1500
"""The size of a signed request with ten readings, in bytes."""
NEWEST_LIMIT, PAGE_LIMIT = 5.0, 200.0


def figures(requests: int) -> Iterator[Figure]:
    """Yield the milliseconds of each query of the operations page, and the rate of writes."""
    with folder_on_disk() as folder, CloudDatabase.at("sqlite:///cloud.db", folder=folder) as database:
        database.migrate()
        began = time.perf_counter()
        fill(database, requests)
        seconds = time.perf_counter() - began
        rows = requests * READINGS_OF_A_REQUEST
        size = (folder / "cloud.db").stat().st_size / 1e6
        times = f"{GROUP} requests of {READINGS_OF_A_REQUEST} readings in a transaction; the file has {size:,.0f} MB."
        yield Figure("readings written durably", rows / seconds, "readings/s", 2000, is_minimum=True, times=times)
        fill_minutes(database)

        where = f"with {rows:,} readings of {THINGS:,} devices"
        thing, gateway, until = "517", gateway_of(17), START + 60 * MINUTES
        reads: dict[str, tuple[Callable[[Connection], object], float]] = {
            "newest 50 readings of a device": (lambda c: newest_readings(c, thing), NEWEST_LIMIT),
            "newest value of each quantity of a device": (lambda c: latest_values(c, thing), PAGE_LIMIT),
            "50 devices with their newest values": (lambda c: things(c, after="5"), PAGE_LIMIT),
            "newest 50 requests of a gateway": (lambda c: queries.requests_of(c, gateway), PAGE_LIMIT),
            "a request as evidence": (lambda c: queries.request(c, requests // 2), PAGE_LIMIT),
            "minutes of a day, all gateways": (lambda c: queries.minutes(c, until - 86_400, until), PAGE_LIMIT),
            "minutes of 7 days, all gateways": (lambda c: queries.minutes(c, 0, until), PAGE_LIMIT),
            "minutes of 7 days, one gateway": (lambda c: queries.minutes(c, 0, until, gateway=gateway), PAGE_LIMIT),
            "numbers of each gateway in an hour": (
                lambda c: queries.gateway_counts(c, until - 3600, until),
                PAGE_LIMIT,
            ),
        }
        for name, (read, limit) in reads.items():
            runs = tuple(milliseconds(database, read) for _ in range(RUNS))[1:]  # the first run is a warm-up
            yield Figure(name, statistics.median(runs), "ms", limit, times=where, runs=runs)
        yield from cold_figures(folder, database)


def cold_figures(folder: Path, database: CloudDatabase) -> Iterator[Figure]:
    """Open the database file again, and yield the milliseconds of the first query."""
    with CloudDatabase.at("sqlite:///cloud.db", folder=folder) as opened:
        value = milliseconds(opened, lambda connection: newest_readings(connection, "518"))
    yield Figure("newest 50 readings of a device, in a file that is opened for it", value, "ms", PAGE_LIMIT)
    del database


def milliseconds(database: CloudDatabase, read: Callable[[Connection], object]) -> float:
    """Return the duration of a query including its transaction."""
    began = time.perf_counter()
    with database.reading() as connection:
        assert read(connection)  # noqa: S101 - an empty answer would be measured for nothing
    return 1000 * (time.perf_counter() - began)


def fill(database: CloudDatabase, requests: int) -> None:
    """Write requests as the cloud does."""
    cloud = UUID(int=1, version=4)
    for first in range(0, requests, GROUP):
        group = [request_of(number) for number in range(first, first + GROUP)]
        with database.writing() as connection:
            write_requests(connection, group, cloud=cloud, now=START + first // 100)


def request_of(number: int) -> AcceptedRequest:
    """Return a request from a gateway with ten readings of different devices."""
    readings = tuple(
        SensorReading(
            str((number * READINGS_OF_A_REQUEST + index) % THINGS), START + number, "temperature", 20.5, "Cel"
        )
        for index in range(READINGS_OF_A_REQUEST)
    )
    raw = (b"%d " % number).ljust(RAW_SIZE, b"x")
    return AcceptedRequest(raw, gateway_of(number % GATEWAYS), UUID(int=2, version=4), START + number, readings)


def fill_minutes(database: CloudDatabase) -> None:
    """Write per-minute counts for 7 days, as incoming requests would."""
    with database.writing() as connection:
        connection.execute(MINUTE.delete())
        for gateway in [ALL_GATEWAYS, *map(gateway_of, range(GATEWAYS))]:
            rows = [
                {"start": START + 60 * minute, "gateway": gateway, "requests": 10, "readings": 100}
                for minute in range(MINUTES)
            ]
            connection.execute(insert(MINUTE), rows)


def gateway_of(number: int) -> UUID:
    """Return the UUID of a gateway."""
    return UUID(int=1000 + number, version=4)


if __name__ == "__main__":
    chosen = options(__doc__ or "")
    sys.exit(report(figures(QUICK_REQUESTS if chosen.quick else REQUESTS)))
