"""Repeat the measurements of the paper on which BlockOTA is based: ``python -m benchmarks.paper [--json]``.

The paper's (Gupta's) figures on ganache are: deployment 986,360 gas, ``firmwareUpload`` 188 ms, the getter of the IPFS
address 59 ms, and ``pairOem`` 51 ms. The paper's figures on Ropsten, a network with blocks of about 15 seconds, are:
deployment 103 s, a call 4 s, its confirmation 63 s, a getter 7 s. In the paper, a download over IPFS took about as long
as over HTTP/2. The paper's machine and networks differ from ours, so the comparison has no limits.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from socket import SHUT_WR, create_connection, create_server, socket
from urllib.parse import urlsplit

from benchmarks.chains import publish, release_of
from benchmarks.content import fetched
from benchmarks.figure import Figure, folder_on_disk, options, report, seconds_of
from benchmarks.servers import filled, kubo_program, nginx, repository
from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call
from blockota.chain import Chain, Sending
from blockota.keys import dev_account
from blockota.model.release import Product, Region, Release, Version
from tests.peers.kubo.node import running_node
from tests.support.ganache import ganache
from tests.support.networks import fresh_anvil

PRODUCT = Product("acme-thermo2", "acme", 0x410, Region(0x08000000, 1 << 16), minimum_version=None, paired=True)
RUNS = 7
BLOCK_SECONDS, CONFIRMATIONS = 15, 3
SIZE = 64 << 10
DELAYS = (0.005, 0.05, 0.15, 0.3)
"""The delays of a round trip, in seconds."""


def figures() -> Iterator[Figure]:
    """Yield all figures of this benchmark."""
    yield from on_ganache()
    yield from on_slow_blocks()
    yield from downloads()


def on_ganache() -> Iterator[Figure]:
    """Yield the gas and times of transactions and reads on ganache, a local node."""
    with ganache() as chain:
        payer = dev_account(0)
        contract, receipt = BlockOTAContract.deploy(chain, payer, owner=payer.address)
        yield Figure("deployment of BlockOTA on ganache", receipt.gas_used, "gas", times="The paper: 986,360.")
        pairings = [pair_call(named(number)) for number in range(RUNS)]
        yield _milliseconds(
            "pairing on ganache", [partial(_send, chain, contract, call) for call in pairings], paper=51
        )
        uploads = [publish_call([release(number)]) for number in range(1, RUNS + 1)]
        yield _milliseconds(
            "publication of a release on ganache",
            [partial(_send, chain, contract, call) for call in uploads],
            paper=188,
        )
        read = [partial(contract.latest, named(0).name)] * RUNS
        yield _milliseconds("read of the newest release on ganache", read, paper=59)


def on_slow_blocks() -> Iterator[Figure]:
    """Yield the durations of transactions and reads on a chain with blocks of 15 seconds."""
    with fresh_anvil("--block-time", str(BLOCK_SECONDS)) as node:
        payer, chain = dev_account(0), Chain(node.url)
        seconds = seconds_of(lambda: publish(chain, named(0), []))
        yield Figure("deployment and pairing at 15 s a block", seconds, "s", times="The paper's deployment: 103 s.")
        newest = chain.head().number
        contract, _ = BlockOTAContract.deploy(chain, payer, owner=payer.address)
        _send(chain, contract, pair_call(named(0)))

        confirmed = Chain(node.url, sending=Sending(confirmations=CONFIRMATIONS))
        began = time.monotonic()
        handed_in: list[float] = []
        waiting = threading.Thread(target=_note_pending, args=(chain, payer.address, began, handed_in), daemon=True)
        waiting.start()
        _send(confirmed, contract, publish_call([release(1)]))
        seconds = time.monotonic() - began
        yield Figure("a call until the node has it", handed_in[0], "s", times="The paper: 4 s.")
        yield Figure(f"its confirmation by {CONFIRMATIONS} blocks of 15 s", seconds, "s", times="The paper: 63 s.")
        seconds = seconds_of(lambda: contract.latest(named(0).name))
        yield Figure("a read at 15 s a block", seconds, "s", times=f"The paper: 7 s. Chain height {newest} and more.")


def downloads() -> Iterator[Figure]:
    """Yield the durations of downloads of 64 KiB from our repository, a Kubo gateway and nginx, at some line delays."""
    with folder_on_disk() as folder:
        image = filled(folder, {"image": SIZE})["image"]
        (folder / "kubo").mkdir()
        with (
            running_node(kubo_program(), folder / "kubo") as node,
            repository(folder) as ours,
            nginx(folder, certificate=certificate(folder)) as https,
        ):
            with (folder / image.name).open("rb") as file:
                node.store.put(file)
            for delay in DELAYS:
                with delayed(ours, delay) as one, delayed(node.gateway, delay) as two, delayed(https, delay) as three:
                    ways: dict[str, Callable[[], float]] = {
                        "from our repository, verified": lambda: fetched(image, one, into=folder / "got"),
                        "from a Kubo gateway, verified": lambda: fetched(image, two, into=folder / "got"),
                        "from nginx by curl over HTTPS": lambda: seconds_of(lambda: _curl(f"{three}/{image.name}")),
                    }
                    for way, measure in ways.items():
                        runs = tuple(1000 * measure() for _ in range(RUNS))
                        name = f"64 KiB {way} at {1000 * delay:.0f} ms"
                        times = "The TCP connection is set up without the delay; a real line needs one more round trip."
                        yield Figure(name, statistics.median(runs), "ms", times=times, runs=runs)


def named(number: int) -> Product:
    """Return the product with this number."""
    return Product(f"{PRODUCT.name}-{number}", PRODUCT.oem, PRODUCT.chip_id, PRODUCT.region, None, paired=True)


def release(number: int) -> Release:
    """Return a release of product 0."""
    digest = hashlib.sha256(number.to_bytes(4, "big")).digest()
    return release_of(named(0), Version(1, number, 0), sha256=digest, size=SIZE)


@contextmanager
def delayed(url: str, seconds: float) -> Iterator[str]:
    """Start a proxy in front of a server; the proxy delays each direction by half of `seconds`."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    with create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return
                far = create_connection(address)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=(source, sink, seconds / 2), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"{parts.scheme}://127.0.0.1:{listener.getsockname()[1]}"


