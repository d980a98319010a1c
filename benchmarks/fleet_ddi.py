"""Measure the DDI face with many devices at once, beside nginx: ``python -m benchmarks.fleet_ddi``.

The same devices, in one process, fetch the same image from a gateway and from nginx: each with its own connection, and
each computes the SHA-256 of what it gets. The gateway runs in a process of its own, with its core and state.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.servers import nginx
from blockota.gateway.faces.ddi import DdiFace, DdiSettings
from blockota.gateway.facts import ProvenImage
from blockota.model.container import Container
from tests.gateway.faces.test_ddi import context
from tests.support.gateway import gateway_core, known_device, release_facts, site_facts

FIRST, MEBIBYTE = 256, 1 << 20
LIMIT, TURNS = 2.0, 5


async def be_gateway(count: int, folder: Path) -> None:
    """Serve the image of a folder to devices; print the URL of the action's image for each of them, with its token."""
    path = folder / "image.swu"
    digest, size = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_size
    facts = release_facts(folder, "1.1.0", sha256=digest, size=size)
    release = replace(facts, image=ProvenImage(digest, size, path, "", container=Container.SWU))
    numbers = range(FIRST, FIRST + count)
    async with gateway_core(folder, site_facts([known_device(number) for number in numbers], release)) as gateway:
        face = DdiFace(DdiSettings("127.0.0.1", 0), context(folder))

        def print_places() -> None:
            places = []
            for number in numbers:
                offer = gateway.core.offer(number)
                job = offer.job if offer else 0
                place = f"/default/controller/v1/{number}/softwaremodules/{job}/artifacts/firmware-1.1.0.swu"
                places.append((f"http://127.0.0.1:{face.port}{place}", gateway.state.issue_token("ddi", [number])))
            print(json.dumps(places), flush=True)

        await face.run(gateway.core, on_ready=print_places)


async def fetch_all(places: Sequence[tuple[str, str]], digest: str) -> float:
    """Let all devices fetch at once, and return the mean of their seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def fetch(url: str, token: str) -> float:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=MEBIBYTE)
        head = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: TargetToken {token}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        status = await reader.readuntil(b"\r\n\r\n")
        if not status.startswith(b"HTTP/1.1 200"):
            raise AssertionError(status)
        hashed = hashlib.sha256()
        while part := await reader.read(MEBIBYTE):
            hashed.update(part)
        writer.close()
        if hashed.hexdigest() != digest:
            raise AssertionError(f"{url} is not the image")
        return loop.time() - began

    return statistics.mean(await asyncio.gather(*(fetch(*place) for place in places)))


def measure(count: int, size: int) -> tuple[float, float]:
    """Return the medians of the mean seconds of a device, with the gateway and with nginx, in turns."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        image = random.Random(1).randbytes(size)  # noqa: S311 - a filler
        (folder / "image.swu").write_bytes(image)
        digest = hashlib.sha256(image).hexdigest()
        command = [sys.executable, "-m", "benchmarks.fleet_ddi", "--serve", str(folder), "--devices", str(count)]
        with nginx(folder) as theirs, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
            try:
                places = json.loads(gateway.stdout.readline()) if gateway.stdout else []
                others = [(f"{theirs}/image.swu", "")] * count
                runs = [
                    (asyncio.run(fetch_all(places, digest)), asyncio.run(fetch_all(others, digest)))
                    for _ in range(TURNS)
                ]
            finally:
                gateway.terminate()
    ours, other = zip(*runs, strict=True)
    return statistics.median(ours), statistics.median(other)


def main() -> int:
    """Measure, and return 1 if the limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--size", type=int, default=10 * MEBIBYTE)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(be_gateway(options.devices, options.serve))
        return 0
    ours, theirs = measure(options.devices, options.size)
    ratio = ours / theirs
    print(
        f"{options.devices} DDI devices, {options.size} bytes each: {ours:.2f} s, nginx {theirs:.2f} s, {ratio:.2f} x"
    )
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
