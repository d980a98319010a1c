"""The gateway's core: the reports of faces, the offers to devices, and the log entries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blockota.errors import AccessRefusedError, RefusedError
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.core import Report
from blockota.gateway.facts import ReleaseFacts, SiteFacts, SiteOrder
from blockota.messaging.topics import ThingEvent
from blockota.model.delivery import DeliveryPolicy, Stage
from blockota.model.evidence import judge
from blockota.model.order import Order, OrderStatus
from blockota.model.receipt import POSTPONES, EntryKind, EvidenceLevel
from blockota.model.release import Status
from blockota.model.target import Component, DailyWindow, GroupPolicy, Mode
from tests.support.gateway import (
    COMPONENT,
    NOW,
    FakeCore,
    GatewayCore,
    SteppedClock,
    appending,
    device_offer,
    gateway_core,
    known_device,
)
from tests.support.gateway import release_facts as release
from tests.support.gateway import site_facts as site
from tests.support.receipts import SigningDevice

CONFIGURATION = replace(COMPONENT, product="acme-thermo2-cfg")
Use = Callable[[GatewayCore], Awaitable[None]]


def run(folder: Path, facts: SiteFacts, use: Use, *, policy: GroupPolicy | None = None) -> None:
    """Use a core with some facts."""

    async def started() -> None:
        async with gateway_core(folder, facts, policy=policy) as gateway:
            await use(gateway)

    asyncio.run(started())


def image(one: ReleaseFacts) -> bytes:
    """Return the SHA-256 digest of a release's image."""
    return one.release.sha256


def kinds(gateway: GatewayCore) -> list[str]:
    """Return the kinds of the entries in the outbox of the log."""
    return [str(entry.kind) for entry in gateway.entries()]


@pytest.fixture
def old(tmp_path: Path) -> ReleaseFacts:
    """Return the release that devices run at the start."""
    return release(tmp_path, "1.0.0")


@pytest.fixture
def new(tmp_path: Path) -> ReleaseFacts:
    """Return the release to be installed."""
    return release(tmp_path, "1.1.0")


def test_the_core_of_the_face_tests_records_calls(tmp_path: Path) -> None:
    """`FakeCore` answers whether a job is current, and records each call."""
    core = FakeCore(256)
    core.now_offered[256].append(device_offer(tmp_path, job=7))

    async def use() -> list[bool]:
        report = await core.reported(256, Report(image=bytes(32)))
        return [report, await core.progress(256, 7, 100), await core.progress(256, 8)]

    assert asyncio.run(use()) == [True, True, False]
    assert core.calls[1] == ("progress", 256, 7, 100)


def test_unchanged_facts_of_a_later_block_change_nothing(tmp_path: Path, new: ReleaseFacts) -> None:
    """Reading the same facts at a later block keeps all offers.

    A changed policy, or a ban of the gateway, takes effect in the `update` call that reports the change.
    """
    facts = site([known_device(256)], new)

    async def use(gateway: GatewayCore) -> None:
        core, automatic = gateway.core, {"default": GroupPolicy()}
        later = replace(facts, block=facts.block + 1, time=NOW)
        await core.update(later, automatic)
        assert core.offer(256)
        assert gateway.face.counts[256] == 1
        await core.update(later, {"default": GroupPolicy(mode=Mode.ORDERED)})
        assert core.offer(256) is None
        await core.update(later, automatic)
        assert core.offer(256)
        await core.update(replace(later, is_banned=True), automatic)
        assert core.offer(256) is None

    run(tmp_path, facts, use)


def test_an_update_from_offer_to_receipt(tmp_path: Path, old: ReleaseFacts, new: ReleaseFacts) -> None:
    """A device that reports its version is offered the newest release.

    A log entry of the new release is made only after the device has reported it as confirmed.
    """

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core
        await core.reported(256, Report(image=image(old), unique_id=b"chip"))
        offer = core.offer(256)
        assert offer
        assert (offer.release, offer.image, offer.path.read_bytes()) == (
            new.id,
            image(new),
            b"image of acme-thermo2 1.1.0",
        )
        assert await core.offered(256, offer.job)
        assert await core.progress(256, offer.job, 10)
        assert not await core.progress(256, offer.job + 1, 10)
        assert await core.outcome(256, offer.job, succeeded=True)
        await core.reported(256, Report(image=image(new), is_confirmed=False))
        assert kinds(gateway) == ["claimed"]
        assert core.state(256).stage is Stage.TRIAL
        await core.reported(256, Report(version="1.1.0"))
        entry = gateway.entries()[-1]
        assert (entry.kind, entry.release, entry.previous) == (EntryKind.CLAIMED, new.id, image(old))
        assert (entry.unique_id, entry.source) == (b"chip", "https://firmware.acme.example")
        assert core.offer(256) is None
        assert core.why(256) == "the device runs 1.1.0"

    run(tmp_path, site([known_device(256)], old, new), use)


