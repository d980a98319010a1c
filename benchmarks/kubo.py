"""Measure the push to a Kubo node against the node's own ``ipfs add``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, duration, folder_on_disk, in_turns, seconds_of
from scripts.install_kubo import find
from tests.peers.kubo.node import Kind, Node, environment, running_node

SIZE = 45 << 20
RUNS = 9
PROFILE = "unixfs-v1-2025"


def figures() -> Iterator[Figure]:
    """The time of our push, relative to that of ``ipfs add``."""
    with folder_on_disk() as folder, running_node(program(), folder, kind=Kind(profile=PROFILE)) as node:
        image = folder / "image.bin"
        image.write_bytes(os.urandom(SIZE))
        pairs = in_turns(
            lambda: push(node, image), lambda: add(node, image), runs=RUNS, between=lambda: forget_everything(node)
        )
    yield duration(
        f"push of {SIZE >> 20} MiB to Kubo, of ipfs add's time",
        pairs,
        at_most=150,
        times="Ours: a new `KuboStore` and its `put` of the file, in this process, from asking the node for its "
        "version to its answer that all is stored and pinned. Theirs: the whole process `ipfs add`, which "
        "sends the file to the same running node, and pins. The node has the profile of our DAGs, so both "
        "store the same blocks, and it collects its garbage after each, so both write them. The node alone "
        "writes, and syncs no block (`sync: false` of its flatfs, Kubo's default), neither for us nor for "
        "its own command.",
    )


def program() -> Path:
    """The path of the installed ``ipfs``; exits if there is none."""
    found = find()
    if found is None:
        sys.exit("There is no Kubo to measure: `make kubo` builds one.")
    return found


def push(node: Node, image: Path) -> float:
    """Seconds of ours."""

    def work() -> None:
        with image.open("rb") as file:
            node.store.put(file)

    return seconds_of(work)


def add(node: Node, image: Path) -> float:
    """Seconds of theirs."""
    command = [str(node.program), "add", "--quieter", "--progress=false", str(image)]

    def work() -> None:
        subprocess.run(command, env=environment(node.repo), check=True, capture_output=True)

    return seconds_of(work)


def forget_everything(node: Node) -> None:
    """Unpin all content of the node, and collect the garbage."""
    for cid, kind in node.pins().items():
        if kind == "recursive":
            node.ipfs("pin", "rm", cid)
    node.ipfs("repo", "gc", "--quiet")
    os.sync()
