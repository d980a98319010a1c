"""The reading desk: confirmed readings are on the disk, and no device can fill the outbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import LimitReachedError, RefusedError, StoreError
from blockota.gateway import readings as module
from blockota.gateway.readings import READINGS_PER_MINUTE
from tests.support.thing_desks import NOW, OTHER_VALIDATOR, VALIDATOR, ThingDesks


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[ThingDesks]:
    """The desks of a gateway."""
    desks = ThingDesks(tmp_path)
    yield desks
    desks.close()


def reading(value: Any = 21.5, **changed: Any) -> bytes:
    """Return a payload with a sensor reading."""
    return json.dumps({"time": NOW, "name": "temperature", "value": value, "unit": "Cel"} | changed).encode()


def test_a_reading_is_on_the_disk_before_it_is_confirmed(desks: ThingDesks) -> None:
    """When `receive` returns, another process finds the reading in the file."""

    async def main() -> None:
        for value in range(3):
            await desks.readings.receive(256, reading(value))
            assert desks.written() == [("temperature", each) for each in range(value + 1)]

    asyncio.run(main())
    assert (desks.readings.accepted, desks.readings.last) == (3, {256: NOW})
    shipment = desks.outbox.next(VALIDATOR)
    assert shipment
    assert shipment.parcel.method == "submit"
    [first, *_] = shipment.parcel.data["readings"]
    assert first == {"thing": "256", "time": NOW, "name": "temperature", "value": 0, "unit": "Cel"}


def test_each_validator_gets_each_reading(tmp_path: Path) -> None:
    """Each validator has its own copy of a reading in the outbox."""
    desks = ThingDesks(tmp_path, validators=(VALIDATOR, OTHER_VALIDATOR))
    asyncio.run(desks.readings.receive(256, reading()))
    assert desks.outbox.receivers() == [VALIDATOR, OTHER_VALIDATOR]
    desks.close()


def test_readings_that_arrive_together_are_written_together(desks: ThingDesks, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 readings that arrive together are written in at most two transactions."""
    sizes: list[int] = []
    put = desks.readings.put

    def counting(every: Any) -> None:
        sizes.append(len(every))
        put(every)

    monkeypatch.setattr(desks.readings, "put", counting)

    async def main() -> None:
        await asyncio.gather(*(desks.readings.receive(256, reading(value)) for value in range(100)))

    asyncio.run(main())
    assert sum(sizes) == 100
    assert len(sizes) <= 2
    assert [value for _, value in desks.written()] == list(range(100))


def test_a_flood_of_one_device_is_refused(desks: ThingDesks) -> None:
    """A device above the limit of readings per minute is refused until the next minute.

    Other devices are still served.
    """

    async def main() -> None:
        for _ in range(READINGS_PER_MINUTE):
            await desks.readings.receive(256, reading())
        with pytest.raises(LimitReachedError, match="refused") as caught:
            await desks.readings.receive(256, reading())
        assert "600 readings in a minute" in caught.value.why
        await desks.readings.receive(257, reading())
        desks.now += 60
        await desks.readings.receive(256, reading())

    asyncio.run(main())
    assert (desks.readings.accepted, desks.readings.refused) == (READINGS_PER_MINUTE + 2, 1)


def test_a_full_outbox_refuses_readings(desks: ThingDesks, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the outbox is full, a reading is refused instead of confirmed."""
    monkeypatch.setattr(module, "MOST_WAITING", 2)

    async def main() -> None:
        await desks.readings.receive(256, reading(1))
        await desks.readings.receive(256, reading(2))
        with pytest.raises(LimitReachedError) as caught:
            await desks.readings.receive(257, reading(3))
        assert "wait for the validators" in caught.value.why

    asyncio.run(main())
    assert [value for _, value in desks.written()] == [1, 2]


def test_a_validator_that_is_gone_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a validator's share of the outbox is full, new readings for this validator are not stored.

    The other validator gets all readings until its own share is full.
    """
    monkeypatch.setattr(module, "MOST_WAITING", 4)
    desks = ThingDesks(tmp_path, validators=(VALIDATOR, OTHER_VALIDATOR))

    async def main() -> None:
        for value in range(2):
            await desks.readings.receive(256, reading(value))
        shipment = desks.outbox.next(VALIDATOR)
        assert shipment
        desks.outbox.remove(shipment)
        monkeypatch.setattr(module, "_COUNTED_FOR", -1)
        for value in (2, 3):
            await desks.readings.receive(256, reading(value))
        with pytest.raises(LimitReachedError):
            await desks.readings.receive(256, reading(4))

    asyncio.run(main())
    assert desks.outbox.waiting_for() == {VALIDATOR: 2, OTHER_VALIDATOR: 2}
    shipment = desks.outbox.next(VALIDATOR)
    assert shipment
    assert [one["value"] for one in shipment.parcel.data["readings"]] == [2, 3]
    desks.close()


def test_bad_messages_are_refused_and_not_written(desks: ThingDesks) -> None:
    """A malformed message is refused with a reason, and not written."""

    async def main() -> None:
        for raw in (b"", b"{}", reading(thing=257), reading(time=0), b"x" * (1 << 20)):
            with pytest.raises(RefusedError) as caught:
                await desks.readings.receive(256, raw)
            assert caught.value.why

    asyncio.run(main())
    assert (desks.written(), desks.readings.refused) == ([], 5)


def test_a_disk_that_fails_delays_the_confirmation(desks: ThingDesks, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fails, the desk repeats the write until it succeeds.

    The desk reports the failure and its end.
    """
    monkeypatch.setattr(module, "_PAUSE", 0)
    put, failures = desks.readings.put, [1, 2, 3]

    def failing(every: Any) -> None:
        if failures:
            failures.pop()
            raise StoreError("the outbox cannot be written", why="the disk is full")
        put(every)

    monkeypatch.setattr(desks.readings, "put", failing)
    asyncio.run(desks.readings.receive(256, reading()))
    assert desks.written() == [("temperature", 21.5)]
    assert (len(desks.notes), desks.notes[0][-16:], desks.notes[-1]) == (4, "the disk is full", "")