def test_offers_survive_a_restart(tmp_path: Path, old: ReleaseFacts, new: ReleaseFacts) -> None:
    """After a restart, a try keeps its job number and its progress."""
    facts = site([known_device(256)], old, new)
    jobs = list[int]()

    async def begin(gateway: GatewayCore) -> None:
        await gateway.core.reported(256, Report(image=image(old), hardware="rev-b"))
        jobs.extend(offer.job for offer in gateway.core.offers(256))
        await gateway.core.progress(256, jobs[0], 4)

    async def go_on(gateway: GatewayCore) -> None:
        assert [offer.job for offer in gateway.core.offers(256)] == jobs
        assert (gateway.core.state(256).stage, gateway.core.state(256).received) == (Stage.TRANSFER, 4)

    run(tmp_path, facts, begin)
    run(tmp_path, facts, go_on)


def test_configurations_are_offered_beside_firmware(tmp_path: Path, new: ReleaseFacts) -> None:
    """A configuration is offered separately, and its receipt has the kind configuration."""
    settings = release(tmp_path, "3.0.0", component=CONFIGURATION)

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core
        assert {offer.component for offer in core.offers(256)} == {COMPONENT, CONFIGURATION}
        found = core.offer(256, "acme-thermo2-cfg")
        assert found
        assert found.is_configuration
        assert core.offer(256, "acme-lamp") is None
        await core.reported(256, Report(image=image(settings), product="acme-thermo2-cfg"))
        assert kinds(gateway) == ["configuration"]
        with pytest.raises(RefusedError, match="acme-lamp"):
            await core.reported(256, Report(image=image(settings), product="acme-lamp"))

    run(tmp_path, site([known_device(256)], new, settings), use)


def test_signed_statements(tmp_path: Path, old: ReleaseFacts, new: ReleaseFacts) -> None:
    """A statement with the gateway's nonce makes a receipt at level A.

    Replayed, foreign and forged statements are refused.
    """
    thing, other = SigningDevice(), SigningDevice(secret=99)
    key = PublicKey(KeyKind.P256, thing.key)

    async def refused(gateway: GatewayCore, raw: bytes, why: str, number: int = 256) -> None:
        before = len(gateway.entries())
        with pytest.raises(RefusedError, match=why):
            await gateway.core.reported(number, Report(image=image(old), statement=raw))
        warning = gateway.entries()[before]
        assert (warning.kind, warning.device) == (EntryKind.WARNING, number)

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core
        offer = core.offer(256)
        assert offer
        _, first = thing.state(image(old), nonce=offer.nonce)
        assert await core.reported(256, Report(image=image(old), statement=first))
        entry = gateway.entries()[-1]
        assert (entry.kind, entry.level, entry.signature) == (EntryKind.INSTALL, EvidenceLevel.A, first)
        assert core.nonce(256) != offer.nonce
        assert await core.reported(256, Report(image=image(old), statement=first))  # the answer was lost
        assert kinds(gateway) == ["install"]

        _, postponed = thing.state(image(new), nonce=offer.nonce, kind=POSTPONES)
        job = core.state(256).job
        assert await core.postponed(256, job, until=gateway.clock.now + 50, statement=postponed)
        assert kinds(gateway) == ["install", "postponement"]
        await refused(gateway, first, "replayed")
        await refused(gateway, thing.state(image(old), nonce=bytes(16))[1], "another nonce")
        await refused(gateway, other.state(image(old), nonce=core.nonce(256))[1], "does not belong")
        await refused(gateway, thing.state(image(new), nonce=core.nonce(256))[1], "another image")
        await refused(gateway, thing.state(image(old), nonce=core.nonce(256), kind=POSTPONES)[1], "has the type")
        await refused(gateway, b"\xa0", "cannot be read")
        await refused(gateway, first, "no key on record", 257)
        assert core.state(256).running == image(old)

    run(tmp_path, site([known_device(256, key=key), known_device(257)], old, new), use)


