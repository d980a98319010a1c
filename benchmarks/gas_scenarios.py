"""The calls that `gas` measures: every function of our contracts, and the uploads to the reimplemented contracts.

A scenario starts a new chain. An account publishes all releases before the measured release, and then transfers the
ownership to the vendor. The vendor is another account or a 2-of-3 Safe. All values are fixed, so that a figure is the
same in every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.actors import DIRECT, FOREVER, Actor, Deployed, cast, deploy, person
from blockota.formats.abi import artifact
from blockota.keys import dev_account
from blockota.model.release import Version, product_key

PRODUCT, OTHER_PRODUCT, OEM = product_key("acme-thermo2"), product_key("acme-thermo3"), product_key("acme")
OEM_KEY = "0x" + hashlib.sha256(b"acme").hexdigest()[:40]
REGION = (0x410, 0x08000000, 1 << 20)
SIZE, PAGE, BATCH = 1 << 16, 64, 50
URI = "https://broker.example/acme-thermo2/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiym.bin"
REASON = "boards with a rev. B sensor do not start"
CREATION = "deployment"


@dataclass(frozen=True)
class Cost:
    """One measured transaction.

    Attributes:
        contract: name of the contract.
        function: name of the function, with a remark about the call, such as "pairOem, again".
        number: number of the release at which the call was measured; 0 for the deployment.
        way: `DIRECT` for a call by an account, `SAFE` for a call through a Safe.
        gas: the gas that the transaction used.
    """

    contract: str
    function: str
    number: int
    way: str
    gas: int

    @property
    def key(self) -> str:
        """The name of the figure in the snapshot."""
        return f"{self.contract}.{self.function} @{self.number} {self.way}"


def own_contracts(number: int, way: str) -> Iterator[Cost]:
    """Measure every function of BlockOTA and FirmwareReplication at the release with this number, counted from 1.

    `way` selects how the vendor calls. Calls by brokers and reads are measured only together with direct calls of the
    vendor.
    """
    with cast(way) as (founder, vendor):
        record = deploy(founder.node, "BlockOTA", artifact("BlockOTA"), founder.address)
        agreements = deploy(founder.node, "FirmwareReplication", artifact("FirmwareReplication"), record.address)
        record.by(founder, "pairOem", PRODUCT, OEM, *REGION)
        for start in range(1, number, BATCH):
            record.by(founder, "publish", [release(n) for n in range(start, min(start + BATCH, number))])
        record.by(founder, "transferOwnership", vendor.address)
        costs = [(record, "acceptOwnership", record.by(vendor, "acceptOwnership"))]
        costs.append((record, "publish", record.by(vendor, "publish", [release(number)])))
        costs += replication(agreements, number, vendor)
        costs += reading(record, number, vendor) if way == DIRECT else []
        costs += deciding(record, number, vendor)
        for contract, function, gas in costs:
            yield Cost(contract.name, function, number, way, gas)
        if way == DIRECT:
            yield from (Cost(contract.name, CREATION, 0, way, contract.cost) for contract in (record, agreements))


Costs = list[tuple[Deployed, str, int]]


def deciding(record: Deployed, number: int, vendor: Actor) -> Costs:
    """Measure the vendor's calls, except publishing, on a BlockOTA contract with this number of releases."""
    calls: list[tuple[str, str, tuple[Any, ...]]] = [
        ("setMinimumVersion", "setMinimumVersion", (PRODUCT, version(number))),
        ("revoke", "revoke", (PRODUCT, version(number), REASON)),
        ("pairOem, again", "pairOem", (PRODUCT, OEM, *REGION)),
        ("pairOem, first", "pairOem", (OTHER_PRODUCT, OEM, *REGION)),
        ("unpairOem", "unpairOem", (PRODUCT,)),
        ("pause", "pause", ()),
        ("resume", "resume", ()),
        ("transferOwnership", "transferOwnership", (dev_account(6).address,)),
    ]
    return [(record, label, record.by(vendor, function, *arguments)) for label, function, arguments in calls]


def reading(record: Deployed, number: int, reader: Actor) -> Costs:
    """Measure the read calls of BlockOTA."""
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("latest", (PRODUCT,)),
        ("release", (PRODUCT, version(1))),
        ("history", (PRODUCT, 0, PAGE)),
        ("find", (PRODUCT, digest(number))),
        ("isAuthentic", (PRODUCT, version(number), digest(number))),
        ("productRecord", (PRODUCT,)),
        ("products", (0, PAGE)),
        ("owner", ()),
        ("pendingOwner", ()),
        ("paused", ()),
    ]
    return [(record, function, record.by(reader, function, *arguments)) for function, arguments in calls]


