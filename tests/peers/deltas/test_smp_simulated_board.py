"""The SMP face sends a patch to the committed agent on a simulated STM32F103 with a secure element."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from blockota.formats.delta import make_patch
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.faces.smp.board import SmpLine
from blockota.gateway.facts import DeltaOffer
from blockota.model.release import Version
from firmware_host.simulator.secure_element.protocol import Opcode
from firmware_host.simulator.secure_element.provisioning import DEVICE_KEY
from tests.support.board_agent import BoardAgent, agent_on_terminal
from tests.support.board_device import committed
from tests.support.chip_bus import GATEWAY_KEY, MAC_KEY
from tests.support.gateway import appending, gateway_core, known_device
from tests.support.smp_face import KEY_VARIABLE, NUMBER, facts_of, running_face

OLD, NEW = committed("agent-1.0.0"), committed("agent-1.1.0")
OLD_IMAGE, NEW_IMAGE = hashlib.sha256(OLD).digest(), hashlib.sha256(NEW).digest()


def patch_of(folder: Path) -> DeltaOffer:
    """Write the patch from the old agent to the new one, and return its offer."""
    kind, patch = make_patch(OLD, NEW)
    path = folder / "patch"
    path.write_bytes(patch)
    return DeltaOffer(OLD_IMAGE, Version.parse("1.0.0"), kind, hashlib.sha256(patch).digest(), len(patch), path)


def test_a_patch_and_the_sector_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The board receives a patch, and proves its pages with the secure element's MAC.

    If a page of the running board changes later, the gateway detects the change. The board then no longer counts as
    running the release.
    """
    monkeypatch.setenv(KEY_VARIABLE, f"{GATEWAY_KEY.private_numbers().private_value:064x}")
    agent = BoardAgent(OLD, file=tmp_path / "flash")
    key = agent.element.execute(Opcode.GENKEY, 0, DEVICE_KEY)
    device = known_device(NUMBER, face="smp", key=PublicKey(KeyKind.P256, key))
    received: list[bytes] = []
    feed = agent.board.feed

    def counted(data: bytes) -> bytes:
        received.append(data)
        return feed(data)

    agent.board.feed = counted  # type: ignore[method-assign]

    async def main(port: Path) -> None:
        facts = facts_of(tmp_path, device=device, images=(OLD, NEW), deltas=(patch_of(tmp_path),))
        settings: dict[str, Any] = {"mac_keys": {NUMBER: MAC_KEY}, "poll": 0.2, "identity_key": f"env:{KEY_VARIABLE}"}
        async with (
            gateway_core(tmp_path, facts) as gateway,
            appending(gateway),
            running_face(gateway, tmp_path, SmpLine(str(port), answer=3, erase=20), **settings) as (lines, _),
        ):
            await gateway.until(lambda: NEW_IMAGE in [entry.image for entry in gateway.appended()])
            assert (gateway.warnings(), [line for line in lines if "patch" in str(line)]) == ([], [])
            assert sum(map(len, received)) < len(NEW)

            agent.spoil(len(NEW) - 20)  # in the signature, which no code reads before the next boot
            while not gateway.warnings():
                await gateway.clock.advance(gateway.core, 3600)
                await asyncio.sleep(0.2)
            assert "do not have the content of the image" in str(gateway.warnings())
            await gateway.until(lambda: gateway.core.state(NUMBER).running != NEW_IMAGE)

    with agent_on_terminal(agent) as port:
        asyncio.run(main(port))
