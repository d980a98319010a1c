"""Notices of the operations room through a mosquitto broker with its access rules."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockota.chain import Chain
from blockota.messaging.accounts import BrokerSettings
from blockota.messaging.mosquitto import MANAGEMENT, OPERATIONS
from blockota.model.receipt import EntryKind
from blockota.stores.local import LocalStore
from tests.conftest import Cast
from tests.peers.mqtt.site import Mosquitto
from tests.support.city import GATEWAY
from tests.support.operations_room import make_scene, running_room

SECONDS = 60


def test_notices_arrive_although_the_broker_was_killed(anvil: Chain, cast: Cast, tmp_path: Path) -> None:
    """A management system receives a notice of each new release, order, event and warning, even after an outage."""
    scene = make_scene(anvil, cast, tmp_path)
    broker = Mosquitto(tmp_path / "mqtt", [])
    place = BrokerSettings(
        "localhost", broker.port, OPERATIONS, broker.files.folder / f"{OPERATIONS}.secret", broker.files.authority
    )
    setup = replace(scene.setup, settings=replace(scene.setup.settings, broker=place))

    async def take(kinds: set[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        async with broker.connect(MANAGEMENT, is_persistent=True) as connection, asyncio.timeout(SECONDS):
            assert await connection.subscribe("blockota/v1/notices/#")
            messages = connection.messages()
            while not kinds <= found.keys():
                message = await anext(messages)
                notice = json.loads(message.payload)
                assert message.topic == f"blockota/v1/notices/{notice['kind']}"
                found[notice["kind"]] = notice
        return found

    async def main() -> None:
        await broker.start()
        await take(set())  # from now on, the broker keeps the notices for this subscriber
        await asyncio.to_thread(stack.enter_context, running_room(setup))
        first = await take({"release", "order", "event", "warning"})
        receipt = anvil.receipt(bytes.fromhex(first["release"]["transaction"][2:]))
        assert receipt
        assert receipt.block_number == first["release"]["block"]
        assert first["warning"]["log"] == str(GATEWAY.uuid)

        broker.kill()
        scene.city.publish("1.2.0", b"image 1.2.0", LocalStore(tmp_path / "store"))
        scene.gateway.state(EntryKind.WARNING, "during the outage", time=int(time.time()))
        scene.gateway.publish()
        await broker.start()
        second = await take({"release", "warning"})
        assert second["warning"]["entry"] > first["warning"]["entry"]
        broker.kill()

    with ExitStack() as stack:
        asyncio.run(main())
