"""Thousands of faults on devices and repeated kills of the gateway cause no false, lost or repeated log entry.

The devices are simulated here. The simulated devices record which image they really run, and whether they confirmed it.
The injected faults are lost, repeated and foreign messages, damaged images, refusals, postponements, false claims,
rollbacks, and replayed statements.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import RefusedError
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.facts import KnownDevice
from blockota.ledger.log import TileLog
from blockota.model.delivery import DeliveryPolicy
from blockota.model.receipt import EntryKind, LogEntry
from blockota.model.target import GroupPolicy
from tests.gateway.test_core_crash import KilledError, feed
from tests.support.gateway import GatewayCore, SteppedClock, known_device, release_facts, site_facts
from tests.support.receipts import SigningDevice
from tests.support.sampling import EXHAUSTIVE, SEED

FAULTS = 10_000 if EXHAUSTIVE else 120
DEVICES = 8
POLICY = GroupPolicy(delivery=DeliveryPolicy(pauses=(1,) * 50, trial_time=120, offers_after_rollback=True))
Message = Callable[[Core], Coroutine[Any, Any, object]]


class Device:
    """A simulated device.

    Every second simulated device signs its statements.

    Attributes:
        known: the device as in the registry.
        running: the image that the device runs.
        confirmed: the images that the device ran and confirmed, each with the time of its first confirmation.
        acknowledged: the image of the newest report that the gateway accepted.
    """

    def __init__(self, number: int, image: bytes) -> None:
        self.thing = SigningDevice(secret=number) if number % 2 else None
        key = PublicKey(KeyKind.P256, self.thing.key) if self.thing else None
        self.known: KnownDevice = known_device(number, key=key)
        self.running = image
        self.confirmed = {image}
        self.acknowledged: bytes | None = None
        self.statements: list[bytes] = []

    def report(self, core: Core) -> Report:
        """Return a true report."""
        if self.thing is None:
            return Report(image=self.running)
        _, statement = self.thing.state(self.running, nonce=core.nonce(self.known.number))
        self.statements.append(statement)
        return Report(image=self.running, statement=statement)


class Campaign:
    """A gateway that is killed at random points, and its devices."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self._folder, self._draw = folder, draw
        self._releases = [release_facts(folder, version) for version in ("1.0.0", "1.1.0")]
        self.devices = [Device(number, self._releases[0].release.sha256) for number in range(256, 256 + DEVICES)]
        self.log = TileLog(folder / "log")
        self._clock = SteppedClock()
        self.faults: Counter[str] = Counter()
        self._again: list[tuple[Device, Message]] = []  # what was not acknowledged before a kill

    def run(self, faults: int) -> None:
        """Run gateways until enough faults were injected."""
        while self.faults.total() < faults:
            try:
                asyncio.run(self._session(faults))
            except KilledError:
                self.faults["kill"] += 1
                self._clock.now += 1

    def entries(self) -> list[LogEntry]:
        """Return all entries of the log."""
        return [LogEntry.decode(raw) for raw in self.log.entries()]

    def _killer(self) -> Callable[[], None]:
        left = self._draw.randrange(20, 400 if self.faults["kill"] else 60)  # a short campaign has a kill, too

        def point() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        return point

    async def _session(self, faults: int) -> None:
        with GatewayCore(self._folder, pause=self._killer(), clock=self._clock) as gateway:
            await self._publish(gateway)
            while self._again:
                device, message = self._again[0]
                await self._send(gateway, device, message)
                self._again.pop(0)
            while self.faults.total() < faults:
                await self._act(gateway, self._draw.choice(self.devices))
                await feed(gateway, self.log)
                if not self._draw.randrange(10):
                    await gateway.clock.advance(gateway.core, self._draw.choice([1, 5, 61]))
                if not self._draw.randrange(60):
                    await self._release(gateway)

    async def _publish(self, gateway: GatewayCore) -> None:
        facts = site_facts([one.known for one in self.devices], *self._releases)
        await gateway.core.update(facts, {"default": POLICY})

    async def _release(self, gateway: GatewayCore) -> None:
        version = self._releases[-1].release.version
        self._releases.append(release_facts(self._folder, f"1.{version.minor + 1}.0"))
        await self._publish(gateway)

    async def _send(self, gateway: GatewayCore, device: Device, message: Message) -> None:
        """Send a message. If the gateway is killed, the device sends the message again."""
        self._again.append((device, message))
        with suppress(RefusedError):  # a lie, or the limit of a minute
            await message(gateway.core)
        self._again.pop()

    async def _act(self, gateway: GatewayCore, device: Device) -> None:
        """Let a device perform one action, correct or wrong."""
        number, core = device.known.number, gateway.core
        offer = core.offer(number)
        faults: dict[str, Message] = {
            "claim": lambda core: core.outcome(number, offer.job if offer else 1, succeeded=True),
            "spoiled": lambda core: core.outcome(number, offer.job if offer else 1, succeeded=False, reason="spoiled"),
            "postponed": lambda core: core.postponed(number, offer.job if offer else 1, until=self._clock.now + 3),
            "other job": lambda core: core.progress(number, self._draw.randrange(1 << 48), 5),
            "not confirmed": lambda core: core.reported(
                number, Report(image=offer.image if offer else device.running, is_confirmed=False)
            ),
            "lie": lambda core: core.reported(number, Report(image=device.running, version="7.7.7")),
            "foreign": lambda core: core.reported(number, self._foreign(device)),
            "replayed": lambda core: core.reported(number, self._replayed(device)),
            "unknown": lambda core: core.reported(9999, Report(image=device.running)),
            "lost": lambda _: asyncio.sleep(0),
        }
        if self._draw.randrange(3):
            name = self._draw.choice(list(faults))
            self.faults[name] += 1
            await self._send(gateway, device, faults[name])
        elif offer and self._draw.randrange(2):
            await self._install(gateway, device, offer)
        else:
            await self._report(gateway, device)

    async def _install(self, gateway: GatewayCore, device: Device, offer: DeviceOffer) -> None:
        number = device.known.number
        await self._send(gateway, device, lambda core: core.progress(number, offer.job, offer.size))
        if not self._draw.randrange(4):
            self.faults["rolled back"] += 1
            trial = Report(image=offer.image, is_confirmed=False)
            await self._send(gateway, device, lambda core: core.reported(number, trial))
        else:
            device.running = offer.image
            device.confirmed.add(offer.image)
        await self._report(gateway, device)

    async def _report(self, gateway: GatewayCore, device: Device) -> None:
        number, report, image = device.known.number, device.report(gateway.core), device.running

        async def send(core: Core) -> None:
            await core.reported(number, report)
            device.acknowledged = image

        await self._send(gateway, device, send)
        if not self._draw.randrange(4):
            self.faults["repeated"] += 1
            await self._send(gateway, device, lambda core: core.reported(number, report))

    def _foreign(self, device: Device) -> Report:
        """Return a report with the statement of another device."""
        return Report(image=device.running, statement=SigningDevice(secret=7).state(device.running)[1])

    def _replayed(self, device: Device) -> Report:
        """Return a report about the old release that repeats the device's first statement."""
        old = self._releases[0].release.sha256
        return Report(image=old, statement=device.statements[0] if device.statements else b"\xa0")