def _carry(source: socket, sink: socket, seconds: float) -> None:
    """Forward bytes from one socket to another, each chunk after the delay."""
    parts: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def deliver() -> None:
        while True:
            due, data = parts.get()
            time.sleep(max(due - time.monotonic(), 0))
            try:
                if not data:
                    sink.shutdown(SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return

    threading.Thread(target=deliver, daemon=True).start()
    while True:
        try:
            data = source.recv(1 << 16)
        except OSError:
            data = b""
        parts.put((time.monotonic() + seconds, data))
        if not data:
            return


def certificate(folder: Path) -> Path:
    """Make a self-signed certificate, and return the file with the certificate and its key."""
    path = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(path), "-subj", "/CN=127.0.0.1", "-days", "2"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "key.pem").read_text())
    return path


def _curl(url: str) -> None:
    # The option -k accepts the benchmark's self-signed certificate.
    subprocess.run([shutil.which("curl") or "curl", "-sfk", "-o", "/dev/null", url], check=True)


def _send(chain: Chain, contract: BlockOTAContract, call: bytes) -> None:
    chain.send(dev_account(0), call, to=contract.address)


def _note_pending(chain: Chain, sender: str, began: float, seconds: list[float]) -> None:
    """Append the seconds from `began` until the node has a new pending transaction of an account."""
    before = chain.count(sender)
    while chain.count(sender, with_pending=True) == before:
        time.sleep(0.01)
    seconds.append(time.monotonic() - began)


def _milliseconds(name: str, calls: Sequence[Callable[[], object]], *, paper: int) -> Figure:
    runs = tuple(1000 * seconds_of(call) for call in calls)
    return Figure(name, statistics.median(runs), "ms", times=f"The paper: {paper} ms.", runs=runs)


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(on_ganache(), on_slow_blocks(), downloads()))
