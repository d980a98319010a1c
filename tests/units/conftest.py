"""A vendor with a 2-of-3 Safe and a contract on a real chain."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from blockota.approval import Reason, propose
from blockota.bindings import BlockOTAContract
from blockota.chain import Chain, Receipt
from blockota.multisig import execute
from blockota.release import Product
from blockota.signature import sign
from blockota.vendor import deploy, deploy_local_safe, propose_pairing
from tests.conftest import Cast
from tests.units.samples import NOW, PRODUCT

REASON = Reason("a test", NOW, 3600)


@dataclass(frozen=True)
class Vendor:
    """A vendor's Safe and contract.

    Attributes:
        contract: the contract.
        safe: address of its owner.
        cast: two of its owners sign.
    """

    contract: BlockOTAContract
    safe: str
    cast: Cast

    @property
    def chain(self) -> Chain:
        """The chain that both lie on."""
        return self.contract.chain

    def decide(self, call: bytes) -> Receipt:
        """Have the Safe do something."""
        proposal = propose(self.contract, call, reason=REASON)
        signatures = [sign(proposal, self.cast.owner_a), sign(proposal, self.cast.owner_b)]
        return execute(self.chain, proposal, signatures=signatures, account=self.cast.payer, now=NOW)


@pytest.fixture(scope="module")
def vendor(anvil: Chain, cast: Cast) -> Vendor:
    """A fresh vendor for every file of tests."""
    owners = [cast.owner_a.address, cast.owner_b.address, cast.owner_c.address]
    safe = deploy_local_safe(anvil, cast.payer, owners=owners, threshold=2)
    deployment = deploy(anvil, cast.payer, safe=safe)
    return Vendor(BlockOTAContract(anvil, deployment.contract), safe, cast)


@pytest.fixture
def product(vendor: Vendor, product_numbers: Iterator[int]) -> Product:
    """A paired product that no other test has."""
    wanted = replace(PRODUCT, name=f"product-{next(product_numbers)}")
    vendor.decide(propose_pairing(vendor.contract, wanted, reason=REASON).data)
    return wanted


@pytest.fixture(scope="session")
def product_numbers() -> Iterator[int]:
    """Numbers that are given out once."""
    return itertools.count(1)


def rpc(chain: Chain, method: str, *parameters: Any) -> Any:
    """Ask the node something that only a development node does."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    request = urllib.request.Request(chain.url, body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as response:  # noqa: S310 - loopback
        return json.load(response)["result"]
