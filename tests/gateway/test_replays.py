"""Repeated messages: the core recognises a repetition after a lost answer, and refuses a replay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blockota.errors import RefusedError
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.core import Report
from blockota.messaging.topics import ThingEvent
from blockota.model.receipt import POSTPONES
from tests.gateway.test_core import kinds, run
from tests.support.gateway import GatewayCore, appending, gateway_core, known_device
from tests.support.gateway import release_facts as release
from tests.support.gateway import site_facts as site
from tests.support.receipts import SigningDevice


@pytest.mark.parametrize("is_refusal", [False, True])
@pytest.mark.parametrize("reason", ["no  space", ""])
def test_a_repeated_failure_is_acknowledged_once_more(tmp_path: Path, reason: str, *, is_refusal: bool) -> None:
    """A device whose answer was lost repeats its outcome message.

    A repeated outcome message is acknowledged, and makes no second entry.
    """

    async def use(gateway: GatewayCore) -> None:
        core, offer = gateway.core, gateway.core.offer(256)
        assert offer
        for _ in range(2):
            assert await core.outcome(256, offer.job, succeeded=False, reason=reason, is_refusal=is_refusal)
        assert kinds(gateway) == ["refusal" if is_refusal else "event"]
        assert not await core.outcome(256, offer.job, succeeded=False, reason="another one")
        assert not await core.outcome(256, offer.job + 1, succeeded=False, reason=reason)
        assert not await core.outcome(256, offer.job, succeeded=True)
        assert len(kinds(gateway)) == 1

    run(tmp_path, site([known_device(256)], release(tmp_path, "1.1.0")), use)


def test_a_repeated_postponement_is_logged_once(tmp_path: Path) -> None:
    """A postponement that a device repeats is logged once.

    After the postponement has ended, a repeated request for the same postponement is refused.
    """

    async def use(gateway: GatewayCore) -> None:
        core, offer, until = gateway.core, gateway.core.offer(256), gateway.clock.now + 2
        assert offer
        assert await core.postponed(256, offer.job, until=until, reason="in use")
        assert await core.postponed(256, offer.job, until=until, reason="in use")
        await gateway.clock.advance(core, 3)
        assert core.offer(256)
        assert not await core.postponed(256, offer.job, until=until, reason="in use")
        assert kinds(gateway) == ["postponement", "warning"]
        assert core.state(256).postponements == 1

    run(tmp_path, site([known_device(256)], release(tmp_path, "1.1.0")), use)


def test_a_replayed_signed_report_is_refused_after_a_restart(tmp_path: Path) -> None:
    """A statement whose counter does not increase is refused as a replay.

    The gateway stores the newest counter on the disk.
    """
    thing, old, new = SigningDevice(), release(tmp_path, "1.0.0"), release(tmp_path, "1.1.0")
    key = PublicKey(KeyKind.P256, thing.key)
    facts, statements = site([known_device(256, key=key)], old, new), list[bytes]()

    async def report(gateway: GatewayCore) -> None:
        for one in (old, new, old):
            sha256 = one.release.sha256
            statements.append(thing.state(sha256, nonce=gateway.core.nonce(256))[1])
            assert await gateway.core.reported(256, Report(image=sha256, statement=statements[-1]))

    async def replay(gateway: GatewayCore) -> None:
        entries = len(gateway.entries())
        for raw, one in zip(statements, (old, new, old), strict=True):
            report = Report(image=one.release.sha256, statement=raw)
            if raw == statements[-1]:  # it is the last report, whose answer was lost
                assert await gateway.core.reported(256, report)
                continue
            with pytest.raises(RefusedError, match="the statement is replayed: its counter is"):
                await gateway.core.reported(256, report)
        assert gateway.core.state(256).running == old.release.sha256
        assert kinds(gateway)[entries:] == ["warning", "warning"]

    run(tmp_path, facts, report)
    run(tmp_path, facts, replay)


def test_a_replayed_signed_event_is_logged_once(tmp_path: Path) -> None:
    """A repeated event is answered with the index of its entry, also after a restart.

    An event that the gateway no longer remembers is refused as a replay.
    """
    thing = SigningDevice()
    facts = site([known_device(256, key=PublicKey(KeyKind.P256, thing.key))])
    events = [thing.event(ThingEvent(number, "tamper", 1, body=f"opened {number}")) for number in range(1, 80)]

    async def send(gateway: GatewayCore, event: ThingEvent) -> int:
        while True:
            try:
                return await gateway.core.event(256, text=event.text, statement=event.statement, counter=event.seq)
            except RefusedError as error:
                if "too many entries" not in error.why:
                    raise
                gateway.clock.now += 60  # the limit of entries in a minute

    async def use() -> None:
        async with gateway_core(tmp_path, facts) as gateway, appending(gateway):
            first = await send(gateway, events[0])
            assert await send(gateway, events[0]) == first
        async with gateway_core(tmp_path, facts) as gateway, appending(gateway):
            assert await send(gateway, events[0]) == first
            assert gateway.log == []
            for event in events[1:]:
                await send(gateway, event)
            with pytest.raises(RefusedError, match="the event 1 is too old: it is replayed"):
                await send(gateway, events[0])
            assert sum(one.counter == 1 for one in gateway.appended()) == 0

    asyncio.run(use())


def test_a_repeated_signed_postponement_is_no_replay(tmp_path: Path) -> None:
    """If a device repeats a signed postponement after its end, the postponement is not granted.

    The repetition causes no warning.
    """
    thing, new = SigningDevice(), release(tmp_path, "1.1.0")
    device = known_device(256, key=PublicKey(KeyKind.P256, thing.key))

    async def use(gateway: GatewayCore) -> None:
        core, offer, until = gateway.core, gateway.core.offer(256), gateway.clock.now + 2
        assert offer
        statement = thing.state(new.release.sha256, nonce=core.nonce(256), kind=POSTPONES)[1]
        assert await core.postponed(256, offer.job, until=until, statement=statement)
        assert await core.postponed(256, offer.job, until=until, statement=statement)
        await gateway.clock.advance(core, 3)
        assert core.offer(256)
        assert not await core.postponed(256, offer.job, until=until, statement=statement)
        assert kinds(gateway) == ["postponement"]

    run(tmp_path, site([device], new), use)
