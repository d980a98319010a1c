"""Test the MQTT face on a NATS cluster whose nodes are killed; run by `make deep`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from blockota.formats import cbor
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.mqtt import create
from blockota.messaging.topics import site_events
from blockota.model.delivery import Stage
from blockota.settings_table import SettingsTable
from scripts.install_nats import find
from tests.deep.nats.cluster import NatsCluster, Node, admits, nats_cluster, reach
from tests.peers.mqtt.site import IDENTITY_KEY, Lines
from tests.support.gateway import GatewayCore, gateway_core, known_device, release_facts, site_facts
from tests.support.mqtt import FakeThing
from tests.support.receipts import GATEWAY

LOG = [b"entry %d" % number for number in range(200)]
TOPICS = ("$aws/things/256/jobs/#", "blockota/v1/things/256/events/ack")


@asynccontextmanager
async def running_face(gateway: GatewayCore, cluster: NatsCluster, folder: Path) -> AsyncIterator[Lines]:
    """Run the face, which first connects to the first node."""
    lines = Lines()
    first, second, third = cluster.nodes
    values = {
        "broker": [f"127.0.0.1:{node.port}" for node in (third, first, second)],  # each connection takes the next one
        "files": str(cluster.files.folder),
        "images": "https://images",
    }
    context = FaceContext(
        GATEWAY, folder, gateway.clock, lines, IDENTITY_KEY, entries=lambda start: LOG[start : start + 256]
    )
    face = create(SettingsTable("gateway.mqtt", values, folder), context)
    gateway.core.add_face(face)
    running = asyncio.create_task(face.run(gateway.core))
    try:
        yield lines
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def thing(cluster: NatsCluster, node: Node) -> AsyncIterator[FakeThing]:
    """Connect the device to a node."""
    async with AsyncExitStack() as stack:
        connection = await reach(stack, cluster.account(256, node, is_persistent=True))
        for topic in TOPICS:
            assert await connection.subscribe(topic)
        yield FakeThing(connection, 256)


def test_the_nodes_are_killed_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job succeeds, and the manager gets all entries, although two nodes are killed one after the other."""
    monkeypatch.setenv(IDENTITY_KEY.removeprefix("env:"), f"{7:064x}")
    program = find()
    assert program, "nats-server not found: build it with `make nats`"

    async def main() -> None:
        facts = site_facts([known_device(256)], release_facts(tmp_path, "1.1.0"))
        async with nats_cluster(program, tmp_path / "nats", 256) as cluster, gateway_core(tmp_path, facts) as gateway:
            first, second, third = cluster.nodes
            async with AsyncExitStack() as stack:
                away = await reach(stack, cluster.account("cms", third, is_persistent=True))
                assert await away.subscribe(site_events(GATEWAY))

            async with running_face(gateway, cluster, tmp_path) as lines:
                await lines.has("connected")
                first.kill()
                await lines.has("connected", 2)
                first.start()
                await admits(cluster, first)  # two of three nodes at once would be too many

                async with thing(cluster, second) as device:
                    # A node that was apart does not always have the retained notice: a device asks when it connects.
                    begun = await repeated(device, "jobs/start-next")
                second.kill()
                async with thing(cluster, third) as device:
                    end = f"jobs/{begun['execution']['jobId']}/update"
                    details = {"sha256": begun["execution"]["jobDocument"]["sha256"]}
                    answer = await repeated(device, end, status="SUCCEEDED", statusDetails=details)
                    assert answer["topic"] == "accepted"
                second.start()
                assert gateway.core.state(256).stage is Stage.SETTLED
                assert await received(cluster, first) == LOG

    asyncio.run(main())


async def repeated(device: FakeThing, end: str, **fields: Any) -> dict[str, Any]:
    """Send a request, and repeat it until it is answered."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(15):
                return await FakeThing(device.connection, device.number).ask(end, **fields)


async def received(cluster: NatsCluster, node: Node) -> list[bytes]:
    """Return the entries that the management system receives from a node, in the order of the log."""
    found: dict[int, bytes] = {}
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        back = await reach(stack, cluster.account("cms", node, is_persistent=True))
        async for message in back.messages():
            index, entry = cbor.decode(message.payload)
            found[index] = entry
            if len(found) == len(LOG):
                break
    return [found[index] for index in range(len(LOG))]
