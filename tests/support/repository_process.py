"""A repository process without a chain, with three images and a file that is not an image.

Usage: ``python -m tests.support.repository_process FOLDER OPTIONS``. OPTIONS is a JSON object. Its keys are fields of
`Listening`, and ``tokens``, ``store``, ``refresh`` and ``open_files`` (the soft and the hard limit).
"""

from __future__ import annotations

import hashlib
import io
import json
import resource
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import requests

from blockota.bindings.serving_rights import Reading
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Release, Status, Version
from blockota.model.rights import Claim
from blockota.repository.access_log import open_log
from blockota.repository.blocks import BlockStore
from blockota.repository.catalogue import Catalogue
from blockota.repository.connection import ConnectionLimits
from blockota.repository.release_site import ReleaseSite
from blockota.repository.server import Listening, serve
from blockota.repository.tokens import Tokens
from blockota.stores.local import LocalStore
from blockota.stores.store import open_store
from tests.support import forks
from tests.support.fetch_samples import IMAGE, ROOT, SMALL, SMALL_ROOT, blocks_of
from tests.support.tls import CERTIFICATE, PRIVATE_KEY
from tests.support.waiting import eventually

SECRET = b"a file that is not published"
LARGE = hashlib.shake_128(b"large").digest(12 << 20)
"""An image that is larger than the socket buffers of a client that does not read."""
LARGE_ROOT, _ = blocks_of(LARGE)
HEADER_SECONDS, STALL_SECONDS = 1.0, 2.0
WAIT_SECONDS = 60.0
NOW = 1_800_000_000
HOST = "127.0.0.1"


def release(number: int, size: int, *, sha256: bytes = bytes(32), dag_root: bytes | None = None) -> Release:
    """Return a release with version 1.`number`.0."""
    facts: dict[str, Any] = {"load_address": 0, "active_from": 0, "chip_id": 0, "status": Status.ACTIVE}
    return Release("acme-thermo2", Version(1, number, 0), sha256, size, dag_root=dag_root, **facts)


CLAIMS = (
    Claim(release(0, len(IMAGE), dag_root=ROOT.digest), None),
    Claim(release(2, len(LARGE), dag_root=LARGE_ROOT.digest), None),
    Claim(release(1, len(SMALL), sha256=SMALL_ROOT.digest), None),
)
BIG_CLAIM, SMALL_CLAIM = CLAIMS[0], CLAIMS[-1]


def agreed(claim: Claim, expires_at: int) -> Claim:
    """Return a claim under an accepted agreement."""
    release, uri = claim.release, "https://broker.example"
    agreement = Agreement(1, "0x00", release.product, release.version, expires_at, AgreementStatus.ACCEPTED, uri)
    return replace(claim, agreement=agreement)


def revoked(claim: Claim) -> Claim:
    """Return a claim after the release was revoked."""
    return replace(claim, release=replace(claim.release, status=Status.REVOKED))


def read_fixed() -> Reading:
    """Return constant serving rights, in place of rights that are read from a chain."""
    return Reading(NOW, CLAIMS)


@dataclass(frozen=True)
class Running:
    """A running repository.

    Attributes:
        url: the URL of the repository.
        process: the process of the repository.
        store: the local store of the repository.
        log: the path of the access log.
        authority: the path of the TLS certificate; None without TLS.
    """

    url: str
    process: forks.Process
    store: LocalStore
    log: Path
    authority: Path | None = None

    def slow_reader(self, request: bytes) -> socket.socket:
        """Send a request with a small receive buffer, read the first byte of the response, and stop reading."""
        connection = self.connect(buffer=1 << 14)
        connection.sendall(request)
        assert connection.recv(1) == b"H"
        return connection

    @property
    def port(self) -> int:
        """The TCP port of the repository."""
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **options: Any) -> requests.Response:
        """Send a request on a new connection, and return the response."""
        options = {"verify": str(self.authority) if self.authority else True} | options
        return requests.request(options.pop("method", "GET"), self.url + path, timeout=WAIT_SECONDS, **options)

    def connect(self, *, buffer: int = 0) -> socket.socket:
        """Open a connection without sending a request; `buffer` limits the receive buffer, in bytes."""
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(WAIT_SECONDS)
        connection.connect((HOST, self.port))
        if self.authority is None:
            return connection
        return ssl.create_default_context(cafile=str(self.authority)).wrap_socket(connection, server_hostname=HOST)

    def say(self, words: bytes) -> bytes:
        """Send bytes on a new connection, and return all bytes received."""
        with self.connect() as connection:
            connection.sendall(words)
            return receive_all(connection)

    @property
    def peak_memory(self) -> int:
        """The peak memory use of the process in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def line(self, number: int) -> dict[str, Any]:
        """Return a line of the access log, waiting until the response is complete and logged."""
        return eventually(lambda: self.lines[number:], what="the line in the access log")[0]


def receive_all(connection: socket.socket) -> bytes:
    """Receive bytes until the peer closes or resets the connection."""
    data = bytearray()
    try:
        while part := connection.recv(1 << 16):
            data += part
    except (ConnectionError, ssl.SSLError):
        pass
    return bytes(data)


@contextmanager
def running(folder: Path, *, tls: bool = False, **options: Any) -> Iterator[Running]:
    """Run a repository whose store is in a folder."""
    if tls:
        options |= {"certificate": str(CERTIFICATE), "private_key": str(PRIVATE_KEY)}
    authority = Path(options["certificate"]) if "certificate" in options else None
    store = LocalStore(folder / "store")
    for data in (IMAGE, SMALL, LARGE, SECRET):
        store.put(io.BytesIO(data))
    words = ["-m", "tests.support.repository_process", str(folder), json.dumps(options)]
    with forks.started(words, folder=forks.ROOT) as process:
        url = process.stdout.readline().strip()
        assert url, "it did not start"
        yield Running(url, process, store, folder / "access.jsonl", authority)


def main(folder: Path, *, tokens: str | None = None, store: str | None = None, **options: Any) -> None:
    """Serve the repository, with shorter timeouts than the defaults."""
    refresh = options.pop("refresh", 30.0)
    if open_files := options.pop("open_files", None):
        resource.setrlimit(resource.RLIMIT_NOFILE, open_files)
    for name in ("certificate", "private_key"):
        options[name] = Path(options[name]) if name in options else None
    options["proxies"] = tuple(map(ip_network, options.get("proxies", ())))
    blocks = open_store(store or f"file:{folder / 'store'}")
    assert isinstance(blocks, BlockStore)
    limits = ConnectionLimits(
        header_seconds=options.pop("header_seconds", HEADER_SECONDS),
        stall_seconds=options.pop("stall_seconds", STALL_SECONDS),
    )
    serve(
        ReleaseSite(Catalogue(read_fixed, blocks, refresh=refresh), Tokens(Path(tokens)) if tokens else None),
        Listening(HOST, 0, limits=limits, **options),
        log=open_log(folder / "access.jsonl"),
        on_ready=lambda url: print(url, flush=True),  # noqa: T201 - the parent process reads it
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
