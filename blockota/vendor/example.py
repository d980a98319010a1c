"""Sets up the example on local chains for development: three Safes, all contracts, a product, and identities.

All keys of the example are public. All accounts are development accounts, including the owners of the Safes. The other
keys are derived from constant texts in this module. Use these keys on local chains only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_DNS, UUID, uuid5

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from blockota.approval.proposal import Proposal
from blockota.approval.signature import sign
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.contract import registry_at
from blockota.bindings.safe import deploy_safe, execute
from blockota.chain import Chain
from blockota.deployment import Deployment
from blockota.ethereum import ZERO_ADDRESS, keccak
from blockota.files import make_folder, write_result
from blockota.keys import dev_account
from blockota.model.release import Product, Region, product_key
from blockota.vendor.deploy import VENDOR, deploy_part
from blockota.vendor.propose import Reason, propose_call
from blockota.vendor.publish import propose_pairing

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

OWNERS, THRESHOLD = (1, 2, 3), 2
"""Development accounts: dev:1 to dev:3 own each Safe, and two of them must sign."""
PRODUCT = Product("acme-thermo2", "acme", 0x410, Region(0x08000000, 1 << 16), minimum_version=None, paired=True)
CONFIGURATION = replace(PRODUCT, name="acme-thermo2-cfg", region=Region(0x0800FC00, 1 << 10))
"""The product for the city's configurations of the example product. It occupies the last flash page."""
CITY_NAME = "city"
"""The name under which the consortium admits the city's BlockOTA for configurations. The vendor is admitted under the
name of its OEM."""


@dataclass(frozen=True)
class ExampleIdentity:
    """An identity of the example, with a P-256 key.

    An identity that keeps a log also has an Ed25519 key.

    Attributes:
        kind: the kind of the identity, in lower case.
        account: number of the development account that sends the identity's transactions; None if the identity sends no
            transactions.
        has_log: whether the identity keeps a log.
    """

    kind: str
    account: int | None
    has_log: bool

    @property
    def uuid(self) -> UUID:
        """The UUID."""
        return uuid5(NAMESPACE_DNS, f"{self.kind}.local.blockota")

    @property
    def key(self) -> EllipticCurvePrivateKey:
        """The private key, which is derived from the identity's kind."""
        return derive_private_key(int.from_bytes(self._secret("key")) >> 1, SECP256R1())

    @property
    def log_key(self) -> Ed25519PrivateKey:
        """The private key that signs the log."""
        return Ed25519PrivateKey.from_private_bytes(self._secret("log key"))

    def enrolment(self, number: int) -> dict[str, Any]:
        """Return the identity as the argument of IdentityRegistry's ``enrol``.

        `number` is IdentityRegistry's number for the identity's kind.
        """
        point = self.key.public_key().public_numbers()
        account = ZERO_ADDRESS if self.account is None else dev_account(self.account).address
        log_key = self.log_key.public_key().public_bytes_raw() if self.has_log else bytes(32)

        return {
            "uuid": self.uuid.bytes,
            "kind": number,
            "account": account,
            "keyKind": 1,
            "key": point.x.to_bytes(32) + point.y.to_bytes(32),
            "logKey": log_key,
            "tunnelKey": bytes(32),
            "virtualIp": 0,
        }

    def _secret(self, use: str) -> bytes:
        return keccak(text=f"BlockOTA's example, on local chains only: {use} of the {self.kind}")


IDENTITIES = (
    ExampleIdentity("validator", 4, has_log=True),
    ExampleIdentity("gateway", 5, has_log=True),
    ExampleIdentity("administrator", 6, has_log=False),
    ExampleIdentity("fog", None, has_log=False),
    ExampleIdentity("cloud", 7, has_log=True),
    ExampleIdentity("operator", 8, has_log=False),
    ExampleIdentity("technician", 9, has_log=True),
)
"""One identity of each kind, in the order of the kinds in IdentityRegistry. The numbers of the kinds begin with 1."""


def set_up(producer: Chain, gateway: Chain, payer: BaseAccount) -> tuple[Deployment, Deployment]:
    """Deploy the example to a producer chain and a gateway chain.

    Both may be the same chain.

    Returns:
        The deployments on the producer chain and on the gateway chain. If the two chains are the same chain, both items
        are the same deployment.
    """
    owners = [dev_account(number).address for number in OWNERS]

    def add(chain: Chain, part: str, known: Deployment | None = None, safe: str = "") -> Deployment:
        owner = safe or deploy_safe(chain, payer, owners=owners, threshold=THRESHOLD)
        return deploy_part(chain, payer, part, safe=owner, known=known)

    def decide(chain: Chain, proposal: Proposal) -> None:
        signatures = [sign(proposal, dev_account(number)) for number in OWNERS[:THRESHOLD]]
        execute(chain, proposal, signatures=signatures, account=payer, now=proposal.created)

    # The vendor: contracts and the example product, which is paired as a vendor does it: propose, sign, execute.
    made = add(producer, VENDOR)
    contract = BlockOTAContract(producer, made.contract)
    decide(producer, propose_pairing(contract, PRODUCT, reason=_reason("the example product")))

    # The consortium, and the city on the producer chain.
    made = add(producer, "configurations", add(producer, "consortium", made))
    configurations = BlockOTAContract(producer, made.registries["configurations"])
    decide(producer, propose_pairing(configurations, CONFIGURATION, reason=_reason("the example configuration")))
    producers = registry_at(producer, "producers", made.registries["producers"])
    for name, admitted in (
        (PRODUCT.oem, (made.contract, made.replication)),
        (CITY_NAME, (made.registries["configurations"], ZERO_ADDRESS)),
    ):
        reason = _reason(f"the producer {name}")
        decide(producer, propose_call(producers, "admit", product_key(name), *admitted, reason=reason))

    # The city on the gateway chain.
    is_one_chain = producer.chain_id == gateway.chain_id
    city = add(gateway, "city", made, made.safes["configurations"]) if is_one_chain else add(gateway, "city")
    identities = registry_at(gateway, "identities", city.registries["identities"])
    enrolments = [identity.enrolment(number) for number, identity in enumerate(IDENTITIES, 1)]
    reason = _reason("one identity of each kind")
    decide(gateway, propose_call(identities, "enrolAll", enrolments, reason=reason))
    return (city, city) if is_one_chain else (made, city)


def write_keys(folder: Path) -> None:
    """Write the identities' private keys into a new folder, as PEM files ``<kind>.pem`` and ``<kind>.log.pem``.

    Raises:
        UsageError: the folder cannot be written.
    """
    make_folder(folder)
    for identity in IDENTITIES:
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        keys = {f"{identity.kind}.pem": identity.key.private_bytes(*form)}
        if identity.has_log:
            keys[f"{identity.kind}.log.pem"] = identity.log_key.private_bytes(*form)
        for name, key in keys.items():
            write_result(folder / name, key)
            (folder / name).chmod(0o600)  # these keys are public, but a program may refuse a file that others can read


def _reason(text: str) -> Reason:
    return Reason(text, int(time.time()), lifetime=3600)
