"""A vendor's folder on a network of several nodes; environment variables contain the vendor's keys."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blockota.bindings.safe import deploy_safe
from blockota.chain import Chain
from blockota.chain.local import free_port
from blockota.keys import dev_account
from blockota.vendor.deploy import deploy
from tests.conftest import IMAGES, Cast
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.support.namespaces import NamespaceHost
from tests.support.networks import call

KEYS = {"PAYER": 0, "OWNER_1": 1, "OWNER_2": 2}
"""Names of environment variables, and the test mnemonic's accounts whose keys they contain."""
REGION = ("--oem", "acme", "--chip", "0x410", "--region", "0x08000000:64K")


@dataclass
class Node:
    """An Ethereum node on loopback, or on a host of its own.

    Attributes:
        program: the executable of the node.
        folder: the node's data folder, which also contains its log.
        host: the network namespace in which the node runs; None for loopback.
        p2p_port: port for connections from other nodes.
        rpc_port: port of the node's JSON-RPC API.
        process: the node's process; None while the node is stopped.
    """

    program: Path
    folder: Path
    host: NamespaceHost | None = field(default=None, kw_only=True)
    p2p_port: int = field(default_factory=free_port, kw_only=True)
    rpc_port: int = field(default_factory=free_port, kw_only=True)
    process: subprocess.Popen[bytes] | None = field(default=None, kw_only=True)

    @property
    def address(self) -> str:
        """The address at which the node listens."""
        return self.host.address if self.host else "127.0.0.1"

    @property
    def url(self) -> str:
        """The URL of the node's JSON-RPC API."""
        return f"http://{self.address}:{self.rpc_port}"

    @property
    def head(self) -> int:
        """The number of the node's newest block."""
        return int(call(self.url, "eth_blockNumber"), 16)

    def launch(self, *words: str | Path) -> None:
        """Start the node with the given arguments. The node's output is appended to its log."""
        command = [str(self.program), *map(str, words)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.host.command(*command) if self.host else command, stdout=log, stderr=log
            )

    def answers(self) -> bool:
        """Return whether the node's API answers. If the node has ended, raise an error with the end of its log."""
        try:
            return self.head >= 0
        except (OSError, AssertionError):  # until its first block, CometBFT answers with an error
            has_ended = self.process is None or self.process.poll() is not None
            assert not has_ended, (self.folder / "log").read_text()[-2000:]
            return False

    def kill(self) -> None:
        """Kill the node, as a power cut does; its data are kept."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Stop the node; its data are kept."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


@dataclass(frozen=True)
class Consortium:
    """A vendor on a network of several nodes, who uses the first node."""

    workshop: Workshop

    def run(self, *words: str) -> Outcome:
        """Run one command in the vendor's folder."""
        return self.workshop.run(*words)

    def ok(self, *words: str) -> Outcome:
        """Run one command in the vendor's folder, and require exit status 0."""
        outcome = self.run(*words)
        assert outcome.status == 0, outcome.err
        return outcome

    def sign(self, file: str) -> None:
        """Sign a proposal as two owners of the Safe."""
        for owner in ("OWNER_1", "OWNER_2"):
            self.ok("proposal", "sign", file, "--key", f"env:{owner}", "--yes")

    def execute(self, file: str) -> Outcome:
        """Execute a signed proposal."""
        return self.run("proposal", "execute", file, "--key", "env:PAYER")

    def propose(self, version: str) -> str:
        """Propose and sign a release, and return the name of the proposal's file."""
        file, image = f"{version}.json", IMAGES / f"bluepill-{version}.bin"
        self.ok("release", "publish", str(image), "--product", PRODUCT, "--version", version, "-o", file)
        self.sign(file)
        return file

    def releases(self) -> list[str]:
        """Return the versions that the chain records, sorted."""
        listed = self.ok("release", "list", "--product", PRODUCT, "--json").json["releases"]
        return sorted(release["version"] for release in listed)


def furnish(folder: Path, chain: Chain, *, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploy a Safe and both contracts, and write settings that require one confirmation."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, number in KEYS.items():
        monkeypatch.setenv(name, "0x" + dev_account(number).key.hex().removeprefix("0x"))
    owners = [cast.owner_a.address, cast.owner_b.address, cast.owner_c.address]
    deploy(chain, cast.payer, safe=deploy_safe(chain, cast.payer, owners=owners, threshold=2)).write(folder)
    section = f'url = "{chain.url}"\nchain_id = {chain.chain_id}\nconfirmations = 1\n'
    (folder / "blockota.toml").write_text(f'network = "consortium"\n\n[networks.consortium]\n{section}')


def pair(vendor: Consortium) -> None:
    """Pair the product with the vendor."""
    vendor.ok("product", "pair", PRODUCT, *REGION, "-o", "pair.json")
    vendor.sign("pair.json")
    outcome = vendor.execute("pair.json")
    assert outcome.status == 0, outcome.err


def check_halt_and_resume(vendor: Consortium, spare: Node, needed: Node, *, restart: Callable[[], None]) -> None:
    """Check that a network works without one of its nodes.

    If two nodes are stopped, the network halts until one of them is started again. While two nodes are stopped,
    `execute` ends with an error, and `transaction resume` completes the transaction later. The function `restart`
    starts the node `needed`, and returns when the network makes blocks again.
    """
    spare.stop()
    assert vendor.execute(vendor.propose("1.0.0")).status == 0
    assert vendor.releases() == ["1.0.0"]

    file = vendor.propose("1.1.0")
    needed.stop()
    outcome = vendor.execute(file)
    assert outcome.status == 5, outcome.err
    found = re.search(r"0x[0-9a-f]{64}", outcome.err)
    assert found, outcome.err
    assert "was sent and is not confirmed" in outcome.err
    assert vendor.releases() == ["1.0.0"]

    restart()
    assert vendor.run("transaction", "resume", found[0]).status == 0
    assert vendor.releases() == ["1.0.0", "1.1.0"]
    assert vendor.run("transaction", "list", "--json").json["transactions"] == []
