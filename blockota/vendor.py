"""The vendor's work: pair a product, prepare a release, and propose it to the Safe; deploy the contracts."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from eth_account.signers.base import BaseAccount
from eth_utils.address import to_checksum_address

from blockota.approval import Reason, propose
from blockota.bindings import BlockOTAContract, pair_call, publish_call
from blockota.chain import Chain
from blockota.cid import cid_of
from blockota.deployment import Deployment
from blockota.errors import RefusedError, UsageError
from blockota.localchain import project_folders
from blockota.multisig import SAFE_ARTIFACTS, deploy_safe, read_safe
from blockota.proposal import Proposal
from blockota.release import SINGLE_BLOCK_SIZE, Product, Release, Status, Version
from blockota.replication import ReplicationContract
from blockota.stores import Store


@dataclass(frozen=True)
class Draft:
    """A release as the vendor's engineer asks for it.

    Attributes:
        product: the product's name.
        version: the new version.
        image: the bytes that go into flash.
        load_address: where the first byte goes; None means the start of the product's region.
        active_from: Unix time, in seconds; 0 means at once.
    """

    product: str
    version: Version
    image: bytes
    load_address: int | None = None
    active_from: int = 0


def known_product(contract: BlockOTAContract, name: str) -> Product:
    """A product that the contract knows, paired or not.

    Raises:
        RefusedError: it was never paired.
    """
    product = contract.product(name)
    if product is None:
        raise RefusedError(
            f"there is no product {name}", why="the contract never paired it", remedy="see `blockota product list`"
        )
    return product


def paired_product(contract: BlockOTAContract, name: str) -> Product:
    """The product, when releases can be published for it.

    Raises:
        RefusedError: the contract does not know it, or it is not paired.
    """
    product = contract.product(name)
    if product is None or not product.paired:
        known = ", ".join(product.name for product in contract.products() if product.paired)
        raise RefusedError(
            f"{name} is not paired with an OEM",
            why=f"the contract's paired products are: {known or 'none'}",
            remedy="check the name, or pair it with `blockota product pair`",
        )
    return product


def draft_release(draft: Draft, product: Product) -> Release:
    """The record that a draft becomes; nothing is stored or sent.

    Raises:
        RefusedError: the image is empty.
    """
    if not draft.image:
        raise RefusedError("the image is empty", why="it has 0 bytes", remedy="publish the built image")
    address = product.region.start if draft.load_address is None else draft.load_address
    is_large = len(draft.image) > SINGLE_BLOCK_SIZE
    return Release(
        product=product.name,
        version=draft.version,
        sha256=hashlib.sha256(draft.image).digest(),
        size=len(draft.image),
        load_address=address,
        active_from=draft.active_from,
        chip_id=product.chip_id,
        status=Status.ACTIVE,
        dag_root=cid_of(io.BytesIO(draft.image)).digest if is_large else None,
    )


def propose_release(
    contract: BlockOTAContract, draft: Draft, *, store: Store, reason: Reason
) -> tuple[Release, Proposal]:
    """Propose a release, and put its image into the store once the contract would take it.

    Raises:
        RefusedError: the image or the version is not acceptable; nothing is stored then.
        StoreError: the store cannot be written.
    """
    release = draft_release(draft, paired_product(contract, draft.product))
    proposal = propose(contract, publish_call([release]), reason=reason)
    stored = store.put(io.BytesIO(draft.image))
    if stored != release.cid:
        raise AssertionError(f"the store filed {release.cid} as {stored}")
    return release, proposal


def propose_pairing(contract: BlockOTAContract, product: Product, *, reason: Reason) -> Proposal:
    """Propose to pair a product with its OEM, chip and flash region."""
    return propose(contract, pair_call(product), reason=reason)


def deploy_local_safe(chain: Chain, account: BaseAccount, *, owners: Sequence[str], threshold: int) -> str:
    """Deploy a Safe on a local chain, and return its address.

    Raises:
        UsageError: the npm package with the Safe's artifacts is not installed.
    """
    for folder in project_folders():
        if (folder / SAFE_ARTIFACTS).is_dir():
            return deploy_safe(chain, account, owners=owners, threshold=threshold, artifacts=folder / SAFE_ARTIFACTS)
    raise UsageError(
        "no Safe can be deployed",
        why="node_modules has no Safe artifacts",
        remedy="run `npm ci` in the BlockOTA folder",
    )


def deploy(chain: Chain, account: BaseAccount, *, safe: str) -> Deployment:
    """Deploy a BlockOTA contract that a Safe owns, and FirmwareReplication beside it.

    Raises:
        RefusedError: no Safe lies at the address.
    """
    state = read_safe(chain, safe)
    contract, receipt = BlockOTAContract.deploy(chain, account, owner=state.address)
    replication = ReplicationContract.deploy(chain, account, block_ota=contract.address)
    return Deployment(
        chain_id=chain.chain_id,
        contract=to_checksum_address(contract.address),
        replication=to_checksum_address(replication.address),
        safe=state.address,
        owners=list(state.owners),
        threshold=state.threshold,
        block_number=receipt.block_number,
    )
