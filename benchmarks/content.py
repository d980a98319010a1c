"""Measure how fast content moves: ``python -m benchmarks.content [--json]``.

Each figure is a ratio of two ways to do the same, taken in turns in one run on this machine, the median of several.
The exit status is 1 when a figure misses its limit, or when what it needs is missing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import repository
from benchmarks.figures import Figure, show
from scripts.install_kubo import find
from tests.ipfs.node import Kind, Node, environment, running_node

KUBO_SIZE = 45 << 20
KUBO_RUNS = 9
PROFILE = "unixfs-v1-2025"


def main() -> int:
    """Measure, print a table and JSON, and return 1 when a limit is missed."""
    figures = list(measure())
    if "--json" not in sys.argv:
        show(figures)
    print(json.dumps([asdict(figure) | {"met": figure.is_met} for figure in figures], indent=2))
    return 0 if all(figure.is_met for figure in figures) else 1


def measure() -> Iterator[Figure]:
    """All figures, one after the other."""
    yield kubo_push_figure()
    yield from repository.figures()


def kubo_push_figure() -> Figure:
    """The time of our push to a Kubo node, relative to that of ``ipfs add`` of the same file to the same node.

    The node has the profile of our DAGs, so both store the same blocks; between the two it collects garbage, so both
    write them. Ours is `KuboStore.put`; theirs is the whole process, which the daemon serves over the same API.
    """
    program = find()
    if program is None:
        sys.exit("There is no Kubo to measure: `make kubo` builds one.")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_node(program, Path(folder), kind=Kind(profile=PROFILE)) as node,
    ):
        path = Path(folder) / "image.bin"
        ratios = [push_ratio(node, path, turn=turn) for turn in range(KUBO_RUNS)]
    name = f"push of {KUBO_SIZE >> 20} MiB to Kubo, of ipfs add's time"
    return Figure(name, statistics.median(ratios) * 100, "%", 150)


def push_ratio(node: Node, path: Path, *, turn: int) -> float:
    """Our time over theirs for a new file; who begins changes with every turn."""
    path.write_bytes(os.urandom(KUBO_SIZE))

    def ours() -> None:
        with path.open("rb") as file:
            node.store.put(file)

    def theirs() -> None:
        command = [str(node.program), "add", "--quieter", "--progress=false", str(path)]
        subprocess.run(command, env=environment(node.repo), check=True, capture_output=True)

    ways: list[Callable[[], None]] = [ours, theirs]
    times = {}
    for way in ways if turn % 2 else reversed(ways):
        times[way] = seconds_of(way)
        forget_everything(node)
    return times[ours] / times[theirs]


def seconds_of(work: Callable[[], None]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def forget_everything(node: Node) -> None:
    """Unpin everything that the node holds, and collect it."""
    for cid, kind in node.pins().items():
        if kind == "recursive":
            node.ipfs("pin", "rm", cid)
    node.ipfs("repo", "gc", "--quiet")


if __name__ == "__main__":
    sys.exit(main())
