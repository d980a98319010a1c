"""Runs a gateway in a thread. The gateway's face has no protocol; a test calls the methods of the face."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.opening import STATE_NAME, GatewaySetup, opened_parts
from blockota.gateway.service import GatewayService
from blockota.gateway.state import GatewayState
from blockota.line_log import LineLog
from blockota.shutdown import Stop
from tests.support.receipts import SigningDevice
from tests.support.waiting import DEADLINE, eventually


class FakeFace:
    """A face without a protocol. A test calls the core through this face from the test's own thread."""

    name = "fake"

    def __init__(self) -> None:
        self.changed: list[int] = []
        self._core: Core | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Store the core, and wait until the task is cancelled."""
        on_ready()
        self._core, self._loop = core, asyncio.get_running_loop()
        await asyncio.Event().wait()

    def offer_changed(self, device: int) -> None:
        """Record the device."""
        self.changed.append(device)

    @property
    def is_running(self) -> bool:
        """Whether the gateway runs the face."""
        return self._core is not None

    def call(self, coroutine: Callable[[Core], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine of the core in the gateway's event loop."""
        assert self._core
        assert self._loop
        return asyncio.run_coroutine_threadsafe(coroutine(self._core), self._loop).result(DEADLINE)

    def offer(self, number: int, product: str | None = None) -> DeviceOffer | None:
        """Return the offer to a device."""

        async def ask(core: Core) -> DeviceOffer | None:
            return core.offer(number, product)

        found: DeviceOffer | None = self.call(ask)
        return found

    def knows(self, number: int) -> bool:
        """Whether the gateway has read from the registry that a device belongs to the gateway's site."""

        async def ask(core: Core) -> bool:
            return core.device(number) is not None

        return bool(self.call(ask))

    def await_offer(self, number: int, version: str, product: str | None = None) -> DeviceOffer:
        """Wait until a version is offered to a device."""

        def offered() -> DeviceOffer | None:
            found = self.offer(number, product)
            return found if found and str(found.release.version) == version else None

        found = eventually(offered, what=f"an offer of {version} to device {number}")
        assert found
        return found

    def report(self, number: int, device: SigningDevice, image: bytes, product: str | None = None) -> None:
        """Report the image that a device runs, with a signed statement."""

        async def report(core: Core) -> bool:
            digest = hashlib.sha256(image).digest()
            _, statement = device.state(digest, nonce=core.nonce(number))
            return await core.reported(number, Report(image=digest, product=product, statement=statement))

        self.call(report)


@contextmanager
def running_gateway(
    setup: GatewaySetup, lines: list[str], *, on_ready: Callable[[str], object] = lambda _: None
) -> Iterator[FakeFace]:
    """Run a gateway in a thread, and yield its only face.

    Args:
        setup: the gateway.
        lines: receives the log lines of the gateway.
        on_ready: called with the URL of the gateway's state pages.
    """
    face, stop, ready = FakeFace(), Stop(), threading.Event()

    def note_ready(url: str) -> None:
        on_ready(url)
        ready.set()

    def run() -> None:
        log = LineLog(lines.append)
        with GatewayState(setup.settings.folder / STATE_NAME) as state, opened_parts(setup, log, stop) as parts:
            service = GatewayService(replace(parts, faces=[face]), state, log, stop)
            service.run(on_ready=note_ready)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: (ready.is_set() and face.is_running) or not thread.is_alive(), what="the gateway")
        yield face
    finally:
        stop.ask()
        thread.join(DEADLINE)
    assert not thread.is_alive()
