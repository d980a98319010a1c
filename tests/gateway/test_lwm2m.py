"""The LwM2M face, with BlockOTA's own strict LwM2M device on the loopback interface."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiocoap import GET, POST
from aiocoap.numbers.codes import (
    BAD_REQUEST,
    CHANGED,
    CREATED,
    DELETED,
    FORBIDDEN,
    NOT_FOUND,
    PRECONDITION_FAILED,
    REQUEST_ENTITY_TOO_LARGE,
    TOO_MANY_REQUESTS,
)

from blockota.errors import UsageError
from blockota.formats import cbor
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.lwm2m import create, server
from blockota.gateway.faces.lwm2m.server import Lwm2mFace
from blockota.messaging.topics import ThingEvent
from blockota.model.delivery import (
    Stage,
)
from blockota.settings_table import SettingsTable
from tests.support.lwm2m_device import Lwm2mDevice
from tests.support.lwm2m_face import IMAGE, NEW, DeliveringCore, serving

Story = Callable[[DeliveringCore, Lwm2mFace, Lwm2mDevice], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], DeliveringCore]:
    """Return a function that runs a test coroutine with a device and the face, and returns the core."""
    monkeypatch.setattr(server, "find_spec", lambda _: None)

    def run(story: Story) -> DeliveringCore:
        async def main() -> DeliveringCore:
            core = DeliveringCore(tmp_path)
            core.plan()
            async with serving(core, tmp_path) as (face, port), Lwm2mDevice.started(port + 1) as device:
                await story(core, face, device)
            return core

        return asyncio.run(main())

    return run


Play = Callable[[Story], DeliveringCore]


def test_a_device_pulls_installs_and_reports(play: Play) -> None:
    """A device that registers receives the image's URI, fetches the image and installs it.

    When the device registers again with the new version, the delivery reaches the stage SETTLED.
    """

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        assert (await device.register()).code is CREATED
        await asyncio.wait_for(device.executed.wait(), 10)
        await core.until(lambda: core.delivery.stage is Stage.TRIAL)
        assert "CLAIMED" not in core.entries[1:]
        assert device.package == IMAGE
        await device.reboot()
        await core.until(lambda: core.delivery.stage is Stage.SETTLED)
        writes = [one for one in device.asked if not one.startswith("GET")]
        assert writes == ["PUT 5/0/1", "POST 5/0/2"]

    core = play(story)
    assert core.entries == ["CLAIMED", "CLAIMED"]
    reports = [call[2] for call in core.calls if call[0] == "reported"]
    assert (reports[-1].version, reports[-1].hardware) == (NEW, "rev-b")


@pytest.mark.parametrize("why", ["refused", "unsupported", "push only"])
def test_an_image_is_pushed_to_a_device_that_cannot_pull(play: Play, why: str) -> None:
    """The image is pushed if the device refuses the URI, does not support its protocol, or prefers a push."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        if why == "push only":
            device.values["5/0/9"] = b"1"
        if why == "unsupported":
            device.pull_result = 9
        device.can_pull = why == "unsupported"
        device.block = 1
        await device.register()
        await asyncio.wait_for(device.executed.wait(), 10)
        assert device.package == IMAGE
        await device.reboot()
        await core.until(lambda: core.delivery.stage is Stage.SETTLED)
        assert ("PUT 5/0/1" in device.asked) == (why != "push only")

    play(story)


def test_a_device_that_takes_no_large_body_pulls(play: Play) -> None:
    """If the device answers a push with 4.13 (too large), the face makes the device pull the image instead."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        device.values["5/0/9"], device.most = b"1", 128
        await device.register()
        await asyncio.wait_for(device.executed.wait(), 10)
        assert device.package == IMAGE
        assert core.delivery.tries == 0

    play(story)


def test_a_device_that_takes_neither_is_refused(play: Play) -> None:
    """If a device refuses both the URI and the pushed blocks, the try fails."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        device.can_pull = device.can_push = False
        await device.register()
        await core.until(lambda: core.delivery.stage is Stage.STOPPED)
        assert "4.00 and 4.13" in core.delivery.reason

    play(story)


