"""The gas of calls on agreements stays below fixed limits."""

from __future__ import annotations

from typing import Any

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

from tests.contracts.agreements import release_of, terms
from tests.contracts.conftest import Contracts

ACCEPT_BY_SAFE, ANNOUNCE, ANNOUNCE_AGAIN = 130_000, 130_000, 60_000
DEPLOY_BOTH = 4_000_000
FIRST, SECOND = 1 << 48 | 1 << 24, 1 << 48 | 2 << 24
URI = "https://firmware.broker.example/".ljust(80, "a")
MOVED = "https://firmware.broker.example/".ljust(80, "b")


@pytest.fixture
def proposed(replication: ContractInstance, cast: list[TestAccountAPI], product: bytes) -> ContractInstance:
    """FirmwareReplication with the proposals of three accounts for release 1, and of one account for release 2."""
    expiry = ape.chain.pending_timestamp + 86_400
    for account, version in [(cast[0], SECOND), (cast[0], FIRST), (cast[1], FIRST), (cast[2], FIRST)]:
        replication.propose(product, version, expiry, sender=account)
    return replication


def test_deploying_both_contracts_should_stay_below_the_limit(
    contracts: Contracts, empty: ContractInstance, owner_a: TestAccountAPI
) -> None:
    """The deployment of both contracts uses less than 4,000,000 gas."""
    record = contracts["BlockOTA"].deploy(empty.owner(), sender=owner_a)
    agreements = contracts["FirmwareReplication"].deploy(record, sender=owner_a)
    used = [contract.creation_metadata.receipt.gas_used for contract in (record, agreements)]
    assert sum(used) < DEPLOY_BOTH


def test_accepting_by_two_signatures_of_the_safe_should_stay_below_its_limit(
    proposed: ContractInstance, safe: Any, broker: TestAccountAPI
) -> None:
    """Accepting an agreement through the Safe uses at most 130,000 gas, for a release's first and later agreements."""
    calldata = [proposed.accept.encode_input(*terms(proposed, number)) for number in (1, 2, 3, 4)]
    used = [safe.execute(proposed, data, sender=broker).gas_used for data in calldata]
    assert max(used[1:]) <= ACCEPT_BY_SAFE


def test_announcing_an_address_of_80_characters_should_stay_below_its_limits(
    proposed: ContractInstance, vendor: AccountAPI, cast: list[TestAccountAPI]
) -> None:
    """Announcing a URL of 80 characters uses at most 130,000 gas the first time, and 60,000 gas later."""
    proposed.accept(*terms(proposed, 2), sender=vendor)
    first = proposed.announce(*release_of(proposed, 2), URI, sender=cast[0]).gas_used
    again = proposed.announce(*release_of(proposed, 2), MOVED, sender=cast[0]).gas_used
    assert first <= ANNOUNCE
    assert again <= ANNOUNCE_AGAIN
