"""The calls of Producers and IdentityRegistry that `gas` measures, after a number of records were stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.actors import DIRECT, Actor, Deployed, Direct, cast, deploy, person
from benchmarks.gas_scenarios import CREATION, Cost, Costs
from blockota.ethereum import ZERO_ADDRESS
from blockota.formats.abi import artifact
from blockota.keys import dev_account
from blockota.model.identity import IdentityKind
from blockota.model.release import product_key

PAGE, BATCH = 64, 20
P256, ED25519, RSA = 1, 2, 3
NETWORK = 10 << 24
TINY = bytes.fromhex("60016000f3")
"""Creation code of a contract of one byte."""
REASON = b"stolen".ljust(32, b"\0")
RSA_2048 = (
    bytes.fromhex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100")
    + b"\xff" * 64
    + b"".join(hashlib.sha512(bytes([number])).digest() for number in range(2))
    + b"\xff" * 64
    + bytes.fromhex("0203010001")
)
"""An RSA key whose modulus is an arbitrary odd number of 2,048 bits."""


def registries(number: int, way: str) -> Iterator[Cost]:
    """Measure every function of Producers and IdentityRegistry for the record with this number, counted from 1."""
    for measure in (producers, identities):
        with cast(way) as (founder, owner):
            contract, costs = measure(founder, owner, number)
            yield from (Cost(contract.name, function, number, way, gas) for _, function, gas in costs)
            if way == DIRECT:
                yield Cost(contract.name, CREATION, 0, way, contract.cost)


def producers(founder: Direct, owner: Actor, number: int) -> tuple[Deployed, Costs]:
    """Measure Producers. The measured producer has real contracts BlockOTA and FirmwareReplication."""
    node = founder.node
    contract = deploy(node, "Producers", artifact("Producers"), founder.address)
    for earlier in range(1, number):
        record = str(node.send(founder.address, TINY)["contractAddress"])
        contract.by(founder, "admit", product_key(f"producer-{earlier}"), record, ZERO_ADDRESS)
    record = deploy(node, "BlockOTA", artifact("BlockOTA"), founder.address).address
    agreements = deploy(node, "FirmwareReplication", artifact("FirmwareReplication"), record).address
    name = product_key(f"producer-{number}")
    contract.by(founder, "transferOwnership", owner.address)
    costs = [(contract, "acceptOwnership", contract.by(owner, "acceptOwnership"))]
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("admit", (name, record, agreements)),
        ("suspend", (name,)),
        ("restore", (name,)),
    ]
    reads: list[tuple[str, tuple[Any, ...]]] = [
        ("producer", (name,)),
        ("producerOf", (record,)),
        ("producers", (0, PAGE)),
        ("producerCount", ()),
        ("owner", ()),
        ("pendingOwner", ()),
    ]
    costs += measured(contract, owner, calls, reads)
    costs.append((contract, "transferOwnership", contract.by(owner, "transferOwnership", dev_account(6).address)))
    return contract, costs


def identities(founder: Direct, owner: Actor, number: int) -> tuple[Deployed, Costs]:
    """Measure IdentityRegistry. Each identity has an account, all kinds of keys, and the next virtual IP."""
    node, admin = founder.node, person(founder.node, 4)
    contract = deploy(node, "IdentityRegistry", artifact("IdentityRegistry"), founder.address)
    for start in range(1, number, BATCH):
        contract.by(founder, "enrolAll", [enrolment(n, ED25519) for n in range(start, min(start + BATCH, number))])
    contract.by(founder, "transferOwnership", owner.address)
    costs = [(contract, "acceptOwnership", contract.by(owner, "acceptOwnership"))]
    one, later = enrolment(number), [enrolment(number + n) for n in range(6)]
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("enrol, P-256", (one,)),
        ("enrol, RSA-2048", (later[1] | {"keyKind": RSA, "key": RSA_2048},)),
        ("enrol, first of 256 virtual IPs", (later[2] | {"virtualIp": NETWORK + (1 << 20)},)),
        ("enrolAll, two", (later[3:5],)),
        ("rotate", (one["uuid"], *[enrolment(number + 9)[name] for name in list(one)[2:7]])),
        ("ban", (one["uuid"], REASON)),
        ("unban", (one["uuid"],)),
    ]
    reads: list[tuple[str, tuple[Any, ...]]] = [
        ("identity", (one["uuid"],)),
        ("identityOf", (later[1]["account"],)),
        ("identityByKey", (bytes(32),)),
        ("generations", (one["uuid"],)),
        ("identities", (bytes(16), PAGE)),
        ("identityCount", ()),
        ("standing", (later[1]["account"],)),
        ("kindOf", (one["uuid"],)),
        ("bannedAt", (one["uuid"],)),
        ("owner", ()),
        ("pendingOwner", ()),
    ]
    costs += measured(contract, owner, calls, reads)
    if owner.way == DIRECT:
        administrator = later[5] | {"kind": IdentityKind.ADMINISTRATOR.value, "account": admin.address}
        contract.by(owner, "enrol", administrator)
        for label, banned in (("first of an Administrator", later[1]), ("second of an Administrator", later[2])):
            costs.append((contract, f"ban, {label}", contract.by(admin, "ban", banned["uuid"], REASON)))
    costs.append((contract, "retire", contract.by(owner, "retire", one["uuid"])))
    heir = dev_account(6).address
    costs.append((contract, "transferOwnership", contract.by(owner, "transferOwnership", heir)))
    return contract, costs


def measured(
    contract: Deployed,
    owner: Actor,
    calls: list[tuple[str, tuple[Any, ...]]],
    reads: list[tuple[str, tuple[Any, ...]]],
) -> Costs:
    """Return the gas of the calls; if the owner calls directly, also return the gas of the reads.

    A label is the name of a function, optionally followed by a comma and a remark.
    """
    chosen = calls + (reads if owner.way == DIRECT else [])
    return [(contract, label, contract.by(owner, label.partition(",")[0], *arguments)) for label, arguments in chosen]


def enrolment(number: int, key_kind: int = P256) -> dict[str, Any]:
    """Return the argument of `enrol` for a gateway."""
    return {
        "uuid": digest("uuid", number)[:16],
        "kind": IdentityKind.GATEWAY.value,
        "account": "0x" + digest("account", number)[:20].hex(),
        "keyKind": key_kind,
        "key": p256_key(number) if key_kind == P256 else digest("key", number),
        "logKey": digest("log", number),
        "tunnelKey": digest("tunnel", number),
        "virtualIp": NETWORK + number,
    }


def p256_key(number: int) -> bytes:
    """Return a P-256 public key: x followed by y."""
    point = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers()
    return point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")


def digest(use: str, number: int) -> bytes:
    """Return a SHA-256 that differs for each use and number."""
    return hashlib.sha256(f"{use} {number}".encode()).digest()
