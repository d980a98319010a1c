"""Measure a gateway with a fleet of devices over real sockets: ``python -m benchmarks.fleet [PART ...] [--json]``.

Each PART is one of these measurements:

- update: the seconds from the confirmation of a release of 64 KiB until the receipts of 1,000 MQTT devices are in the
  log;
- faults: inject 10,000 faults into devices of three faces, kill the gateway meanwhile, and compare the log with the
    diaries of the devices;
- idle: processor time and memory of the gateway of a site with 10,000 idle devices.

All parts are measured by default. The gateway is a separate process, ``blockota gateway run``, with a real chain and a
real message broker (mosquitto with TLS and access rules). The faces are MQTT, DDI over HTTPS, and LwM2M over CoAP
without DTLS. The devices' keys are in software.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

from benchmarks import fleet_idle
from benchmarks.figure import Figure, folder_on_disk, report
from benchmarks.fleet_campaign import CampaignPlan, CampaignResult, run_campaign
from benchmarks.fleet_site import BLOCK, SiteSettings, fleet_site

DEVICES, FAULTS, KILLS, SEED = 1_000, 10_000, 5, 20_261
SHARES = {"mqtt": 0.5, "ddi": 0.3, "lwm2m": 0.2}
"""The share of each face in the devices of the campaign."""
_FLEET, _ROUNDS, _SIZE = 250, 10, 64 << 10
_SHOWN = 20


def update(devices: int = DEVICES) -> Iterator[Figure]:
    """Yield the duration of an update of MQTT devices, and the number of images with wrong bytes."""
    result = _run(CampaignPlan({"mqtt": devices}, faults=0, rounds=1, size=_SIZE))
    name = f"{devices:,} MQTT devices with {_SIZE >> 10} KiB"
    yield Figure(f"{name}, from the confirmed release to the last receipt in the log", result.logged, "s", 60)
    yield Figure(f"{name}, images that were served or installed with other bytes", result.unverified, "images", 0)
    yield from _judged(name, result)


def faults(count: int = FAULTS, *, seed: int = SEED, kills: int = KILLS) -> Iterator[Figure]:
    """Inject faults, and yield the numbers of wrong log entries, stuck devices and images with wrong bytes."""
    rounds = min(_ROUNDS, max(kills, 1, count // 100))
    fleet = max(min(_FLEET, count // (4 * rounds)), 1)
    devices = {face: max(round(fleet * share), 1) for face, share in SHARES.items()}
    result = _run(CampaignPlan(devices, faults=count, rounds=rounds, kills=kills, seed=seed))
    for (face, fault), number in sorted(result.faults.items()):
        print(f"{number:>7,}  {face}: {fault}", file=sys.stderr)
    by_face = Counter[str]()
    for (face, _), number in result.faults.items():
        by_face[face] += number
    how = ", ".join(f"{number:,} on {devices[face]} devices by {face}" for face, number in by_face.items())
    name = f"{result.faults.total():,} faults"
    how = (
        f"{how}; the gateway was killed {result.kills} times; {rounds} releases in {result.seconds:.0f} s; seed {seed}"
    )
    yield from _judged(name, result, how)
    yield Figure(f"{name}, images that were served or installed with other bytes", result.unverified, "images", 0)


def _judged(name: str, result: CampaignResult, how: str = "") -> Iterator[Figure]:
    verdict = result.verdict
    for kind, found in (("false", verdict.false), ("lost", verdict.lost), ("doubled", verdict.doubled)):
        for text in found[:_SHOWN]:
            print(f"{kind.upper()}  {text}", file=sys.stderr)
    for text in result.stuck[:_SHOWN]:
        print(f"STUCK  {text}", file=sys.stderr)
    name = f"{name}, {verdict.entries:,} entries in the log"
    yield Figure(f"{name}: false ones", len(verdict.false), "entries", 0, times=how)
    yield Figure(f"{name}: lost or doubled ones", len(verdict.lost) + len(verdict.doubled), "entries", 0)
    yield Figure(f"{name}: devices that got stuck", len(result.stuck), "devices", 0)


def _run(plan: CampaignPlan) -> CampaignResult:
    blocks = -(-sum(plan.devices.values()) // BLOCK)
    with folder_on_disk() as folder, fleet_site(folder, SiteSettings(blocks=blocks)) as site:
        return run_campaign(site, plan)


def main() -> int:
    """Measure, and return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="update, faults, idle; all by default")
    parser.add_argument("--devices", type=int, default=DEVICES, help="MQTT devices of the update")
    parser.add_argument("--faults", type=int, default=FAULTS, help="injected faults")
    parser.add_argument("--kills", type=int, default=KILLS, help="number of times that the gateway is killed")
    parser.add_argument("--known", type=int, default=fleet_idle.DEVICES, help="devices of the idle gateway")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true", help="print the figures only as JSON")
    options = parser.parse_args()
    every = {
        "update": update(options.devices),
        "faults": faults(options.faults, seed=options.seed, kills=options.kills),
        "idle": fleet_idle.figures(options.known),
    }
    if unknown := set(options.parts) - every.keys():
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    return report(*(every[name] for name in options.parts or every))


if __name__ == "__main__":
    sys.exit(main())
