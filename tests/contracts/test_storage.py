"""Tests that a real chain has the contracts' values in the storage slots that docs/contracts.md documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance
from eth_utils.crypto import keccak

from tests.contracts.agreements import release_of, terms

MakeRelease = Callable[..., dict[str, Any]]
MIB = 1 << 20
BASE = 2
PAIRED = 1
REVOKED, PROPOSED, ACCEPTED = 2, 1, 2


def word(contract: ContractInstance, place: int) -> int:
    """Read a storage slot of a contract."""
    return int.from_bytes(ape.chain.provider.get_storage(contract.address, place), "big")


def mapped(key: int | bytes, place: int) -> int:
    """Return the storage slot of a key's value in the mapping at a slot."""
    left = key if isinstance(key, bytes) else key.to_bytes(32, "big")
    return int.from_bytes(keccak(left + place.to_bytes(32, "big")), "big")


def packed(*fields: tuple[int, int]) -> int:
    """Pack fields (value, number of bits) into a storage word, beginning with the lowest bits."""
    total, shift = 0, 0
    for value, bits in fields:
        total |= value << shift
        shift += bits
    return total


def test_a_product_and_its_releases_should_be_where_documented(
    block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease, product: bytes, oem: bytes
) -> None:
    """A product, a revoked release and a release of more than 1 MiB are stored in the documented slots."""
    block_ota.pairOem(product, oem, 0x0410, 0x0800_0000, 2 * MIB, sender=vendor)
    first, second = make_release(1), make_release(2, size=MIB + 1, dagRoot=b"\7" * 32)
    block_ota.publish([first, second], sender=vendor)
    block_ota.revoke(product, first["version"], "bricks boards", sender=vendor)
    block_ota.setMinimumVersion(product, second["version"], sender=vendor)
    base = mapped(product, BASE)
    fields = [(second["version"], 64)] * 2 + [(0x0800_0000, 32), (2 * MIB, 32), (0x0410, 16), (PAIRED, 8)]
    assert word(block_ota, base) == packed(*fields)
    assert word(block_ota, base + 1) == int.from_bytes(oem, "big")
    assert word(block_ota, mapped(first["version"], base + 2)) == int.from_bytes(first["sha256"], "big")
    active_from = block_ota.release(product, first["version"]).activeFrom
    ending = [(0x0800_0000, 32), (active_from, 40), (0x0410, 16), (REVOKED, 8)]
    facts = word(block_ota, mapped(first["sha256"], base + 3))
    assert facts == packed((first["version"], 64), (0, 64), (60_000, 32), *ending)
    facts = word(block_ota, mapped(second["sha256"], base + 3))
    assert facts & ((1 << 160) - 1) == packed((second["version"], 64), (first["version"], 64), (MIB + 1, 32))
    assert word(block_ota, mapped(first["sha256"], base + 4)) == 0
    assert word(block_ota, mapped(second["sha256"], base + 4)) == int.from_bytes(second["dagRoot"], "big")


def test_owners_and_pause_should_be_where_documented(
    block_ota: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI, product: bytes
) -> None:
    """The pause, the owner, the pending owner and the list of products are stored in the documented slots."""
    block_ota.pause(sender=vendor)
    block_ota.transferOwnership(broker, sender=vendor)
    assert word(block_ota, 0) == packed((1, 8), (int(vendor.address, 16), 160))
    assert word(block_ota, 1) == int(broker.address, 16)
    assert word(block_ota, 3) == 1
    assert word(block_ota, mapped(b"", 3)) == int.from_bytes(product, "big")


def test_agreements_should_be_where_documented(
    replication: ContractInstance, vendor: AccountAPI, cast: list[TestAccountAPI], make_release: MakeRelease
) -> None:
    """Two accepted agreements and a proposed agreement are stored in the documented slots."""
    product, version = make_release(1)["product"], make_release(1)["version"]
    expiry = 4_000_000_000
    for number, account in enumerate(cast[:3], start=1):
        replication.propose(product, version, expiry, sender=account)
        if number != len(cast[:3]):
            replication.accept(*terms(replication, number), sender=vendor)
    replication.announce(*release_of(replication, 1), "ipfs://x", sender=cast[0])
    first, third = mapped(1, 1), mapped(3, 1)
    assert word(replication, 0) == len(cast[:3])
    assert word(replication, first) == packed((int(cast[0].address, 16), 160), (expiry, 40), (ACCEPTED, 8))
    assert word(replication, first + 1) == int.from_bytes(product, "big")
    assert word(replication, first + 2) == packed((version, 64), (0, 64), (2, 64))
    assert word(replication, mapped(2, 1) + 2) == packed((version, 64), (1, 64), (0, 64))
    assert word(replication, first + 3).to_bytes(32, "big") == b"ipfs://x".ljust(31, b"\0") + bytes([2 * 8])
    assert word(replication, third) == packed((int(cast[2].address, 16), 160), (expiry, 40), (PROPOSED, 8))
    index = mapped(version, mapped(product, 2))
    assert word(replication, index) == 2
    assert word(replication, mapped(int(cast[2].address, 16), index + 1)) == len(cast[:3])
