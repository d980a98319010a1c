"""Measure the idle gateway of a site with many devices: processor time and memory of ``blockota gateway run``.

The devices are registered on the chain as one batch. The faces MQTT, DDI and LwM2M run. The chain gets a new block
every two seconds, so that the gateway reads the chain as on a real network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, folder_on_disk
from benchmarks.fleet_site import BLOCK, FleetSite, SiteSettings, fleet_site, wait_until

DEVICES = 10_000
_SECONDS, _SETTLING, _BLOCK_TIME = 60, 20, 2
_MIB = 1 << 20


def figures(devices: int = DEVICES, seconds: float = _SECONDS) -> Iterator[Figure]:
    """Yield the processor time in percent of one core, and the memory, of an idle gateway."""
    with folder_on_disk() as folder, fleet_site(folder, SiteSettings(blocks=-(-devices // BLOCK))) as site:
        site.register_batch(devices)
        site.start_broker()
        site.start()
        wait_until(lambda: knows(site, devices), seconds=120, what="the gateway's reading of all devices")
        _let_pass(site, _SETTLING)

        before, began = _processor_time(site), time.monotonic()
        _let_pass(site, seconds)
        percent = 100 * (_processor_time(site) - before) / (time.monotonic() - began)
        name = f"with {devices:,} known devices and a block every {_BLOCK_TIME} s"
        yield Figure(f"processor time of an idle `gateway run` {name}", percent, "%", 2)
        resident, peak = (_status(site, key) / _MIB for key in ("VmRSS", "VmHWM"))
        yield Figure(f"memory of it; {peak:.0f} MiB at most", resident, "MiB", 200)


def knows(site: FleetSite, devices: int) -> bool:
    """Whether the gateway reports this number of devices."""
    return int(site.health().get("devices", 0)) == devices


def _let_pass(site: FleetSite, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        site.city.chain.mine()
        time.sleep(_BLOCK_TIME)


def _processor_time(site: FleetSite) -> float:
    """Return the seconds of processor time that the gateway has used."""
    fields = Path(f"/proc/{site.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(site: FleetSite, key: str) -> int:
    text = Path(f"/proc/{site.pid}/status").read_text(encoding="ascii")
    return int(next(line for line in text.splitlines() if line.startswith(f"{key}:")).split()[1]) * 1024