@pytest.mark.sampled
def test_no_fault_makes_a_false_a_lost_or_a_doubled_entry(tmp_path: Path) -> None:
    """After all faults, each log entry is true and occurs once.

    The log contains all entries that the gateway acknowledged.
    """
    campaign = Campaign(tmp_path, random.Random(SEED))  # noqa: S311 - a draw that can be repeated
    campaign.run(FAULTS)
    asyncio.run(drain(tmp_path, campaign.log))
    about = [entry for entry in campaign.entries() if entry.kind.names_running_image]
    for device in campaign.devices:
        own = [entry for entry in about if entry.device == device.known.number]
        assert {entry.image for entry in own} <= device.confirmed
        stated = [(entry.image, entry.level) for entry in own]
        assert not [first for first, second in pairwise(stated) if first == second]
        assert device.acknowledged is None or own[-1].image == device.acknowledged
        assert not device.thing or all(entry.signature for entry in own if entry.kind is EntryKind.INSTALL)
    installs = Counter((entry.device, entry.release) for entry in about if entry.kind is EntryKind.INSTALL)
    assert set(installs.values()) <= {1}
    assert campaign.faults["kill"]


async def drain(folder: Path, log: TileLog) -> None:
    """Append the waiting entries to the log, as a restarted gateway does."""
    with GatewayCore(folder) as gateway:
        await feed(gateway, log)
