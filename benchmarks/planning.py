"""Measure the gateway's core with many known devices, without faces: ``python -m benchmarks.planning [--json]``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from benchmarks.figure import Figure, folder_on_disk, options, report
from blockota.gateway.core import Report
from tests.support.gateway import GatewayCore, known_device, release_facts, site_facts

DEVICES = 10_000
_MIB = 1 << 20


def figures(count: int = DEVICES) -> Iterator[Figure]:
    """Yield the memory of the gateway's core, and how long all reports, a full plan, a tick and a start take."""
    with folder_on_disk() as folder:
        yield from asyncio.run(_collected(folder, count))


async def _collected(folder: Path, count: int) -> list[Figure]:
    return [figure async for figure in _measured(folder, count)]


async def _measured(folder: Path, count: int) -> AsyncIterator[Figure]:
    devices = [known_device(number) for number in range(256, 256 + count)]
    old, new, newest = (release_facts(folder, version) for version in ("1.0.0", "1.1.0", "1.2.0"))
    known = f"{count:,} devices"
    with GatewayCore(folder) as gateway:
        core = gateway.core
        await core.update(site_facts(devices, old, new), {})
        began = time.perf_counter()
        reported = Report(image=old.release.sha256)
        await asyncio.gather(*(core.reported(device.number, reported) for device in devices))
        yield Figure(f"reports of {known} at once, each with an entry", time.perf_counter() - began, "s")

        began = time.perf_counter()
        await core.update(site_facts(devices, old, new, newest), {})
        yield Figure(f"full re-plan of {known}, written to the disk", time.perf_counter() - began, "s", 1.0)
        offers = [offer for device in devices if (offer := core.offer(device.number)) and offer.release == newest.id]
        yield Figure(f"devices of {known} that are offered the new release", len(offers), "", count, is_minimum=True)

        began = time.perf_counter()
        await core.update(site_facts(devices, old, new, newest), {})
        yield Figure(f"new facts that change none of {known}", (time.perf_counter() - began) * 1_000, "ms")
        began = time.process_time()
        for _ in range(10):
            gateway.clock.now += 1
            await core.tick()
        yield Figure(
            f"processor time of ten ticks with {known}", (time.process_time() - began) * 1_000, "ms of CPU", 200
        )
        yield Figure(f"memory of a process with {known}", _resident() / _MIB, "MiB", 200)
    began = time.perf_counter()
    with GatewayCore(folder):
        yield Figure(f"start with {known}", time.perf_counter() - began, "s")


def _resident() -> int:
    """Return the resident memory of this process in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
