"""The sensor readings in the data of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blockota.errors import RefusedError
from blockota.model.reading import MAX_READINGS, SensorReading, readings_in

READING = {"thing": "256", "time": 1_800_000_000, "name": "temperature", "value": 21.5, "unit": "Cel"}


def test_readings_return_from_their_json() -> None:
    """A reading survives writing and reading as JSON."""
    readings = (
        SensorReading("256", 1_800_000_000.25, "temperature", 21.5, "Cel"),
        SensorReading("acme/door", 0, "open", value=True),
        SensorReading("257", 7, "state", "Störung"),
    )
    assert readings_in({"readings": json.loads(json.dumps([one.as_fields() for one in readings]))}) == readings


def test_a_number_names_a_device_as_its_digits_do() -> None:
    """A device can be named by a number or by its decimal digits, with the same result."""
    assert readings_in({"readings": [READING | {"thing": 256}]}) == readings_in({"readings": [READING]})


@pytest.mark.parametrize(
    "changed",
    [
        {"thing": ""},
        {"thing": -1},
        {"thing": True},
        {"thing": "a" * 65},
        {"name": "a\0b"},
        {"name": "a\u202eb"},
        {"name": "\ud800"},
        {"name": None},
        {"time": -1},
        {"time": 1 << 41},
        {"time": "now"},
        {"time": True},
        {"value": None},
        {"value": float("nan")},
        {"value": 10**400},
        {"value": "v" * 257},
        {"value": []},
        {"unit": 1},
        {"unit": "\n"},
        {"more": 1},
    ],
)
def test_what_is_not_a_reading_is_refused(changed: dict[str, Any]) -> None:
    """A reading with a member that cannot be stored is refused, and the error names the reading."""
    with pytest.raises(RefusedError, match="reading 1 of the request cannot be used"):
        readings_in({"readings": [READING, READING | changed]})


@pytest.mark.parametrize(
    "data", [{}, {"readings": []}, {"readings": {}}, {"readings": [READING], "more": 1}, {"readings": [READING] * 1001}]
)
def test_data_without_readings_are_refused(data: dict[str, Any]) -> None:
    """Data without readings, with too many, or with other members are refused."""
    assert len(readings_in({"readings": [READING] * MAX_READINGS})) == MAX_READINGS
    with pytest.raises(RefusedError, match="the request has no readings"):
        readings_in(data)


def test_a_missing_member_is_refused() -> None:
    """Each member of a reading except the unit is required."""
    for name in set(READING) - {"unit"}:
        with pytest.raises(RefusedError, match="the reading's members are not"):
            readings_in({"readings": [{key: value for key, value in READING.items() if key != name}]})
    assert readings_in({"readings": [{key: value for key, value in READING.items() if key != "unit"}]})[0].unit == ""
