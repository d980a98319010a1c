"""The LwM2M face refuses malformed input over real sockets with a warning, and still serves other devices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiocoap import GET, POST, PUT, Message
from aiocoap.numbers.codes import (
    BAD_OPTION,
    BAD_REQUEST,
    CHANGED,
    CONTINUE,
    CREATED,
    FORBIDDEN,
    NOT_FOUND,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    TOO_MANY_REQUESTS,
)

from blockota.formats import cbor
from blockota.gateway.faces.lwm2m import server
from blockota.messaging.topics import ThingEvent
from blockota.model.delivery import DeliveryPolicy, Stage, Timeout
from blockota.model.delivery_rules import advance
from tests.support.gateway import GatewayCore, appending, gateway_core, known_device, release_facts, site_facts
from tests.support.lwm2m_device import Lwm2mDevice
from tests.support.lwm2m_face import DeliveringCore, serving

DAY = 86_400
IMAGE = bytes(range(256)) * 256
Story = Callable[[GatewayCore, Lwm2mDevice, int], Awaitable[None]]


@pytest.fixture(autouse=True)
def _without_dtls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _: None)


def play(folder: Path, story: Story) -> None:
    """Run a test coroutine with a real core, a device, and the first port of the face.

    Afterwards, check that device 257 can still register.
    """

    async def main() -> None:
        devices = [known_device(256), known_device(257), known_device(258, is_banned=True)]
        async with (
            gateway_core(folder, site_facts(devices, release_facts(folder, "1.1.0"))) as gateway,
            appending(gateway),
            serving(gateway.core, folder) as (_, port),
            Lwm2mDevice.started(port + 1) as device,
            Lwm2mDevice.started(port + 1) as other,
        ):
            await story(gateway, device, port)
            assert (await other.register(257)).code is CREATED

    asyncio.run(main())


async def warned(gateway: GatewayCore, number: int, words: str) -> None:
    """Let the face work until a warning about a device contains given words."""
    await gateway.until(lambda: any(about == number and words in text for about, text in gateway.warnings()))


def event(number: int, body: str = "too hot") -> bytes:
    """Return an event."""
    return ThingEvent(seq=number, kind="alarm", severity=3, body=body).encode()


def test_a_body_with_wrong_blocks_is_refused(tmp_path: Path) -> None:
    """A missing, repeated, too short or too large block ends the transfer, and so does a reserved block size."""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: int) -> None:
        await device.register()

        async def send(payload: bytes, *place: int, path: str = "events") -> Any:
            return (await device.request(POST, path, payload, block1=place)).code

        first = bytes(16)
        assert await send(first, 0, 1, 0) is CONTINUE
        assert await send(first, 2, 1, 0) is REQUEST_ENTITY_INCOMPLETE
        await warned(gateway, 256, "the block 2 does not follow the blocks before it")
        assert await send(first, 1, 1, 0) is REQUEST_ENTITY_INCOMPLETE  # the body was dropped
        assert await send(first, 0, 1, 0) is CONTINUE
        assert await send(first, 1, 1, 0, path="rd?ep=256") is REQUEST_ENTITY_INCOMPLETE
        assert await send(first[:9], 0, 1, 0) is BAD_REQUEST
        await warned(gateway, 256, "a block of 16 bytes has 9")
        assert await send(bytes(1024), 0, 1, 7) is BAD_REQUEST
        await warned(gateway, 256, "the block's size exponent 7 is reserved")
        # The largest block number is that of the last kibibyte of 1 GiB.
        assert await send(bytes(1024), (1 << 20) - 1, 0, 6) is REQUEST_ENTITY_TOO_LARGE
        await warned(gateway, 256, "a body of more than 4,096 bytes")

        whole = event(1, "x" * 100)
        for number in range(0, len(whole), 16):
            is_last = number + 16 >= len(whole)
            code = await send(whole[number : number + 16], number // 16, int(not is_last), 0)
            assert code is (CHANGED if is_last else CONTINUE)

    play(tmp_path, story)


@pytest.mark.parametrize("distance", [0, 1], ids=["plain port", "device port"])
def test_blocks_that_an_image_does_not_have_are_refused(tmp_path: Path, distance: int) -> None:
    """Both ports refuse a request for a block beyond the end of the image, or for the reserved block size.

    The warning names the device.
    """

    async def story(gateway: GatewayCore, device: Lwm2mDevice, port: int) -> None:
        device.stalls = True
        await device.register()
        [offer] = gateway.core.offers(256)
        device.server = f"coap://127.0.0.1:{port + distance}"

        async def fetch(*place: int) -> Any:
            message = Message(code=GET, uri=f"{device.server}/fw/{offer.image.hex()}", block2=place)
            return await device.ask(message)

        assert (await fetch(0, 0, 0)).payload == offer.path.read_bytes()[:16]
        for place in ((2, 0, 0), ((1 << 20) - 1, 0, 6), (0, 0, 7)):
            assert (await fetch(*place)).code is BAD_OPTION
        await warned(gateway, 256, "the requested block lies outside of the image")
        assert (await device.request(PUT, f"fw/{offer.image.hex()}", b"other bytes")).code not in (CHANGED, CREATED)
        assert (await fetch(1, 0, 0)).payload == offer.path.read_bytes()[16:32]
        device.server = f"coap://127.0.0.1:{port + 1}"

    play(tmp_path, story)


def test_half_an_event_and_a_flood_of_events_are_refused(tmp_path: Path) -> None:
    """A truncated CBOR item, a used event number with another text, and too many events are refused.

    The others are logged.
    """

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: int) -> None:
        assert (await device.request(POST, "events", event(1))).code is FORBIDDEN
        await warned(gateway, 0, "event refused: the device is not registered")
        await device.register()
        assert (await device.request(POST, "events", event(1)[:-3])).code is BAD_REQUEST
        await warned(gateway, 256, "event refused: ")
        answers = [await device.request(POST, "events", event(number)) for number in range(1, 40)]
        codes = [answer.code for answer in answers]
        assert codes.count(CHANGED) + codes.count(TOO_MANY_REQUESTS) == 39
        assert 20 <= codes.count(CHANGED) <= 30
        indices = [cbor.decode(answer.payload)[1] for answer in answers if answer.code is CHANGED]
        assert sorted(set(indices)) == indices
        await warned(gateway, 256, "the device causes too many entries; wait a minute")

        await gateway.clock.advance(gateway.core, 60)
        again = await device.request(POST, "events", event(1))
        assert cbor.decode(again.payload) == [1, indices[0]]
        assert (await device.request(POST, "events", event(1, "too cold"))).code is TOO_MANY_REQUESTS
        await warned(gateway, 256, "the device has sent another event with the number 1")

    play(tmp_path, story)


def test_devices_of_another_gateway_and_banned_ones_are_refused(tmp_path: Path) -> None:
    """The registrations of a device of another site, and of a banned device, are refused with a warning."""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: int) -> None:
        assert (await device.register(999)).code is FORBIDDEN
        await warned(gateway, 0, "device 999 is not of this site")
        assert (await device.register(258)).code is FORBIDDEN
        await warned(gateway, 258, "the device is banned")
        assert device.asked == []

    play(tmp_path, story)


def test_a_clock_that_jumps_ends_no_registration(tmp_path: Path) -> None:
    """A jump of the clock does not change a registration's lifetime, because the gateway counts seconds itself.

    The jump of the clock itself causes a warning.
    """

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: int) -> None:
        device.stalls = True
        await device.register(query="lt=600&b=U&lwm2m=1.0")
        for jump in (DAY, -2 * DAY, DAY):
            gateway.clock.now += jump
            assert (await device.update()).code is CHANGED
        gateway.clock.now += DAY
        await gateway.core.tick()
        await warned(gateway, 0, "the clock differs by 86400 seconds from the time that the gateway counted")
        await gateway.clock.advance(gateway.core, 599)
        assert (await device.update()).code is CHANGED

    play(tmp_path, story)


def deliver(folder: Path, story: Callable[[DeliveringCore, server.Lwm2mFace, Lwm2mDevice], Awaitable[None]]) -> None:
    """Run a test coroutine with a core that delivers a 64 KiB image to one device."""

    async def main() -> None:
        core = DeliveringCore(folder, IMAGE)
        core.plan()
        async with serving(core, folder) as (face, port), Lwm2mDevice.started(port + 1) as device:
            await story(core, face, device)

    asyncio.run(main())


def test_a_registration_ends_with_its_lifetime(tmp_path: Path) -> None:
    """After the lifetime of its registration, a device gets no requests.

    After the lifetime, updates and events of the device are refused until it registers again.
    """

    async def story(core: DeliveringCore, face: server.Lwm2mFace, device: Lwm2mDevice) -> None:
        core.withdraw()
        await device.register(query="lt=60&b=U&lwm2m=1.0")
        await core.until(lambda: any(call[0] == "reported" for call in core.calls))
        core.now += 60
        assert (await device.update()).code is CHANGED
        await core.until(lambda: [call[0] for call in core.calls].count("reported") == 2)  # the device was read
        core.now += 61
        core.plan()
        count = len(device.asked)
        face.offer_changed(256)
        assert (await device.update()).code is NOT_FOUND
        assert (await device.request(POST, "events", event(1))).code is FORBIDDEN
        assert not any(one.startswith("PUT") for one in device.asked[count:])
        await device.register()
        await asyncio.wait_for(device.executed.wait(), 60)

    deliver(tmp_path, story)


def test_a_device_in_queue_mode_is_asked_in_its_window_alone(tmp_path: Path) -> None:
    """Each message of a device in queue mode restarts the window of 93 seconds for requests to the device."""

    async def story(core: DeliveringCore, face: server.Lwm2mFace, device: Lwm2mDevice) -> None:
        core.withdraw()
        await device.register(query="lt=9999&b=UQ&lwm2m=1.0")
        await core.until(lambda: any(call[0] == "reported" for call in core.calls))
        core.now += 93  # the window is over
        core.plan()
        count = len(device.asked)
        face.offer_changed(256)
        assert (await device.request(GET, f"fw/{'0' * 64}")).code is NOT_FOUND  # the face had time to write
        assert device.asked[count:] == []
        core.withdraw()
        await device.update()
        await device.until(lambda: len(device.asked) > count)
        core.now += 92  # the last second of the window
        core.plan()
        face.offer_changed(256)
        await asyncio.wait_for(device.executed.wait(), 60)

    deliver(tmp_path, story)


def test_a_device_that_registers_in_its_download_goes_on(tmp_path: Path) -> None:
    """If a device registers again during its download, the try does not fail, and the image is installed once."""

    async def story(core: DeliveringCore, _: server.Lwm2mFace, device: Lwm2mDevice) -> None:
        await device.register()
        await core.until(lambda: core.delivery.stage is Stage.TRANSFER)
        job = core.delivery.job
        await device.register()
        await asyncio.wait_for(device.executed.wait(), 60)
        assert (core.delivery.job, core.delivery.tries) == (job, 0)
        assert device.asked.count("PUT 5/0/1") == 1
        assert device.package == IMAGE

    deliver(tmp_path, story)


def test_a_push_that_a_registration_breaks_off_is_made_again(tmp_path: Path) -> None:
    """After an interrupted push, the device drops the received part, and the next try pushes the whole image."""

    async def story(core: DeliveringCore, face: server.Lwm2mFace, device: Lwm2mDevice) -> None:
        device.can_pull = False
        await device.register()
        await device.until(lambda: len(device.package) > 640)
        await device.register()
        await core.until(lambda: core.delivery.stage is Stage.PAUSED)
        assert core.delivery.reason == "the transfer of the image was broken off"
        await asyncio.wait_for(device.reset.wait(), 60)
        core.now += 60
        core.delivery = advance(core.delivery, Timeout(), policy=DeliveryPolicy(), now=core.now).delivery
        face.offer_changed(256)
        await asyncio.wait_for(device.executed.wait(), 60)
        assert (device.package, core.delivery.tries) == (IMAGE, 1)

    deliver(tmp_path, story)
