"""The calls of DeviceRegistry that `gas` measures, after a number of devices were registered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from benchmarks.actors import DIRECT, Actor, Deployed, Direct, cast, deploy, person
from benchmarks.gas_registries import PAGE, digest, enrolment, measured, p256_key
from benchmarks.gas_scenarios import CREATION, Cost, Costs
from blockota.bindings.devices import DevicesContract
from blockota.formats.abi import artifact
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.keys import dev_account
from blockota.model.device import Registration, spec_hash
from blockota.model.release import product_key

BATCH, BLOCKS = 20, 8
ACME, BOLT = product_key("acme"), product_key("bolt")
SPEC = spec_hash("thermo2")
REASON = b"stolen".ljust(32, b"\0")
SIGNATURE = bytes(71)
"""The length of most DER signatures."""
DATA = '{"type":"object","properties":{"hall":{"type":"integer"}}}'
Call = tuple[str, tuple[Any, ...]]


def devices(number: int, way: str) -> Iterator[Cost]:
    """Measure the gas of every function of DeviceRegistry for the device with this number, counted from 1."""
    with cast(way) as (founder, owner):
        contract, costs = _measure(founder, owner, number)
        yield from (Cost(contract.name, function, number, way, gas) for _, function, gas in costs)
        if way == DIRECT:
            yield Cost(contract.name, CREATION, 0, way, contract.cost)


def _measure(founder: Direct, owner: Actor, number: int) -> tuple[Deployed, Costs]:
    node, acme = founder.node, person(founder.node, 5)
    identities = deploy(node, "IdentityRegistry", artifact("IdentityRegistry"), founder.address)
    site, spare = (enrolment(one)["uuid"] for one in (1, 2))
    identities.by(founder, "enrolAll", [enrolment(1), enrolment(2)])
    contract = deploy(node, "DeviceRegistry", artifact("DeviceRegistry"), founder.address, identities.address)
    contract.by(founder, "transferOwnership", owner.address)
    costs = [(contract, "acceptOwnership", contract.by(owner, "acceptOwnership"))]

    deciding: list[Call] = [
        ("admitRegistrant", (ACME, b"\2" + digest("key", 1), acme.address)),
        ("giveBlocks, eight", (site, BLOCKS)),
    ]
    costs += measured(contract, owner, deciding, [])
    contract.by(owner, "admitRegistrant", BOLT, b"\3" + digest("key", 2), dev_account(6).address)
    writing: list[Call] = [
        ("registerSpec", ("thermo2", DATA)),
        ("allow", (SPEC, 1, founder.address, product_key("acme-thermo2"))),
        ("disallow", (SPEC, 1, founder.address, product_key("acme-thermo2"))),
        ("allow, again", (SPEC, 1, founder.address, product_key("acme-thermo2"))),
    ]
    costs += _by_registrant(contract, acme, writing, owner.way)

    for start in range(1, number, BATCH):
        earlier = [thing(one, UUID(bytes=site)) for one in range(start, min(start + BATCH, number))]
        contract.by(owner, "importThings", [imported(one) for one in earlier])
    wanted = [thing(number + n, UUID(bytes=site), aliases=1 + n // 2, keyed=n % 2 == 1) for n in range(4)]
    registrations: list[Call] = [
        (label, (one.as_argument(), _signature(contract, node.chain, one)))
        for label, one in zip(("register", "register, with a key", "register, two aliases"), wanted, strict=False)
    ]
    costs += _by_registrant(contract, acme, registrations, owner.way)
    first = 256 + number - 1
    ban: list[Call] = [("ban, by the registrant", (first, REASON)), ("unban, by the registrant", (first,))]
    costs += _by_registrant(contract, acme, ban, owner.way)
    costs += measured(contract, owner, _deciding_later(first, site, spare, number), _reading(first, spare))
    x, y = (p256_key(9000 + number)[part : part + 32] for part in (0, 32))
    later: list[Call] = [
        ("setKey", (first, x, y)),
        ("transfer", (first, BOLT)),
        ("registerBatch", (SPEC, spare, 1000, digest("root", number))),
    ]
    costs += _by_registrant(contract, acme, later, owner.way)
    costs.append((contract, "transferOwnership", contract.by(owner, "transferOwnership", dev_account(7).address)))
    return contract, costs


def _deciding_later(device: int, site: bytes, spare: bytes, number: int) -> list[Call]:
    """Return the calls of the owner after the devices are registered."""
    return [
        ("ban, by the owner", (device, REASON)),
        ("unban, by the owner", (device,)),
        ("suspendRegistrant", (BOLT,)),
        ("restoreRegistrant", (BOLT,)),
        ("setRegistrantAccount", (BOLT, dev_account(8).address)),
        ("importSpec", (ACME, f"lock {number}", DATA, SIGNATURE)),
        ("importThings, one", ([imported(thing(number + 100, UUID(bytes=site)))],)),
        ("replaceSite", (site, spare)),
    ]


def _reading(device: int, site: bytes) -> list[Call]:
    return [
        ("device", (device,)),
        ("devices, 64", (256, PAGE)),
        ("generations", (device,)),
        ("record", (f"Alias:acme/thermo2/SN-{device - 255:06}",)),
        ("numberOf", (f"acme/thermo2/SN-{device - 255:06}",)),
        ("numberOfKey", (bytes(32), bytes(32))),
        ("siteOf", (device,)),
        ("site", (site,)),
        ("sites", (0, PAGE)),
        ("ownsBlocks, one", (site, [1])),
        ("blockCount", ()),
        ("batchOf", (device,)),
        ("batches", (site, 0, PAGE)),
        ("registrant", (ACME,)),
        ("registrantOf", (dev_account(5).address,)),
        ("registrants", (0, PAGE)),
        ("spec", (SPEC,)),
        ("specs", (0, PAGE)),
        ("allows", (SPEC, 1, dev_account(0).address, product_key("acme-thermo2"))),
        ("updates", (SPEC, 0, PAGE)),
        ("identities", ()),
        ("owner", ()),
        ("pendingOwner", ()),
    ]


def thing(number: int, site: UUID, *, aliases: int = 1, keyed: bool = False) -> Registration:
    """Return a device's registration with a nonce of 16 bytes and aliases of 22 characters."""
    names = (f"acme/thermo2/SN-{number:06}", f"acme/hall/1/place-{number:04}")[:aliases]
    key = PublicKey(KeyKind.P256, p256_key(number)) if keyed else None
    return Registration("acme", digest("nonce", number)[:16], names, "", "thermo2", site, key)


def imported(one: Registration) -> dict[str, Any]:
    """Return a registration as an element of the argument of ``importThings``."""
    return {"thing": one.as_argument(), "signature": SIGNATURE}


def _signature(contract: Deployed, chain: Any, one: Registration) -> bytes:
    signable = DevicesContract(chain, contract.address).signable(one)
    return bytes(dev_account(5).sign_message(signable).signature)


def _by_registrant(contract: Deployed, acme: Direct, calls: Sequence[Call], way: str) -> Costs:
    """Make the registrant's calls. Return their gas only if `way` is `DIRECT`, to report each call once."""
    costs = measured(contract, acme, list(calls), [])
    return costs if way == DIRECT else []
