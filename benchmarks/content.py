"""Measure storing and fetching images: ``python -m benchmarks.content [--json]``.

Most figures are the ratio of the durations of two programs for the same task. The two programs run alternately on this
machine. The figure is the median of several turns; a first turn warms up. The exit status is 1 if a figure misses its
limit, or if a program that the comparison needs is missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.chains import local_chain, publish, release_of
from benchmarks.clients import ClientOutcome, Task, crowd
from benchmarks.figure import (
    PERCENT,
    Figure,
    duration,
    folder_on_disk,
    in_turns,
    options,
    plain_digest,
    report,
    seconds_of,
    throughput,
)
from benchmarks.servers import Image, filled, kubo_program, nginx, nginx_program, repository
from blockota.formats.cid import CID
from blockota.model.release import Product, Region, Version
from blockota.stores.fetch import FileDestination, FileFetch
from blockota.stores.local import LocalStore
from blockota.stores.source import Source
from tests.conftest import ROOT
from tests.peers.kubo.node import Kind, Node, environment, running_node
from tests.stories import repositories
from tests.stories.large_images import check_image, peak_of, write_image

MEBIBYTE = 1 << 20
CLIENTS = 100
LARGEST = 1024 * MEBIBYTE
PRODUCT = Product("acme-linux", "acme", 0x450, Region(0x8000_0000, LARGEST), minimum_version=None, paired=True)


def figures() -> Iterator[Figure]:
    """Yield all figures of this benchmark; exit with an error if nginx or Kubo is missing."""
    nginx_program()
    kubo = kubo_program()
    yield from local_store()
    yield from one_fetch()
    yield from many_clients()
    yield from memory()
    yield from kubo_push(kubo)


def local_store() -> Iterator[Figure]:
    """Yield the throughput of the local store, in percent of the throughput of SHA-256 alone."""
    theirs = (
        "Theirs: `hashlib.file_digest` of the same file. Both read files in the page cache; the store is on the disk "
        "of this clone."
    )
    with folder_on_disk() as folder:
        image = folder / "image.bin"
        with image.open("wb") as file:
            for _ in range(256):
                file.write(os.urandom(MEBIBYTE))

        def digest() -> float:
            return seconds_of(lambda: plain_digest(image))

        def put() -> float:
            seconds = seconds_of(lambda: stored(image, folder / "new"))
            shutil.rmtree(folder / "new")
            return seconds

        # Pending writes of the file and of the previous store are flushed outside the measured time.
        yield throughput(
            "local put of 256 MiB, of SHA-256's throughput",
            in_turns(put, digest, runs=7, between=os.sync),
            at_least=50,
            times="Ours: `LocalStore.put` of a file into an empty store, until every block is on the disk (fsync) and "
            f"pinned. {theirs} `hashlib.file_digest` writes nothing to the disk.",
        )
        store, cid = stored(image, folder / "store")
        yield throughput(
            "local verified read of 256 MiB, of SHA-256's throughput",
            in_turns(lambda: seconds_of(lambda: deque(store.open(cid), maxlen=0)), digest, runs=7),
            at_least=50,
            times="Ours: `LocalStore.open`, which verifies every block, to the end of the file; the bytes are dropped. "
            f"{theirs} Neither program writes anything.",
        )


def stored(image: Path, folder: Path) -> tuple[LocalStore, CID]:
    """Put a file into a local store; return the store and the file's content address."""
    store = LocalStore(folder)
    with image.open("rb") as file:
        return store, store.put(file)


