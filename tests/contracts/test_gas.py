"""The gas of BlockOTA's deployment and write calls stays below fixed limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

from tests.contracts.conftest import Contracts

MakeRelease = Callable[..., dict[str, Any]]
PUBLISH, PUBLISH_BY_SAFE, DEPLOY = 85_000, 125_000, 2_500_000
BATCH = 50


@pytest.fixture
def with_release(block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease) -> ContractInstance:
    """BlockOTA with release 1 published."""
    block_ota.publish([make_release(1)], sender=vendor)
    return block_ota


def test_deploying_should_stay_below_its_limit(
    contracts: Contracts, empty: ContractInstance, owner_a: TestAccountAPI
) -> None:
    """The deployment of BlockOTA uses at most 2,500,000 gas."""
    again = contracts["BlockOTA"].deploy(empty.owner(), sender=owner_a)
    assert again.creation_metadata.receipt.gas_used <= DEPLOY


def test_publishing_should_cost_the_same_at_release_2_and_at_release_1000(
    with_release: ContractInstance, vendor: AccountAPI, make_release: MakeRelease
) -> None:
    """Publishing a release uses the same gas, within 2 %, at release 2 and at release 1,000."""
    second = with_release.publish([make_release(2)], sender=vendor).gas_used
    for first in range(3, 1000, BATCH):
        batch = [make_release(number) for number in range(first, min(first + BATCH, 1000))]
        with_release.publish(batch, sender=vendor)
    thousandth = with_release.publish([make_release(1000)], sender=vendor).gas_used
    assert second <= PUBLISH
    assert thousandth <= PUBLISH
    assert abs(thousandth - second) <= second * 0.02


def test_publishing_several_at_once_should_cost_less_for_each(
    with_release: ContractInstance, vendor: AccountAPI, make_release: MakeRelease
) -> None:
    """A transaction with ten releases uses per release at most 75 % of the gas limit for a single publication."""
    receipt = with_release.publish([make_release(number) for number in range(2, 12)], sender=vendor)
    assert receipt.gas_used / 10 <= PUBLISH * 0.75


def test_publishing_by_two_signatures_of_the_safe_should_stay_below_its_limit(
    with_release: ContractInstance, safe: Any, broker: TestAccountAPI, make_release: MakeRelease
) -> None:
    """From the Safe's second transaction on, a publication through the Safe uses at most 125,000 gas."""
    used = []
    for number in (2, 3):
        calldata = with_release.publish.encode_input([make_release(number)])
        receipt = safe.execute(with_release, calldata, sender=broker)
        assert receipt.decode_logs(with_release.ReleasePublished)
        used.append(receipt.gas_used)
    assert used[-1] <= PUBLISH_BY_SAFE


def test_one_signature_of_the_safe_should_publish_nothing(
    with_release: ContractInstance, safe: Any, owner_a: TestAccountAPI, make_release: MakeRelease
) -> None:
    """With the signature of only one of three owners, the Safe refuses to publish (GS020: too few signatures)."""
    calldata = with_release.publish.encode_input([make_release(2)])
    with ape.reverts("GS020"):
        safe.execute(with_release, calldata, sender=owner_a, signatures=1)
    assert with_release.productRecord(make_release(2)["product"]).head == make_release(1)["version"]
