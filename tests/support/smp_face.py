"""A gateway whose SMP face serves one board, without a chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from blockota.gateway.face import FaceContext
from blockota.gateway.faces.smp import create
from blockota.gateway.faces.smp.board import SmpLine
from blockota.gateway.facts import DeltaOffer, KnownDevice, ReleaseFacts, SiteFacts
from blockota.model.container import Container
from blockota.model.delivery import Stage
from blockota.model.receipt import EntryKind, LogEntry
from blockota.settings_table import SettingsTable
from tests.support.gateway import (
    COMPONENT,
    GatewayCore,
    appending,
    device_offer,
    gateway_core,
    known_device,
    release_facts,
    site_facts,
)
from tests.support.receipts import GATEWAY
from tests.support.smp_device import SmpDevice, mcuboot_image

OLD, NEW, FOREIGN = mcuboot_image("1.0.0"), mcuboot_image("1.1.0"), mcuboot_image("1.1.0", seed=b"another")
DEADLINE = 120.0
NUMBER = 300
KEY_VARIABLE = "SMP_GATEWAY_KEY"
GATEWAY_SECRET = 0x6A7E
"""The private key of the gateway's identity."""
CONFIGURATION = replace(COMPONENT, product="acme-thermo2-cfg")


def image_facts(folder: Path, image: bytes, version: str) -> ReleaseFacts:
    """Return a release with an MCUboot image."""
    offer = device_offer(folder, image, version=version)
    facts = release_facts(folder, version, sha256=offer.image, size=offer.size)
    assert facts.image
    proven = replace(facts.image, sha256=offer.image, size=offer.size, path=offer.path, container=Container.MCUBOOT)
    return replace(facts, image=proven)


@dataclass
class Site:
    """A gateway with one board.

    Attributes:
        gateway: the gateway's core.
        board: the board.
        lines: the face's lines in the gateway's operating log.
        task: the task of the face.
    """

    gateway: GatewayCore
    board: SmpDevice
    lines: list[dict[str, Any]]
    task: asyncio.Task[None]

    @property
    def stage(self) -> Stage:
        """The stage of the delivery."""
        return self.gateway.core.state(NUMBER).stage

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the face work until a condition is true."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - the board is a thread
                await asyncio.sleep(0.005)

    def entries(self) -> list[LogEntry]:
        """Return all entries, in order."""
        return [*self.gateway.appended(), *self.gateway.entries()]

    def logged(self, kind: EntryKind) -> list[bytes | None]:
        """Return the images in the entries of the given kind."""
        return [entry.image for entry in self.entries() if entry.kind is kind]

    def texts(self) -> str:
        """Return the texts of all entries."""
        return "\n".join(entry.source or "" for entry in self.entries())


Use = Callable[[Site], Awaitable[None]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs the SMP face with one board, and calls a function in the gateway's event loop."""
    monkeypatch.setenv(KEY_VARIABLE, f"{GATEWAY_SECRET:064x}")

    def run(
        use: Use,
        *,
        board: dict[str, Any] | None = None,
        kind: type[SmpDevice] = SmpDevice,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Serve a board.

        Args:
            use: the function.
            board: options of the board.
            kind: the class of the board.
            facts: ``identity_key`` and ``settings`` of the face, and keyword arguments of `facts_of`.
        """
        given: dict[str, Any] = {"device": known_device(NUMBER, face="smp"), "images": (OLD, NEW), **(facts or {})}
        identity_key, settings = given.pop("identity_key", f"env:{KEY_VARIABLE}"), given.pop("settings", {})

        async def main() -> None:
            async with (
                gateway_core(tmp_path, facts_of(tmp_path, **given)) as gateway,
                appending(gateway),
                served(gateway, tmp_path, stand_in, identity_key, **settings) as site,
            ):
                await use(site)

        with kind(tmp_path / "port", given["images"][0], **(board or {})) as stand_in:
            asyncio.run(main())

    return run


def facts_of(
    folder: Path,
    *,
    device: KnownDevice,
    images: tuple[bytes, bytes] = (OLD, NEW),
    deltas: tuple[DeltaOffer, ...] = (),
) -> SiteFacts:
    """Return a site with one device.

    The site has the images 1.0.0 and 1.1.0, deltas that produce 1.1.0, and a configuration, which boards refuse.
    """
    place = folder / "images"
    place.mkdir(exist_ok=True)
    settings = release_facts(place, "3.0.0", component=CONFIGURATION)
    newer = image_facts(place, images[1], "1.1.0")
    assert settings.image
    assert newer.image
    settings = replace(settings, image=replace(settings.image, container=Container.MCUBOOT))
    newer = replace(newer, image=replace(newer.image, deltas=deltas))
    return site_facts([device], image_facts(place, images[0], "1.0.0"), newer, settings)


@asynccontextmanager
async def served(
    gateway: GatewayCore, folder: Path, board: SmpDevice, identity_key: str | None = None, **settings: Any
) -> AsyncIterator[Site]:
    """Run the face with a simulated board."""
    line = SmpLine(str(board.port), answer=0.3, erase=0.3)
    async with running_face(gateway, folder, line, identity_key=identity_key, **settings) as (lines, task):
        yield Site(gateway, board, lines, task)


@asynccontextmanager
async def running_face(
    gateway: GatewayCore, folder: Path, line: SmpLine, *, identity_key: str | None = None, **settings: Any
) -> AsyncIterator[tuple[list[dict[str, Any]], asyncio.Task[None]]]:
    """Run the face with one board.

    Args:
        gateway: the core.
        folder: the folder of the gateway.
        line: the connection settings of the board.
        identity_key: URI of the gateway's identity key.
        settings: changes to the face's settings.

    Yields:
        The face's lines in the gateway's operating log, and the task of the face.
    """
    lines: list[dict[str, Any]] = []
    context = FaceContext(GATEWAY, folder, gateway.clock, lambda *_, **fields: lines.append(fields), identity_key)
    face = create(SettingsTable("gateway.smp", {"devices": {str(NUMBER): line.port}}, folder), context)
    changes = {"retry": 0.01, "poll": 0.01, "trial": 0.0, **settings}
    face.settings = replace(face.settings, lines={NUMBER: line}, **changes)
    gateway.core.add_face(face)
    task = asyncio.create_task(face.run(gateway.core))
    try:
        yield lines, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task  # raises what the face did not expect
