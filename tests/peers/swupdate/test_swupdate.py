"""Debian's SWUpdate installs a signed .swu from the DDI face. Updates are resumed, postponed, refused and cancelled."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from blockota.gateway.faces.ddi import DdiFace, DdiSettings
from blockota.gateway.facts import ProvenImage, ReleaseFacts
from blockota.model.container import Container
from blockota.model.delivery import Stage
from blockota.model.receipt import EntryKind
from blockota.model.release import Status
from blockota.model.target import DailyWindow, GroupPolicy
from tests.gateway.faces.test_ddi import context
from tests.peers.swupdate.device import PAYLOAD, Device, make_signer, make_swu
from tests.support.gateway import NOW, GatewayCore, gateway_core, known_device, release_facts, site_facts


class CuttingProxy:
    """Forwards connections to a server, and cuts one connection after some bytes of the answer."""

    def __init__(self, port: int, *, cut_after: int) -> None:
        self._target, self._left = port, cut_after
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no further connection."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, sink, counts in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._forward, args=(source, sink, counts), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:  # noqa: FBT001
        with suppress(OSError):
            while part := source.recv(1 << 16):
                if counts and not self.cuts:
                    self._left -= len(part)
                    if self._left < 0:
                        self.cuts += 1
                        break
                sink.sendall(part)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass
class Site:
    """A gateway with one device and one release.

    Attributes:
        gateway: the core with its state.
        face: the running DDI face.
        device: the device.
        release: the release.
    """

    gateway: GatewayCore
    face: DdiFace
    device: Device
    release: ReleaseFacts

    @property
    def stage(self) -> Stage:
        """The stage of the device's delivery."""
        return self.gateway.core.state(256).stage

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, for as long as SWUpdate may take on a slow machine."""
        for _ in range(1200):
            if condition():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{self.stage}\n{self.device.log[-4000:]}")

    def claimed(self) -> list[bytes | None]:
        """Return the images that the log records as claimed."""
        return [one.image for one in self.gateway.entries() if one.kind is EntryKind.CLAIMED]


Use = Callable[[Site], Awaitable[None]]


def at_site(folder: Path, use: Use, *, spoil: bool = False, policy: GroupPolicy | None = None) -> None:
    """Run a test with a site whose release is a signed .swu. `spoil` damages the payload after the signature."""

    async def main() -> None:
        home = folder / "device"
        home.mkdir()
        make_signer(home)
        device = Device(home, "", "")
        swu = make_swu(home, PAYLOAD, version="1.1.0", path=device.installed)
        if spoil:
            swu = swu.replace(PAYLOAD[-64:], bytes(64))
        (folder / "image.swu").write_bytes(swu)
        digest = hashlib.sha256(swu).digest()
        facts = release_facts(folder, "1.1.0", sha256=digest, size=len(swu))
        image = ProvenImage(digest, len(swu), folder / "image.swu", "", container=Container.SWU)
        release = replace(facts, image=image)
        async with gateway_core(folder, site_facts([known_device(256)], release), policy=policy) as gateway:
            face, ready = DdiFace(DdiSettings("127.0.0.1", 0, pause="00:00:01"), context(folder)), asyncio.Event()
            task = asyncio.create_task(face.run(gateway.core, on_ready=ready.set))
            await ready.wait()
            device.server, device.token = f"http://127.0.0.1:{face.port}", gateway.state.issue_token("ddi", [256])
            try:
                await use(Site(gateway, face, device, release))
            finally:
                task.cancel()
                await asyncio.wait([task])

    asyncio.run(main())


def test_an_update_is_resumed_installed_and_confirmed(tmp_path: Path) -> None:
    """The download continues after the connection was cut.

    The log has the installation only after the device's restart.
    """

    async def use(site: Site) -> None:
        proxy = CuttingProxy(site.face.port, cut_after=2 << 20)
        site.device.server = f"http://127.0.0.1:{proxy.port}"
        with site.device.running():
            await site.until(lambda: site.device.installed.exists() and site.device.installed.read_bytes() == PAYLOAD)
            await site.until(lambda: "Update successful, executing post-update" in site.device.log)
        assert (proxy.cuts, site.stage, site.claimed()) == (1, Stage.TRANSFER, [])
        with site.device.running("-c", "2"):  # as the device starts after the restart
            await site.until(lambda: site.stage is Stage.SETTLED and bool(site.claimed()))
        proxy.close()
        assert site.claimed() == [site.release.release.sha256]

    at_site(tmp_path, use)


def test_an_update_is_postponed_by_withholding_the_link(tmp_path: Path) -> None:
    """Outside the daily window, SWUpdate finds no update. Within the window, SWUpdate installs the update."""
    begin = (NOW + 3600) % 86_400
    policy = GroupPolicy(windows=(DailyWindow(begin, (begin + 3600) % 86_400),))

    async def use(site: Site) -> None:
        with site.device.running():
            await site.until(lambda: site.device.log.count("No pending action on server") >= 2)
            assert not site.device.installed.exists()
            await site.gateway.clock.advance(site.gateway.core, 3700)
            await site.until(site.device.installed.exists)

    at_site(tmp_path, use, policy=policy)


def test_a_payload_that_was_not_signed_is_a_failed_try(tmp_path: Path) -> None:
    """SWUpdate also checks its own signature. A failure is logged as an event, not as an installation."""

    async def use(site: Site) -> None:
        with site.device.running():
            await site.until(lambda: site.stage is Stage.PAUSED)
        assert site.claimed() == []
        assert EntryKind.EVENT in {one.kind for one in site.gateway.entries()}

    at_site(tmp_path, use, spoil=True)


def test_a_withdrawn_update_is_cancelled(tmp_path: Path) -> None:
    """If a release is revoked after its installation but before its confirmation, the face cancels the action."""

    async def use(site: Site) -> None:
        with site.device.running():
            await site.until(lambda: "Update successful, executing post-update" in site.device.log)
        revoked = replace(site.release, release=replace(site.release.release, status=Status.REVOKED))
        await site.gateway.core.update(site_facts([known_device(256)], revoked), {"default": GroupPolicy()})
        with site.device.running():
            await site.until(lambda: "ancel" in site.device.log.partition("executing post-update")[2])
        assert site.claimed() == []

    at_site(tmp_path, use)


@pytest.mark.parametrize("token", ["", "another"])
def test_a_device_with_another_token_gets_nothing(tmp_path: Path, token: str) -> None:
    """SWUpdate without the device's token is refused."""

    async def use(site: Site) -> None:
        site.device.token = token or "none"
        with site.device.running():
            await site.until(lambda: "401" in site.device.log)
        assert not site.device.installed.exists()

    at_site(tmp_path, use)
