"""Count the requests of commands to the node of a chain with many agreements: ``python -m benchmarks.requests``.

The chain has one product with 200 releases, and one agreement for each release and each of three brokers. All 600
agreements are accepted; the agreements of the first two brokers are announced.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.figure import Figure, report, seconds_of
from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call
from blockota.bindings.replication import decision_call
from blockota.bindings.safe import deploy_safe
from blockota.chain import Chain
from blockota.chain.local import LocalChain, free_port
from blockota.deployment import Deployment
from blockota.formats.abi import interface
from blockota.keys import dev_account
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Product, Region, Release, Status, Version, product_key
from blockota.stores.local import LocalStore
from blockota.vendor.deploy import deploy

PRODUCT = "acme-thermo2"
URL = "http://127.0.0.1:1/broker"
BROKERS = (4, 5, 6)
RELEASES = 200
FOREVER = 1 << 33
BATCH = 100
DELAY = 0.05
"""The delay of each request on the slow line, in seconds."""


@dataclass
class NodeProxy:
    """A proxy of a node that counts HTTP requests, and can delay them.

    Attributes:
        node: the node's URL.
        url: the proxy's URL.
        delay: seconds by which the proxy delays each request.
        count: number of requests since `count` was set to 0.
    """

    node: str
    url: str = ""
    delay: float = 0.0
    count: int = 0


@dataclass(frozen=True)
class ProxyScene:
    """A broker's folder with settings that use the proxy; `releases` is the number of this broker's agreements."""

    folder: Path
    line: NodeProxy
    releases: int
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> None:
        """Run a command as a process, and discard its output."""
        command = [sys.executable, "-m", "blockota", *words]
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True, capture_output=True)

    def requests_of(self, *words: str) -> int:
        """Run a command; return the number of requests that it sends."""
        self.line.count = 0
        self.run(*words)
        return self.line.count

    def sync(self) -> tuple[str, ...]:
        """Return the arguments of a `broker sync` without work to do: all copies are stored and announced."""
        return ("broker", "sync", "--broker", dev_account(BROKERS[0]).address, "--announce", URL)

    def serve(self) -> int:
        """Return the number of requests that `repository serve --as broker` needs to read the agreements once."""
        self.line.count = 0
        words = ("repository", "serve", "copies", "--as", "broker", "--broker", dev_account(BROKERS[0]).address)
        command = [sys.executable, "-m", "blockota", *words, "--listen", "127.0.0.1:0"]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for text in process.stdout or ():
                if "http://" in text:
                    break
            asked = self.line.count
            process.terminate()
        return asked


@contextmanager
def scene(folder: Path, *, releases: int = RELEASES) -> Iterator[ProxyScene]:
    """Start a new chain with the releases and agreements.

    Args:
        folder: an empty folder.
        releases: the number of releases, which is also the number of the broker's own agreements.
    """
    local = LocalChain(folder / "chain", free_port())
    try:
        chain = local.start()
        payer = dev_account(0)
        safe = deploy_safe(chain, payer, owners=[dev_account(number).address for number in (1, 2, 3)], threshold=2)
        deployment = deploy(chain, payer, safe=safe)
        deployment.write(folder)
        _fill(chain, deployment, folder, releases=releases)
        with counting(chain.url) as line:
            (folder / "blockota.toml").write_text(f'store = "file:copies"\n\n[networks.local]\nurl = "{line.url}"\n')
            found = ProxyScene(folder, line, releases, dict(os.environ) | {"PYTHONPATH": str(Path.cwd())})
            found.run(*found.sync())  # the first run pins the stored images
            yield found
    finally:
        local.stop()


@contextmanager
def counting(node: str) -> Iterator[NodeProxy]:
    """Start a proxy of a node that counts the requests."""
    line = NodeProxy(node)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # otherwise the body would be delayed by 40 ms after the header

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            line.count += 1
            time.sleep(line.delay)
            answer = _post(line.node, body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            del arguments

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        line.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield line
        server.shutdown()


def figures() -> Iterator[Figure]:
    """Yield the number of requests of four commands, and the seconds that an idle `broker sync` takes."""
    with tempfile.TemporaryDirectory() as name, scene(Path(name)) as found:
        size = f"with {3 * found.releases} agreements, {found.releases} of them the broker's own"
        counts = {
            "an idle `broker sync`": (found.requests_of(*found.sync()), 40),
            "`replica list`": (found.requests_of("replica", "list"), 30),
            "one reading of `repository serve --as broker`": (found.serve(), 25),
            "`contract show`": (found.requests_of("contract", "show"), 4),
        }
        for what, (count, limit) in counts.items():
            yield Figure(f"requests of {what}", count, "requests", limit, times=size)
        for delay, most in ((0.0, 1.0), (DELAY, 4.0)):
            found.line.delay = delay
            seconds = seconds_of(lambda: found.run(*found.sync()))
            where = f"at {delay * 1000:.0f} ms a request" if delay else "on loopback"
            yield Figure(f"an idle `broker sync` {where}", seconds, "s", most, times=f"A whole process, {size}.")


def _fill(chain: Chain, deployment: Deployment, folder: Path, *, releases: int) -> None:
    """Publish releases and create agreements with transactions from accounts that the node impersonates."""
    contract, store = BlockOTAContract(chain, deployment.contract), LocalStore(folder / "copies")
    made = []
    for number in range(1, releases + 1):
        image = number.to_bytes(4, "big") * 64
        store.put(io.BytesIO(image))
        made.append(_release(image, Version(1, number, 0)))

    product = Product(PRODUCT, "acme", 0x410, Region(0x08000000, 1 << 16), minimum_version=None, paired=True)
    groups = [made[start : start + BATCH] for start in range(0, releases, BATCH)]
    vendor, brokers = deployment.safe, [dev_account(number).address for number in BROKERS]
    for account in (vendor, *brokers):
        _ask(chain.url, [("anvil_impersonateAccount", (account,))])
    _ask(chain.url, [("anvil_setBalance", (vendor, hex(10**24)))])
    _send(chain, [(vendor, contract.address, pair_call(product))])
    _send(chain, [(vendor, contract.address, publish_call(group)) for group in groups], gas=28_000_000)

    known, key = interface("FirmwareReplication"), product_key(PRODUCT)
    agreements = [
        Agreement(number, broker, PRODUCT, release.version, FOREVER, AgreementStatus.PROPOSED, URL)
        for number, (release, broker) in enumerate(((r, b) for b in brokers for r in made), 1)
    ]
    terms = [(one, (key, one.version.packed)) for one in agreements]
    to = deployment.replication
    # The brokers propose one after the other, because a node orders simultaneous transactions arbitrarily.
    for broker in brokers:
        own = [named for one, named in terms if one.broker == broker]
        _send(chain, [(broker, to, known.encode_call("propose", *named, FOREVER)) for named in own])
    _send(chain, [(vendor, to, decision_call("accept", one)) for one in agreements])
    announced = [(one, named) for one, named in terms if one.broker != brokers[-1]]
    _send(chain, [(one.broker, to, known.encode_call("announce", one.number, *named, URL)) for one, named in announced])


def _release(image: bytes, version: Version) -> Release:
    digest = hashlib.sha256(image).digest()
    return Release(PRODUCT, version, digest, len(image), 0x08000000, 0, 0x410, Status.ACTIVE)


def _send(chain: Chain, calls: list[tuple[str, str, bytes]], *, gas: int = 400_000) -> None:
    """Send transactions in batches, and check that each succeeded."""
    nonces = {sender: count(chain.count(sender)) for sender, _, _ in calls}
    _ask(chain.url, [("evm_setAutomine", (False,))])
    for start in range(0, len(calls), BATCH):
        transactions = [
            {"from": sender, "to": to, "data": f"0x{data.hex()}", "gas": hex(gas), "nonce": hex(next(nonces[sender]))}
            for sender, to, data in calls[start : start + BATCH]
        ]
        # One request each: anvil processes a batch in any order, and can drop a transaction whose nonce is too high.
        hashes = [_ask(chain.url, [("eth_sendTransaction", (one,))])[0] for one in transactions]
        for _ in range(BATCH):
            _ask(chain.url, [("evm_mine", ())])
            if all(receipts := _ask(chain.url, [("eth_getTransactionReceipt", (one,)) for one in hashes])):
                break
        if not all(receipt and int(receipt["status"], 16) for receipt in receipts):
            raise AssertionError("a transaction was reverted or dropped")
    _ask(chain.url, [("evm_setAutomine", (True,))])


def _ask(url: str, calls: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    batch = [{"jsonrpc": "2.0", "id": n, "method": m, "params": p} for n, (m, p) in enumerate(calls)]
    answers = sorted(json.loads(_post(url, json.dumps(batch).encode())), key=lambda answer: answer["id"])
    if errors := [answer["error"] for answer in answers if "error" in answer]:
        raise AssertionError(errors[0])
    return [answer["result"] for answer in answers]


def _post(url: str, body: bytes) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as response:  # noqa: S310 - loopback
        answer: bytes = response.read()
        return answer


if __name__ == "__main__":
    sys.exit(report(figures()))
