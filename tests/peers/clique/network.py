"""A real proof-of-authority network on loopback: three geth nodes that seal by Clique (EIP-225).

Partitions and reorganisations are real. A disconnected sealer seals one block, and then waits for the other sealers.
After the sealer is connected again, the longer chain wins.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from blockota.chain.local import free_port
from blockota.keys import dev_account
from tests.support.consortium import Node
from tests.support.namespaces import NamespaceHost
from tests.support.networks import call
from tests.support.waiting import eventually

CHAIN_ID = 4225
PERIOD = 1
"""Seconds between two blocks."""
SEALERS = 3
FUNDED = 10
"""Number of the test mnemonic's accounts that have ether."""
WITHOUT_TRANSACTIONS = (False,)
"""Last argument of ``eth_getBlockByNumber``, which requests hashes instead of whole transactions."""
_IV_DIGITS = 32
"""eth-account omits the leading zeros of an initialisation vector, and geth panics if it is shorter than this."""
PASSWORD = "sealer"  # noqa: S105 - the keys exist for one test


@dataclass
class Sealer(Node):
    """A geth node that seals blocks with its account."""

    account: LocalAccount

    def prepare(self, genesis: dict[str, Any]) -> None:
        """Write the genesis block and the key into the data folder."""
        self.folder.mkdir(parents=True)
        (self.folder / "genesis.json").write_text(json.dumps(genesis))
        (self.folder / "password").write_text(PASSWORD)
        keys = self.folder / "keystore"
        keys.mkdir()
        # One round is enough, because the key has no value; more rounds would delay each start by a second.
        sealed = Account.encrypt(self.account.key, PASSWORD, kdf="pbkdf2", iterations=1)
        while len(sealed["crypto"]["cipherparams"]["iv"]) < _IV_DIGITS:
            sealed = Account.encrypt(self.account.key, PASSWORD, kdf="pbkdf2", iterations=1)
        (keys / "sealer.json").write_text(json.dumps(sealed))
        place = ("--datadir", str(self.folder))
        subprocess.run([self.program, *place, "init", self.folder / "genesis.json"], check=True, capture_output=True)

    def start(self) -> None:
        """Start the node and wait until its API answers."""
        self.launch(
            *("--datadir", self.folder, "--networkid", str(CHAIN_ID)),
            *("--port", str(self.p2p_port), "--nat", "none", "--nodiscover"),
            *("--netrestrict", "10.0.0.0/8" if self.host else "127.0.0.0/8"),
            *("--http", "--http.addr", self.address, "--http.port", str(self.rpc_port)),
            *("--ws", "--ws.addr", self.address, "--ws.port", str(self.rpc_port)),
            *("--http.api", "eth,net,web3,clique,admin,miner,txpool", "--authrpc.port", str(free_port())),
            *("--mine", "--miner.etherbase", self.account.address, "--miner.gasprice", "0"),
            *("--unlock", self.account.address, "--password", self.folder / "password"),
            *("--allow-insecure-unlock", "--gcmode", "archive", "--syncmode", "full", "--ipcdisable"),
        )
        eventually(self.answers, what=f"an answer of {self.url}")

    def seal(self, *, seals: bool) -> None:
        """Start or stop sealing; a node that does not seal still follows the chain."""
        call(self.url, "miner_start" if seals else "miner_stop")

    def block(self, number: int) -> dict[str, Any]:
        """Return a block of this node, with the hashes of the block's transactions."""
        found: dict[str, Any] = call(self.url, "eth_getBlockByNumber", hex(number), *WITHOUT_TRANSACTIONS)
        return found

    def pending(self) -> int:
        """Return the number of transactions that are not in a block."""
        return int(call(self.url, "txpool_status")["pending"], 16)

    def enode(self) -> str:
        """Return the address by which other nodes connect to this node."""
        key = call(self.url, "admin_nodeInfo")["enode"].partition("@")[0]
        return f"{key}@{self.address}:{self.p2p_port}"


@dataclass(frozen=True)
class CliqueNetwork:
    """The nodes of a network, all connected until a test disconnects one."""

    sealers: tuple[Sealer, ...]

    def connect(self) -> None:
        """Connect every running node with every other."""
        self._peers("admin_addPeer")

    def cut_off(self, sealer: Sealer) -> None:
        """Disconnect a node from all others, in both directions."""
        self._peers("admin_removePeer", of=sealer)
        eventually(lambda: not int(call(sealer.url, "net_peerCount"), 16), what="the partition")

    def join(self, sealer: Sealer) -> None:
        """Connect a node to all others again."""
        self._peers("admin_addPeer", of=sealer)

    def _peers(self, method: str, *, of: Sealer | None = None) -> None:
        running = [sealer for sealer in self.sealers if sealer.process]
        for one in running:
            for other in running:
                if one is not other and of in (None, one, other):
                    call(one.url, method, other.enode())


@contextmanager
def clique_network(
    program: Path, folder: Path, hosts: Sequence[NamespaceHost] = (), *, funded: Sequence[str] = ()
) -> Iterator[CliqueNetwork]:
    """Run a fresh network, on which accounts of the test mnemonic have ether.

    Args:
        program: geth.
        folder: the folder of the nodes.
        hosts: the host of each node; by default, all run on loopback.
        funded: addresses of further accounts with ether.
    """
    accounts = [dev_account(20 + number) for number in range(SEALERS)]
    places: Sequence[NamespaceHost | None] = hosts or [None] * SEALERS
    sealers = tuple(
        Sealer(program, folder / f"sealer-{number}", account, host=host)
        for number, (account, host) in enumerate(zip(accounts, places, strict=True))
    )
    genesis = genesis_of([account.address for account in accounts], funded)
    network = CliqueNetwork(sealers)
    try:
        for sealer in sealers:
            sealer.prepare(genesis)
            sealer.start()
        network.connect()
        eventually(lambda: sealers[0].head >= SEALERS, what="the first blocks")
        yield network
    finally:
        for sealer in sealers:
            sealer.stop()


def genesis_of(sealers: list[str], funded: Sequence[str]) -> dict[str, Any]:
    """Return the genesis block.

    EIP-225 requires the sealers' addresses, in ascending order, between 32 and 65 zero bytes.
    """
    listed = "".join(sorted(address[2:].lower() for address in sealers))
    rich = [*(dev_account(number).address for number in range(FUNDED)), *funded]
    forks = ("homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul")
    return {
        "config": {
            "chainId": CHAIN_ID,
            **{f"{fork}Block": 0 for fork in (*forks, "berlin", "london")},
            "clique": {"period": PERIOD, "epoch": 30000},
        },
        "difficulty": "1",
        "gasLimit": "30000000",
        "extradata": "0x" + "00" * 32 + listed + "00" * 65,
        "alloc": {address[2:]: {"balance": hex(10**24)} for address in rich},
    }
