"""Rows of the cloud's database for tests and benchmarks."""

from __future__ import annotations

from uuid import UUID

from blockota.model.reading import SensorReading
from blockota.operations.writing import AcceptedRequest
from tests.support.identities import UUIDS

GATEWAY, VALIDATOR, CLOUD = UUIDS[:3]
START = 1_800_000_000


def accepted(number: int, *, gateway: UUID = GATEWAY, thing: str = "256", readings: int = 1) -> AcceptedRequest:
    """Return the request with the given number; the values of its readings begin at 1,000 times the number."""
    found = tuple(
        SensorReading(thing, START + number, "temperature", 1000.0 * number + index, "Cel") for index in range(readings)
    )
    return AcceptedRequest(b"request %d of %s" % (number, gateway.hex.encode()), gateway, VALIDATOR, START, found)
