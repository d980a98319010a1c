"""Cores for tests.

`FakeCore` records calls, and answers from dictionaries. `gateway_core` runs a real core without a chain.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from blockota.errors import AccessRefusedError
from blockota.formats.cid import CID, RAW
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.facts import (
    ComponentFacts,
    KnownDevice,
    ProvenImage,
    ReleaseFacts,
    SiteFacts,
    SiteOrder,
    SpecFacts,
)
from blockota.gateway.state import GatewayState
from blockota.gateway.steady_time import LARGEST_STEP
from blockota.model.container import Container
from blockota.model.delivery import Delivery
from blockota.model.receipt import EntryKind, LogEntry
from blockota.model.release import Release, Status, Version
from blockota.model.target import Component, GroupPolicy
from tests.support.receipts import GATEWAY, RELEASE

COMPONENT = Component(RELEASE.chain_id, RELEASE.contract, RELEASE.product)
TOKEN = "t0ken"  # noqa: S105 - of devices that do not exist
SHARED_KEY = bytes(range(16))
NOW = 1_795_000_000
DEVICES = (256, 257, 258)
SPEC_HASH = hashlib.sha256(b"thermo2").digest()


def device_offer(folder: Path, image: bytes = b"image", *, version: str = "1.1.0", job: int = 7) -> DeviceOffer:
    """Write an image to a file, and return an offer of the image."""
    digest = hashlib.sha256(image).digest()
    path = folder / digest.hex()
    path.write_bytes(image)
    return DeviceOffer(
        job=job,
        component=COMPONENT,
        release=COMPONENT.release(Version.parse(version)),
        image=digest,
        size=len(image),
        path=path,
        container=Container.OPAQUE,
        cid=str(CID(RAW, digest)),
        nonce=bytes(16),
    )


class FakeCore(Core):
    """A core without rules, which only records calls.

    Attributes:
        devices: the known devices, by number.
        now_offered: the current offers, by device.
        calls: names and arguments of all state-changing calls, in order.
        tokens: the token of each device.
    """

    def __init__(self, *numbers: int) -> None:
        self.devices = {
            number: KnownDevice(number, f"acme/thermo2/SN-{number}", SPEC_HASH) for number in numbers or DEVICES
        }
        self.now_offered: defaultdict[int, list[DeviceOffer]] = defaultdict(list)
        self.calls: list[tuple[Any, ...]] = []
        self.tokens = dict.fromkeys(self.devices, TOKEN)

    def device(self, number: int) -> KnownDevice | None:
        """Return a device."""
        return self.devices.get(number)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the devices."""
        return iter(self.devices)

    def authenticate(self, face: str, number: int, secret: str | bytes) -> KnownDevice:
        """Accept the device's token at any face."""
        device = self.devices.get(number)
        text = secret.decode() if isinstance(secret, bytes) else secret
        if device is None or device.is_banned or self.tokens[number] != text:
            raise AccessRefusedError(f"device {number} is refused at {face}")
        return device

    def shared_key(self, face: str, number: int) -> bytes | None:
        """Return one key for every device and face."""
        device = self.devices.get(number)
        return SHARED_KEY if face and device and not device.is_banned else None

    def offer(self, number: int, product: str | None = None) -> DeviceOffer | None:
        """Return the first offer of a product.

        Without a product, return the first offer that is not a configuration.
        """
        found = (
            one
            for one in self.now_offered[number]
            if (not one.is_configuration if product is None else one.component.product == product)
        )
        return next(found, None)

    def offers(self, number: int) -> list[DeviceOffer]:
        """Return all offers."""
        return list(self.now_offered[number])

    def state(self, number: int, product: str | None = None) -> Delivery:
        """Return an empty state."""
        if number not in self.devices:
            raise AccessRefusedError(f"device {number} has no {product}")
        return Delivery()

    def nonce(self, number: int) -> bytes:
        """Return the device's number."""
        return number.to_bytes(16)

    async def reported(self, number: int, report: Report) -> bool:
        """Record the call."""
        return self._called("reported", number, report)

    async def offered(self, number: int, job: int) -> bool:
        """Record the call."""
        return self._called("offered", number, job)

    async def progress(self, number: int, job: int, received: int = 0) -> bool:
        """Record the call."""
        return self._called("progress", number, job, received)

    async def outcome(
        self, number: int, job: int, *, succeeded: bool, reason: str = "", is_refusal: bool = False
    ) -> bool:
        """Record the call."""
        return self._called("outcome", number, job, succeeded, reason, is_refusal)

    async def postponed(
        self, number: int, job: int, *, until: int, reason: str = "", statement: bytes | None = None
    ) -> bool:
        """Record the call."""
        return self._called("postponed", number, job, until, reason, statement)

    async def event(self, number: int, *, text: str, statement: bytes | None = None, counter: int | None = None) -> int:
        """Record the call, and return the number of events before it."""
        before = len([call for call in self.calls if call[0] == "event"])
        self._called("event", number, text, statement, counter)
        return before

    async def warn(self, number: int | None, reason: str) -> None:
        """Record the call."""
        self.calls.append(("warn", number, reason))

    def _called(self, name: str, number: int, *values: Any) -> bool:
        if number not in self.devices:
            raise AccessRefusedError(f"device {number} is refused")
        self.calls.append((name, number, *values))
        jobs = {offer.job for offer in self.now_offered[number]}
        return name in {"reported", "event"} or values[0] in jobs


