"""The sensor readings in the messages of devices."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blockota.messaging.readings import LATEST, OLDEST, read_reading
from blockota.messaging.topics import MAX_PAYLOAD
from blockota.model.reading import SensorReading

NOW = 1_800_000_000
FIELDS = {"time": NOW, "name": "temperature", "value": 21.5, "unit": "Cel"}


def payload(**changed: Any) -> bytes:
    """Return the message of a sensor reading, with changed members."""
    return json.dumps(FIELDS | changed).encode()


def test_a_reading_is_read() -> None:
    """A reading gets its device number from the MQTT topic, and its time may have a fraction of a second."""
    found = read_reading(payload(time=NOW - 0.5), thing=256, now=NOW)
    assert found == SensorReading("256", NOW - 0.5, "temperature", 21.5, "Cel")
    assert read_reading(payload(value=True, unit=""), thing=256, now=NOW).value is True
    for time in (NOW - OLDEST, NOW + LATEST):
        assert read_reading(payload(time=time), thing=256, now=NOW).time == time


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "members"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not text"),
        (payload()[:-1], "not valid JSON"),
        (payload(thing=257), "members"),
        (payload(thing=256), "members"),
        (json.dumps({name: FIELDS[name] for name in ("time", "name", "value")}).encode(), "members"),
        (payload()[:-1] + b', "value": 22}', "repeated"),
        (payload().replace(b"21.5", b"NaN"), "NaN"),
        (payload().replace(b"21.5", b"-Infinity"), "Infinity"),
        (payload().replace(b"21.5", b"1e999"), "value"),
        (payload(value=None), "value"),
        (payload(value={"a": 1}), "value"),
        (payload(value="x" * 257), "value"),
        (payload(unit=None), "unit"),
        (payload(unit=5), "unit"),
        (payload(name=""), "name"),
        (payload(name="command:c-1"), "only the gateway"),
        (payload(time="now"), "time"),
        (payload(time=NOW - OLDEST - 1), "604,801 seconds before"),
        (payload(time=NOW + LATEST + 1), "301 seconds after"),
        (payload(time=-1), "time"),
        (b" " * (MAX_PAYLOAD + 1), "at most 8,192"),
        (b" " * (1 << 20), "at most 8,192"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested"),
    ],
)
def test_other_messages_are_refused(raw: bytes, why: str) -> None:
    """A malformed reading is refused with its reason."""
    with pytest.raises(ValueError, match=why):
        read_reading(raw, thing=256, now=NOW)
