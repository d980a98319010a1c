"""Readings and commands at the MQTT face, with an MQTT broker in the process of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockota.messaging.client import Message
from blockota.model.command import CommandState
from tests.gateway.faces.test_mqtt import NOW, Site
from tests.support.mqtt import FakeThing
from tests.support.thing_desks import COMMAND, ThingDesks, command_request

READINGS, ANSWERS = "blockota/v1/things/256/readings", "blockota/v1/things/256/commands/ack"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a gateway with the desks for readings and commands."""
    site = Site(tmp_path)
    site.desks = ThingDesks(tmp_path)
    yield site
    site.desks.close()


def desks_of(site: Site) -> ThingDesks:
    """Return the desks."""
    assert site.desks
    return site.desks


def reading(value: Any = 21.5, **changed: Any) -> bytes:
    """Return an MQTT payload with a sensor reading."""
    return json.dumps({"time": NOW, "name": "temperature", "value": value, "unit": "Cel"} | changed).encode()


async def settled(site: Site) -> None:
    """Wait until the gateway has confirmed all messages."""
    gateway = site.broker.clients["gateway"]
    await site.broker.until(lambda: not gateway.unconfirmed and gateway.queue.empty())


def test_a_reading_is_confirmed_when_it_is_written(site: Site) -> None:
    """The gateway confirms a reading (PUBACK) after writing the reading, and publishes no response message."""
    confirmed: list[list[tuple[str, Any]]] = []

    async def work(device: FakeThing) -> None:
        gateway = site.broker.clients["gateway"]
        release = gateway.release

        def noting(message: Message) -> None:
            confirmed.append(desks_of(site).written())
            release(message)

        gateway.release = noting  # type: ignore[method-assign]
        await device.connection.publish(READINGS, reading())
        await site.broker.until(lambda: confirmed)
        await settled(site)

    site.serve(work)
    assert confirmed == [[("temperature", 21.5)]]
    assert not site.warnings()
    assert not [one for one in site.broker.published if "rejected" in one.topic]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (reading()[:-1] + b', "unit": "K"}', "repeated"),
        (reading().replace(b"21.5", b"NaN"), "NaN"),
        (reading(thing=257), "members"),
        (b'{"time": 1800000000, "name": "temperature", "value": 21.5}', "members"),
        (reading(time=NOW + 400), "400 seconds after"),
        (b" " * 65_000, "at most 8,192"),
    ],
)
def test_a_bad_reading_is_answered(site: Site, payload: bytes, why: str) -> None:
    """The face answers a malformed reading with the reason, and logs a warning.

    The next reading is accepted.
    """

    async def work(device: FakeThing) -> None:
        await device.connection.publish(READINGS, payload)
        answer = await device.next(lambda one: one.topic == f"{READINGS}/rejected")
        assert why in json.loads(answer.payload)["message"]
        await device.connection.publish(READINGS, reading())
        await site.broker.until(lambda: desks_of(site).written())
        await settled(site)

    site.serve(work)
    [(number, text)] = site.warnings()
    assert number == 256
    assert why in text


def test_messages_that_are_not_served_are_dropped(site: Site) -> None:
    """The gateway confirms readings of unknown or banned devices, and retained readings, but logs a warning."""
    site.core.devices[256] = replace(site.core.devices[256], is_banned=True)

    async def work(device: FakeThing) -> None:
        await device.connection.publish(READINGS, reading())
        gateway = site.broker.clients["gateway"]
        for topic in ("blockota/v1/things/999/readings", "blockota/v1/things/x/readings"):
            gateway.queue.put_nowait(Message(topic, reading()))
        gateway.queue.put_nowait(Message("blockota/v1/things/257/readings", reading(), is_retained=True))
        await site.broker.until(lambda: len(site.warnings()) == 4)
        await settled(site)

    site.serve(work)
    texts = "\n".join(text for _, text in site.warnings())
    assert all(
        why in texts for why in ("is banned", "device 999 is not of this site", "not the topic", "it is retained")
    )
    assert desks_of(site).written() == []