def test_a_rollback_is_not_an_installation(play: Play) -> None:
    """A device that registers with the old version and an update failure is not logged as updated."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        device.rolls_back = True
        await device.register()
        await asyncio.wait_for(device.executed.wait(), 10)
        await core.until(lambda: core.delivery.stage is Stage.TRIAL)
        await device.reboot()
        await core.until(lambda: core.delivery.stage is Stage.PAUSED)
        assert core.delivery.reason == "the device reports: the update failed"

    assert play(story).entries == ["CLAIMED", "EVENT"]


def test_nothing_is_executed_before_its_time(play: Play) -> None:
    """An image is downloaded immediately, but not installed before the start time of its offer."""

    async def story(core: DeliveringCore, face: Lwm2mFace, device: Lwm2mDevice) -> None:
        core.not_before = core.now + 100
        await device.register()
        await core.until(lambda: core.delivery.offered_at is not None)
        await asyncio.wait_for(device.downloaded.wait(), 10)
        count = len(device.asked)
        await device.until(lambda: len(device.asked) >= count + 4)  # the face reads the state twice
        assert "POST 5/0/2" not in device.asked
        core.now += 100
        face.offer_changed(256)
        await asyncio.wait_for(device.executed.wait(), 10)

    play(story)


def test_a_withdrawn_image_is_not_installed(play: Play) -> None:
    """If an offer is withdrawn after the download, the face makes the device drop the image."""

    async def story(core: DeliveringCore, face: Lwm2mFace, device: Lwm2mDevice) -> None:
        core.not_before = core.now + 100
        await device.register()
        await asyncio.wait_for(device.downloaded.wait(), 10)
        core.withdraw()
        face.offer_changed(256)
        await asyncio.wait_for(device.reset.wait(), 10)
        assert "POST 5/0/2" not in device.asked

    play(story)


def test_a_device_in_queue_mode_is_asked_while_it_listens(play: Play) -> None:
    """A device in queue mode receives an offer only within the window after its last message."""

    async def story(core: DeliveringCore, face: Lwm2mFace, device: Lwm2mDevice) -> None:
        core.withdraw()
        await device.register(query="lt=9999&b=UQ&lwm2m=1.0")
        await core.until(lambda: any(call[0] == "reported" for call in core.calls))
        core.now += 1000
        count = len(device.asked)
        core.plan()
        face.offer_changed(256)
        assert (await device.request(GET, f"fw/{'0' * 64}")).code is NOT_FOUND  # the face had time to write
        assert not any(one.startswith("PUT") for one in device.asked[count:])
        assert (await device.update()).code is CHANGED
        await asyncio.wait_for(device.executed.wait(), 10)

    play(story)


def test_a_failed_try_of_a_device_that_restarts_counts(play: Play) -> None:
    """A device restart during the download counts as a failed try, so that a device does not download forever."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        device.stalls = True
        await device.register()
        await core.until(lambda: core.delivery.stage is Stage.TRANSFER)
        device.state = 0
        await device.register()
        await core.until(lambda: core.delivery.tries == 1)

    play(story)


def test_an_unknown_download_is_dropped(play: Play) -> None:
    """An image on the device that this gateway did not send is not installed."""

    async def story(_: DeliveringCore, __: Lwm2mFace, device: Lwm2mDevice) -> None:
        device.state, device.package = 2, b"another image"
        await device.register()
        await asyncio.wait_for(device.executed.wait(), 10)
        assert [one for one in device.asked if not one.startswith("GET")] == ["PUT 5/0/1", "PUT 5/0/1", "POST 5/0/2"]
        assert device.package == IMAGE

    play(story)


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ("ep=256&lt=0&lwm2m=1.0", BAD_REQUEST, "the lifetime '0' is not a number of seconds from 1 to 4,294,967,295"),
        ("ep=256&lt=-5&lwm2m=1.0", BAD_REQUEST, "the lifetime '-5' is not a number of seconds from 1 to 4,294,967,295"),
        ("ep=0256&lwm2m=1.0", BAD_REQUEST, "the endpoint name '0256' is not the number of a device"),
        ("ep=%2B&lwm2m=1.0", BAD_REQUEST, "the endpoint name '+' is not the number of a device"),
        ("lwm2m=1.0", BAD_REQUEST, "the endpoint name '' is not the number of a device"),
        ("ep=256&ep=257&lwm2m=1.0", BAD_REQUEST, "the parameter 'ep' occurs twice"),
        ("ep=256&lwm2m=7.0", PRECONDITION_FAILED, "version '7.0' of LwM2M is not supported"),
        ("ep=999&lwm2m=1.0", FORBIDDEN, "device 999 is not of this site"),
    ],
)
def test_a_wrong_registration_is_refused(play: Play, query: str, code: Any, reason: str) -> None:
    """A malformed registration is refused, and the warning contains the reason.

    After a malformed registration, other devices are still served.
    """

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        assert (await device.request(POST, f"rd?{query}")).code is code
        assert core.warnings()[0][1].endswith(reason)
        assert (await device.register()).code is CREATED

    play(story)


