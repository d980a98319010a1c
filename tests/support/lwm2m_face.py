"""The LwM2M face with a core for one device, for tests."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.lwm2m import create
from blockota.gateway.faces.lwm2m.server import Lwm2mFace
from blockota.model.delivery import (
    Delivery,
    DeliveryPolicy,
    Offered,
    Outcome,
    Planned,
    Progress,
    Reported,
    Stage,
    Target,
)
from blockota.model.delivery_rules import advance
from blockota.settings_table import SettingsTable
from tests.support.gateway import FakeCore, device_offer
from tests.support.thing_desks import ThingDesks

IMAGE = bytes(range(251)) * 3
OLD, NEW = "1.0.0", "1.1.0"


class DeliveringCore(FakeCore):
    """A core for one device, with the real state machine of the device's delivery.

    Attributes:
        new: the release to deliver. The state machine decides when the image is offered to the device.
        step: notified after each state-changing call.
        entries: kinds of the logged entries.
    """

    def __init__(self, folder: Path, image: bytes = IMAGE) -> None:
        super().__init__(256, 257)
        self.new = device_offer(folder, image, version=NEW)
        old = device_offer(folder, b"the image before", version=OLD)
        self.releases = {OLD: old, NEW: self.new}
        self.delivery = Delivery()
        self.entries: list[str] = []
        self.step = asyncio.Condition()
        self.now = 1_000_000
        self.not_before: int | None = None

    def plan(self) -> None:
        """Make the new release the delivery's target."""
        self._advance(Planned(Target(self.new.release, self.new.image)))

    def withdraw(self) -> None:
        """Remove the target."""
        self._advance(Planned(None))

    def time(self) -> int:
        """Return the time that the test set."""
        return self.now

    def state(self, number: int, product: str | None = None) -> Delivery:
        """Return the state."""
        assert (number, product) == (256, None)
        return self.delivery

    def offer(self, number: int, product: str | None = None) -> DeviceOffer | None:
        """Return the current offer of the state machine."""
        assert product is None
        is_open = number == 256 and self.delivery.offer is not None
        return replace(self.new, job=self.delivery.job, not_before=self.not_before) if is_open else None

    def offers(self, number: int) -> list[DeviceOffer]:
        """Return the only offer."""
        offer = self.offer(number)
        return [offer] if offer else []

    async def reported(self, number: int, report: Report) -> bool:
        """Find the release by its version."""
        await super().reported(number, report)
        found = self.releases.get(report.version or "")
        if found:
            self._advance(Reported(found.image, found.release, is_confirmed=report.is_confirmed))
        await self._done()
        return True

    async def offered(self, number: int, job: int) -> bool:
        """Record that the device was notified."""
        return await self._of_job(number, job, Offered())

    async def progress(self, number: int, job: int, received: int = 0) -> bool:
        """Record the progress."""
        return await self._of_job(number, job, Progress(received))

    async def outcome(
        self, number: int, job: int, *, succeeded: bool, reason: str = "", is_refusal: bool = False
    ) -> bool:
        """Record the outcome."""
        return await self._of_job(number, job, Outcome(succeeded, reason, is_refusal))

    async def warn(self, number: int | None, reason: str) -> None:
        """Record the warning."""
        await super().warn(number, reason)
        await self._done()

    async def until(self, condition: Callable[[], bool], *, seconds: float = 30) -> None:
        """Wait until a condition is true."""
        async with asyncio.timeout(seconds), self.step:
            await self.step.wait_for(condition)

    def warnings(self) -> list[tuple[int | None, str]]:
        """Return the warnings."""
        return [call[1:] for call in self.calls if call[0] == "warn"]

    async def _of_job(self, number: int, job: int, event: Any) -> bool:
        assert number == 256
        is_present = job == self.delivery.job and self.delivery.stage is not Stage.SETTLED
        if is_present:
            self._advance(event)
        await self._done()
        return is_present

    async def _done(self) -> None:
        async with self.step:
            self.step.notify_all()

    def _advance(self, event: Any) -> None:
        step = advance(self.delivery, event, policy=DeliveryPolicy(), now=self.now)
        self.delivery = step.delivery
        self.entries += [entry.kind.name for entry in step.entries]


@asynccontextmanager
async def serving(core: Core, folder: Path, desks: ThingDesks | None = None) -> AsyncIterator[tuple[Lwm2mFace, int]]:
    """Run the face. Yields the face and its first port."""
    port = free_ports()
    ready = asyncio.Event()

    def log(_: str, what: str, **__: object) -> None:
        if what == "listening":
            ready.set()

    context = FaceContext(UUID(int=1), folder, clock=core.time, log=log)
    if desks:
        context = replace(context, readings=desks.readings, commands=desks.commands)
    face = create(SettingsTable("gateway.lwm2m", {"listen": f"127.0.0.1:{port}"}, folder), context)
    face.settings = replace(face.settings, poll=0.01, trial=0.02)
    task = asyncio.create_task(face.run(core))
    try:
        async with asyncio.timeout(10):
            await ready.wait()
        yield face, port
    finally:
        task.cancel()
        await asyncio.wait([task])


def free_ports() -> int:
    """Return a UDP and TCP port p such that p and p + 1 are free.

    Linux does not assign a port of this range to other sockets, because its ephemeral ports begin at 32,768.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000, 2)
        with ExitStack() as taken:
            try:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    for number in (port, port + 1):
                        taken.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", number))
            except OSError:
                continue
            return port
