"""Readings and commands at the LwM2M face, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiocoap import CHANGED, POST
from aiocoap.numbers.codes import (
    BAD_REQUEST,
    FORBIDDEN,
    INTERNAL_SERVER_ERROR,
    METHOD_NOT_ALLOWED,
    PUT,
    REQUEST_ENTITY_TOO_LARGE,
    SERVICE_UNAVAILABLE,
    TOO_MANY_REQUESTS,
)

from blockota.gateway.faces.lwm2m import server
from blockota.gateway.readings import READINGS_PER_MINUTE
from tests.support.lwm2m_device import Lwm2mDevice
from tests.support.lwm2m_face import DeliveringCore, serving
from tests.support.thing_desks import COMMAND, NOW, ThingDesks, command_request
from tests.support.waiting import eventually

Story = Callable[[DeliveringCore, ThingDesks, Lwm2mDevice], Awaitable[None]]


@pytest.fixture(autouse=True)
def _without_dtls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _: None)


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[ThingDesks]:
    """The desks of a gateway."""
    desks = ThingDesks(tmp_path)
    yield desks
    desks.close()


def play(desks: ThingDesks, story: Story) -> DeliveringCore:
    """Run a test coroutine with the face, the desks and a device. Returns the core."""
    (desks.folder / "images").mkdir()
    core = DeliveringCore(desks.folder / "images")

    async def main() -> None:
        async with serving(core, desks.folder, desks) as (_, port), Lwm2mDevice.started(port + 1) as device:
            await story(core, desks, device)

    asyncio.run(main())
    return core


def reading(value: Any = 21.5, **changed: Any) -> bytes:
    """Return a CoAP payload with a sensor reading."""
    return json.dumps({"time": NOW, "name": "temperature", "value": value, "unit": "Cel"} | changed).encode()


def test_a_reading_is_answered_when_it_is_written(desks: ThingDesks) -> None:
    """When a reading is answered with 2.04, the reading is already in the outbox file."""

    async def story(_: DeliveringCore, desks: ThingDesks, device: Lwm2mDevice) -> None:
        assert (await device.request(POST, "readings", reading())).code is FORBIDDEN
        await device.register()
        for value in range(3):
            assert (await device.request(POST, "readings", reading(value), content_format=50)).code is CHANGED
            assert desks.written()[-1] == ("temperature", value)

    core = play(desks, story)
    assert core.warnings() == [(None, "reading refused: the device is not registered")]


def test_bad_readings_are_refused(desks: ThingDesks) -> None:
    """Each malformed reading is refused with a reason and a warning, and the next reading is accepted."""

    async def story(core: DeliveringCore, desks: ThingDesks, device: Lwm2mDevice) -> None:
        await device.register()
        bad = {
            reading()[:-1] + b', "unit": "K"}': b"repeated",
            reading().replace(b"21.5", b"NaN"): b"NaN",
            reading(thing=257): b"members",
            reading(time=NOW - 30 * 86_400): b"before",
            b"": b"members",
        }
        for payload, why in bad.items():
            answer = await device.request(POST, "readings", payload)
            assert answer.code is BAD_REQUEST
            assert why in answer.payload
        assert (await device.request(POST, "readings", bytes(5000))).code is REQUEST_ENTITY_TOO_LARGE
        assert (await device.request(PUT, "readings", reading())).code is METHOD_NOT_ALLOWED
        assert len(core.warnings()) == len(bad) + 1
        assert (await device.request(POST, "readings", reading())).code is CHANGED
        core.devices[256] = replace(core.devices[256], is_banned=True)
        assert (await device.request(POST, "readings", reading())).code is FORBIDDEN
        assert desks.written() == [("temperature", 21.5)]

    play(desks, story)


def test_a_flood_is_refused(desks: ThingDesks) -> None:
    """Above the limit for a minute, readings of a device are answered with 4.29."""

    async def story(_: DeliveringCore, desks: ThingDesks, device: Lwm2mDevice) -> None:
        await device.register()
        await asyncio.gather(*(desks.readings.receive(256, reading()) for _ in range(READINGS_PER_MINUTE)))
        assert (await device.request(POST, "readings", reading())).code is TOO_MANY_REQUESTS
        desks.now += 60
        assert (await device.request(POST, "readings", reading())).code is CHANGED

    play(desks, story)


def test_a_gateway_without_validators_refuses_readings(tmp_path: Path) -> None:
    """The device gets 5.03."""

    async def main() -> None:
        core = DeliveringCore(tmp_path)
        async with serving(core, tmp_path) as (_, port), Lwm2mDevice.started(port + 1) as device:
            await device.register()
            assert (await device.request(POST, "readings", reading())).code is SERVICE_UNAVAILABLE

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        ((CHANGED, b"opened"), "done", None),
        ((FORBIDDEN, b"locked"), "refused", "locked"),
        ((INTERNAL_SERVER_ERROR, b"\xff\0"), "failed", "5.00"),
    ],
)
def test_a_command_is_posted_once(desks: ThingDesks, answer: Any, outcome: str, reason: str | None) -> None:
    """A command is sent after the device has registered.

    The device's answer becomes the outcome of the command.
    """
    desks.commands.keep([command_request()])

    async def story(_: DeliveringCore, desks: ThingDesks, device: Lwm2mDevice) -> None:
        device.command_answer = answer
        assert device.commands == []
        await device.register()
        await device.until(lambda: bool(device.commands))
        await asyncio.to_thread(eventually, desks.written, what="the outcome")
        await device.register()
        assert len(device.commands) == 1

    play(desks, story)
    assert desks.written() == [("command:c-1", outcome)]
    [found] = desks.commands.keep([command_request()])
    assert found == {"id": "c-1", "state": outcome} | ({"reason": reason} if reason else {})


def test_a_command_waits_for_a_device_in_queue_mode(desks: ThingDesks) -> None:
    """A sleeping device gets no command until it sends a registration update."""

    async def story(core: DeliveringCore, desks: ThingDesks, device: Lwm2mDevice) -> None:
        await device.register(query="lt=86400&b=UQ&lwm2m=1.0")
        async with core.step:  # an answer that comes later would keep the device awake
            await core.step.wait_for(lambda: any(call[0] == "reported" for call in core.calls))
        core.now += 1000
        await asyncio.to_thread(desks.commands.keep, [command_request()])
        assert [one.id for one in desks.commands.waiting()] == ["c-1"]
        await device.update()
        desks.commands.set_face(256, "lwm2m")  # wakes the sender without its pause
        await device.until(lambda: bool(device.commands))
        assert json.loads(device.commands[0]) == {name: one for name, one in COMMAND.items() if name != "thing"}

    play(desks, story)
