"""Queries of the operations room in the cloud's database.

Each query uses an index, so its time depends on the number of rows that it selects, not on the size of the table. Each
function needs a connection from `CloudDatabase.reading`.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, func, select

from blockota.operations.schema import ALL_GATEWAYS, BATCH, MINUTE, REQUEST

PAGE = 50
"""The number of rows of a page."""


@dataclass(frozen=True)
class StoredRequest:
    """A request in the database.

    Attributes:
        number: the number of the request in the database.
        digest: `blockota.operations.writing.AcceptedRequest.digest`.
        gateway: the gateway that signed the request.
        validator: the validator that accepted the request.
        time: Unix time of the gateway's signature.
        arrived: Unix time at which the cloud accepted the request.
        raw: the bytes of the request, as the gateway signed them.
    """

    number: int
    digest: bytes
    gateway: UUID
    validator: UUID
    time: int
    arrived: int
    raw: bytes


@dataclass(frozen=True)
class MinuteCount:
    """The counts of requests and readings in one minute.

    Attributes:
        start: Unix time of the minute.
        requests: number of requests that arrived in the minute.
        readings: number of readings in these requests.
    """

    start: int
    requests: int
    readings: int


def request(connection: Connection, number: int) -> StoredRequest | None:
    """Return the request with a number; None if the database has no such request."""
    row = connection.execute(select(REQUEST).where(REQUEST.c.number == number)).first()
    return StoredRequest(*row) if row else None


def requests_of(connection: Connection, gateway: UUID, *, before: int | None = None) -> list[StoredRequest]:
    """Return the newest requests of a gateway, the newest first.

    Args:
        connection: the connection.
        gateway: the gateway.
        before: the number of the last request of the previous page; None for the first page.
    """
    found = select(REQUEST).where(REQUEST.c.gateway == gateway)
    if before is not None:
        found = found.where(REQUEST.c.number < before)
    return [StoredRequest(*row) for row in connection.execute(found.order_by(REQUEST.c.number.desc()).limit(PAGE))]


def minutes(connection: Connection, since: int, until: int, *, gateway: UUID = ALL_GATEWAYS) -> list[MinuteCount]:
    """Return the counts of requests and readings in each minute of a time span. Minutes without a request are omitted.

    Args:
        connection: the connection.
        since: Unix time of the first minute.
        until: Unix time of the end of the span; a minute that starts at this time is excluded.
        gateway: the gateway; by default, the counts are sums over all gateways.
    """
    start = MINUTE.c.start
    found = select(start, MINUTE.c.requests, MINUTE.c.readings).order_by(start)
    rows = connection.execute(found.where(MINUTE.c.gateway == gateway, start >= since, start < until))
    return [MinuteCount(*row) for row in rows]


def gateway_counts(connection: Connection, since: int, until: int) -> dict[UUID, MinuteCount]:
    """Return each gateway's counts of requests and readings in a time span. `start` is its newest minute.

    The query takes some milliseconds for 100 gateways and one hour. Its time grows with the numbers of gateways and
    minutes.
    """
    start, gateway = MINUTE.c.start, MINUTE.c.gateway
    found = select(gateway, func.max(start), func.sum(MINUTE.c.requests), func.sum(MINUTE.c.readings))
    found = found.where(start >= since, start < until, gateway != ALL_GATEWAYS).group_by(gateway)
    rows = connection.execute(found)
    return {one: MinuteCount(newest, int(requests), int(readings)) for one, newest, requests, readings in rows}


def last_batches(connection: Connection) -> dict[UUID, int]:
    """Return the Unix time of the last transaction of each cloud service."""
    return {row.cloud: row.time for row in connection.execute(select(BATCH.c.cloud, BATCH.c.time))}
