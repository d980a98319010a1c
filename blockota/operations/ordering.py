"""Checks of an order that the contract UpdateOrders cannot make, because a contract cannot read another chain."""

from __future__ import annotations

from uuid import UUID

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.devices import DevicesContract
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.producers import ProducersContract
from blockota.errors import Action, RefusedError
from blockota.model.draft import Draft, draft_release
from blockota.model.facts import Trust
from blockota.model.identity import IdentityKind, Producer
from blockota.model.order import Group, GroupKind
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version
from blockota.model.verification import prove_active


def releases_of(producers: ProducersContract, name: str) -> BlockOTAContract:
    """Return the BlockOTA contract of an admitted producer.

    Raises:
        RefusedError: no producer has this name.
    """
    address = producers.known_producer(name).block_ota
    return BlockOTAContract(producers.chain, address, first_block=producers.first_block)


def orderable_release(
    producers: ProducersContract, contract: BlockOTAContract, product: str, *, version: Version, confirmations: int
) -> ReleaseId:
    """Check that a release may be ordered.

    The producer must be admitted. The release must be confirmed, active and not below the floor.

    Raises:
        RefusedError: the producer is not admitted, or is suspended.
        VerificationError: the release is not confirmed or active, is below the floor, or the contract is paused.
    """
    admitted_producer(producers, contract.address)
    answer = contract.answer(product, version, confirmations=confirmations)
    release = prove_active(answer, Trust(answer.chain_id, contract.address, confirmations))
    return ReleaseId(answer.chain_id, contract.address, release.product, release.version)


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


def is_published(contract: BlockOTAContract, draft: Draft) -> bool:
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


def require_allowed(devices: DevicesContract, group: Group, contract: BlockOTAContract, product: str) -> None:
    """Require that the spec of a group's model lists a product.

    Groups of other kinds pass. The contract UpdateOrders makes the same check when an order is sent. A configuration is
    published before it is ordered, so its release would stay on the chain if the contract refused the order.

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

    A configuration is published before it is ordered. This check comes before the publication.

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
