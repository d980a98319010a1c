"""Mosquitto's rules for readings and commands: a device uses only its own topics, and cannot flood the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from blockota.errors import MessagingError
from blockota.gateway.readings import READINGS_PER_MINUTE
from tests.peers.mqtt.site import IDENTITY_KEY, face, mosquitto
from tests.support.gateway import gateway_core, known_device, site_facts
from tests.support.mqtt import FakeThing
from tests.support.thing_desks import NOW, ThingDesks, command_request

TOPIC = "blockota/v1/things/{}/readings"


@pytest.fixture
def desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThingDesks]:
    """The desks of a gateway."""
    monkeypatch.setenv(IDENTITY_KEY.removeprefix("env:"), f"{7:064x}")
    desks = ThingDesks(tmp_path)
    yield desks
    desks.close()


def reading(value: int) -> bytes:
    """Return the message with a reading."""
    return json.dumps({"time": NOW, "name": "temperature", "value": value, "unit": "Cel"}).encode()


async def rejected(device: FakeThing) -> str:
    """Send a reading that is refused, and return the reason. The gateway has then processed all earlier messages."""
    await device.connection.publish(TOPIC.format(device.number), b"{}")
    answer = await device.next(lambda one: one.topic.endswith("/rejected"))
    reason: str = json.loads(answer.payload)["message"]
    return reason


def test_devices_are_kept_apart(tmp_path: Path, desks: ThingDesks) -> None:
    """A device cannot use the topics of another device.

    A huge message ends the connection of its sender.
    """
    desks.commands.keep([command_request()])

    async def main() -> None:
        log: list[bytes] = []
        async with (
            mosquitto(tmp_path / "broker", 256, 257) as broker,
            gateway_core(tmp_path, site_facts([known_device(256), known_device(257)])) as gateway,
            broker.connect(256) as device,
            broker.connect(257) as other,
        ):
            for one, number in ((device, 256), (other, 257)):
                for end in ("commands", "readings/rejected"):
                    await one.subscribe(f"blockota/v1/things/{number}/{end}")
            await other.subscribe("blockota/v1/things/256/commands")
            await other.subscribe("blockota/v1/things/+/commands")
            async with face(gateway, broker, tmp_path, log, desks):
                first, second = FakeThing(device, 256), FakeThing(other, 257)
                command = await first.next(lambda one: one.topic.endswith("/commands"))
                assert json.loads(command.payload)["id"] == "c-1"
                await other.publish(TOPIC.format(256), reading(1))
                await other.publish("blockota/v1/things/256/commands/ack", b'{"id": "c-1", "state": "done"}')
                await device.publish(TOPIC.format(256), reading(2))
                assert "members" in await rejected(first)
                # The first message that the other device gets is the answer to its own reading.
                await other.publish(TOPIC.format(257), b"{}")
                assert (await second.next(lambda _: True)).topic == "blockota/v1/things/257/readings/rejected"
                await gateway.until(desks.written)
                with suppress(MessagingError):
                    await other.publish(TOPIC.format(257), bytes(1 << 20))
                await device.publish(TOPIC.format(256), reading(3))
                assert "members" in await rejected(first)
                await gateway.until(lambda: len(desks.written()) > 1)
                assert desks.written() == [("temperature", 2), ("temperature", 3)]

    asyncio.run(main())


def test_a_flood_takes_no_more_than_its_share(tmp_path: Path, desks: ThingDesks) -> None:
    """Of 2,000 readings in a minute, only the first are accepted; the other device is served."""

    async def main() -> None:
        log: list[bytes] = []
        async with (
            mosquitto(tmp_path / "broker", 256, 257) as broker,
            gateway_core(tmp_path, site_facts([known_device(256), known_device(257)])) as gateway,
            face(gateway, broker, tmp_path, log, desks),
            broker.connect(256) as device,
            broker.connect(257) as other,
        ):
            await other.subscribe("blockota/v1/things/257/readings/rejected")
            for start in range(0, 2000, 200):
                flood = (device.publish(TOPIC.format(256), reading(value)) for value in range(start, start + 200))
                await asyncio.gather(*flood)
            await other.publish(TOPIC.format(257), reading(-1))
            assert "members" in await rejected(FakeThing(other, 257))
            await gateway.until(lambda: desks.readings.refused == 2000 - READINGS_PER_MINUTE + 1)

    asyncio.run(main())
    values = [value for _, value in desks.written()]
    assert sorted(values) == [-1, *range(READINGS_PER_MINUTE)]
