"""Checks an operator's order before it is sent, for the command and for the operations page.

The contract UpdateOrders cannot make all of these checks, because a contract cannot read another chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.devices import DevicesContract
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.orders import OrdersContract
from blockota.bindings.producers import ProducersContract
from blockota.connection import Connection
from blockota.desk import complete_draft
from blockota.errors import Action, RefusedError
from blockota.model.draft import Draft, draft_release
from blockota.model.facts import Trust
from blockota.model.identity import IdentityKind, Producer
from blockota.model.order import DEFAULT_DEADLINE, Group, GroupKind
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version
from blockota.model.verification import prove_active


@dataclass(frozen=True, kw_only=True)
class WantedOrder:
    """The order that a person requests.

    Attributes:
        product: the product.
        version: the version.
        group: name of a defined group.
        not_before: Unix time of the start of the order, before which gateways do not offer the release; 0 for now.
        deadline: Unix time from which gateways do not offer the release; None for thirty days after the start.
    """

    product: str
    version: Version
    group: str
    not_before: int = 0
    deadline: int | None = None


def releases_of(producers: ProducersContract, name: str) -> BlockOTAContract:
    """Return the BlockOTA contract of an admitted producer.

    Raises:
        RefusedError: no producer has this name.
    """
    address = producers.known_producer(name).block_ota
    return BlockOTAContract(producers.chain, address, first_block=producers.first_block)


def configurations_of(vendor: Connection) -> BlockOTAContract:
    """Return the city's own BlockOTA contract, which has the releases of its configurations.

    Raises:
        UsageError: the settings do not name the contract.
    """
    return BlockOTAContract(vendor.chain, vendor.owned("configurations").address)


def check_order(
    city: Connection, vendor: Connection, contract: BlockOTAContract, wanted: WantedOrder, account: str
) -> tuple[ReleaseId, int]:
    """Check an operator's order of a release.

    Args:
        city: the connection to the gateway chain.
        vendor: the connection to the producer chain.
        contract: the BlockOTA contract with the release.
        wanted: the order.
        account: address of the operator's account.

    Returns:
        ⟨the release, the deadline of the order⟩.

    Raises:
        RefusedError: the account may not order, the group is not defined or may not get the product, or the producer is
            not admitted or is suspended.
        VerificationError: the release is not confirmed, not active, or below the product's minimum version; or the
            contract is paused.
        ChainError: a node is out of reach.
    """
    # (1) The operator, the group, and whether the group may get the product.
    _check_recipients(city, contract, wanted, account)

    # (2) The release: its producer is admitted, and it is confirmed, active and not below the floor.
    admitted_producer(vendor.open(ProducersContract), contract.address)
    confirmations = vendor.settings.confirmations
    answer = contract.answer(wanted.product, wanted.version, confirmations=confirmations)
    release = prove_active(answer, Trust(answer.chain_id, contract.address, confirmations))

    deadline = wanted.deadline
    if deadline is None:
        deadline = max(city.chain.head().time, wanted.not_before) + DEFAULT_DEADLINE
    return ReleaseId(answer.chain_id, contract.address, release.product, release.version), deadline


def check_configuration(
    city: Connection, vendor: Connection, wanted: WantedOrder, image: Path, account: str
) -> tuple[Draft, bool]:
    """Check an operator's order of a configuration, which the city publishes first.

    Args:
        city: the connection to the gateway chain.
        vendor: the connection to the producer chain with the city's BlockOTA contract.
        wanted: the order.
        image: the file of the configuration.
        account: address of the operator's account.

    Returns:
        ⟨the draft of the release, whether the release is published⟩.

    Raises:
        UsageError: the settings do not name the city's BlockOTA contract, or the image cannot be used.
        RefusedError: the account may not order, the group is not defined or may not get the product, the city is not an
            admitted producer, or the version has another image.
        ChainError: a node is out of reach.
    """
    # (1) The checks of the order, because the publication would stay on the chain if the order were refused.
    contract = configurations_of(vendor)
    _check_recipients(city, contract, wanted, account)
    admitted_producer(vendor.open(ProducersContract), contract.address)

    # (2) The image, which is published or not.
    draft = Draft(wanted.product, wanted.version, configuration=True)
    draft = complete_draft(vendor, draft, image, contract=contract)
    return draft, _is_published(contract, draft)


def _check_recipients(city: Connection, contract: BlockOTAContract, wanted: WantedOrder, account: str) -> None:
    """Require that the account may order, and that the group exists and may get the product."""
    require_operator(city.open(IdentitiesContract), account)
    group = city.open(OrdersContract).known_group(wanted.group)
    _require_allowed(city.open(DevicesContract), group, contract, wanted.product)


def admitted_producer(producers: ProducersContract, address: str) -> Producer:
    """Return the producer that owns the contract at an address.

    Raises:
        RefusedError: the consortium did not admit the contract, or suspended its producer.
    """
    producer = producers.producer_of(address)
    if producer is None:
        raise RefusedError(
            f"the contract {address} does not belong to a producer",
            why="the consortium did not admit the contract, so gateways do not offer its releases",
            remedy="ask the consortium to admit the contract",
            action=Action.LIST_PRODUCERS,
        )

    if producer.suspended:
        raise RefusedError(
            f"the producer {producer.name} is suspended",
            why="gateways do not offer releases of a suspended producer",
            remedy="ask the consortium, which decides this through its Safe",
            action=Action.LIST_PRODUCERS,
        )
    return producer


def _is_published(contract: BlockOTAContract, draft: Draft) -> bool:
    """Whether the city's BlockOTA contract has the version of a configuration, with the same image.

    Raises:
        RefusedError: the contract has this version with another image.
    """
    recorded = contract.release(draft.product, draft.version)
    if recorded is None:
        return False

    drafted = draft_release(draft, contract.paired_product(draft.product))
    if recorded.sha256 != drafted.sha256:
        raise RefusedError(
            f"{draft.product} {draft.version} is another configuration",
            why=f"the record has SHA-256 {recorded.sha256.hex()}, but the file has {drafted.sha256.hex()}",
            remedy="name the file of that version, or a new version",
            action=Action.LIST_RELEASES,
        )

    return True


def _require_allowed(devices: DevicesContract, group: Group, contract: BlockOTAContract, product: str) -> None:
    """Require that the spec of a group's model lists a product.

    Groups of other kinds pass. The contract UpdateOrders makes the same check when an order is sent. For a
    configuration, a refusal by the contract would be too late: the release is published before the order, and would
    stay on the chain.

    Raises:
        RefusedError: the spec does not list the product.
    """
    chain_id = contract.chain.chain_id
    if group.kind is GroupKind.MODEL and not devices.allows(group.value, chain_id, contract.address, product):
        raise RefusedError(
            f"{product} may not update the devices of {group.name}",
            why=f"the spec of the model does not list this product of {contract.address} on chain {chain_id}",
            remedy="ask the registrant of the model to allow the product",
        )


def require_operator(identities: IdentitiesContract, account: str) -> None:
    """Require that the contract UpdateOrders allows an account to order.

    A configuration is published before it is ordered. The account is therefore checked before the publication.

    Raises:
        RefusedError: the account is not the present account of an active operator.
    """
    found = identities.identity_of(account)
    is_present = found is not None and found.keys.account == account
    if found is None or not is_present or found.kind is not IdentityKind.OPERATOR or not found.is_active:
        raise RefusedError(
            f"{account} may not order",
            why="only an enrolled operator who is not banned or retired may order",
            remedy="use the key of an operator",
            action=Action.LIST_IDENTITIES,
        )


def model_group(devices: DevicesContract, name: str, model: str) -> Group:
    """Return the group of the devices of a registered model.

    Raises:
        RefusedError: DeviceRegistry has no Spec of the model.
    """
    return Group.of_model(name, devices.known_spec(model).name)


def site_group(identities: IdentitiesContract, name: str, site: UUID) -> Group:
    """Return the group of the devices of a gateway.

    Raises:
        RefusedError: the UUID does not belong to a gateway.
    """
    found = identities.known_identity(site)
    if found.kind is not IdentityKind.GATEWAY:
        raise RefusedError(
            f"{site} is not a gateway",
            why=f"it is an identity of kind {found.kind}, but a site is a gateway",
            remedy="name a gateway",
            action=Action.LIST_IDENTITIES,
        )
    return Group.of_site(name, site)
