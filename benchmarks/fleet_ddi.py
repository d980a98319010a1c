"""Compare 100 simultaneous downloads from the DDI face and from nginx: ``python -m benchmarks.fleet_ddi``.

Each client is a thread with its own connection, and computes the SHA-256 of the received bytes. The measured time ends
when the last client has finished. The time of the face includes the poll and the request for the action; nginx serves
only the image.

``python -m benchmarks.fleet_ddi FOLDER [PEM]`` serves the devices of a folder in a separate process. If PEM, a file
with a certificate and its key, is given, the process uses TLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.figure import (
    ROOT,
    Figure,
    duration,
    folder_on_disk,
    in_turns,
    options,
    plain_digest,
    report,
    seconds_of,
)
from benchmarks.servers import nginx
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.ddi import DdiFace, DdiSettings
from blockota.gateway.faces.ddi_state import STATE_NAME
from blockota.gateway.facts import ProvenImage
from blockota.model.container import Container
from tests.support.gateway import gateway_core, known_device, release_facts, site_facts
from tests.support.receipts import GATEWAY
from tests.support.tls import CERTIFICATE, PRIVATE_KEY

CLIENTS, SIZE = 100, 10 << 20
_FIRST = 256
_READ = 1 << 18


@dataclass(frozen=True)
class DownloadServer:
    """A server from which the clients download: the DDI face or nginx.

    Attributes:
        url: the server's URL.
        token: the token with which all devices authenticate; empty for nginx.
    """

    url: str
    token: str = ""


def figures(clients: int = CLIENTS, size: int = SIZE, *, runs: int = 5) -> Iterator[Figure]:
    """Yield the duration of all downloads relative to nginx, without and with TLS."""
    with folder_on_disk() as folder:
        image = hashlib.shake_128(b"image").digest(size)
        (folder / "image.swu").write_bytes(image)
        digest = hashlib.sha256(image).digest()
        pem = folder / "server.pem"
        pem.write_bytes(CERTIFICATE.read_bytes() + PRIVATE_KEY.read_bytes())
        for certificate in (None, pem):
            with served(folder, certificate) as ours, nginx(folder, certificate=certificate) as url:
                ways = (
                    partial(seconds_of, partial(run_clients, place, clients, digest))
                    for place in (ours, DownloadServer(url))
                )
                pairs = in_turns(*ways, runs=runs)
            kind = "HTTPS" if certificate else "HTTP"
            name = f"{size >> 20} MiB to {clients} DDI clients by {kind}, of nginx"
            mine, other = (sorted(times)[len(times) // 2] for times in zip(*pairs, strict=True))
            yield duration(name, pairs, at_most=200, times=f"{mine:.2f} s / {other:.2f} s")


def run_clients(place: DownloadServer, clients: int, digest: bytes) -> None:
    """Let all clients download the image at the same time.

    Raises:
        ValueError: a client got wrong bytes.
    """
    with ThreadPoolExecutor(clients) as pool:
        numbers = range(_FIRST, _FIRST + clients)
        if set(pool.map(partial(fetch, place), numbers)) != {digest}:
            raise ValueError(f"clients of {place.url} got other bytes")


def fetch(place: DownloadServer, number: int) -> bytes:
    """Poll, request the action, and download its image as one client; return the SHA-256 of the received bytes.

    nginx serves the image only.
    """
    with connected(place.url) as connection:
        headers = {"Authorization": f"GatewayToken {place.token}"}
        path = "/image.swu"
        if place.token:
            answer = _document(connection, f"/default/controller/v1/{number}", headers)
            action = _document(connection, urlsplit(answer["_links"]["deploymentBase"]["href"]).path, headers)
            [artifact] = action["deployment"]["chunks"][0]["artifacts"]
            path = urlsplit(artifact["_links"]["download-http"]["href"]).path
        connection.request("GET", path, headers=headers)
        response, digest, buffer = connection.getresponse(), hashlib.sha256(), bytearray(_READ)
        view = memoryview(buffer)
        while count := response.readinto(buffer):
            digest.update(view[:count])
    return digest.digest()


@contextmanager
def connected(url: str) -> Iterator[http.client.HTTPConnection]:
    """Connect to a server."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    if place.scheme == "https":
        context = ssl.create_default_context(cafile=CERTIFICATE)
        connection = http.client.HTTPSConnection(place.hostname or "", place.port, context=context)
    try:
        yield connection
    finally:
        connection.close()


def _document(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> Any:
    connection.request("GET", path, headers=headers)
    return json.loads(connection.getresponse().read())


@contextmanager
def served(folder: Path, certificate: Path | None) -> Iterator[DownloadServer]:
    """Serve the image of a folder to devices, in another process."""
    command = [sys.executable, "-m", "benchmarks.fleet_ddi", str(folder), *([str(certificate)] if certificate else [])]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield DownloadServer(*(process.stdout.readline().split() if process.stdout else ()))
        finally:
            process.terminate()


async def serve(folder: Path, certificate: Path | None) -> None:
    """Serve the image of a folder to devices; print the URL and the token of all devices."""
    devices, path = range(_FIRST, _FIRST + CLIENTS), folder / "image.swu"
    digest, size = plain_digest(path), path.stat().st_size
    facts = release_facts(folder, "1.1.0", sha256=digest, size=size)
    release = replace(facts, image=ProvenImage(digest, size, path, "", container=Container.SWU))
    for name in ("state.sqlite", STATE_NAME):
        (folder / name).unlink(missing_ok=True)
    async with gateway_core(folder, site_facts(map(known_device, devices), release)) as gateway:
        context = FaceContext(GATEWAY, folder, gateway.clock, lambda *_, **__: None)
        face = DdiFace(DdiSettings("127.0.0.1", 0, certificate, certificate), context)
        token = gateway.state.issue_token("ddi", list(devices))

        def show() -> None:
            print(f"{'https' if certificate else 'http'}://127.0.0.1:{face.port} {token}", flush=True)

        await face.run(gateway.core, on_ready=show)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [folder, *certificate] if not folder.startswith("-"):
            asyncio.run(serve(Path(folder), Path(certificate[0]) if certificate else None))
        case _:
            options(__doc__, has_quick=False)
            sys.exit(report(figures()))
