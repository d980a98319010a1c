"""Measure how fast MQTT devices are notified: ``python -m benchmarks.fleet_mqtt``.

A thousand devices in one process are connected to mosquitto over TLS. The gateway's core then receives the facts of a
block with a new release. The benchmark measures the time from the arrival of the block's facts until each device has
received the signed document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from blockota.messaging.accounts import BrokerAccount
from blockota.messaging.client import BrokerConnection, connected
from blockota.messaging.topics import notify_next
from tests.peers.mqtt.site import IDENTITY_KEY, face, mosquitto
from tests.support.gateway import gateway_core, known_device, release_facts, site_facts

FIRST = 256
MEDIAN_LIMIT, LAST_LIMIT = 0.25, 1.0
_CONNECTING = 50


async def measure(count: int, folder: Path) -> list[float]:
    """Return the seconds until each device was notified, in ascending order."""
    numbers = range(FIRST, FIRST + count)
    devices = [known_device(number) for number in numbers]
    async with (
        mosquitto(folder / "broker", *numbers) as broker,
        gateway_core(folder, site_facts(devices)) as gateway,
        face(gateway, broker, folder, []),
    ):
        things = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.fleet_mqtt", "--things", str(count), "--port", str(broker.port)),
            *("--authority", str(broker.files.authority)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        if things.stdin is None or things.stdout is None:
            raise AssertionError
        things.stdin.write(json.dumps([broker.passwords[str(number)] for number in numbers]).encode() + b"\n")
        await things.stdout.readline()  # they are connected
        facts = site_facts(devices, release_facts(folder, "1.1.0"))
        began = time.monotonic()
        await gateway.core.update(facts, {})
        times = json.loads(await things.stdout.readline())
        await things.wait()
    return sorted(one - began for one in times)


async def be_things(count: int, port: int, authority: Path) -> None:
    """Connect devices, print ``ready``, and print the times at which they were notified."""
    passwords = json.loads(sys.stdin.readline())
    connecting = asyncio.Semaphore(_CONNECTING)
    async with AsyncExitStack() as stack:

        async def connect(place: int) -> BrokerConnection:
            number = FIRST + place
            account = BrokerAccount("localhost", port, str(number), passwords[place], authority)
            async with connecting:
                connection = await stack.enter_async_context(connected(account))
                await connection.subscribe(notify_next(number))
            return connection

        connections = await asyncio.gather(*map(connect, range(count)))
        waiting = [asyncio.create_task(_notified(one)) for one in connections]
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(await asyncio.gather(*waiting)) + "\n")
        sys.stdout.flush()
        os._exit(0)  # closing a thousand connections in order takes longer than the measurement


async def _notified(connection: BrokerConnection) -> float:
    async for message in connection.messages():
        if b"jobDocument" in message.payload:
            return time.monotonic()
    raise AssertionError


def main() -> int:
    """Measure, and return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--things", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--authority", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.things:
        asyncio.run(be_things(options.things, options.port, options.authority))
        return 0
    os.environ[IDENTITY_KEY.removeprefix("env:")] = f"{7:064x}"
    with tempfile.TemporaryDirectory() as folder:
        times = asyncio.run(measure(options.devices, Path(folder)))
    middle, last = median(times), times[-1]
    print(f"{len(times)} devices notified: median {middle * 1000:.0f} ms, last {last * 1000:.0f} ms")
    return int(middle > MEDIAN_LIMIT or last > LAST_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
