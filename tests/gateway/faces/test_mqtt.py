"""The MQTT face, with an MQTT broker in the process of the test."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blockota.errors import RefusedError
from blockota.formats import cbor
from blockota.formats.cose import SignedStatement
from blockota.formats.jws import base64url
from blockota.gateway.core import Report
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.mqtt import BrokerAccess, MqttFace
from blockota.gateway.faces.mqtt_documents import DOCUMENT_KIND, DocumentMaker
from blockota.identity.identity_key import open_identity_key
from blockota.messaging.client import Message
from blockota.messaging.topics import ThingEvent, notify_next, site_events
from blockota.model.delivery import Stage
from blockota.model.receipt import RUNS, DeviceStatement, EntryKind
from tests.support.gateway import (
    FakeCore,
    GatewayCore,
    device_offer,
    gateway_core,
    known_device,
    release_facts,
    site_facts,
)
from tests.support.mqtt import FakeBroker, FakeThing, thing, while_running
from tests.support.thing_desks import ThingDesks
from tests.support.tokens import verify_token

SITE = UUID(int=7)
KEY = open_identity_key("env:KEY", environment={"KEY": f"{7:064x}"})
NOW = 1_800_000_000
IMAGE = hashlib.sha256(b"image").hexdigest()


class Site:
    """A gateway with a fake core, and its MQTT broker."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOW
        self.core, self.broker = FakeCore(256, 257), FakeBroker()
        self.log: list[bytes] = []
        self.forgotten: list[int] = []
        self.lines: list[tuple[str, str]] = []
        self.desks: ThingDesks | None = None

    def face(self) -> MqttFace:
        """Start the face again, with its state from the disk."""
        context = FaceContext(
            SITE,
            self.folder,
            lambda: self.now,
            lambda face, what, **_: self.lines.append((face, what)),
            entries=lambda start: self.log[start : start + 256],
            readings=self.desks.readings if self.desks else None,
            commands=self.desks.commands if self.desks else None,
        )
        connect = self.broker.connect
        broker = BrokerAccess(
            lambda: connect("gateway"), lambda: connect("0"), lambda: connect(""), self.forgotten.append
        )
        return MqttFace(context, broker, DocumentMaker(SITE, KEY, lambda digest: f"https://gateway/{digest.hex()}"))

    def serve(self, work: Callable[[FakeThing], Awaitable[None]], *, number: int = 256) -> MqttFace:
        """Run the face while a device works."""
        face = self.face()

        async def scenario() -> None:
            async with thing(self.broker, number) as device:
                await self.broker.until(lambda: ("mqtt", "connected") in self.lines or self.broker.retained)
                await work(device)

        async def main() -> None:
            self.broker.changed = asyncio.Event()  # of this loop
            await while_running(face.run(self.core), scenario())

        asyncio.run(main())
        return face

    def warnings(self) -> list[tuple[int | None, str]]:
        """Return the warnings."""
        return [call[1:] for call in self.core.calls if call[0] == "warn"]

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        """Return the calls of the core with the given names."""
        return [call for call in self.core.calls if call[0] in names]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a gateway whose device 256 has an offer."""
    site = Site(tmp_path)
    site.core.now_offered[256] = [device_offer(tmp_path)]
    return site


def test_no_device_is_refused_before_the_first_reading(site: Site) -> None:
    """A request that arrives before the gateway has read its devices gets neither an answer nor a warning."""

    class Starting(FakeCore):
        asked = asyncio.Event()

        def numbers(self) -> Iterator[int]:
            if not self.devices:
                self.asked.set()
            return super().numbers()

    site.core = core = Starting()
    core.now_offered[256] = [device_offer(site.folder)]

    async def work(device: FakeThing) -> None:
        known = dict(core.devices)
        core.devices.clear()
        await device.connection.publish("$aws/things/256/jobs/start-next", b"{}")
        async with asyncio.timeout(60):
            await core.asked.wait()
        core.devices.update(known)
        assert (await device.ask("jobs/start-next"))["topic"] == "accepted"

    site.serve(work)
    assert not site.warnings()


def test_a_device_takes_a_job_and_proves_the_release(site: Site) -> None:
    """A device reads the retained notice, verifies the job document, and ends the job with a signed statement."""
    payload = DeviceStatement(bytes(16), 3, bytes.fromhex(IMAGE)).encode()
    statement = SignedStatement(RUNS, payload, bytes(31) + b"\1" + bytes(31) + b"\1").encode()

    async def work(device: FakeThing) -> None:
        notice = json.loads((await device.next(lambda one: one.topic == notify_next(256))).payload)
        document = notice["execution"]["jobDocument"]
        assert (document["sha256"], document["uri"]) == (IMAGE, f"https://gateway/{IMAGE}")
        claims = verify_token(document.pop("jws"), kind=DOCUMENT_KIND, key=KEY.public_key)
        assert claims == {**document, "thing": "256", "job": "7", "gateway": str(SITE)}

        begun = await device.ask("jobs/start-next")
        assert (begun["topic"], begun["clientToken"]) == ("accepted", "token 1")
        assert begun["execution"]["status"] == "IN_PROGRESS"
        details = {"receipt": base64url(statement)}
        ended = await device.ask(
            "jobs/7/update", status="SUCCEEDED", statusDetails=details, includeJobExecutionState=True
        )
        assert ended["executionState"] == {"status": "SUCCEEDED", "statusDetails": details, "versionNumber": 3}

    site.serve(work)
    image = bytes.fromhex(IMAGE)
    assert site.named("offered", "progress", "outcome", "reported") == [
        ("offered", 256, 7),
        ("progress", 256, 7, 0),
        ("reported", 256, Report(image=image, product="acme-thermo2", statement=statement)),
    ]
    assert site.warnings() == []


def test_a_repeated_update_is_answered_and_another_end_is_refused(site: Site) -> None:
    """A device whose response was lost repeats its update and gets the same answer, even after a gateway restart."""

    async def end(device: FakeThing) -> None:
        assert (await device.ask("jobs/7/update", status="FAILED"))["topic"] == "accepted"
        site.core.now_offered[256] = []

    async def repeat(device: FakeThing) -> None:
        assert (await device.ask("jobs/7/update", status="FAILED", expectedVersion=1))["topic"] == "accepted"
        other = await device.ask("jobs/7/update", status="SUCCEEDED")
        assert (other["topic"], other["code"]) == ("rejected", "InvalidStateTransition")
        assert (await device.ask("jobs/8/update", status="FAILED"))["code"] == "ResourceNotFound"

    site.serve(end)
    site.serve(repeat)
    assert len(site.named("outcome")) == 1


def test_jobs_are_listed_and_described(site: Site) -> None:
    """The list of jobs, the next job, and a job by its number are answered as by AWS IoT Jobs."""

    async def work(device: FakeThing) -> None:
        assert [one["jobId"] for one in (await device.ask("jobs/get"))["queuedJobs"]] == ["7"]
        assert (await device.ask("jobs/$next/get"))["execution"]["jobDocument"]["sha256"] == IMAGE
        assert "jobDocument" not in (await device.ask("jobs/7/get", includeJobDocument=False))["execution"]
        site.core.now_offered[256] = []
        assert "execution" not in await device.ask("jobs/$next/get")
        assert "execution" not in await device.ask("jobs/start-next")

    site.serve(work)


def test_a_device_postpones(site: Site) -> None:
    """A postponement is passed to the core.

    An update with a stale version is rejected, and the answer has the execution's state.
    """

    async def work(device: FakeThing) -> None:
        details = {"postponedUntil": str(NOW + 60), "reason": "in use"}
        assert (await device.ask("jobs/7/update", status="IN_PROGRESS", statusDetails=details))["topic"] == "accepted"
        stale = await device.ask("jobs/7/update", status="IN_PROGRESS", expectedVersion=1)
        assert (stale["code"], stale["executionState"]["versionNumber"]) == ("VersionMismatch", 2)

    site.serve(work)
    assert site.named("postponed") == [("postponed", 256, 7, NOW + 60, "in use", None)]


def test_a_configuration_reaches_the_device_and_comes_back(site: Site) -> None:
    """The device shadow contains the desired configuration until the device reports the configuration's hash.

    A stale write is refused.
    """
    text = b'{"limit": 21.5}'
    offer = replace(device_offer(site.folder, text, job=9), is_configuration=True)
    site.core.now_offered[256] = [offer]
    digest, product = hashlib.sha256(text).hexdigest(), offer.component.product

    async def work(device: FakeThing) -> None:
        delta = await device.next(lambda one: one.topic.endswith("shadow/update/delta"))
        wanted = json.loads(delta.payload)["state"]["configuration"][product]
        assert (wanted["content"].encode(), wanted["sha256"]) == (text, digest)
        found = await device.ask("shadow/get")
        assert found["state"]["delta"]["configuration"][product] == wanted
        reported = {"configuration": {product: {"sha256": digest, "version": "1.1.0"}}, "hardware": "rev-b"}
        stale = await device.ask("shadow/update", state={"reported": reported}, version=found["version"] - 1)
        assert (stale["topic"], stale["code"]) == ("rejected", 409)
        answer = await device.ask("shadow/update", state={"reported": reported}, version=found["version"])
        assert (answer["topic"], answer["version"]) == ("accepted", found["version"] + 1)
        site.core.now_offered[256] = []
        state = (await device.ask("shadow/get"))["state"]
        assert ("delta" in state, state["desired"]["configuration"][product]) == (False, wanted)
        assert (await device.ask("shadow/update", state={"desired": {"a": 1}}))["code"] == 403

    site.serve(work)
    report = Report(image=bytes.fromhex(digest), product=product, version="1.1.0", hardware="rev-b")
    assert site.named("reported") == [("reported", 256, report)]
    assert ("offered", 256, 9) in site.core.calls


def test_events_are_acknowledged_and_entries_are_published(site: Site) -> None:
    """An event is acknowledged with its log index, and each log entry is published in order."""
    site.log = [b"entry 0", b"entry 1"]
    event = ThingEvent(1, "tamper", 1, body="the lid is open")

    async def work(device: FakeThing) -> None:
        await device.connection.publish("blockota/v1/things/256/events", event.encode())
        answer = await device.next(lambda one: one.topic.endswith("events/ack"))
        assert cbor.decode(answer.payload) == [1, 0]
        await site.broker.until(lambda: len(entries()) == 2)

    def entries() -> list[object]:
        return [cbor.decode(one.payload) for one in site.broker.published if one.topic == site_events(SITE)]

    site.serve(work)
    assert entries() == [[0, b"entry 0"], [1, b"entry 1"]]
    assert site.named("event") == [("event", 256, "tamper: the lid is open (severity 1)", None, 1)]

    # What was published less than a minute before is published again, because the broker may have lost it.
    site.log.append(b"entry 2")

    async def again(_: FakeThing) -> None:
        await site.broker.until(lambda: len(entries()) == 5)

    site.serve(again)
    assert entries()[2:] == [[0, b"entry 0"], [1, b"entry 1"], [2, b"entry 2"]]


def test_notices_are_published_again_after_the_broker_lost_them(site: Site) -> None:
    """The face reconnects by itself, and publishes the notices of all devices again."""

    async def work(device: FakeThing) -> None:
        await device.next(lambda one: one.topic == notify_next(256))
        site.broker.retained.clear()
        site.broker.cut("gateway")
        notice = await device.next(lambda one: one.topic == notify_next(256))
        assert json.loads(notice.payload)["execution"]["jobId"] == "7"
        await site.broker.until(lambda: notify_next(257) in site.broker.retained)

    site.serve(work)
    assert json.loads(site.broker.retained[notify_next(257)]) == {"timestamp": NOW}


def test_a_changed_offer_is_notified_once(site: Site) -> None:
    """Devices are notified of a withdrawn offer. A device whose offer is unchanged gets no notice."""
    face = site.face()

    async def work() -> None:
        async with thing(site.broker, 256) as device:
            assert "execution" in json.loads((await device.next(lambda one: "notify" in one.topic)).payload)
            face.offer_changed(256)
            await asyncio.sleep(0)
            site.core.now_offered[256] = []
            site.core.devices[257] = replace(site.core.devices[257], is_banned=True)
            face.offer_changed(256)
            face.offer_changed(257)
            assert "execution" not in json.loads((await device.next(lambda one: "notify" in one.topic)).payload)

    asyncio.run(while_running(face.run(site.core), work()))
    assert site.forgotten == [257]


@pytest.mark.parametrize("fault", ["rules", "strangers"])
def test_a_broker_that_does_not_keep_devices_apart_is_not_used(site: Site, fault: str) -> None:
    """The face refuses to run with a broker without access rules, or with anonymous clients."""
    site.broker.has_rules, site.broker.admits_strangers = fault != "rules", fault == "strangers"

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RefusedError, match="does not isolate the devices"):
        asyncio.run(while_running(site.face().run(site.core), wait()))
    assert site.broker.retained == {}


def test_bad_messages_are_refused_and_others_are_served(site: Site) -> None:
    """Each malformed message is refused with a warning, and another device is still served."""
    cases = {
        b'{"clientToken": "a", "clientToken": "b"}': "repeated",
        b'{"status": "SUCCEEDED"': "not valid JSON",
        b"x" * (1 << 20): "at most 8,192",
        b'{"status": "SUCCEEDED", "statusDetails": {"receipt": "="}}': "base64url",
        b'{"status": "SUCCEEDED", "statusDetails": {"receipt": "AAAA"}}': "",
        b'{"status": "CANCELED"}': "does not send",
    }

    async def work(device: FakeThing) -> None:
        for payload in cases:
            assert (await device.ask_raw("jobs/7/update", payload))["topic"] == "rejected"
        send = site.broker.clients["gateway"].queue.put_nowait
        send(Message("$aws/things/999/jobs/get", b""))
        send(Message("$aws/things/+/jobs/get", b""))
        send(Message("$aws/things/256/jobs/get", b"", is_retained=True))
        await device.connection.publish("blockota/v1/things/256/events", b"\x87\x01")
        assert (await device.ask("shadow/update", state={"reported": {"firmware": 5}}))["code"] == 400
        async with thing(site.broker, 257) as other:
            assert (await other.ask("jobs/get"))["topic"] == "accepted"

    site.serve(work)
    found = [reason for _, reason in site.warnings()]
    for words in (*cases.values(), "device 999", "topic '$aws/things/+", "retained request", "an event is refused"):
        assert any(words in reason for reason in found), words


def test_a_flood_is_refused_until_the_next_window(site: Site) -> None:
    """A device that sends too many messages gets no answers for some seconds.

    While one device gets no answers, another device is still served.
    """

    async def work(device: FakeThing) -> None:
        for _ in range(80):
            await device.connection.publish("$aws/things/256/jobs/get", b"")
        async with thing(site.broker, 257) as other:
            assert (await other.ask("jobs/get"))["topic"] == "accepted"
        site.now += 10
        assert (await device.ask("jobs/get", clientToken="last"))["topic"] == "accepted"

    site.serve(work)
    assert {reason for number, reason in site.warnings() if number == 256} == {"more than 60 messages in 10 seconds"}


def test_a_defect_in_one_answer_does_not_stop_the_others(site: Site) -> None:
    """A device's request that raises an exception in the gateway is rejected.

    After an exception for one device's request, another device is still served.
    """

    async def fail(*_: object) -> bool:
        raise ZeroDivisionError

    site.core.progress = fail  # type: ignore[assignment, method-assign]

    async def work(device: FakeThing) -> None:
        answer = await device.ask("jobs/start-next")
        assert (answer["topic"], answer["code"]) == ("rejected", "InternalError")
        async with thing(site.broker, 257) as other:
            assert (await other.ask("jobs/start-next"))["topic"] == "accepted"

    site.serve(work)
    assert ("mqtt", "failed") in site.lines


def test_a_real_core_believes_no_lies(tmp_path: Path) -> None:
    """A wrong version, product or job number from a device is refused, and a reason with odd characters is logged."""
    site = Site(tmp_path)

    async def work(device: FakeThing, gateway: GatewayCore) -> None:
        [offer] = gateway.core.offers(256)
        product, image = offer.component.product, offer.image.hex()
        lie = {"firmware": {product: {"sha256": image, "version": "9.9.9"}}}
        assert (await device.ask("shadow/update", state={"reported": lie}))["code"] == 400
        foreign = {"firmware": {"other-product": {"sha256": image}}}
        assert (await device.ask("shadow/update", state={"reported": foreign}))["code"] == 400
        odd = {"reason": "\ud800\u202e\n", "postponedUntil": "99999999999"}
        end = f"jobs/{offer.job}/update"
        assert (await device.ask(end, status="IN_PROGRESS", statusDetails=odd))["topic"] == "accepted"
        assert gateway.core.state(256).stage is Stage.POSTPONED
        assert (await device.ask("jobs/5/update", status="SUCCEEDED"))["code"] == "ResourceNotFound"
        assert (await device.ask("shadow/update", state={"reported": {"a": None}}))["topic"] == "accepted"

    async def main() -> None:
        async with gateway_core(tmp_path, site_facts([known_device(256)], release_facts(tmp_path, "1.1.0"))) as gateway:
            face = site.face()

            async def scenario() -> None:
                async with thing(site.broker, 256) as device:
                    await device.next(lambda one: one.topic == notify_next(256))
                    await work(device, gateway)

            await while_running(face.run(gateway.core), scenario())
            found = [entry.kind for entry in gateway.entries()]
        assert found == [EntryKind.WARNING, EntryKind.WARNING, EntryKind.POSTPONEMENT]

    asyncio.run(main())
