"""Write requests with their readings into the cloud's database.

Writing is idempotent: a request that is already in the database is not stored or counted again. A request with a name
is identified by its name, data, gateway and validator, not by its signature. A sender can therefore repeat each request
that was not acknowledged, even with a new signature.

PostgreSQL waits for its standby only if a transaction changes a row. Each transaction therefore changes the row of this
cloud in ``batch``. Without this change, the cloud could acknowledge a repeated request whose rows an interrupted commit
left only on the primary server.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from blockota.model.reading import SensorReading
from blockota.operations.schema import ALL_GATEWAYS, BATCH, LATEST, MINUTE, READING, REQUEST

_MINUTE = 60
_ROWS = 500
"""The number of rows in a statement. SQLite and PostgreSQL limit the number of its values."""


@dataclass(frozen=True)
class AcceptedRequest:
    """A request of a gateway that a validator accepted and sent to the cloud.

    Attributes:
        raw: the bytes of the request, as the gateway signed them.
        gateway: the gateway.
        validator: the validator.
        time: Unix time of the signature; None if the signature covers no time.
        readings: the readings in it.
        name: the name of the request, which the gateway never uses again; empty if the signature covers no name.
    """

    raw: bytes = field(repr=False)
    gateway: UUID
    validator: UUID
    time: int | None
    readings: tuple[SensorReading, ...]
    name: str = ""

    @cached_property
    def digest(self) -> bytes:
        """The identifier: a hash of gateway, validator, name and data; without a name, a hash of the whole request."""
        if not self.name:
            return sha256(self.raw).digest()
        data = [one.as_fields() for one in self.readings]
        return sha256(json.dumps([str(self.gateway), str(self.validator), self.name, data]).encode()).digest()


def write_requests(connection: Connection, requests: Iterable[AcceptedRequest], *, cloud: UUID, now: int) -> set[bytes]:
    """Write requests in a transaction of `CloudDatabase.writing`.

    Returns:
        The digests of the requests that are new in the database.
    """
    insert = _insert(connection)
    row = {"cloud": cloud, "number": 1, "time": now}
    changed = {"number": BATCH.c.number + 1, "time": now}
    connection.execute(insert(BATCH).values(row).on_conflict_do_update(index_elements=["cloud"], set_=changed))

    by_digest = {one.digest: one for one in requests}
    if not by_digest:
        return set()
    rows = [_request_row(one, now) for one in by_digest.values()]
    numbers: dict[bytes, int] = {}
    for start in range(0, len(rows), _ROWS):
        added = insert(REQUEST).values(rows[start : start + _ROWS]).on_conflict_do_nothing(index_elements=["digest"])
        found = connection.execute(added.returning(REQUEST.c.number, REQUEST.c.digest))
        numbers |= {bytes(digest): number for number, digest in found}
    if numbers:
        _write_readings(connection, [(number, by_digest[digest]) for digest, number in numbers.items()], now=now)
    return set(numbers)


def _write_readings(connection: Connection, requests: Sequence[tuple[int, AcceptedRequest]], *, now: int) -> None:
    rows = [_reading_row(number, one.gateway, reading) for number, one in requests for reading in one.readings]
    if rows:
        connection.execute(READING.insert(), rows)

    # Rows that several clouds change are changed in one order, so that no two transactions wait for each other.
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = row["thing"], row["name"]
        if key not in newest or row["time"] >= newest[key]["time"]:
            newest[key] = row
    insert = _insert(connection)
    if newest:
        upsert = insert(LATEST)
        columns = {name: upsert.excluded[name] for name in ("request", "gateway", "time", "value", "text", "unit")}
        connection.execute(
            upsert.on_conflict_do_update(
                index_elements=["thing", "name"], set_=columns, where=upsert.excluded.time >= LATEST.c.time
            ),
            [newest[key] for key in sorted(newest)],
        )

    counts, readings = Counter[UUID](), Counter[UUID]()
    for _, one in requests:
        for gateway in (one.gateway, ALL_GATEWAYS):
            counts[gateway] += 1
            readings[gateway] += len(one.readings)
    count = insert(MINUTE)
    sums = {name: MINUTE.c[name] + count.excluded[name] for name in ("requests", "readings")}
    connection.execute(
        count.on_conflict_do_update(index_elements=["gateway", "start"], set_=sums),
        [
            {"start": now - now % _MINUTE, "gateway": one, "requests": counts[one], "readings": readings[one]}
            for one in sorted(counts)
        ],
    )


def _request_row(request: AcceptedRequest, now: int) -> dict[str, Any]:
    return {
        "digest": request.digest,
        "gateway": request.gateway,
        "validator": request.validator,
        "time": now if request.time is None else request.time,
        "arrived": now,
        "raw": request.raw,
    }


def _reading_row(number: int, gateway: UUID, reading: SensorReading) -> dict[str, Any]:
    value, text = reading.value, None
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = value

    return {
        "request": number,
        "gateway": gateway,
        "thing": reading.thing,
        "name": reading.name,
        "time": float(reading.time),
        "value": None if isinstance(value, str) else float(value),
        "text": text,
        "unit": reading.unit,
    }


def _insert(connection: Connection) -> Callable[[Table], Any]:
    """Return the ``insert`` function of the database's dialect, which supports ON CONFLICT."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
