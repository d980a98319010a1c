"""Sensor readings, as the data of a signed `submit` request. Pure.

The data are ``{"readings": [READING, ...]}`` with 1 to 1,000 readings. A reading is a JSON object:

=========  ==============================================================================
``thing``  the device's number in DeviceRegistry, as a number or a text, or the device's name
``time``   Unix time of the measurement in seconds; fractions are allowed
``name``   the measured quantity, such as ``temperature``
``value``  a number, a text, or true or false
``unit``   the unit, such as ``Cel`` (SenML, RFC 8428); optional
=========  ==============================================================================

Texts have at most 64 printable characters; a text in ``value`` has at most 256.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from blockota.errors import RefusedError

MAX_READINGS = 1000
"""The largest number of readings in a request."""
MAX_NAME, MAX_TEXT = 64, 256
"""The largest number of characters of a name and of a value."""
_LATEST = 1 << 40
"""The largest time, in seconds."""
_MEMBERS = {"thing", "time", "name", "value"}


@dataclass(frozen=True)
class SensorReading:
    """A measured value of a device.

    Attributes:
        thing: the device's number in decimal digits, or the device's name.
        time: Unix time of the measurement, in seconds.
        name: the measured quantity.
        value: the value.
        unit: the unit; empty if the reading has no unit.
    """

    thing: str
    time: float
    name: str
    value: float | str | bool
    unit: str = ""

    @classmethod
    def of_fields(cls, fields: object) -> Self:
        """Read the JSON object of a reading.

        Raises:
            ValueError: the object is not a reading.
        """
        if not isinstance(fields, dict) or set(fields) - {"unit"} != _MEMBERS:
            raise ValueError("the reading's members are not thing, time, name, value and optionally unit")
        thing, time, value, unit = fields["thing"], fields["time"], fields["value"], fields.get("unit", "")

        if type(thing) is int and thing >= 0:
            thing = str(thing)
        for name, text in (("thing", thing), ("name", fields["name"])):
            if not _is_text(text, MAX_NAME) or not text:
                raise ValueError(f"the reading's {name} is not a text of 1 to {MAX_NAME} printable characters")
        if not _is_number(time) or not 0 <= time <= _LATEST:
            raise ValueError("the reading's time is not a Unix time in seconds")

        if not (isinstance(value, bool) or _is_number(value) or _is_text(value, MAX_TEXT)):
            raise ValueError(
                f"the reading's value is not a number, true, false or a printable text of {MAX_TEXT} characters or less"
            )
        if not _is_text(unit, MAX_NAME):
            raise ValueError(f"the reading's unit is not a text of at most {MAX_NAME} printable characters")

        return cls(thing, time, fields["name"], value, unit)

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of the reading."""
        fields = {"thing": self.thing, "time": self.time, "name": self.name, "value": self.value}
        return fields | ({"unit": self.unit} if self.unit else {})


def readings_in(data: Mapping[str, Any]) -> tuple[SensorReading, ...]:
    """Return the readings in the data of a `submit` request.

    Raises:
        RefusedError: the data are not readings.
    """
    rows = data.get("readings")
    if set(data) != {"readings"} or not isinstance(rows, list) or not 0 < len(rows) <= MAX_READINGS:
        why = f'the data are not {{"readings": [...]}} with 1 to {MAX_READINGS:,} readings'
        raise RefusedError("the request has no readings", why=why)

    found = []
    for index, row in enumerate(rows):
        try:
            found.append(SensorReading.of_fields(row))
        except ValueError as error:
            raise RefusedError(f"reading {index} of the request cannot be used", why=str(error)) from error
    return tuple(found)


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most and value.isprintable()