def test_a_device_that_lies_is_refused_and_others_are_served(
    tmp_path: Path, old: ReleaseFacts, new: ReleaseFacts
) -> None:
    """False reports of a device are refused.

    The cases are a version that does not match the image, a level above the face's level, and wrong numbers.
    """

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core
        with pytest.raises(RefusedError, match=r"states the version 1.1.0, and reports the image of 1.0.0"):
            await core.reported(256, Report(image=image(old), version="1.1.0"))
        with pytest.raises(RefusedError, match="cannot read the device's flash"):
            await core.reported(256, Report(image=image(new), level=EvidenceLevel.C))
        with pytest.raises(AccessRefusedError):
            await core.reported(999, Report(image=image(old)))
        with pytest.raises(AccessRefusedError):
            await core.reported(258, Report(image=image(old)))
        assert await core.reported(256, Report(version="9.9.9"))
        assert kinds(gateway) == ["warning"] * 5
        assert core.state(256).running is None
        assert [entry.device for entry in gateway.entries()] == [256, 256, 0, 258, 256]
        await core.reported(257, Report(image=image(new), level=EvidenceLevel.C))
        assert kinds(gateway)[-1] == "install"

    devices = [known_device(256), known_device(257, face="an3155"), known_device(258, is_banned=True)]
    run(tmp_path, site(devices, old, new), use)


def test_floods_are_limited_by_device(tmp_path: Path, new: ReleaseFacts) -> None:
    """A device that sends too many events is refused until the next minute.

    Equal warnings are logged once per minute.
    """

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core
        events = [asyncio.ensure_future(core.event(256, text=f"alarm {n}\x07")) for n in range(40)]
        await gateway.has_entries(31)
        assert kinds(gateway).count("event") == 30
        assert kinds(gateway).count("warning") == 1
        assert gateway.entries()[0].source == "alarm 0\\x07"
        waiting = asyncio.ensure_future(core.event(257, text="smoke"))
        await gateway.has_entries(32)
        core.appended([(number, number - 1) for number, _ in gateway.state.outbox()])
        assert await waiting == 31
        refused = [
            one for one in await asyncio.gather(*events, return_exceptions=True) if isinstance(one, RefusedError)
        ]
        assert len(refused) == 10
        await gateway.clock.advance(core, 60)
        second = asyncio.ensure_future(core.event(256, text="alarm"))
        await gateway.has_entries(33)
        second.cancel()

    run(tmp_path, site([known_device(256), known_device(257)], new), use)


def test_a_numbered_event_is_logged_once(tmp_path: Path, new: ReleaseFacts) -> None:
    """A repeated event gets the same log index, both before and after the event is appended to the log."""

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core
        both = [asyncio.ensure_future(core.event(256, text="smoke", counter=4)) for _ in range(2)]
        await gateway.has_entries(1)
        third = asyncio.ensure_future(core.event(256, text="smoke", counter=4))
        await asyncio.sleep(0)
        [(sequence, _)] = gateway.state.outbox()
        gateway.state.appended([(sequence, 17)])
        core.appended([(sequence, 17)])
        assert await asyncio.gather(*both, third) == [17, 17, 17]
        assert await core.event(256, text="smoke", counter=4) == 17
        with pytest.raises(RefusedError, match="another event"):
            await core.event(256, text="fire", counter=4)

    run(tmp_path, site([known_device(256)], new), use)


