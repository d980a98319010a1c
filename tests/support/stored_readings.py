"""Queries of the readings in the cloud's database. Each query uses an index of the database."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Row, select

from blockota.model.reading import SensorReading
from blockota.operations.queries import PAGE
from blockota.operations.schema import LATEST, READING


@dataclass(frozen=True)
class StoredReading:
    """A reading in the database.

    Attributes:
        reading: the reading.
        gateway: the gateway that signed the reading.
        request: the number of the request with the reading.
    """

    reading: SensorReading
    gateway: UUID
    request: int


def newest_readings(connection: Connection, thing: str, *, limit: int = PAGE) -> list[StoredReading]:
    """Return the newest readings of a device, the newest first.

    Args:
        connection: the connection.
        thing: the name of the device in its readings.
        limit: the largest number of readings.
    """
    rows = connection.execute(
        select(READING).where(READING.c.thing == thing).order_by(READING.c.time.desc()).limit(limit)
    )
    return [_reading(row) for row in rows]


def latest_values(connection: Connection, thing: str) -> list[StoredReading]:
    """Return the newest reading of each quantity of a device, ordered by the name of the quantity."""
    rows = connection.execute(select(LATEST).where(LATEST.c.thing == thing).order_by(LATEST.c.name).limit(1000))
    return [_reading(row) for row in rows]


def things(connection: Connection, *, after: str = "", limit: int = PAGE) -> list[StoredReading]:
    """Return the newest readings of one page of devices: one reading for each quantity of each device.

    The readings are ordered by device and quantity.

    Args:
        connection: the connection.
        after: the last device of the previous page; empty for the first page.
        limit: the largest number of devices.
    """
    names = select(LATEST.c.thing).where(LATEST.c.thing > after).distinct().order_by(LATEST.c.thing).limit(limit)
    rows = connection.execute(
        select(LATEST).where(LATEST.c.thing.in_(names.scalar_subquery())).order_by(LATEST.c.thing, LATEST.c.name)
    )
    return [_reading(row) for row in rows]


def _reading(row: Row[tuple[object, ...]]) -> StoredReading:
    value: float | str | bool = row.value if row.text is None else row.text
    if row.text is not None and row.value is not None:
        value = bool(row.value)
    return StoredReading(SensorReading(row.thing, row.time, row.name, value, row.unit), row.gateway, row.request)
