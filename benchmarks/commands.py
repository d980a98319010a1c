"""Measure the gas and the time of commands: ``python -m benchmarks.commands [--quick] [--json]``.

A time is the median duration of several whole processes on this machine. A throughput is relative to the throughput of
another operation that the same run measures. ``--quick`` leaves out the make targets. The exit status is 1 if a figure
misses its limit.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.boards import board
from benchmarks.chains import local_chain, publish, release_of
from benchmarks.figure import ROOT, Figure, in_turns, options, plain_digest, report, seconds_of, throughput
from blockota.approval.signature import sign
from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call
from blockota.bindings.safe import deploy_safe, execute
from blockota.chain import Chain
from blockota.chain.local import free_port
from blockota.formats.cid import cid_of
from blockota.keys import dev_account
from blockota.model.release import Product, Region, Release, Version
from blockota.vendor.propose import Reason, propose

PRODUCT = Product("acme-thermo2", "acme", 0x410, Region(0x08000000, 1 << 20), minimum_version=None, paired=True)
MANY_RELEASES, BATCH = 1000, 50
FILE_SIZE = 256 << 20
RUNS = 5
COMMAND = [sys.executable, "-m", "blockota"]
BLUEPILL = ROOT / "examples" / "bluepill" / "images" / "bluepill-1.0.0.bin"
FLASH_SIZE = 1 << 16


def parts(*, quick: bool) -> list[Iterator[Figure]]:
    """Return the parts of the benchmark, the longest parts last; if a part fails, the other parts still run."""
    found = [gas_figures(), cid_figures(), process_figures()]
    return found if quick else [*found, make_demo(), make_test()]


def make_demo() -> Iterator[Figure]:
    """Yield the duration of `make demo` when everything is installed."""
    yield Figure("make demo, once installed", seconds(["make", "demo"], ROOT, runs=1), "s", 60)


def make_test() -> Iterator[Figure]:
    """Yield the duration of `make test` when everything is installed."""
    yield Figure("make test, once installed", seconds(["make", "test"], ROOT, runs=1), "s", 240)


def gas_figures() -> Iterator[Figure]:
    """Yield the gas of publishing an image of at most 1 MiB; the cases are an account, release 1,000, and a Safe."""
    with local_chain() as chain:
        contract = publish(chain, PRODUCT, [release(1)])

        def gas(*numbers: int) -> int:
            call = publish_call([release(number) for number in numbers])
            return chain.send(dev_account(0), call, to=contract.address).gas_used

        second = gas(2)
        for start in range(3, MANY_RELEASES, BATCH):
            gas(*range(start, min(start + BATCH, MANY_RELEASES)))
        thousandth = gas(MANY_RELEASES)
        through_safe = publish_through_safe(chain)
    yield Figure("publish, second release of a product", second, "gas", 85_000)
    yield Figure(f"publish, release {MANY_RELEASES}", thousandth, "gas", 85_000)
    yield Figure(f"difference of release {MANY_RELEASES} to the second", abs(thousandth / second - 1) * 100, "%", 2)
    yield Figure("publish through a 2-of-3 Safe", through_safe, "gas", 125_000)


def publish_through_safe(chain: Chain) -> int:
    """Return the gas of publishing the second release when a 2-of-3 Safe owns the contract."""
    payer, owners = dev_account(0), [dev_account(number) for number in (1, 2, 3)]
    safe = deploy_safe(chain, payer, owners=[owner.address for owner in owners], threshold=2)
    contract, _ = BlockOTAContract.deploy(chain, payer, owner=safe)

    def decide(call: bytes) -> int:
        now = int(time.time())
        proposal = propose(contract, call, reason=Reason("measured", now, lifetime=3600))
        signatures = [sign(proposal, owner) for owner in owners[:2]]
        return execute(chain, proposal, signatures=signatures, account=payer, now=now).gas_used

    return [decide(call) for call in (pair_call(PRODUCT), publish_call([release(1)]), publish_call([release(2)]))][-1]


def release(number: int) -> Release:
    """Return a release with a unique image of 64 KiB."""
    digest = hashlib.sha256(number.to_bytes(4, "big")).digest()
    return release_of(PRODUCT, Version(1, 0, number), sha256=digest, size=1 << 16)


def cid_figures() -> Iterator[Figure]:
    """Yield the throughput of computing a content address, relative to hashlib's SHA-256 over the same file."""
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(FILE_SIZE >> 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        path = Path(file.name)
        pairs = in_turns(
            lambda: seconds_of(lambda: content_address(path)), lambda: seconds_of(lambda: plain_digest(path)), runs=RUNS
        )
    name = "content address of 256 MiB, of SHA-256's throughput"
    yield throughput(name, pairs, at_least=85, times="`cid_of` and `hashlib.file_digest` of the same file.")


def content_address(path: Path) -> str:
    """Return the content address of a file."""
    with path.open("rb") as stream:
        return str(cid_of(stream))


def process_figures(*, runs: int = RUNS) -> Iterator[Figure]:
    """Yield the durations of three commands: the help, a chain read, and a flash run that changes nothing."""
    yield Figure("blockota --help", seconds([*COMMAND, "--help"], runs=runs), "s", 0.2)
    with tempfile.TemporaryDirectory() as folder:
        here, port = Path(folder), ("--port", str(free_port()))
        start(here, "dev", "up", *port)
        try:
            read = [*COMMAND, "release", "list"]
            yield Figure("a chain read (blockota release list)", seconds(read, here, runs=runs), "s", 0.3)
            publish_image(here)
            yield flash_figure(here, runs=runs)
        finally:
            start(here, "dev", "down", *port)


def publish_image(folder: Path) -> None:
    """Publish the example program as release 1.0.0 on the local chain of a folder."""
    words = ("--product", PRODUCT.name, "--version", "1.0.0", "-o", "release.json")
    start(folder, "release", "publish", str(BLUEPILL), *words)
    for owner in ("dev:1", "dev:2"):
        start(folder, "proposal", "sign", "release.json", "--key", owner, "--yes")
    start(folder, "proposal", "execute", "release.json", "--key", "dev:0")


def flash_figure(folder: Path, *, runs: int) -> Figure:
    """Measure `blockota flash` on a simulated board that has no delays and already contains the newest release."""
    with board(BLUEPILL.read_bytes().ljust(FLASH_SIZE, b"\xff"), is_timed=False) as one:
        command = [*COMMAND, "flash", "--product", PRODUCT.name, "--port", one.url]
        return Figure(
            "blockota flash of an image that the board already has",
            seconds(command, folder, runs=runs),
            "s",
            0.8,
            times="The whole process: the ten checks on a simulated board without delays, the start of the program, "
            "and the wait until the program was silent for 0.3 s.",
        )


def start(folder: Path, *words: str) -> None:
    """Run a command in a folder, and discard its output."""
    subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, check=True)


def seconds(command: list[str], cwd: Path | None = None, *, runs: int) -> float:
    """Return the median duration of a number of runs of a command."""

    def run() -> object:
        return subprocess.run(command, cwd=cwd, capture_output=True, check=True)

    return statistics.median(seconds_of(run) for _ in range(runs))


if __name__ == "__main__":
    sys.exit(report(*parts(quick=options(__doc__).quick)))
