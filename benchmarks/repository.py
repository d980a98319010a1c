"""Measure a repository against nginx, which serves the plain file from Debian's package ``nginx-light``.

``python -m benchmarks.repository`` measures; with a folder behind it, it serves the folder's store instead.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import ROOT, Figure, show
from blockota.cid import CID
from blockota.localchain import free_port
from blockota.release import Release, Status, Version
from blockota.repository.reading import Reading
from blockota.repository.rights import Claim
from blockota.repository.service import Listening, serve
from blockota.repository.shelf import Shelf
from blockota.stores.destinations import InFile
from blockota.stores.fetching import fetch
from blockota.stores.local import LocalStore
from blockota.stores.source import Source

LARGE, SMALL = 64 << 20, 10 << 20
CLIENTS = 100
RUNS = 7
_NGINX = """worker_processes auto; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ sendfile on; tcp_nopush on; access_log off; server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""


def figures() -> Iterator[Figure]:
    """Fetching one large file, and a hundred clients at once; both relative to nginx in the same run."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        sys.exit("There is no nginx to compare with: install Debian's nginx-light.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        large, small = filled(folder)
        with serving(folder) as ours, other(folder, nginx) as theirs:
            pairs = [(seconds_of_fetch(large, ours, folder=folder), curl(f"{theirs}/large")) for _ in range(RUNS)]
            path = f"{ours}/ipfs/{small}?format=car&car-dups=y"
            crowds = [(crowd(path), crowd(f"{theirs}/small?")) for _ in range(RUNS)]
    share = statistics.median(curled / fetched for fetched, curled in pairs[1:]) * 100
    yield Figure("fetch of 64 MiB, verified, of curl's throughput from nginx", share, "%", 80, is_minimum=True)
    ratio = statistics.median(mine / its for mine, its in crowds[1:])
    yield Figure(f"mean time of {CLIENTS} clients at once, of nginx's", ratio, "x", 2)


def filled(folder: Path) -> tuple[CID, CID]:
    """Two files, plain and in a store."""
    store = LocalStore(folder / "store")
    for name, size in (("large", LARGE), ("small", SMALL)):
        (folder / name).write_bytes(hashlib.shake_128(name.encode()).digest(size))
        with (folder / name).open("rb") as file:
            (folder / f"{name}.cid").write_text(str(store.put(file)))
    return address(folder, "large"), address(folder, "small")


def address(folder: Path, name: str) -> CID:
    """A file's content address."""
    return CID.parse((folder / f"{name}.cid").read_text())


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Our repository, as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.repository", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


@contextmanager
def other(folder: Path, nginx: str) -> Iterator[str]:
    """Nginx, with as many workers as processors."""
    port = free_port()
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port))
    with subprocess.Popen([nginx, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def seconds_of_fetch(cid: CID, url: str, *, folder: Path) -> float:
    """How long our client takes, which checks every block and writes the file."""
    began = time.perf_counter()
    with (folder / "fetched").open("w+b") as file:
        fetch(cid, [Source(url)], size=LARGE, into=InFile(file))
    return time.perf_counter() - began


def curl(url: str) -> float:
    """How long curl takes, by its own clock, to write the file."""
    command = ["curl", "-sf", "-o", str(Path(tempfile.gettempdir()) / "blockota-bench"), "-w", "%{time_total}", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def crowd(url: str) -> float:
    """The mean time of many transfers that one curl begins at the same moment."""
    wanted = "\n".join(f'url = "{url}&n={number}"\noutput = "/dev/null"' for number in range(CLIENTS))
    command = ["curl", "-sf", "--parallel", "--parallel-immediate", "--parallel-max", str(CLIENTS)]
    done = subprocess.run(
        [*command, "-w", "%{time_total}\n", "-K", "-"], input=wanted, check=True, capture_output=True, text=True
    )
    times = [float(line) for line in done.stdout.splitlines()]
    assert len(times) == CLIENTS, "a transfer failed"  # noqa: S101 - a figure without all clients means nothing
    return statistics.mean(times)


class Fixed:
    """A chain that allows the two files."""

    def __init__(self, folder: Path) -> None:
        """Remember where they are."""
        self._folder = folder

    def read(self) -> Reading:
        """Allow them."""
        claims = []
        for number, (name, size) in enumerate((("large", LARGE), ("small", SMALL)), 1):
            facts: dict[str, Any] = {"load_address": 0, "active_from": 0, "chip_id": 0}
            root = address(self._folder, name).digest
            version = Version(1, number, 0)
            release = Release("measured", version, bytes(32), size, status=Status.ACTIVE, dag_root=root, **facts)
            claims.append(Claim(release, None))
        return Reading(1, tuple(claims))


def main() -> None:
    """Measure, or serve."""
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        shelf = Shelf(Fixed(folder), LocalStore(folder / "store"))
        listening = Listening("127.0.0.1", 0)
        serve(shelf, listening, tokens=None, log=lambda _: None, on_ready=lambda url: print(url, flush=True))
    else:
        show(list(figures()))


if __name__ == "__main__":
    main()