def test_events_of_a_device_with_a_key_are_signed(tmp_path: Path, new: ReleaseFacts) -> None:
    """A signed event has level A, and an unsigned event level B; forged and mismatching events are refused."""
    thing = SigningDevice()
    smoke = thing.event(ThingEvent(4, "smoke", 1))

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core

        async def send(event: ThingEvent, number: int = 256, **changes: Any) -> int:
            message = {"text": event.text, "statement": event.statement, "counter": event.seq, **changes}
            return await core.event(number, **message)

        async def refused(event: ThingEvent, why: str, number: int = 256, **changes: Any) -> None:
            with pytest.raises(RefusedError, match=why):
                await send(event, number, **changes)
            assert any(about == number and why in text for about, text in gateway.warnings())

        async with appending(gateway):
            index = await send(smoke)
            assert await send(smoke) == index
            assert await send(ThingEvent(5, "smoke", 2)) == index + 1
            assert await send(ThingEvent(5, "smoke", 2), 257) == index + 2
            await refused(SigningDevice(secret=99).event(ThingEvent(6, "fire", 0)), "does not belong")
            await refused(smoke, "the device signed another event than it sends", counter=6)
            await refused(smoke, "the device signed another event than it sends", text="all is well")
            await refused(smoke, "the device signed another event than it sends", counter=None)
            await refused(smoke, "cannot be read", statement=b"\xa0", counter=7)
            await refused(smoke, "no key on record", 257)
        entries = [entry for entry in gateway.appended() if entry.kind is EntryKind.EVENT]
        assert [(one.device, one.level, one.counter) for one in entries] == [
            (256, EvidenceLevel.A, 4),
            (256, EvidenceLevel.B, 5),
            (257, EvidenceLevel.B, 5),
        ]
        assert judge(entries[0], thing.key).is_signed

    devices = [known_device(256, key=PublicKey(KeyKind.P256, thing.key)), known_device(257)]
    run(tmp_path, site(devices, new), use)


def test_only_changed_devices_are_planned_and_notified(tmp_path: Path, old: ReleaseFacts, new: ReleaseFacts) -> None:
    """Equal facts notify no face. A ban of a device invalidates its credentials and withdraws its offer."""
    devices = [known_device(256), known_device(257)]

    async def use(gateway: GatewayCore) -> None:
        core, face = gateway.core, gateway.face
        assert dict(face.counts) == {256: 1, 257: 1}
        await core.update(site(devices, old, new), {"default": GroupPolicy()})
        assert dict(face.counts) == {256: 1, 257: 1}
        token = gateway.state.issue_token("ddi", [256, 257])
        key = gateway.state.issue_key("lwm2m", 256)
        assert core.authenticate("ddi", 256, token).number == 256
        assert core.shared_key("lwm2m", 256) == key
        banned = [replace(devices[0], is_banned=True), devices[1]]
        await core.update(site(banned, old, new), {"default": GroupPolicy()})
        assert dict(face.counts) == {256: 2, 257: 1}
        assert (core.offer(256), core.shared_key("lwm2m", 256)) == (None, None)
        await core.update(site(devices, old, new), {"default": GroupPolicy()})
        assert core.offer(256)
        for face_name, number, secret in (
            ("ddi", 256, token),
            ("mqtt", 257, token),
            ("ddi", 257, "x"),
            ("ddi", 9, token),
        ):
            with pytest.raises(AccessRefusedError):
                core.authenticate(face_name, number, secret)
        assert core.authenticate("ddi", 257, token.encode()).number == 257

    run(tmp_path, site(devices, old, new), use)


def test_an_order_is_offered_within_its_window(tmp_path: Path, old: ReleaseFacts, new: ReleaseFacts) -> None:
    """An order is offered from its start time, and only to its devices.

    An order that is not fulfilled by its deadline is logged as an event.
    """
    order = Order(7, "all", new.id, UUID(int=1), NOW + 100, NOW + 500, OrderStatus.OPEN)
    facts = site([known_device(256), known_device(257)], old, new, orders=(SiteOrder(order, frozenset({256})),))

    async def use(gateway: GatewayCore) -> None:
        core, clock = gateway.core, gateway.clock
        assert core.offers(256) == []
        assert core.why(256) == "no order is open"
        await clock.advance(core, 120)
        offer = core.offer(256)
        assert offer
        assert (offer.order, offer.not_before, offer.deadline) == (7, NOW + 100, NOW + 500)
        assert core.offer(257) is None
        await core.update(facts, {"default": GroupPolicy(Mode.ORDERED, windows=(DailyWindow(0, 1),))})
        assert core.offer(256) is None
        await core.update(facts, {"default": GroupPolicy(Mode.ORDERED)})
        assert core.offer(256)
        await clock.advance(core, 400)
        assert core.offer(256) is None
        [entry] = gateway.entries()
        assert (entry.kind, entry.order, entry.release) == (EntryKind.EVENT, 7, new.id)
        assert gateway.face.counts == {256: 4}

    run(tmp_path, facts, use, policy=GroupPolicy(Mode.ORDERED))


