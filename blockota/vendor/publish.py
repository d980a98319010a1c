"""The vendor's work: pair a product, propose releases and all else to the Safe; deploy the contracts."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import red_flags
from blockota.approval.signature import Signature, sign
from blockota.bindings.block_ota import BlockOTAContract, floor_call, pair_call, publish_call, revoke_call
from blockota.bindings.replication import ReplicationContract
from blockota.bindings.safe import SAFE_ARTIFACTS, deploy_safe, read_safe
from blockota.chain import Chain
from blockota.chain.local import project_folders
from blockota.deployment import Deployment
from blockota.errors import ProposalError, RefusedError, UsageError
from blockota.ethereum import to_checksum_address
from blockota.model.draft import Draft, check_kind, check_time, draft_manifest, draft_release
from blockota.model.release import Product, Release, Status, Version
from blockota.stores.store import Store
from blockota.vendor.propose import Reason, propose, read_view

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_ZERO = Version(0, 0, 0)


@dataclass(frozen=True)
class Floor:
    """A floor that a product may get, and what becomes of its releases.

    Attributes:
        product: the product's name.
        version: the least version that may be installed then.
        excluded: releases that could be installed until now, and never again; newest first.
        allowed: releases that can be installed still; newest first.
    """

    product: str
    version: Version
    excluded: tuple[Release, ...]
    allowed: tuple[Release, ...]


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


def propose_releases(
    contract: BlockOTAContract,
    drafts: Sequence[Draft],
    *,
    store: Store,
    reason: Reason,
    on_progress: Callable[[int], object] = lambda _: None,
) -> tuple[list[Release], Proposal]:
    """Propose releases in one call, and put images and manifests into the store once the contract would take them all.

    Args:
        contract: where they are to be recorded.
        drafts: oldest first where several are for one product.
        store: gets the images and the manifests; nothing of them when one release is refused.
        reason: why, when, and until when.
        on_progress: is told the bytes of each block stored.

    Raises:
        RefusedError: an image, a version, a time or a text is not acceptable.
        StoreError: the store cannot be written.
    """
    for draft in drafts:
        check_time(draft, now=reason.now)
    releases = [draft_release(draft, paired_product(contract, draft.product)) for draft in drafts]
    proposal = propose(contract, publish_call(releases), reason=reason)
    for draft, release in zip(drafts, releases, strict=True):
        check_kind(draft, release)
    for draft, release in zip(drafts, releases, strict=True):
        if manifest := draft_manifest(draft, release):
            store.put(io.BytesIO(manifest.to_json()))
        with draft.open_image() as image:
            stored = store.put(image, on_progress=on_progress)
        if stored != release.cid:
            raise RefusedError(
                f"the image of {release.product} {release.version} is being written to",
                why="it was another one when it was hashed",
                remedy="publish it when its build has ended",
            )
    return releases, proposal


def propose_revocation(contract: BlockOTAContract, product: str, *, version: Version, reason: Reason) -> Proposal:
    """Propose to withdraw a release for good; the reason's text is recorded on the chain.

    Raises:
        UsageError: no reason is given.
        ContractRefusalError: there is no such release, or it is revoked already.
    """
    if not reason.text.strip():
        raise UsageError(
            "a release is not revoked without a reason",
            why="it is recorded on the chain, for everybody who has the release",
            remedy="say it with --reason",
        )
    return propose(contract, revoke_call(product, version, reason=reason.text), reason=reason)


def propose_pairing(contract: BlockOTAContract, product: Product, *, reason: Reason) -> Proposal:
    """Propose to pair a product with its OEM, chip and flash region."""
    return propose(contract, pair_call(product), reason=reason)


def propose_floor(contract: BlockOTAContract, floor: Floor, *, reason: Reason, above_newest: bool = False) -> Proposal:
    """Propose to raise a product's floor, for good.

    Args:
        contract: where the product is known.
        floor: the new floor, as `find_floor` tells it.
        reason: why, when, and until when.
        above_newest: whether a floor that no release reaches is meant so.

    Raises:
        RefusedError: no release could be installed any more, or the contract would not do it.
    """
    proposal = propose(contract, floor_call(floor.product, floor.version), reason=reason)
    if not floor.allowed and not above_newest:
        newest = max((release.version for release in floor.excluded), default=None)
        raise RefusedError(
            f"the floor {floor.version} would leave nothing to install for {floor.product}",
            why=f"the newest release is {newest or 'none'}, and a floor never comes down again",
            remedy=f"publish {floor.version} or newer first, or say --above-newest",
        )
    return proposal


def find_floor(contract: BlockOTAContract, product: str, *, version: Version) -> Floor:
    """What a floor would do to a product's releases.

    Raises:
        RefusedError: the product was never paired.
    """
    known = known_product(contract, product)
    active = [release for release in contract.history(known.name) if release.status is Status.ACTIVE]
    excluded = tuple(release for release in active if (known.minimum_version or _ZERO) <= release.version < version)
    return Floor(known.name, version, excluded, tuple(release for release in active if release.version >= version))


def sign_unattended(contract: BlockOTAContract, proposal: Proposal, *, account: BaseAccount, now: int) -> Signature:
    """Sign a proposal where nobody looks on, as a vendor's CI does with what it has just built.

    Args:
        contract: the contract that the proposal calls.
        proposal: what is to be signed.
        account: an owner's key.
        now: Unix time, in seconds.

    Raises:
        ProposalError: something about it is unusual, which a person has to look at.
    """
    flags = red_flags(proposal, read_view(contract, None, about=()), signer=account.address, now=now)
    if flags:
        raise ProposalError(
            "the proposal is not signed where nobody looks on",
            why="; ".join(flag.what for flag in flags),
            remedy="make it without --sign, and have owners look at it with `blockota proposal sign`",
        )
    return sign(proposal, account)


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
