"""Simulate devices that speak DDI: ``python -m firmware_host.fleet URL FILE``.

Each line of FILE is a JSON object with the fields of `FleetMember`. URL ends with the tenant, for example
``http://127.0.0.1:8443/default``. The program prints one line when it begins, and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from blockota.errors import BlockOTAError, UsageError
from blockota.shutdown import Stop, stop_on_signals
from firmware_host.fleet.device import FleetMember, SimulatedDevice

_WORKERS, _RATE = 9, 100
"""The number of threads, of which one waits for a signal, and the number of first polls in a second."""


async def run(devices: Sequence[SimulatedDevice], stop: Stop) -> None:
    """Let devices poll the server until a stop is requested."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_WORKERS))
    draw = random.Random(len(devices))  # noqa: S311 - a simulation
    lives = [asyncio.create_task(_live(one, draw.uniform(0, len(devices) / _RATE))) for one in devices]
    ended = asyncio.create_task(asyncio.to_thread(stop.wait_until_asked))
    done, _ = await asyncio.wait([ended, *lives], return_when=asyncio.FIRST_COMPLETED)
    stop.ask()  # ends the waiting thread if a device has failed
    for task in lives:
        task.cancel()
    for task in done:
        task.result()  # a defect of a device ends the program


async def _live(device: SimulatedDevice, pause: float) -> None:
    while True:
        await asyncio.sleep(pause)
        pause = await asyncio.to_thread(device.visit)


def main(words: Sequence[str]) -> int:
    """Simulate the devices of a file; return the exit status (see `blockota.errors`)."""
    try:
        url, devices = _read(words)
        with stop_on_signals() as stop:
            sys.stdout.write(f"{len(devices):,} devices poll {url}\n")
            sys.stdout.flush()
            asyncio.run(run(devices, stop))
    except BlockOTAError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def _read(words: Sequence[str]) -> tuple[str, list[SimulatedDevice]]:
    """Return the server and the devices of a command line.

    Raises:
        UsageError: the command line or the file is not valid.
    """
    if len(words) != len(("URL", "FILE")):
        raise UsageError(f"{len(words)} arguments were given", remedy="run `python -m firmware_host.fleet URL FILE`")

    url, file = words
    try:
        is_server = urlsplit(url).scheme == "http" and urlsplit(url).hostname and urlsplit(url).port
    except ValueError:
        is_server = False
    if not is_server:
        raise UsageError(f"{url!r:.80} is not the URL of a server", why="it does not begin with http://HOST:PORT")

    devices = []
    try:
        for number, line in enumerate(Path(file).read_text("utf-8").splitlines(), 1):
            try:
                devices.append(SimulatedDevice(url, FleetMember.parse(line)))
            except ValueError as error:
                raise UsageError(f"line {number} of {file} does not describe a device", why=str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read", why=str(error)) from error
    return url, devices


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