def test_revoked_releases_are_replaced_at_once(tmp_path: Path, old: ReleaseFacts, new: ReleaseFacts) -> None:
    """If the release of a device is revoked, the newest active release is offered, even if its version is lower."""

    async def use(gateway: GatewayCore) -> None:
        core = gateway.core
        await core.reported(256, Report(image=image(new)))
        assert core.offer(256) is None
        revoked = replace(new, release=replace(new.release, status=Status.REVOKED))
        await core.update(site([known_device(256)], old, revoked), {})
        offer = core.offer(256)
        assert offer
        assert offer.release == old.id

    run(tmp_path, site([known_device(256)], old, new), use)


def test_operators_pause_and_retry(tmp_path: Path, new: ReleaseFacts) -> None:
    """A pause withholds offers, and a retry grants new tries.

    Pause and retry are written to the state file by another process.
    """

    async def use(gateway: GatewayCore) -> None:
        core, beside = gateway.core, gateway.state
        beside.pause("256")
        beside.pause("cellar")
        await core.tick()
        assert [core.offer(number) is None for number in (256, 257, 258)] == [True, True, False]
        beside.pause("256", is_paused=False)
        await core.tick()
        offer = core.offer(256)
        assert offer
        await core.outcome(256, offer.job, succeeded=False, is_refusal=True)
        assert core.offer(256) is None
        beside.request_retry(256)
        await core.tick()
        assert core.offer(256)
        assert beside.retries() == []
        assert core.stages() == {Stage.OFFERED: 3}

    devices = [known_device(256), known_device(257, group="cellar"), known_device(258)]
    run(tmp_path, site(devices, new), use)


def test_timeouts_follow_the_time_that_was_counted(tmp_path: Path, new: ReleaseFacts) -> None:
    """A transfer still ends by its timeout. A jump of the clock in either direction does not make an update fail."""
    policy = GroupPolicy(delivery=DeliveryPolicy(transfer_time=300))

    async def use(gateway: GatewayCore) -> None:
        core, clock = gateway.core, gateway.clock
        for number in (256, 257):
            await core.progress(number, core.state(number).job, 1)
        for jump in (86_400, -86_400 * 2, 86_400):
            clock.now += jump
            await core.tick()
        assert kinds(gateway) == ["warning"]
        clock.now += 86_400
        await clock.advance(core, 240)
        assert core.stages() == {Stage.TRANSFER: 2}
        await core.progress(257, core.state(257).job, 2)
        await clock.advance(core, 120)
        assert core.stages() == {Stage.PAUSED: 1, Stage.TRANSFER: 1}
        await clock.advance(core, 61)
        assert core.offer(256)

    run(tmp_path, site([known_device(256), known_device(257)], new), use, policy=policy)


def test_a_gateway_that_was_off_for_a_day_fails_no_transfer(tmp_path: Path, new: ReleaseFacts) -> None:
    """The time in which the gateway was off does not count towards a device's timeouts."""
    facts = site([known_device(256)], new)

    async def begin(gateway: GatewayCore) -> None:
        await gateway.core.progress(256, gateway.core.state(256).job, 1)

    async def day_later() -> None:
        with GatewayCore(tmp_path, clock=SteppedClock(NOW + 86_400)) as gateway:
            await gateway.core.update(facts, {})
            await gateway.clock.advance(gateway.core, 120)
            delivery = gateway.core.state(256)
            assert (delivery.stage, delivery.wake) == (Stage.TRANSFER, NOW + 86_400 + 3600)

    run(tmp_path, facts, begin)
    asyncio.run(day_later())


def test_components_of_other_producers_are_not_offered(tmp_path: Path, new: ReleaseFacts) -> None:
    """Only products that the Spec lists are offered. A release of another BlockOTA contract is not offered."""
    foreign = Component(1337, "0x5FbDB2315678afecb367f032d93F642f64180aa3", COMPONENT.product)
    facts = site([known_device(256)], new, release(tmp_path, "9.0.0", component=foreign))
    spec = replace(next(iter(facts.specs.values())), components=(COMPONENT,))

    async def use(gateway: GatewayCore) -> None:
        assert [offer.release for offer in gateway.core.offers(256)] == [new.id]

    run(tmp_path, replace(facts, specs=dict.fromkeys(facts.specs, spec)), use)