def one_fetch() -> Iterator[Figure]:
    """Yield the throughput of a fetch from our repository, relative to curl's fetch of the plain file from nginx."""
    with folder_on_disk() as folder:
        image = filled(folder, {"large": 64 * MEBIBYTE})["large"]
        with repository(folder) as ours, nginx(folder) as theirs:
            pairs = in_turns(
                lambda: fetched(image, ours, into=folder / "fetched"),
                lambda: statistics.mean(curled([f"{theirs}/{image.name}"], into=folder / "curled")),
                runs=15,
            )
    yield throughput(
        "fetch of 64 MiB from our repository, of curl's throughput from nginx",
        pairs,
        at_least=80,
        times="Ours: `fetch` in this process, from before the connection until every block was verified and written "
        "to a file. Theirs: curl's own `time_total` for the plain file, written to a file, without the start of the "
        "curl process. Both fetch over loopback from a server with an access log, whose served file is in the page "
        "cache, into a new file on the disk of this clone; neither calls fsync.",
    )


def fetched(image: Image, url: str, *, into: Path) -> float:
    """Return the duration in seconds of a verified fetch into a new file."""
    into.unlink(missing_ok=True)

    def work() -> None:
        with into.open("w+b") as file:
            FileFetch(image.cid, [Source(url)], size=image.size, into=FileDestination(file)).run()

    return seconds_of(work)


def curled(urls: list[str], *, into: Path) -> list[float]:
    """Return the duration in seconds of each transfer; one curl process begins all transfers simultaneously."""
    if into.is_file():
        into.unlink()
    wanted = "\n".join(f'url = "{url}"\noutput = "{into}"' for url in urls)
    command = ["curl", "-sf", "--parallel", "--parallel-immediate", "--parallel-max", str(len(urls))]
    done = subprocess.run(
        [*command, "-w", "%{time_total}\n", "-K", "-"], input=wanted, check=True, capture_output=True, text=True
    )
    times = [float(line) for line in done.stdout.splitlines()]
    if len(times) != len(urls):
        sys.exit(f"only {len(times)} of {len(urls)} transfers were made")
    return times


def many_clients() -> Iterator[Figure]:
    """Yield the durations of 100 clients that fetch one file simultaneously, from our repository relative to nginx."""
    seen: list[ClientOutcome] = []
    with contextlib.ExitStack() as stack:
        folder, output = stack.enter_context(folder_on_disk()), stack.enter_context(folder_on_disk())
        image = filled(folder, {"small": 10 * MEBIBYTE})["small"]
        ours, theirs = stack.enter_context(repository(folder)), stack.enter_context(nginx(folder))
        clients = stack.enter_context(crowd(output, clients=CLIENTS))
        task = Task(ours, image.size, image.sha256, cid=str(image.cid))

        def verified() -> float:
            seen.append(clients.fetch(task))
            return mean(seen[-1])

        def plain() -> float:
            return mean(clients.fetch(replace(task, url=theirs, path=f"/{image.name}")))

        yield duration(
            f"mean time of {CLIENTS} clients at once, 10 MiB each, of nginx's",
            in_turns(verified, plain, runs=7, between=os.sync),
            at_most=2 * PERCENT,
            times=f"Both: {CLIENTS} clients, each a process that runs already, with its own connection and a new file "
            "on the disk of this clone; the mean of the seconds from the common start until a client has accepted its "
            "file. Neither side calls fsync. The servers write access logs, and the served files are in the page "
            "cache. Ours: `fetch`, which verifies every block. Theirs: the same HTTP client fetches the plain file and "
            "verifies its SHA-256.",
        )
        total = sum(seen, ClientOutcome())
        yield Figure(
            f"unverified bytes, of {len(total.times):,} files",
            total.unverified,
            "bytes",
            0,
            times="Bytes of the files that our clients accepted in all turns and that differ from the published image. "
            "The SHA-256 of every file is computed after the measurement. (In a test, the same clients refuse a "
            "corrupted copy, and all bytes of a copy that was accepted without a check are counted.)",
        )

        def at_once(url: str) -> float:
            return statistics.mean(curled([f"{url}&n={number}" for number in range(CLIENTS)], into=Path("/dev/null")))

        yield duration(
            f"the same as {CLIENTS} transfers of one curl, which checks nothing",
            in_turns(
                lambda: at_once(f"{ours}/ipfs/{image.cid}?format=car&car-dups=y"),
                lambda: at_once(f"{theirs}/{image.name}?"),
                runs=7,
            ),
            at_most=2 * PERCENT,
            times="The servers alone: the mean `time_total` of transfers that one curl process begins at once and "
            "discards. Ours: a CAR from our repository. Theirs: the plain file from nginx.",
        )