def test_readings_wait_for_the_first_reading_of_the_chain(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that arrives before the gateway has read its devices is written after it has read them."""
    monkeypatch.setattr("blockota.gateway.faces.mqtt_things._PAUSE", 0)

    async def work(device: FakeThing) -> None:
        known = dict(site.core.devices)
        site.core.devices.clear()
        await device.connection.publish(READINGS, reading())
        gateway = site.broker.clients["gateway"]
        await site.broker.until(lambda: gateway.unconfirmed)
        assert desks_of(site).written() == []
        site.core.devices.update(known)
        await settled(site)

    site.serve(work)
    assert desks_of(site).written() == [("temperature", 21.5)]
    assert not site.warnings()


def test_a_gateway_without_validators_refuses_readings(tmp_path: Path) -> None:
    """The device gets the reason."""
    site = Site(tmp_path)

    async def work(device: FakeThing) -> None:
        await device.connection.publish(READINGS, reading())
        answer = await device.next(lambda one: one.topic == f"{READINGS}/rejected")
        assert "name no validator" in json.loads(answer.payload)["message"]

    site.serve(work)


def test_a_defect_stops_neither_the_device_nor_the_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that raises an exception in the gateway is confirmed, so that the broker does not repeat it.

    The next reading is accepted.
    """
    receive = desks_of(site).readings.receive

    async def failing(number: int, payload: bytes) -> None:
        assert b"666" not in payload, "a defect"
        await receive(number, payload)

    monkeypatch.setattr(desks_of(site).readings, "receive", failing)

    async def work(device: FakeThing) -> None:
        await device.connection.publish(READINGS, reading(666))
        await device.connection.publish(READINGS, reading(1))
        await site.broker.until(lambda: desks_of(site).written())
        await settled(site)

    site.serve(work)
    assert ("mqtt", "failed") in site.lines
    assert desks_of(site).written() == [("temperature", 1)]


def test_a_command_is_sent_and_answered(site: Site) -> None:
    """A device receives a command from before its connection and a later command, each once.

    The device's answer becomes the outcome of the command.
    """
    desks = desks_of(site)
    desks.commands.keep([command_request()])

    async def work(device: FakeThing) -> None:
        first = json.loads((await device.next(lambda one: one.topic.endswith("/commands"))).payload)
        assert first == {name: value for name, value in COMMAND.items() if name != "thing"}
        await device.connection.publish(ANSWERS, b'{"id": "c-1", "state": "done"}')
        await settled(site)
        await asyncio.to_thread(desks.commands.keep, [command_request(id="c-2")])
        second = json.loads((await device.next(lambda one: one.topic.endswith("/commands"))).payload)
        assert second["id"] == "c-2"
        for payload in (b'{"id": "c-9", "state": "done"}', b'{"id": "c-2", "state": "sent"}', b"\xff"):
            await device.connection.publish(ANSWERS, payload)
        await settled(site)

    site.serve(work)
    site.now += 1
    site.serve(lambda _: asyncio.sleep(0))
    assert [one.topic for one in site.broker.published if one.topic.endswith("/commands")] == [
        "blockota/v1/things/256/commands"
    ] * 2
    assert desks.written() == [("command:c-1", "done")]
    assert desks.commands.keep([command_request(id="c-2")]) == [{"id": "c-2", "state": CommandState.SENT}]
    texts = "\n".join(text for _, text in site.warnings())
    assert all(why in texts for why in ("got no command 'c-9'", "not done, refused or failed", "not text"))


def test_a_device_of_another_face_gets_no_command_by_mqtt(site: Site) -> None:
    """A command is sent by the face at which its device is registered.

    After the device has deregistered, the MQTT face sends the command.
    """
    desks = desks_of(site)
    desks.commands.set_face(256, "lwm2m")
    desks.commands.keep([command_request(), command_request(thing=257, id="c-2")])

    async def work(device: FakeThing) -> None:
        await site.broker.until(lambda: [one for one in site.broker.published if one.topic.endswith("257/commands")])
        assert [one.id for one in desks.commands.waiting()] == ["c-1"]
        desks.commands.set_face(256, None)
        await device.next(lambda one: one.topic.endswith("256/commands"))

    site.serve(work)
