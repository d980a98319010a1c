"""Simulate devices that speak DDI: ``python -m firmware_host.fleet URL FILE``.

FILE has a JSON object with the members of `FleetMember` on each line. URL ends with the tenant, for example
``http://127.0.0.1:8443/default``. The program prints one line when it begins, and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blockota.shutdown import Stop, stop_on_signals
from firmware_host.fleet.device import FleetMember, SimulatedDevice

_WORKERS, _SPREAD, _TICK = 9, 10.0, 0.2
"""The number of threads, of which one waits for a signal, seconds in which all devices poll for the first time, and
seconds of one wait for a signal."""


async def run(devices: Sequence[SimulatedDevice], stop: Stop) -> None:
    """Let devices visit the server until the stop is requested."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_WORKERS))
    draw = random.Random(len(devices))  # noqa: S311 - a simulation
    lives = [asyncio.create_task(_live(one, draw.uniform(0, _SPREAD))) for one in devices]
    ended = asyncio.create_task(_stopped(stop))
    done, _ = await asyncio.wait([ended, *lives], return_when=asyncio.FIRST_COMPLETED)
    for task in lives:
        task.cancel()
    for task in done:
        task.result()  # a defect of a device ends the program


async def _live(device: SimulatedDevice, pause: float) -> None:
    while True:
        await asyncio.sleep(pause)
        pause = await asyncio.to_thread(device.visit)


async def _stopped(stop: Stop) -> None:
    while not await asyncio.to_thread(stop.wait, _TICK):
        pass


def main(url: str, file: Path) -> None:
    """Simulate the devices of a file."""
    devices = [SimulatedDevice(url, FleetMember.parse(line)) for line in file.read_text().splitlines()]
    with stop_on_signals() as stop:
        sys.stdout.write(f"{len(devices):,} devices poll {url}\n")
        sys.stdout.flush()
        asyncio.run(run(devices, stop))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