def mean(outcome: ClientOutcome) -> float:
    """Return the mean duration of the clients' downloads; exit with an error if a client failed."""
    if outcome.refusals:
        sys.exit(f"{len(outcome.refusals)} clients did not accept a file: {outcome.refusals[0]}")
    return statistics.mean(outcome.times)


def memory() -> Iterator[Figure]:
    """Yield the peak memory of ``blockota release fetch`` of the largest image, minus that of an idle process."""
    with folder_on_disk() as folder, contextlib.chdir(folder), local_chain() as chain:
        image = folder / "image.bin"
        digest = write_image(image, LARGEST)
        _, root = stored(image, Path(".blockota/store"))
        release = release_of(PRODUCT, Version(1, 0, 0), sha256=plain_digest(image), size=LARGEST, dag_root=root.digest)
        contract = publish(chain, PRODUCT, [release])
        settings = f'[networks.local]\nurl = "{chain.url}"\ncontract = "{contract.address}"\n'
        (folder / "blockota.toml").write_text(settings)
        image.unlink()
        words = ("release", "fetch", "--product", PRODUCT.name, "--store", "file:own", "-o", str(image))
        with repositories.serving(folder) as served:
            idle = peak_of("release", "list", run=_in_a_new_interpreter)
            peak = peak_of(*words, "--source", served.url, run=_in_a_new_interpreter)
        check_image(image, digest)
    yield Figure(
        f"peak memory of a fetch of {LARGEST // MEBIBYTE} MiB, above an idle process",
        (peak - idle) / MEBIBYTE,
        "MiB",
        64,
        times="The peak resident memory (VmHWM) of `blockota release fetch`, which fetches the image from `blockota "
        "repository serve`, stores the blocks in its own store, writes the image and verifies it against the chain; "
        "minus the peak of `blockota release list`, which only reads the same chain. Measured once.",
    )


def _in_a_new_interpreter(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a new process, which has to import the libraries first."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], env=variables, capture_output=True, text=True, check=False)


def kubo_push(program: Path) -> Iterator[Figure]:
    """Yield the time of our push to a Kubo node, relative to that of ``ipfs add``."""
    with folder_on_disk() as folder, running_node(program, folder, kind=Kind(profile="unixfs-v1-2025")) as node:
        image = folder / "image.bin"
        image.write_bytes(os.urandom(45 * MEBIBYTE))
        add = [str(node.program), "add", "--quieter", "--progress=false", str(image)]

        def push() -> None:
            with image.open("rb") as file:
                node.store.put(file)

        pairs = in_turns(
            lambda: seconds_of(push),
            lambda: seconds_of(
                lambda: subprocess.run(add, env=environment(node.repo), check=True, capture_output=True)
            ),
            runs=9,
            between=lambda: forget_everything(node),
        )
    yield duration(
        "push of 45 MiB to Kubo, of ipfs add's time",
        pairs,
        at_most=150,
        times="Ours: `put` of the file into a new `KuboStore` in this process, from the request for the node's version "
        "to the response that all blocks are stored and pinned. Theirs: the whole process `ipfs add`, which sends the "
        "file to the same running node and pins it. The node has the profile of our DAGs, so both programs store the "
        "same blocks. The node's garbage is collected after each run, so both programs write all blocks. The node "
        "calls fsync for neither program (`sync: false` of its flatfs, Kubo's default).",
    )


def forget_everything(node: Node) -> None:
    """Unpin all content of the node, and collect the garbage."""
    for cid, kind in node.pins().items():
        if kind == "recursive":
            node.ipfs("pin", "rm", cid)
    node.ipfs("repo", "gc", "--quiet")
    os.sync()


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
