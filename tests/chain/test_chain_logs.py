"""Tests of queries for a contract's events, in block ranges that the node accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from eth_utils.crypto import keccak

from blockota.bindings.block_ota import BlockOTAContract, pair_call
from blockota.chain import Chain, Log
from blockota.errors import ChainError
from blockota.model.release import Product, Region
from tests.conftest import Cast, Vendor
from tests.support.networks import post, refusal, stand_in

OWNERSHIP = keccak(text="OwnershipTransferred(address,address)")
FLASH = Region(0x08000000, 1 << 16)


@pytest.fixture(scope="module")
def paired(anvil: Chain, cast: Cast) -> BlockOTAContract:
    """A BlockOTA contract with three pairing events in three blocks."""
    contract, _ = BlockOTAContract.deploy(anvil, cast.payer, owner=cast.payer.address)
    for name in ("one", "two", "three"):
        product = Product(name, "acme", 0x410, FLASH, None, paired=True)
        anvil.send(cast.payer, pair_call(product), to=contract.address)
    return contract


@contextmanager
def stingy(chain: Chain, *, span: int, status: int) -> Iterator[str]:
    """Start a proxy of a node that refuses event queries over more than `span` blocks; yield its URL."""

    def answer(body: bytes) -> tuple[int, bytes]:
        return (status, REFUSAL) if is_too_much(json.loads(body), span=span) else (200, post(chain.url, body))

    with stand_in(answer) as url:
        yield url


REFUSAL = refusal("block range too large", code=-32005)


def is_too_much(request: dict[str, Any], *, span: int) -> bool:
    """Return whether a request asks for the events of more than `span` blocks."""
    if request["method"] != "eth_getLogs":
        return False
    asked = request["params"][0]
    return int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) >= span


def pairings(chain: Chain, contract: BlockOTAContract) -> list[Log]:
    """Return the pairing events of all products."""
    every = chain.logs(contract.address, [])
    return chain.logs(contract.address, [every[-1].topics[0]])


def test_events_are_returned_oldest_first(anvil: Chain, paired: BlockOTAContract) -> None:
    """`logs` returns events oldest first, each with its block number and transaction hash."""
    found = pairings(anvil, paired)
    assert len(found) == 3
    assert [log.block_number for log in found] == sorted(log.block_number for log in found)
    assert len({log.transaction for log in found}) == 3
    assert anvil.logs(paired.address, found[1].topics) == [found[1]]


def test_topics_and_the_first_block_choose(anvil: Chain, paired: BlockOTAContract, cast: Cast) -> None:
    """None in an event query matches any topic. `logs` excludes events of earlier blocks and of other contracts."""
    found = pairings(anvil, paired)
    assert anvil.logs(paired.address, [None, found[2].topics[1]]) == [found[2]]
    assert anvil.logs(paired.address, [found[0].topics[0]], from_block=found[1].block_number) == found[1:]
    assert len(anvil.logs(paired.address, [OWNERSHIP])) == 1
    assert not anvil.logs(paired.address, [bytes(32)])
    assert not anvil.logs(cast.mallory.address, [])
    assert not anvil.logs(paired.address, [], from_block=10**9)


def test_a_receipt_has_the_same_events(vendor: Vendor) -> None:
    """A transaction's receipt contains the same events that `logs` returns."""
    contract, receipt = BlockOTAContract.deploy(vendor.chain, vendor.cast.payer, owner=vendor.safe)
    assert vendor.chain.logs(contract.address, []) == list(receipt.logs)


@pytest.mark.parametrize("status", [200, 400, 413])
def test_a_node_that_limits_the_range_is_asked_in_parts(anvil: Chain, paired: BlockOTAContract, status: int) -> None:
    """All events are found on a node that refuses queries over more than two blocks, with any HTTP status."""
    with stingy(anvil, span=2, status=status) as url:
        assert pairings(Chain(url), paired) == pairings(anvil, paired)
        with pytest.raises(ChainError, match=url):
            Chain(url).logs(paired.address, [], in_parts=False)


@pytest.mark.parametrize("status", [200, 413, 429, 500])
def test_a_node_without_events_is_reported(
    anvil: Chain, paired: BlockOTAContract, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """If a node refuses even an event query for a single block, a ChainError with the node's URL is raised."""
    monkeypatch.setattr("blockota.chain.rpc.PAUSES", ())
    with stingy(anvil, span=0, status=status) as url, pytest.raises(ChainError, match=url):
        Chain(url).logs(paired.address, [])
