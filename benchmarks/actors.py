"""The senders of the transactions that `gas` measures, on a new chain: plain accounts and a 2-of-3 Safe."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blockota.approval.safe_transaction import SafeTransaction
from blockota.bindings.safe import deploy_safe, read_safe
from blockota.chain import Chain
from blockota.chain.local import LocalChain, free_port
from blockota.ethereum import to_checksum_address
from blockota.formats.abi import Interface
from blockota.keys import dev_account

EXECUTE = "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)"
DIRECT, SAFE = "direct", "Safe"
FOREVER, GAS_LIMIT = 1 << 33, 16_000_000


@dataclass(frozen=True)
class AnvilNode:
    """A JSON-RPC client of the local chain, which sends transactions without a gas estimate and without signing."""

    chain: Chain

    def send(self, sender: str, data: bytes, to: str | None = None) -> dict[str, Any]:
        """Let the node sign and send a transaction of a development account; return the receipt."""
        transaction = {"from": sender, "data": f"0x{data.hex()}", "gas": hex(GAS_LIMIT)} | ({"to": to} if to else {})
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendTransactionSync", "params": [transaction]}
        connection = HTTPConnection(urlsplit(self.chain.url).netloc)
        connection.request("POST", "/", json.dumps(request), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        if "error" in answer or int(answer["result"]["status"], 16) != 1:
            raise AssertionError(f"a transaction failed: {transaction} {answer.get('error', '')}")
        receipt: dict[str, Any] = answer["result"]
        return receipt


@dataclass(frozen=True)
class Direct:
    """An account that sends transactions itself."""

    node: AnvilNode
    address: str
    way: str = DIRECT

    def act(self, to: str, call: bytes) -> int:
        """Send a transaction; return the gas that it used."""
        return int(self.node.send(self.address, call, to)["gasUsed"], 16)


@dataclass(frozen=True)
class Multisig:
    """A 2-of-3 Safe; its first two owners sign, and another account sends its transactions."""

    node: AnvilNode
    address: str
    way: str = SAFE

    def act(self, to: str, call: bytes) -> int:
        """Sign a transaction and let the Safe execute it; return the gas that it used.

        Proposal files are not used, because they can contain only calls of BlockOTA's contracts.
        """
        chain = self.node.chain
        nonce = read_safe(chain, self.address).nonce
        wanted = SafeTransaction(chain_id=chain.chain_id, safe=self.address, nonce=nonce, to=to, data=call)
        signers = sorted((dev_account(number) for number in (1, 2)), key=lambda signer: int(signer.address, 16))
        signatures = b"".join(bytes(signer.sign_message(wanted.signable).signature) for signer in signers)
        execution = wanted.execution_call(signatures)
        return int(self.node.send(dev_account(0).address, execution, self.address)["gasUsed"], 16)


Actor = Direct | Multisig
"""A sender of calls to contracts; `address` is the sender in the call, and `act` returns the gas that a call used."""


@dataclass(frozen=True)
class Deployed:
    """A deployed contract; `cost` is the gas of its deployment."""

    name: str
    interface: Interface
    address: str
    cost: int

    def by(self, actor: Actor, function: str, *arguments: Any) -> int:
        """Send a call as a transaction, even if the function only reads; return the gas that it used."""
        return actor.act(self.address, self.interface.encode_call(function, *arguments))


def deploy(node: AnvilNode, name: str, compiled: dict[str, Any], *arguments: Any) -> Deployed:
    """Deploy a contract; `compiled` contains its ``abi`` and ``bytecode``."""
    interface = Interface(compiled["abi"])
    creation = bytes.fromhex(compiled["bytecode"].removeprefix("0x")) + interface.encode_constructor(*arguments)
    receipt = node.send(dev_account(0).address, creation)
    address = to_checksum_address(receipt["contractAddress"])
    return Deployed(name, interface, address, int(receipt["gasUsed"], 16))


@contextmanager
def cast(way: str) -> Iterator[tuple[Direct, Actor]]:
    """Start a new chain; yield an account that owns the contracts at first, and the vendor: an account or a Safe."""
    with tempfile.TemporaryDirectory() as folder:
        local = LocalChain(Path(folder), free_port())
        node = AnvilNode(local.start())
        try:
            yield person(node, 5), safe_of(node) if way == SAFE else person(node, 0)
        finally:
            local.stop()


def person(node: AnvilNode, number: int) -> Direct:
    """Return one of the development accounts as a sender."""
    return Direct(node, dev_account(number).address)


def safe_of(node: AnvilNode) -> Multisig:
    """Create a Safe and let it execute a transaction, because a Safe's first transaction costs 17,100 gas more."""
    owners = [dev_account(number).address for number in (1, 2, 3)]
    safe = Multisig(node, deploy_safe(node.chain, dev_account(0), owners=owners, threshold=2))
    safe.act(safe.address, b"")
    return safe
