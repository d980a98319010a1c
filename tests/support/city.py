"""A city on a chain: the example of ``dev up``, with a registrant, a site and devices. Its Safe decides at once."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.approval.proposal import Proposal
from blockota.approval.signature import sign
from blockota.bindings.block_ota import BlockOTAContract, publish_call
from blockota.bindings.contract import registry_at
from blockota.bindings.devices import DevicesContract
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.orders import OrdersContract
from blockota.bindings.safe import execute
from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.chain import Chain
from blockota.deployment import Deployment
from blockota.formats.cid import DAG_PB
from blockota.formats.public_key import PublicKey
from blockota.keys import dev_account
from blockota.model.device import SpecUpdate, registration_of
from blockota.model.order import Group
from blockota.model.receipt import ReleaseId
from blockota.model.release import Release, Status, Version, product_key
from blockota.settings import Settings
from blockota.stores.store import Store
from blockota.vendor.example import IDENTITIES, PRODUCT, set_up
from blockota.vendor.propose import Reason, propose, propose_call
from tests.conftest import Cast

KINDS = {one.kind: one for one in IDENTITIES}
GATEWAY, OPERATOR = KINDS["gateway"], KINDS["operator"]
MODEL = "thermo2"
REGISTRANT = 3
"""The number of the development account that the registrant acme uses."""


@dataclass(frozen=True)
class City:
    """The contracts of a vendor, a consortium and a city on one chain.

    Attributes:
        chain: the chain.
        deployment: the addresses.
        cast: the test accounts.
    """

    chain: Chain
    deployment: Deployment
    cast: Cast

    @property
    def block_ota(self) -> BlockOTAContract:
        """The vendor's contract."""
        return BlockOTAContract(self.chain, self.deployment.contract, first_block=self.deployment.block_number)

    @property
    def devices(self) -> DevicesContract:
        """The registry of devices."""
        return DevicesContract(self.chain, self.deployment.registries["devices"])

    @property
    def identities(self) -> IdentitiesContract:
        """The registry of identities."""
        return IdentitiesContract(self.chain, self.deployment.registries["identities"])

    @property
    def orders(self) -> OrdersContract:
        """The contract of orders."""
        return OrdersContract(self.chain, self.deployment.registries["orders"])

    @property
    def ledger(self) -> UpdateLedgerContract:
        """The UpdateLedger contract, which has the anchored logs."""
        return UpdateLedgerContract(self.chain, self.deployment.registries["ledger"])

    def execute(self, proposal: Proposal) -> None:
        """Sign a proposal as two owners, and execute it."""
        signatures = [sign(proposal, self.cast.owner_a), sign(proposal, self.cast.owner_b)]
        execute(self.chain, proposal, signatures=signatures, account=self.cast.payer, now=proposal.created)

    def decide(self, setting: str, function: str, *arguments: Any) -> None:
        """Call a function of a registry as the Safe that owns the registry."""
        registry = registry_at(self.chain, setting, self.deployment.registries[setting])
        self.execute(propose_call(registry, function, *arguments, reason=_reason()))

    def decide_release(self, call: bytes) -> None:
        """Call the vendor's contract as the vendor's Safe."""
        self.execute(propose(self.block_ota, call, reason=_reason()))

    def publish(self, version: str, image: bytes, store: Store, **changes: Any) -> Release:
        """Store an image, and publish it as a release of the example's product."""
        cid = store.put(io.BytesIO(image))
        facts: dict[str, Any] = {
            "product": PRODUCT.name,
            "version": Version.parse(version),
            "sha256": hashlib.sha256(image).digest(),
            "size": len(image),
            "load_address": PRODUCT.region.start,
            "active_from": 0,
            "chip_id": PRODUCT.chip_id,
            "status": Status.ACTIVE,
            "dag_root": cid.digest if cid.codec == DAG_PB else None,
        }
        release = Release(**(facts | changes))
        self.decide_release(publish_call([release]))
        return release

    def release_id(self, version: str) -> ReleaseId:
        """Return the identifier of a release of the example's product."""
        return ReleaseId(self.chain.chain_id, self.deployment.contract, PRODUCT.name, Version.parse(version))

    def register(self, serial: str, key: PublicKey | None = None) -> int:
        """Register a device of the gateway, and return its number."""
        registration = registration_of(
            [f"acme/{MODEL}/{serial}"], nonce=serial.encode(), data="", site=GATEWAY.uuid, key=key
        )
        account = dev_account(REGISTRANT)
        return self.devices.register(account, registration, payer=account).number

    def order(self, group: str, release: ReleaseId) -> int:
        """Define the group of all devices of the site, and order a release for this group."""
        operator = dev_account(OPERATOR.account or 0)
        self.orders.define_group(operator, Group.of_site(group, GATEWAY.uuid))
        deadline = self.chain.head().time + 86_400
        return self.orders.order(operator, group, release, not_before=0, deadline=deadline)[0]


def found_city(chain: Chain, cast: Cast) -> City:
    """Deploy the example, and admit a registrant whose model allows updates of the example's product."""
    city = City(chain, set_up(chain, chain, cast.payer)[0], cast)
    account = dev_account(REGISTRANT)
    key = derive_private_key(int.from_bytes(account.key), SECP256K1()).public_key()
    compressed = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    city.decide("devices", "admitRegistrant", product_key("acme"), compressed, account.address)
    city.decide("devices", "giveBlocks", GATEWAY.uuid.bytes, 2)
    city.devices.register_spec(account, MODEL, data="")
    update = SpecUpdate(chain.chain_id, city.deployment.contract, PRODUCT.name, allowed=True)
    city.devices.allow(account, MODEL, update)
    return city


def _reason() -> Reason:
    return Reason("a test", int(time.time()), 3600)


def settings_of(city: City, folder: Path, *, url: str = "") -> Settings:
    """Return the settings with the contracts of a city, as a command reads them.

    Args:
        city: the city.
        folder: the folder of the settings file.
        url: the node's URL; by default, the URL of the city's chain.
    """
    known = city.deployment
    return Settings(
        network="local",
        url=url or city.chain.url,
        chain_id=city.chain.chain_id,
        contract=known.contract,
        replication=known.replication,
        confirmations=0,
        store=f"file:{folder / 'store'}",
        max_fee=None,
        transactions=folder / "transactions",
        first_block=known.block_number,
        registries=known.registries,
    )
