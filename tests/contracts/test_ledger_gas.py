"""The gas of anchors, installations and orders stays below fixed limits, with the real registries."""

from __future__ import annotations

import pytest

from benchmarks.gas_ledger import growth
from blockota.model.order import Group
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version, product_key
from tests.contracts.conftest import City
from tests.contracts.trees import GATEWAY
from tests.support.samples import SAFE

A_RECEIPT = {1_024: 48.0, 16_384: 3.0}
"""The maximum gas for each receipt, by the number of receipts in an anchor."""
PACKED, SCATTERED, ORDER = 150, 6_000, 120_000
DEADLINE = 4_000_000_000


def installs(*words: tuple[int, int], version: int) -> dict[str, object]:
    """Return the argument of `anchorInstalls` for storage words and their bits."""
    release = ReleaseId(1, SAFE, "acme-thermo2", Version(1, version, 0))
    return {
        "chain": release.chain_id,
        "blockOta": release.contract,
        "product": product_key(release.product),
        "version": release.version.packed,
        "words": [word for word, _ in words],
        "bits": [bits for _, bits in words],
    }


@pytest.mark.parametrize("batch", A_RECEIPT)
def test_a_receipt_should_stay_below_its_limit(city: City, batch: int) -> None:
    """From the second anchor on, the gas for each of 2^n anchored entries stays below its limit."""
    used = [city.ledger.anchor(*growth(number, batch), sender=city.accounts[0]).gas_used for number in range(1, 9)]
    assert max(used[1:]) <= A_RECEIPT[batch] * batch


def test_a_device_s_bit_should_stay_below_its_limits(city: City, vendor: object) -> None:
    """Anchoring with 1,024 devices in 4 words, or 256 devices in 64 words, stays below a gas limit for each device."""
    gateway = city.accounts[0]
    city.devices.giveBlocks(GATEWAY.bytes, 64, sender=vendor)
    city.ledger.anchor(*growth(1), sender=gateway)
    first = 5  # the blocks before it are those of the fixture
    full = installs(*((first + word, 2**256 - 1) for word in range(4)), version=1)
    packed = city.ledger.anchorInstalls(*growth(2), full, sender=gateway).gas_used
    four = 1 << 3 | 1 << 70 | 1 << 130 | 1 << 200
    spread = installs(*((first + word, four) for word in range(64)), version=2)
    scattered = city.ledger.anchorInstalls(*growth(3), spread, sender=gateway).gas_used
    assert packed <= PACKED * 1024
    assert scattered <= SCATTERED * 256


def test_an_order_should_stay_below_its_limit(city: City) -> None:
    """Two orders stay below the gas limit: the contract's first, and the group's first for another product."""
    group, operator = Group.of_site("berlin", GATEWAY), city.accounts[2]
    city.orders.defineGroup(product_key(group.name), group.kind.value, group.value, sender=operator)
    for product in ("acme-thermo2", "acme-pump"):
        named = (product_key(group.name), 1, SAFE, product_key(product), Version(1, 4, 0).packed)
        assert city.orders.order(*named, 0, DEADLINE, sender=operator).gas_used <= ORDER
