"""A mosquitto broker with TLS and access rules, and a gateway with a real core."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockota.chain.local import free_port
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.mqtt import MqttFace, create
from blockota.messaging.accounts import BrokerAccount
from blockota.messaging.client import BrokerConnection, connected
from blockota.messaging.mosquitto import BrokerFiles, write_broker_files
from blockota.settings_table import SettingsTable
from scripts.peers import find_program
from tests.support.gateway import GatewayCore
from tests.support.mqtt import FakeThing
from tests.support.receipts import GATEWAY
from tests.support.thing_desks import ThingDesks

_TOPICS = ("$aws/things/{}/jobs/#", "$aws/things/{}/shadow/#", "blockota/v1/things/{}/events/ack")
IDENTITY_KEY = "env:GATEWAY_IDENTITY_KEY"


class Mosquitto:
    """A mosquitto broker.

    Args:
        folder: the folder of the broker's files.
        devices: the devices that have a password.

    Attributes:
        passwords: the passwords by user name.
        files: the broker's files.
    """

    def __init__(self, folder: Path, devices: Iterable[int]) -> None:
        self.port = free_port()
        self.passwords = write_broker_files(folder, devices, hosts=["localhost", "127.0.0.1"], port=self.port)
        self.files = BrokerFiles(folder)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the broker, and wait until it listens."""
        command = [find_program("mosquitto"), "-c", str(self.files.folder / "mosquitto.conf")]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: ASYNC220
        async with asyncio.timeout(60):
            while True:
                assert self._process.poll() is None, "mosquitto ended"
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """Kill the broker, as a power cut does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def account(self, name: object, *, is_persistent: bool = False) -> BrokerAccount:
        """Return the account of a user."""
        text = str(name)
        password = self.passwords.get(text) or (self.files.secret(text) if text else "")
        return BrokerAccount("localhost", self.port, text, password, self.files.authority, is_persistent)

    def connect(self, name: object, *, is_persistent: bool = False) -> AbstractAsyncContextManager[BrokerConnection]:
        """Connect a user."""
        return connected(self.account(name, is_persistent=is_persistent))

    @asynccontextmanager
    async def thing(self, number: int) -> AsyncIterator[FakeThing]:
        """Connect a device. The device subscribes to all topics that it may receive."""
        async with self.connect(number) as connection:
            for topic in _TOPICS:
                await connection.subscribe(topic.format(number))
            yield FakeThing(connection, number)


@asynccontextmanager
async def mosquitto(folder: Path, *devices: int) -> AsyncIterator[Mosquitto]:
    """Run a broker."""
    broker = Mosquitto(folder, devices)
    await broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Lines:
    """Keeps the events of a face.

    Attributes:
        found: the events.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, _: str, what: str, **__: Any) -> None:
        """Record an event."""
        self.found.append(what)
        self._changed.set()

    async def has(self, what: str, count: int = 1) -> None:
        """Wait for an event."""
        async with asyncio.timeout(120):
            while self.found.count(what) < count:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def face(
    gateway: GatewayCore, broker: Mosquitto, folder: Path, log: list[bytes], desks: ThingDesks | None = None
) -> AsyncIterator[Lines]:
    """Run the face of a gateway. A list serves as the gateway's log, to which the outbox is appended."""
    lines = Lines()
    settings = {"broker": f"localhost:{broker.port}", "files": str(broker.files.folder), "images": "https://images"}
    context = FaceContext(
        GATEWAY, folder, gateway.clock, lines, IDENTITY_KEY, entries=lambda start: log[start : start + 256]
    )
    if desks:
        context = replace(context, readings=desks.readings, commands=desks.commands)
    found: MqttFace = create(SettingsTable("gateway.mqtt", settings, folder), context)
    gateway.core.add_face(found)
    tasks = [asyncio.create_task(found.run(gateway.core)), asyncio.create_task(_append(gateway, log))]
    try:
        connecting = asyncio.create_task(lines.has("connected"))
        await asyncio.wait([connecting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        connecting.cancel()
        for task in tasks:
            if task.done():
                task.result()
        yield lines
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _append(gateway: GatewayCore, log: list[bytes]) -> None:
    """Append the entries of the outbox to the log, as the service does."""
    while True:
        found = gateway.state.outbox()
        positions = [(sequence, len(log) + place) for place, (sequence, _) in enumerate(found)]
        log += [entry for _, entry in found]
        gateway.state.appended(positions)
        gateway.core.appended(positions)
        await asyncio.sleep(0.02)
