"""The SMP face updates the committed agent on a simulated STM32F103 with a secure element."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.faces.smp.board import SmpLine
from blockota.model.delivery import Stage
from blockota.model.evidence import judge
from blockota.model.receipt import EntryKind, EvidenceLevel
from firmware_host.simulator.secure_element.protocol import Opcode
from firmware_host.simulator.secure_element.provisioning import DEVICE_KEY
from tests.support.board_agent import BoardAgent, agent_on_terminal
from tests.support.board_device import committed
from tests.support.chip_bus import GATEWAY_KEY
from tests.support.gateway import appending, gateway_core, known_device
from tests.support.smp_face import DEADLINE, KEY_VARIABLE, NUMBER, facts_of, running_face

OLD, NEW = committed("agent-1.0.0"), committed("agent-1.1.0")
OLD_IMAGE, NEW_IMAGE = hashlib.sha256(OLD).digest(), hashlib.sha256(NEW).digest()


def test_the_gateway_updates_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled agent passes a whole update: session, offer, upload, trial, confirmation and events.

    The receipts have level A.
    """
    monkeypatch.setenv(KEY_VARIABLE, f"{GATEWAY_KEY.private_numbers().private_value:064x}")
    agent = BoardAgent(OLD)
    key = agent.element.execute(Opcode.GENKEY, 0, DEVICE_KEY)
    device = known_device(NUMBER, face="smp", key=PublicKey(KeyKind.P256, key))

    async def main(port: Path) -> None:
        facts = facts_of(tmp_path, device=device, images=(OLD, NEW))
        line = SmpLine(str(port), answer=20, erase=20)
        async with (
            gateway_core(tmp_path, facts) as gateway,
            appending(gateway),
            running_face(gateway, tmp_path, line, identity_key=f"env:{KEY_VARIABLE}", poll=0.2),
            asyncio.timeout(DEADLINE),
        ):
            await gateway.until(lambda: gateway.core.state(NUMBER).stage is Stage.SETTLED)
            await gateway.until(lambda: NEW_IMAGE in [entry.image for entry in gateway.appended()])
            entries = gateway.appended()
        receipts = [entry for entry in entries if entry.kind in {EntryKind.INSTALL, EntryKind.CLAIMED}]
        assert [entry.image for entry in receipts] == [OLD_IMAGE, NEW_IMAGE]
        assert {entry.level for entry in receipts} == {EvidenceLevel.A}
        assert all(judge(entry, key).is_signed for entry in receipts)
        assert not [entry.source for entry in entries if entry.kind is EntryKind.WARNING]

    with agent_on_terminal(agent) as port:
        asyncio.run(main(port))
    assert agent.slot().startswith(NEW)


def test_the_board_refuses_another_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose key is not in the board's secure element writes nothing to the board, and logs the reason."""
    monkeypatch.setenv(KEY_VARIABLE, "4d".rjust(64, "0"))
    agent = BoardAgent(OLD)
    key = agent.element.execute(Opcode.GENKEY, 0, DEVICE_KEY)
    device = known_device(NUMBER, face="smp", key=PublicKey(KeyKind.P256, key))

    async def main(port: Path) -> None:
        facts = facts_of(tmp_path, device=device, images=(OLD, NEW))
        line = SmpLine(str(port), answer=20, erase=20)
        async with (
            gateway_core(tmp_path, facts) as gateway,
            appending(gateway),
            running_face(gateway, tmp_path, line, identity_key=f"env:{KEY_VARIABLE}", poll=0.2),
        ):
            await gateway.until(lambda: any("not signed by the gateway" in text for _, text in gateway.warnings()))

    with agent_on_terminal(agent) as port:
        asyncio.run(main(port))
    assert agent.slot().startswith(OLD)
    assert set(agent.slot(1)) == {0xFF}
