"""Measure a hundred clients that fetch the same file at once, from our repository and from nginx."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.clients import Outcome, Task, crowd
from benchmarks.figure import PERCENT, Figure, duration, folder_on_disk, in_turns
from benchmarks.servers import Image, filled, nginx, repository

SIZE = 10 << 20
CLIENTS = 100
RUNS = 7
_TIMED = (
    f"Both: {CLIENTS} clients, each a process that runs already, with a connection of its own and a new file on "
    "the disk of this clone; the mean of the seconds from the moment at which all begin until each has accepted "
    "its file. No side syncs files. The servers write access logs, and the served files are in the page cache. "
    "Ours: `fetch`, every block checked. Theirs: the same HTTP client fetches the plain file and takes its "
    "SHA-256 as it comes, without which it could not accept it either."
)
_COUNTED = (
    "Bytes of the files that our clients took for good in all turns and that are not the published image, by a "
    "SHA-256 of every file after the clock was stopped. (A test has the same clients refuse a corrupted copy; "
    "clients that check nothing take it, and every byte of it is counted.)"
)
_SERVERS = (
    "The servers alone: the mean of the `time_total` of transfers that one curl begins at once and throws away, "
    "of a CAR from our repository, and of the plain file from nginx."
)


def figures() -> Iterator[Figure]:
    """The mean time of our clients, relative to nginx's; and what they accepted unverified."""
    with folder_on_disk() as folder:
        image = filled(folder, {"small": SIZE})["small"]
        with repository(folder) as ours, nginx(folder) as theirs:
            yield from _clients(image, ours, theirs=theirs)
            pairs = in_turns(
                lambda: curled(f"{ours}/ipfs/{image.cid}?format=car&car-dups=y"),
                lambda: curled(f"{theirs}/{image.name}?"),
                runs=RUNS,
            )
    name = f"the same as {CLIENTS} transfers of one curl, which checks nothing"
    yield duration(name, pairs, at_most=2 * PERCENT, times=_SERVERS)


def _clients(image: Image, ours: str, *, theirs: str) -> Iterator[Figure]:
    seen = []
    with folder_on_disk() as folder, crowd(folder, clients=CLIENTS) as clients:

        def verified() -> float:
            seen.append(clients.fetch(task_of(image, ours)))
            return mean(seen[-1])

        def plain() -> float:
            return mean(clients.fetch(task_of(image, theirs, path=f"/{image.name}")))

        pairs = in_turns(verified, plain, runs=RUNS, between=os.sync)
    name = f"mean time of {CLIENTS} clients at once, {SIZE >> 20} MiB each, of nginx's"
    yield duration(name, pairs, at_most=2 * PERCENT, times=_TIMED)
    total = sum(seen, Outcome())
    yield Figure(f"unverified bytes, of {len(total.times):,} files", total.unverified, "bytes", 0, times=_COUNTED)


def task_of(image: Image, url: str, *, path: str = "") -> Task:
    """The task of fetching an image from a server; with a path, of the plain file there."""
    return Task(url, image.size, image.sha256, cid=str(image.cid), path=path)


def mean(outcome: Outcome) -> float:
    """The mean time; an error if any client failed, because the measurement is then void."""
    if outcome.refusals:
        sys.exit(f"{len(outcome.refusals)} clients got no file: {outcome.refusals[0]}")
    return statistics.mean(outcome.times)


def curled(url: str) -> float:
    """The mean time of many transfers that one curl begins at the same moment."""
    wanted = "\n".join(f'url = "{url}&n={number}"\noutput = "/dev/null"' for number in range(CLIENTS))
    command = ["curl", "-sf", "--parallel", "--parallel-immediate", "--parallel-max", str(CLIENTS)]
    done = subprocess.run(
        [*command, "-w", "%{time_total}\n", "-K", "-"], input=wanted, check=True, capture_output=True, text=True
    )
    times = [float(line) for line in done.stdout.splitlines()]
    if len(times) != CLIENTS:
        sys.exit(f"only {len(times)} of {CLIENTS} transfers were made")
    return statistics.mean(times)
