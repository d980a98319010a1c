"""The calls of UpdateLedger and UpdateOrders that `gas` measures, after a number of anchors or orders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.actors import DIRECT, Deployed, Direct, cast, deploy, person
from benchmarks.gas_registries import digest, enrolment, measured
from benchmarks.gas_scenarios import CREATION, Cost, Costs
from blockota.formats.abi import artifact
from blockota.formats.tlog import leaf_hash, node_hash, prove_consistency, tree_head
from blockota.model.identity import IdentityKind
from blockota.model.order import GroupKind
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version, product_key

BATCHES = (1_024, 16_384)
PACKED, SCATTERED = 4, 64
"""The words of 1,024 devices, and those of 256 devices with four of them in each word."""
ALL_BITS, FOUR_BITS = (1 << 256) - 1, 1 << 3 | 1 << 70 | 1 << 130 | 1 << 200
DEADLINE = 4_000_000_000
RELEASE = product_key("acme-thermo2")
Call = tuple[str, tuple[Any, ...]]


def ledger(number: int, way: str) -> Iterator[Cost]:
    """Measure every function of UpdateLedger and UpdateOrders, which accounts call directly.

    Args:
        number: the number of the measured anchor, and also of the measured order, counted from 1.
        way: the kind of account that sends the call. If it is a Safe, nothing is measured.
    """
    if way != DIRECT:
        return
    with cast(way) as (founder, owner):
        node = founder.node
        identities = deploy(node, "IdentityRegistry", artifact("IdentityRegistry"), owner.address)
        devices = deploy(node, "DeviceRegistry", artifact("DeviceRegistry"), owner.address, identities.address)
        keeper, operator, administrator = (person(node, account) for account in (6, 7, 8))
        kinds = (IdentityKind.GATEWAY, IdentityKind.OPERATOR, IdentityKind.ADMINISTRATOR)
        enrolled = [
            enrolment(place) | {"kind": kind.value, "account": one.address}
            for place, (kind, one) in enumerate(zip(kinds, (keeper, operator, administrator), strict=True), 1)
        ]
        identities.by(owner, "enrolAll", enrolled)
        site = enrolled[0]["uuid"]
        devices.by(owner, "giveBlocks", site, 2 * SCATTERED)
        beside = (identities.address, devices.address)

        anchors = [deploy(node, "UpdateLedger", artifact("UpdateLedger"), *beside) for _ in BATCHES]
        costs = [
            cost for one, batch in zip(anchors, BATCHES, strict=True) for cost in _anchor(one, keeper, number, batch)
        ]
        costs += _installations(anchors[0], keeper, number)
        costs += _evidence(deploy(node, "UpdateLedger", artifact("UpdateLedger"), *beside), keeper, administrator, site)
        orders = deploy(node, "UpdateOrders", artifact("UpdateOrders"), *beside)
        costs += _orders(orders, operator, number, site)
        yield from (Cost(contract.name, function, number, way, gas) for contract, function, gas in costs)
        yield from (Cost(one.name, CREATION, 0, way, one.cost) for one in (anchors[0], orders))


def _anchor(contract: Deployed, keeper: Direct, number: int, batch: int) -> Costs:
    """Measure the anchor with this number, in a log that grows by a batch of entries for each anchor."""
    if number > 1:
        size, root, _ = growth(number - 1, batch)
        contract.by(keeper, "anchor", size, root, [])
    return measured(contract, keeper, [(f"anchor, {batch:,} entries", growth(number, batch))], [])


def _installations(contract: Deployed, keeper: Direct, number: int) -> Costs:
    calls: list[Call] = [
        ("anchorInstalls, 1,024 devices in 4 words", (*growth(number + 1), installs(1, PACKED, ALL_BITS))),
        ("anchorInstalls, 256 devices in 64 words", (*growth(number + 2), installs(2, SCATTERED, FOUR_BITS))),
    ]
    release = ReleaseId(1, contract.address, "acme-thermo2", Version(1, 1, 0)).digest
    site = enrolment(1)["uuid"]
    reads: list[Call] = [
        ("root", (site,)),
        ("installed", (release, 256)),
        ("installedBits, 64 words", (release, 1, SCATTERED)),
        ("suspectedSize", (site, 256, release)),
        ("identities", ()),
        ("devices", ()),
    ]
    return measured(contract, keeper, calls, reads)


def _evidence(contract: Deployed, keeper: Direct, administrator: Direct, site: bytes) -> Costs:
    """Measure a call with two adjacent entries of a log of 1,024 entries as evidence; all other hashes are made up."""
    release = digest("release", 1)
    entries = [
        bytes.fromhex("910048") + (256).to_bytes(8) + b"\x58\x20" + release + bytes(200) + bytes([n]) for n in (0, 1)
    ]
    first, second = map(leaf_hash, entries)
    path = [digest("path", height) for height in range(1, 10)]
    root = node_hash(first, second)
    for sibling in path:
        root = node_hash(root, sibling)
    contract.by(keeper, "anchor", 1_024, root, [])
    pair = [
        {"data": entry, "index": index, "path": [other, *path]}
        for index, (entry, other) in enumerate(zip(entries, (second, first), strict=True))
    ]
    costs = measured(contract, keeper, [("suspect, among 1,024 entries", (site, *pair))], [])
    return costs + measured(contract, administrator, [("decide", (site, 256, release, True))], [])


def _orders(contract: Deployed, operator: Direct, number: int, site: bytes) -> Costs:
    group = product_key("berlin")
    named = (group, 1, contract.address, RELEASE)
    value = site.ljust(32, b"\0")
    costs = measured(contract, operator, [("defineGroup", (group, GroupKind.SITE.value, value))], [])
    terms = (1 << 48, 0, DEADLINE)
    for earlier in range(1, number):
        contract.by(operator, "order", *named, *terms)
        contract.by(operator, "cancel", *named, earlier)
    calls: list[Call] = [("order", (*named, *terms)), ("cancel", (*named, number))]
    reads: list[Call] = [
        ("group", (group,)),
        ("current", named),
        ("orderCount", ()),
        ("identities", ()),
        ("devices", ()),
    ]
    return costs + measured(contract, operator, calls, reads)


def growth(number: int, batch: int = BATCHES[0]) -> tuple[int, bytes, list[bytes]]:
    """Return size, root and proof of the anchor with this number, counted from 1; the roots of the batches are made up.

    Each batch is a complete tree, so a consistency proof of the log contains no node below the batches' roots. The
    proof is therefore equal to that of a smaller tree, whose leaves are these roots.
    """

    def read_node(height: int, position: int) -> bytes:
        if height == 0:
            return digest("batch", position)
        return node_hash(read_node(height - 1, 2 * position), read_node(height - 1, 2 * position + 1))

    return batch * number, tree_head(read_node, number).root, prove_consistency(read_node, number - 1, number)


def installs(minor: int, words: int, bits: int) -> dict[str, Any]:
    """Return an argument of `anchorInstalls` for a new release; each word has the same bits."""
    return {
        "chain": 1,
        "blockOta": "0x" + digest("contract", 1)[:20].hex(),
        "product": RELEASE,
        "version": Version(1, minor, 0).packed,
        "words": list(range(1, words + 1)),
        "bits": [bits] * words,
    }
