"""The readings that devices send to their gateway. Pure.

The message is a JSON object with exactly ``time``, ``name``, ``value`` and ``unit``, as in `blockota.model.reading`.
The MQTT topic, or the pre-shared key of the connection, identifies the device that sends the reading. The unit is
``""`` if the quantity has no unit.
"""

from __future__ import annotations

from blockota.messaging.topics import parse_object
from blockota.model.command import OUTCOME
from blockota.model.reading import SensorReading

OLDEST, LATEST = 7 * 86_400, 300
"""The seconds by which the time of a reading may be before and after the gateway's time. A device that was off line
sends its readings later."""
_MEMBERS = {"time", "name", "value", "unit"}


def read_reading(payload: bytes, *, thing: int, now: int) -> SensorReading:
    """Decode a reading from a device's message.

    Args:
        payload: the message.
        thing: number of the device.
        now: the gateway's time.

    Raises:
        ValueError: the message is not a reading, or the reading's time differs too much from the gateway's time.
    """
    fields = parse_object(payload)
    if set(fields) != _MEMBERS:
        raise ValueError("the reading's members are not exactly time, name, value and unit")
    reading = SensorReading.of_fields({"thing": thing, **fields})
    if reading.name.startswith(OUTCOME):
        raise ValueError(f"the reading's name begins with {OUTCOME}, which only the gateway uses")
    if not now - OLDEST <= reading.time <= now + LATEST:
        away = f"{abs(reading.time - now):,.0f} seconds {'before' if reading.time < now else 'after'}"
        raise ValueError(f"the reading's time is {away} the gateway's time")
    return reading
