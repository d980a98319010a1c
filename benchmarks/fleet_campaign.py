"""A campaign: devices of several faces install releases, while faults are injected and the gateway is killed.

The devices run in this process, and the gateway runs in another process. In each round, the vendor's Safe publishes a
release, and each device installs it while a share of the faults is injected. In some rounds, the gateway is killed by
SIGKILL at a random instant.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks.fleet_ddi_device import SimulatedDdiDevice
from benchmarks.fleet_diary import LAST, DeviceFault, DeviceStart, FleetDevice, FleetRelease
from benchmarks.fleet_judge import FleetVerdict, judge_log
from benchmarks.fleet_lwm2m_device import ConstrainedDevice
from benchmarks.fleet_mqtt_device import BrokerPlace, MqttDevice
from benchmarks.fleet_relay import TcpRelay
from benchmarks.fleet_site import BLOCK, FleetSite, wait_until

_VECTORS = struct.pack("<II", 0x2000_5000, 0x0800_0009)
"""The first two words of a program for an STM32F103: the initial stack pointer and the reset vector."""
_POSTPONEMENTS = 3
_ROUND = 300
_AT_ONCE = 50


@dataclass(frozen=True)
class CampaignPlan:
    """The size of a campaign.

    Attributes:
        devices: the number of devices of each face.
        faults: the number of faults.
        rounds: the number of releases.
        size: the size of an image in bytes.
        kills: the number of times that the gateway is killed.
        seed: the seed of the faults.
    """

    devices: Mapping[str, int]
    faults: int
    rounds: int
    size: int = 4096
    kills: int = 0
    seed: int = 1


@dataclass
class CampaignResult:
    """The result of a campaign.

    Attributes:
        verdict: the verdict about the log.
        faults: the injected faults, by face and fault.
        unverified: the number of images with wrong bytes that the gateway served or a device installed.
        stuck: devices that did not finish a round in time.
        kills: the number of times that the gateway was killed.
        seconds: the duration of all rounds.
        logged: seconds from the confirmation of the last release's block to the last log entry about this release.
    """

    verdict: FleetVerdict
    faults: Counter[tuple[str, DeviceFault]] = field(default_factory=Counter)
    unverified: int = 0
    stuck: list[str] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0
    logged: float = 0


def image_of(version: str, size: int) -> bytes:
    """Return an image that begins with a vector table."""
    return _VECTORS + hashlib.shake_128(version.encode()).digest(size - len(_VECTORS))


def releases_of(rounds: int, size: int) -> dict[str, FleetRelease]:
    """Return the initial release, and a newer release for each round."""
    versions = ["1.0.0", *(f"1.{number}.0" for number in range(1, rounds + 1))]
    return {version: FleetRelease(version, image_of(version, size)) for version in versions}


def run_campaign(site: FleetSite, plan: CampaignPlan) -> CampaignResult:
    """Run a campaign at a site whose gateway is not running yet."""
    releases = releases_of(plan.rounds, plan.size)
    first = next(iter(releases.values()))
    number, credentials = BLOCK, {}
    signers = site.register(sum(plan.devices.values()), first=BLOCK)
    for face, count in plan.devices.items():
        credentials[face] = site.issue(face, range(number, number + count)) if face != "lwm2m" else {}
        number += count
    site.publish(first.version, first.image)
    if "mqtt" in plan.devices:
        site.start_broker()
    site.start()
    wait_until(lambda: site.health().get("devices") == len(signers), seconds=120, what="the reading of all devices")

    async def run() -> CampaignResult:
        async with AsyncExitStack() as stack:
            fleet = list[FleetDevice]()
            numbers = iter(signers.items())
            for face, count in plan.devices.items():
                for _ in range(count):
                    number, signer = next(numbers)
                    start = DeviceStart(number, signer, releases, first)
                    secret = credentials[face].get(number, "")
                    fleet.append(await _device(site, stack, face, start, secret))
            return await _Campaign(site, plan, fleet, list(releases.values())).run()

    return asyncio.run(run())


async def _device(site: FleetSite, stack: AsyncExitStack, face: str, start: DeviceStart, secret: str) -> FleetDevice:
    """Make a device. Each constrained device and each MQTT device has its own relay."""
    if face == "ddi":
        return SimulatedDdiDevice(start, secret, site.ports["ddi"])
    if face == "lwm2m":
        return await stack.enter_async_context(ConstrainedDevice.started(start, site.ports["lwm2m"]))
    relay = await stack.enter_async_context(TcpRelay.opened(site.ports["mqtt"]))
    place = BrokerPlace(relay.port, secret, site.authority, site.ports["ddi"], site.identity_key, relay.reset)
    return MqttDevice(start, place)


class _Campaign:
    """A running campaign."""

    def __init__(
        self, site: FleetSite, plan: CampaignPlan, fleet: Sequence[FleetDevice], releases: Sequence[FleetRelease]
    ) -> None:
        self._site, self._plan, self._fleet, self._releases = site, plan, fleet, releases
        self._draw = random.Random(plan.seed)  # noqa: S311 - a draw that can be repeated
        self._decks: dict[str, list[DeviceFault]] = {}
        self._kills = 0
        self._stuck: list[str] = []

    async def run(self) -> CampaignResult:
        """Run all rounds, and compare the log with the devices' diaries."""
        living = [asyncio.create_task(device.live()) for device in self._fleet]
        await self._gather({device: device.start() for device in self._fleet}, "its first report")
        shares, began = list(self._shares()), time.monotonic()
        for round_number, release in enumerate(self._releases[1:]):
            confirmed = await self._round(release, shares[round_number], is_killed=round_number < self._plan.kills)
        site, seconds = self._site, time.monotonic() - began
        await asyncio.to_thread(
            wait_until, lambda: site.health().get("waiting") == 0, seconds=60, what="the last entry"
        )
        logged = time.monotonic() - confirmed
        await self._gather({device: device.finish() for device in self._fleet}, "the end")
        await asyncio.to_thread(
            wait_until, lambda: site.health().get("waiting") == 0, seconds=60, what="the end of the outbox"
        )
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)
        diaries = [device.diary for device in self._fleet]
        faults = Counter((one.face, fault) for one in self._fleet for fault in one.diary.faults.elements())
        return CampaignResult(
            judge_log(site.entries(), diaries),
            faults,
            sum(diary.unverified for diary in diaries),
            self._stuck,
            self._kills,
            seconds,
            logged,
        )

    def _shares(self) -> Iterator[dict[FleetDevice, list[DeviceFault]]]:
        """Yield the faults of each device, for each round."""
        places = self._plan.rounds * len(self._fleet)
        counts = [
            self._plan.faults * (place + 1) // places - self._plan.faults * place // places for place in range(places)
        ]
        given = iter(counts)
        for _ in range(self._plan.rounds):
            yield {device: self._faults(device, next(given)) for device in self._fleet}

    def _faults(self, device: FleetDevice, count: int) -> list[DeviceFault]:
        """Draw the faults of a device.

        All kinds are equally frequent. The last fault of a device in a round is the fault that ends the delivery, if
        the round has one.
        """
        deck = self._decks.setdefault(device.face, [])
        chosen: list[DeviceFault] = []
        while len(chosen) < count:
            if not deck:
                deck += device.FAULTS
                self._draw.shuffle(deck)
            fault = deck.pop()
            is_too_much = fault in LAST and LAST & set(chosen)
            if is_too_much or (fault is DeviceFault.POSTPONEMENT and chosen.count(fault) == _POSTPONEMENTS):
                deck.insert(0, fault)
                continue
            chosen.append(fault)
        return sorted(chosen, key=lambda one: one in LAST)

    async def _round(
        self, release: FleetRelease, faults: Mapping[FleetDevice, list[DeviceFault]], *, is_killed: bool
    ) -> float:
        """Publish a release, and let all devices install it; return the time at which its block was confirmed."""
        confirmed = await asyncio.to_thread(self._site.publish, release.version, release.image)
        killing = asyncio.create_task(self._kill()) if is_killed else None
        await self._gather({one: one.update(release, share) for one, share in faults.items()}, release.version)
        if killing:
            await killing
        return confirmed

    async def _gather(self, work: Mapping[FleetDevice, object], what: str) -> None:
        """Let all devices work, and record the devices that do not finish in time."""
        tasks = {asyncio.ensure_future(one): device for device, one in work.items()}  # type: ignore[call-overload]
        done, late = await asyncio.wait(tasks, timeout=_ROUND)
        for task in done:
            task.result()
        for task in late:
            self._stuck.append(f"{tasks[task].face} device {tasks[task].number} with {what}")
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _kill(self) -> None:
        """Kill the gateway at a random instant, and start it again."""
        await asyncio.sleep(self._draw.uniform(0.5, 5))
        self._kills += 1
        await asyncio.to_thread(self._site.stop, signal.SIGKILL)
        await asyncio.to_thread(self._site.start)
