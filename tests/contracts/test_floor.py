"""Tests of `setMinimumVersion` on a paired product."""

from __future__ import annotations

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance

FLOOR = 1 << 48 | 4 << 24


def test_when_the_floor_is_raised_it_should_be_recorded_and_emitted(
    block_ota: ContractInstance, vendor: AccountAPI, product: bytes
) -> None:
    """The minimum version may exceed every release, and may be raised again while the contract is paused."""
    block_ota.pause(sender=vendor)
    for version in (FLOOR, FLOOR + 1):
        receipt = block_ota.setMinimumVersion(product, version, sender=vendor)
        (event,) = receipt.decode_logs(block_ota.MinimumVersionRaised)
        assert (event.product, event.minimumVersion) == (product, version)
        assert block_ota.productRecord(product).minimumVersion == version


@pytest.mark.parametrize("requested", [0, FLOOR - 1, FLOOR], ids=["zero", "lower", "the same"])
def test_when_the_floor_would_not_rise_it_should_refuse(
    block_ota: ContractInstance, vendor: AccountAPI, product: bytes, requested: int
) -> None:
    """The minimum version cannot be lowered, because faulty releases could then be installed again."""
    block_ota.setMinimumVersion(product, FLOOR, sender=vendor)
    with ape.reverts(block_ota.MinimumVersionNotRaised, product=product, requested=requested, minimumVersion=FLOOR):
        block_ota.setMinimumVersion(product, requested, sender=vendor)


def test_when_the_product_is_not_paired_it_should_refuse(
    empty: ContractInstance, vendor: AccountAPI, product: bytes
) -> None:
    """`setMinimumVersion` refuses a product that is not paired."""
    with ape.reverts(empty.ProductNotPaired, product=product):
        empty.setMinimumVersion(product, FLOOR, sender=vendor)