def replication(agreements: Deployed, number: int, vendor: Actor) -> Costs:
    """Measure the gas of the calls on a broker's agreement, after the broker has proposed `number` agreements."""
    broker = person(vendor.node, 4)
    costs: Costs = []

    def measure(actor: Actor, label: str, *arguments: Any) -> None:
        gas = agreements.by(actor, label.partition(",")[0], *arguments)
        if actor is vendor or vendor.way == DIRECT:
            costs.append((agreements, label, gas))

    def own(agreement: int) -> tuple[Any, ...]:
        return agreement, PRODUCT, version(number)

    def terms(agreement: int) -> tuple[Any, ...]:
        return agreement, broker.address, PRODUCT, version(number), FOREVER

    for earlier in range(1, number):
        agreements.by(broker, "propose", PRODUCT, version(earlier), FOREVER)
    measure(broker, "propose", PRODUCT, version(number), FOREVER)
    measure(vendor, "accept", *terms(number))
    measure(broker, "announce, first", *own(number), URI)
    measure(broker, "announce, again", *own(number), URI[::-1])
    for label, arguments in reading_agreements(number, broker.address):
        measure(broker, label, *arguments)
    measure(vendor, "terminate", *terms(number))
    agreements.by(broker, "propose", PRODUCT, version(number), FOREVER)
    measure(vendor, "decline", *terms(number + 1))
    agreements.by(broker, "propose", PRODUCT, version(number), FOREVER)
    measure(broker, "withdraw, proposed", *own(number + 2))
    agreements.by(broker, "propose", PRODUCT, version(number), FOREVER)
    agreements.by(vendor, "accept", *terms(number + 3))
    measure(broker, "withdraw, accepted", *own(number + 3))
    agreements.by(broker, "propose", PRODUCT, version(number), FOREVER)
    measure(vendor, "acceptAll, one", [terms(number + 4)])
    return costs


def reading_agreements(number: int, broker: str) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the read calls of FirmwareReplication, with their arguments."""
    return [
        ("agreement", (number,)),
        ("newestOf", (PRODUCT, version(number), broker)),
        ("agreements", (1, PAGE)),
        ("replicas", (PRODUCT, version(number), 0, PAGE)),
        ("agreementCount", ()),
        ("blockOta", ()),
    ]


def reconstruction(name: str, compiled: dict[str, Any], number: int, way: str) -> Iterator[Cost]:
    """Measure the deployment and the upload of a release for a reimplementation of a published contract."""
    with cast(way) as (founder, vendor):
        contract = deploy(founder.node, name, compiled, founder.address)
        for earlier in range(1, number):
            contract.by(founder, "upload", *upload_arguments(name, earlier))
        contract.by(founder, "transferOwnership", vendor.address)
        yield Cost(name, "upload", number, way, contract.by(vendor, "upload", *upload_arguments(name, number)))
        if way == DIRECT:
            yield Cost(name, "newest", number, way, contract.by(vendor, "newest"))
            yield Cost(name, CREATION, 0, way, contract.cost)


def upload_arguments(name: str, number: int) -> tuple[Any, ...]:
    """Return a release as the arguments of a reimplementation; content addresses have 46 characters (CID version 0)."""
    address = f"Qm{digest(number).hex()[:44]}"
    words = f"1.0.{number}"
    arguments: dict[str, tuple[Any, ...]] = {
        "StringRegistry": ("acme-thermo2", words, address, OEM_KEY, SIZE),
        "LoopingRegistry": (words, address),
        "ContractPerRelease": (words, f"ipfs://{address}", digest(number)),
    }
    return arguments[name]


def release(number: int) -> dict[str, Any]:
    """Return the argument of `publish` for an image of 64 KiB."""
    return {
        "product": PRODUCT,
        "version": version(number),
        "sha256": digest(number),
        "size": SIZE,
        "loadAddress": REGION[1],
        "activeFrom": 0,
        "dagRoot": bytes(32),
        "manifest": digest(-number),
    }


def version(number: int) -> int:
    """Return the version 1.0.number, packed into one integer."""
    return Version(1, 0, number).packed


def digest(number: int) -> bytes:
    """Return a SHA-256 that differs for each number."""
    return hashlib.sha256(number.to_bytes(4, "big", signed=True)).digest()
