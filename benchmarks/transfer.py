"""Measure one fetch of a large file from our repository against curl's of the plain file from nginx."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, folder_on_disk, in_turns, seconds_of, throughput
from benchmarks.servers import Image, filled, nginx, repository
from blockota.stores.fetch import FileDestination, fetch
from blockota.stores.source import Source

SIZE = 64 << 20
RUNS = 15


def figures() -> Iterator[Figure]:
    """The throughput of our fetch, relative to curl's."""
    with folder_on_disk() as folder:
        image = filled(folder, {"large": SIZE})["large"]
        with repository(folder) as ours, nginx(folder) as theirs:
            pairs = in_turns(
                lambda: fetched(image, ours, into=folder / "fetched"),
                lambda: curled(f"{theirs}/{image.name}", into=folder / "curled"),
                runs=RUNS,
            )
    yield throughput(
        f"fetch of {SIZE >> 20} MiB from our repository, of curl's throughput from nginx",
        pairs,
        at_least=80,
        times="Ours: `fetch` in this process, from before it connects until every block was checked and written to a "
        "file. Theirs: curl's own `time_total` for the plain file written to a file, without the start of its "
        "process. Both over loopback, from a server process with an access log whose file is in memory, into a new "
        "file on the disk of this clone; neither syncs it.",
    )


def fetched(image: Image, url: str, *, into: Path) -> float:
    """Seconds of ours."""
    into.unlink(missing_ok=True)

    def work() -> None:
        with into.open("w+b") as file:
            fetch(image.cid, [Source(url)], size=image.size, into=FileDestination(file))

    return seconds_of(work)


def curled(url: str, *, into: Path) -> float:
    """Seconds of theirs."""
    into.unlink(missing_ok=True)
    command = ["curl", "-sf", "-o", str(into), "-w", "%{time_total}", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
