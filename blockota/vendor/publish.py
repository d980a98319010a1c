"""Proposes pairings, releases, revocations and minimum versions (floors)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import BlockOTAContract, floor_call, pair_call, publish_call, revoke_call
from blockota.errors import Action, RefusedError, UsageError
from blockota.model.draft import Draft, check_kind, check_time, draft_manifest, draft_release
from blockota.model.release import Product, Release, Status, Version, show_chip
from blockota.stores.store import Store
from blockota.vendor.propose import Reason, propose

_ZERO = Version(0, 0, 0)


@dataclass(frozen=True)
class Floor:
    """The effect of a new minimum version (floor) on the releases of a product.

    Attributes:
        version: the floor, which is the lowest version that may be installed.
        excluded: releases that may be installed now, but not under the new floor; newest first.
        allowed: releases that may also be installed under the new floor; newest first.
    """

    product: str
    version: Version
    excluded: tuple[Release, ...]
    allowed: tuple[Release, ...]


def propose_releases(
    contract: BlockOTAContract,
    drafts: Sequence[Draft],
    *,
    store: Store,
    reason: Reason,
    on_progress: Callable[[int], object] = lambda _: None,
) -> tuple[list[Release], Proposal]:
    """Propose releases in one call, and store their images and manifests.

    Args:
        contract: the contract that will record the releases.
        drafts: drafts of the releases. Drafts of one product are in ascending order of versions.
        store: store for the images and manifests. If any release is refused, nothing is stored.
        reason: reason, lifetime and nonce of the proposal.
        on_progress: called with the size of each block that was stored, in bytes.

    Returns:
        The releases that the proposal publishes, and the proposal itself.

    Raises:
        RefusedError: the image, version, activation time or notes of a release are not acceptable.
        StoreError: the store cannot be written.
    """
    # (1) Check everything, and have the contract simulate the call.
    for draft in drafts:
        check_time(draft, now=reason.now)
    releases = [draft_release(draft, contract.paired_product(draft.product)) for draft in drafts]
    proposal = propose(contract, publish_call(releases), reason=reason)
    counters: dict[str, int] = {}
    for draft, release in zip(drafts, releases, strict=True):
        least = max(draft.least_counter, counters.get(draft.product, 0))
        check_kind(replace(draft, least_counter=least), release)
        counters[draft.product] = draft.security_counter or 0

    # (2) Store the files only after all checks, so that nothing is stored if a release is refused.
    for draft, release in zip(drafts, releases, strict=True):
        if manifest := draft_manifest(draft, release):
            store.put(io.BytesIO(manifest.to_json()))
        for patch in draft.patches:
            store.put(io.BytesIO(patch.data))
        with draft.open_image() as image:
            stored = store.put(image, on_progress=on_progress)
        if stored != release.cid:
            raise RefusedError(
                f"the image of {release.product} {release.version} was changed while it was stored",
                why="the content address of the stored image differs from the address in the proposal",
                remedy="wait until the build has ended, then publish again",
            )
    return releases, proposal


def propose_revocation(contract: BlockOTAContract, product: str, *, version: Version, reason: Reason) -> Proposal:
    """Propose to revoke a release permanently. The text of the reason is recorded on the chain.

    Raises:
        UsageError: the reason is empty.
        ContractRefusalError: the release does not exist, or is revoked already.
    """
    if not reason.text.strip():
        raise UsageError(
            "a release cannot be revoked without a reason",
            why="the reason is recorded on the chain for the users of the release",
            remedy="give a reason",
            action=Action.GIVE_REASON,
        )
    return propose(contract, revoke_call(product, version, reason=reason.text), reason=reason)


def propose_pairing(contract: BlockOTAContract, product: Product, *, reason: Reason) -> Proposal:
    """Propose to pair a product with its OEM, chip and flash region.

    Raises:
        RefusedError: the product is paired with this OEM, chip and region already, or the contract would refuse the
            call.
    """
    known = contract.product(product.name)
    if known and replace(known, minimum_version=product.minimum_version) == product:
        raise RefusedError(
            f"{product.name} is paired already",
            why=f"it has the same OEM {known.oem}, chip id {show_chip(known.chip_id)} and region {known.region}",
            remedy="propose a release of this product",
        )
    return propose(contract, pair_call(product), reason=reason)


def propose_floor(contract: BlockOTAContract, floor: Floor, *, reason: Reason, above_newest: bool = False) -> Proposal:
    """Propose to raise the floor of a product permanently. `above_newest` allows a floor above every release.

    Raises:
        RefusedError: the floor would exclude all releases and `above_newest` is false, or the contract would refuse the
            call.
    """
    proposal = propose(contract, floor_call(floor.product, floor.version), reason=reason)
    if not floor.allowed and not above_newest:
        newest = max((release.version for release in floor.excluded), default=None)
        raise RefusedError(
            f"the floor {floor.version} would exclude every release of {floor.product}",
            why=f"the newest release is {newest or 'none'}, and a floor cannot be lowered",
            remedy=f"publish version {floor.version} or newer first, or confirm this floor",
            action=Action.PUBLISH_BELOW_NEWEST,
        )
    return proposal


def find_floor(contract: BlockOTAContract, product: str, *, version: Version) -> Floor:
    """Find the effect of a floor on the releases of a product.

    Raises:
        RefusedError: the product was never paired.
    """
    known = contract.known_product(product)
    active = [release for release in contract.history(known.name) if release.status is Status.ACTIVE]
    excluded = tuple(release for release in active if (known.minimum_version or _ZERO) <= release.version < version)
    return Floor(known.name, version, excluded, tuple(release for release in active if release.version >= version))