def test_a_registration_with_a_wrong_body_is_refused(play: Play) -> None:
    """Registrations with malformed links, and too long bodies, are refused."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        assert (await device.register(links=b"\xff\xfe")).code is BAD_REQUEST
        assert (await device.register(links=b"/5/0")).code is BAD_REQUEST
        assert len(core.warnings()) == 2
        assert (await device.register(links=b"</5/0>," * 10_000)).code is REQUEST_ENTITY_TOO_LARGE
        assert (await device.register()).code is CREATED

    play(story)


def test_a_flood_of_registrations_is_refused(play: Play) -> None:
    """Above the limit for a minute, registrations of a device are refused."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        codes = [(await device.register()).code for _ in range(22)]
        assert codes.count(TOO_MANY_REQUESTS) == 2
        assert "too many registrations" in core.warnings()[-1][1]
        core.now += 60
        assert (await device.register()).code is CREATED

    play(story)


@pytest.mark.parametrize(
    ("path", "value"),
    [("5/0/3", b"\x00\xff"), ("3/0/3", b"1" * 2000), ("5/0/5", b"soon")],
    ids=["bytes", "too long", "text"],
)
def test_nonsense_of_a_device_is_a_warning(play: Play, path: str, value: bytes) -> None:
    """A malformed resource value is logged with the resource's path, and the device gets no offer."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        device.values[path] = value
        await device.register()
        await core.until(lambda: bool(core.warnings()))
        assert core.warnings()[0][0] == 256
        assert f"/{path}: " in core.warnings()[0][1]
        assert not any(one.startswith("PUT") for one in device.asked)

    play(story)


def test_registrations_end(play: Play) -> None:
    """A registration ends when the device deregisters. Updates of the ended registration are answered with 4.04."""

    async def story(_: DeliveringCore, __: Lwm2mFace, device: Lwm2mDevice) -> None:
        await device.register()
        assert (await device.leave()).code is DELETED
        assert (await device.update()).code is NOT_FOUND

    play(story)


def test_an_event_is_answered_with_its_index(play: Play) -> None:
    """An event of a registered device is logged. Malformed events, and events of unknown devices, are refused."""

    async def story(core: DeliveringCore, _: Lwm2mFace, device: Lwm2mDevice) -> None:
        event = ThingEvent(seq=9, kind="alarm", severity=3, body="too hot").encode()
        assert (await device.request(POST, "events", event)).code is FORBIDDEN
        await device.register()
        answer = await device.request(POST, "events", event, content_format=60)
        assert (answer.code, cbor.decode(answer.payload)) == (CHANGED, [9, 0])
        for wrong in (event[:-1], b"", b"too hot", cbor.encode({"a": 1})):
            assert (await device.request(POST, "events", wrong)).code is BAD_REQUEST
        assert (await device.request(POST, "events", bytes(5000))).code is REQUEST_ENTITY_TOO_LARGE
        assert [call[2] for call in core.calls if call[0] == "event"] == ["alarm: too hot (severity 3)"]

    play(story)


def test_settings_that_would_trust_strangers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DTLS, the face listens only on a loopback address, and never on all addresses."""
    context = FaceContext(UUID(int=1), tmp_path, clock=lambda: 0, log=lambda *_, **__: None)

    def settings(listen: str) -> SettingsTable:
        return SettingsTable("gateway.lwm2m", {"listen": listen}, tmp_path)

    monkeypatch.setattr(server, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="devices cannot be authenticated without the package DTLSSocket"):
        create(settings("192.0.2.1:5683"), context)
    for wrong in ("0.0.0.0:5683", "[::]:5683", "gateway.example:5683"):
        with pytest.raises(UsageError, match="the setting listen in"):
            create(settings(wrong), context)