class SteppedClock:
    """A clock that only tests advance."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        """Return the time."""
        return self.now

    async def advance(self, core: Core, seconds: int) -> None:
        """Advance the time in small steps, as the clock of a running gateway does.

        After each step, the core's `tick` is called.
        """
        while seconds:
            step = min(seconds, LARGEST_STEP)
            self.now, seconds = self.now + step, seconds - step
            await core.tick()


class ChangedOffers:
    """A face that counts how often the offers of each device changed."""

    name = ""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Do nothing. The test drives the core."""

    def offer_changed(self, device: int) -> None:
        """Count a changed offer."""
        self.counts[device] += 1


def release_facts(folder: Path, version: str, *, component: Component = COMPONENT, **changes: Any) -> ReleaseFacts:
    """Return an active release whose image is verified and stored in a folder."""
    offer = device_offer(folder, f"image of {component.product} {version}".encode(), version=version)
    record = Release(
        product=component.product,
        version=Version.parse(version),
        sha256=offer.image,
        size=offer.size,
        load_address=0,
        active_from=0,
        chip_id=0,
        status=Status.ACTIVE,
        previous=None,
        dag_root=None,
    )
    record = replace(record, **changes)
    image = ProvenImage(offer.image, offer.size, offer.path, offer.cid, source="https://firmware.acme.example")
    return ReleaseFacts(component.release(record.version), record, image=image)


def site_facts(
    devices: Iterable[KnownDevice], *releases: ReleaseFacts, orders: tuple[SiteOrder, ...] = ()
) -> SiteFacts:
    """Return the facts of a site.

    All devices have the same Spec, which lists the products of the given releases.
    """
    by_component: defaultdict[Component, list[ReleaseFacts]] = defaultdict(list)
    for one in releases:
        by_component[Component.of(one.id)].append(one)
    components = {
        component: ComponentFacts(component, None, "", tuple(reversed(found)))
        for component, found in by_component.items()
    }
    spec = SpecFacts("thermo2", tuple(components) or (COMPONENT,))
    known = {device.number: device for device in devices}
    return SiteFacts(devices=known, specs={SPEC_HASH: spec}, components=components, orders=orders)


def known_device(number: int, **changes: Any) -> KnownDevice:
    """Return a device at the site of `site_facts`."""
    return replace(KnownDevice(number, f"acme/thermo2/SN-{number}", SPEC_HASH), **changes)


class GatewayCore:
    """A real core without a chain, whose state is in a file.

    Attributes:
        core: the core.
        state: its state.
        clock: its clock.
        face: a face that counts changed offers.
        log: the entries that `appending` moved from the outbox.
        lines: the service log lines of a face, for tests that store them here.
    """

    def __init__(
        self, folder: Path, *, pause: Callable[[], None] = lambda: None, clock: SteppedClock | None = None
    ) -> None:
        self.state = GatewayState(folder / "state.sqlite", pause=pause)
        self.clock = clock or SteppedClock()
        self.core = Core(GATEWAY, self.state, clock=self.clock)
        self.face = ChangedOffers()
        self.core.add_face(self.face)
        self.log: list[bytes] = []
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the state."""
        self.state.__exit__()

    def entries(self) -> list[LogEntry]:
        """Return the entries in the outbox of the log."""
        return [LogEntry.decode(raw) for _, raw in self.state.outbox()]

    async def until(self, condition: Callable[[], object]) -> None:
        """Let other tasks run until a condition is true."""
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110 - threads and other processes change it
                await asyncio.sleep(0.005)

    def warnings(self) -> list[tuple[int, str]]:
        """Return the device and the text of each warning."""
        found = [*self.appended(), *self.entries()]
        return [(one.device, one.source or "") for one in found if one.kind is EntryKind.WARNING]

    def appended(self) -> list[LogEntry]:
        """Return the entries that `appending` took from the outbox."""
        return [LogEntry.decode(raw) for raw in self.log]

    async def has_entries(self, count: int) -> None:
        """Let other tasks run until the given number of entries is in the outbox."""
        while self.state.waiting() < count:  # noqa: ASYNC110 - a thread writes them
            await asyncio.sleep(0)


@asynccontextmanager
async def gateway_core(
    folder: Path, facts: SiteFacts, *, policy: GroupPolicy | None = None
) -> AsyncIterator[GatewayCore]:
    """Run a real core with the given facts, and with one policy for all devices."""
    with GatewayCore(folder) as gateway:
        await gateway.core.update(facts, {"default": policy or GroupPolicy()})
        yield gateway


@asynccontextmanager
async def appending(gateway: GatewayCore) -> AsyncIterator[None]:
    """Append the entries of the outbox to `GatewayCore.log`, as the gateway service does.

    The core then answers events.
    """

    async def append() -> None:
        while True:
            found = gateway.state.outbox()
            positions = [(sequence, len(gateway.log) + place) for place, (sequence, _) in enumerate(found)]
            gateway.log += [entry for _, entry in found]
            gateway.state.appended(positions)
            gateway.core.appended(positions)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(append())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
