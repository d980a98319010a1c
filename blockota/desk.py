"""The desk of a Safe: completes drafts of releases, and reviews proposals against the state of the chain.

The module is separate from `blockota.connection`, so that commands that only read do not load the review. The module is
not part of `blockota.vendor`, which must not import the chip table of `firmware_host`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import CONTRACTS
from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.replication import ReplicationContract
from blockota.bindings.safe import executed_hashes
from blockota.chain import Chain
from blockota.connection import Connection
from blockota.errors import Action, ChainError, ProposalError, RefusedError, StoreError, shortened
from blockota.ethereum import to_checksum_address
from blockota.formats.abi import DecodingError, interface
from blockota.model.container import NO_CHIP, Container
from blockota.model.draft import Draft
from blockota.model.manifest import Description
from blockota.model.release import Product, Region, Release, Status, Version
from blockota.settings import REGISTRIES
from blockota.stores.search import find_image
from blockota.vendor.deltas import with_patches
from blockota.vendor.description import find_description
from blockota.vendor.drafting import ChipMemory, with_file, with_image
from blockota.vendor.files import read_image_key
from blockota.vendor.images import ImageInputs
from blockota.vendor.propose import Reason
from blockota.vendor.queue import with_queue
from blockota.vendor.review import Review, review_to_sign
from blockota.vendor.unattended import UnattendedSigner
from blockota.vendor.view import Desk, read_view
from firmware_host.bootloader.chips import FLASH_BASE, Chip, find_chip

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_SMALLEST_PAGE = 2048
_SMALLEST_PAGES = {0x451: 16 * 1024}
"""Size in bytes of the smallest pages of chips whose option bytes select the page size: in general (RM0440, RM0432),
and by product id for those with larger pages (RM0410)."""


def view_of(connection: Connection, proposals: Sequence[Proposal], *, safe: str = "") -> ChainView:
    """Read the chain view that owners need to review the proposals.

    All proposals must belong to one Safe. If `proposals` is empty, `safe` selects the Safe (`find_desk`).

    Raises:
        ProposalError: the proposals are of several Safes, or of a Safe that owns none of the configured contracts.
        ChainError: a reorganisation replaced the block during the reads.
    """
    settings = connection.settings
    if len({(one.chain_id, one.safe) for one in proposals}) > 1:
        raise ProposalError(
            "the proposals are of several Safes",
            why="a chain view is for the owners of one Safe",
            remedy="make one view for each Safe",
        )
    place = (proposals[0].safe, proposals[0].to) if proposals else (safe, "")
    desk = find_desk(connection, *place)
    calls = [proposal.call for proposal in proposals if proposal.call]
    view = read_view(desk, calls, confirmations=settings.confirmations)
    # The setting `safe` names the owner of the configured BlockOTA. Without one, it names the owner of the registries.
    is_expected = settings.contract is None or view.contract == to_checksum_address(settings.contract)
    return replace(view, configured_safe=settings.safe or "") if is_expected else view


def views_of(
    connection_to: Callable[[int], Connection], proposals: Iterable[Proposal]
) -> tuple[list[ChainView], dict[int, ChainError]]:
    """Read a chain view for each Safe that has a proposal and owns a configured contract.

    Args:
        connection_to: returns the connection to the chain with the given id. If this chain is not configured, the
            function returns the connection to another, configured chain.
        proposals: the proposals.

    Returns:
        The chain views, and the error of each unreachable chain by chain id. If none of the proposals' Safes owns a
        configured contract, the list has only the view of the default Safe (`find_desk`).

    Raises:
        ChainError: no chain can be reached.
    """
    views: dict[tuple[int, str], ChainView] = {}
    errors: dict[int, ChainError] = {}
    for chain_id, safe in dict.fromkeys((one.chain_id, one.safe) for one in proposals):
        connection = connection_to(chain_id)

        try:
            view = view_of(connection, [], safe=safe if connection.settings.chain_id == chain_id else "")
            views[view.chain_id, view.safe.address] = view
        except ProposalError:
            continue
        except ChainError as error:
            errors[chain_id] = error
    return list(views.values()) or [view_of(connection_to(0), [])], errors


def find_desk(connection: Connection, safe: str = "", target: str = "") -> Desk:
    """Find the configured contracts of a Safe.

    Args:
        connection: the connection to the chain.
        safe: address of the Safe. If the address is empty, the owner of the configured BlockOTA contract is the Safe.
            If no BlockOTA contract is configured, the owner of the first registry is the Safe.
        target: address of the contract that a proposal calls. A Safe can own two BlockOTA contracts, one of them for
            the city's configurations, and `target` selects one of the two.

    Raises:
        ProposalError: the Safe owns none of the configured contracts.
    """
    settings, chain = connection.settings, connection.chain
    registries = {key: place for key, place in settings.registries.items() if REGISTRIES[key] in CONTRACTS}
    if not registries:
        return Desk(chain, contract=connection.contract, replication=_replication(connection))

    owner = connection.contract.owner() if settings.contract else ""
    owners = _owners_of(chain, registries)
    safe = safe or owner or next(iter(owners.values()), "")
    held = {REGISTRIES[key]: place for key, place in registries.items() if owners.get(key) == safe}
    if owner != safe and not held:
        known = shortened(dict.fromkeys([owner, *owners.values()] if owner else owners.values()))
        raise ProposalError(
            "the proposal is for another Safe",
            why=f"the proposal is for {safe}, but the configured contracts are owned by {known or 'no Safe'}",
            remedy="choose the network that the proposal was made for",
            action=Action.CHOOSE_NETWORK,
        )
    configurations = held.pop("BlockOTA", "")
    if owner == safe and not (configurations and configurations.lower() == target.lower()):
        return Desk(chain, safe, connection.contract, _replication(connection), held)
    contract = BlockOTAContract(chain, configurations) if configurations else None
    return Desk(chain, safe, contract, registries=held)


def _replication(connection: Connection) -> ReplicationContract | None:
    """Return the replication contract; None if no replication contract is configured.

    Agreements with brokers need a replication contract.
    """
    return connection.replication if connection.settings.replication else None


def _owners_of(chain: Chain, registries: Mapping[str, str]) -> dict[str, str]:
    """Return the owner of each contract, by the contract's setting.

    Contracts that do not exist on this chain are left out.
    """
    known, owners = interface("BlockOTA"), {}
    results = chain.try_calls([(place, known.encode_call("owner")) for place in registries.values()])
    for key, result in zip(registries, results, strict=True):
        with suppress(DecodingError):
            owners[key] = str(known.decode_result("owner", result or b""))
    return owners


def executed_on(connection: Connection, view: ChainView) -> frozenset[bytes]:
    """Return the safeTxHash of every transaction that the Safe of a view has executed."""
    return executed_hashes(connection.chain, view.safe.address, from_block=connection.settings.first_block)


def queued_view(connection: Connection, proposal: Proposal, queue: Mapping[str, Proposal], *, now: int) -> ChainView:
    """Read the chain view for the review of a proposal, with the proposal's place in a queue.

    Raises:
        ProposalError, ChainError: the errors of `view_of`.
    """
    return with_queue(view_of(connection, [proposal]), proposal, queue, now=now)


def inputs_of(connection: Connection, images: Sequence[Path] = ()) -> ImageInputs:
    """Return the places where a review searches for images: the given files, the store and the configured sources."""
    sources, keys = connection.image_sources(), connection.settings.image_keys
    return ImageInputs(lambda: connection.store, sources=sources, images=images, image_keys=keys)


def review_on(
    connection: Connection,
    proposal: Proposal,
    queue: Mapping[str, Proposal],
    *,
    now: int,
    images: Sequence[Path] = (),
) -> Review:
    """Review a proposal on a connection before an owner signs it (`review_to_sign`).

    Args:
        connection: the connection to the chain.
        proposal: the proposal.
        queue: the other proposals of the Safe, by name.
        now: the current time, in Unix seconds.
        images: files of images that the proposal publishes; other images are read from the store or the sources.

    Raises:
        ProposalError: the proposal is for another chain or Safe, the proposal can no longer be executed, or an image
            differs from the image in the calldata.
        BlockOTAError: an image cannot be checked.
    """
    view = queued_view(connection, proposal, queue, now=now)
    read_executed = partial(executed_on, connection, view)
    return review_to_sign(proposal, view, inputs_of(connection, images), now=now, read_executed=read_executed)


def unattended_signer(
    connection: Connection, open_key: Callable[[int], BaseAccount], *, reason: Reason
) -> UnattendedSigner:
    """Open an owner's key for the connection's chain, and return a signer that works without a person."""
    account = open_key(connection.settings.chain_id)
    review = partial(review_on, connection, queue=reason.queued, now=reason.now)
    return UnattendedSigner(account, review, reason.now)


def describe(connection: Connection, release: Release, named: Sequence[str] = ()) -> Description:
    """Find the manifest of a release in the sources of its image.

    The URLs in `named` are asked first.
    """
    return find_description(
        connection.contract,
        release,
        open_store=lambda: connection.store,
        stages=connection.image_sources(named).stages(release),
    )


def complete_draft(
    connection: Connection, draft: Draft, path: Path, *, contract: BlockOTAContract | None = None
) -> Draft:
    """Add an image file and the memory of the product's chip to a draft, and make the draft's delta patches.

    For a device that is not an STM32, the container of a configuration is ``opaque``.

    Args:
        connection: the connection to the chain, with the store and the sources of older images.
        draft: the draft.
        path: the image file.
        contract: the contract with the product; None means the connection's contract.

    Raises:
        UsageError: the file does not exist, the file contradicts the draft, or the library for deltas is not installed.
        RefusedError: the product is not paired, its chip is not supported, or the file is not an image.
        StoreError: the image of an older release was not found. For an MCUboot image, also if the manifest of the
            product's newest active release was not found.
    """
    contract = contract or connection.contract
    draft = replace(
        _with_image(draft, path, contract=contract),
        image_key=read_image_key(connection.settings.image_keys, draft.product),
    )
    if draft.container is Container.MCUBOOT:
        draft = replace(draft, least_counter=_newest_counter(connection, contract, draft.product))
    if not draft.delta_from:
        return draft

    def read_image(release: Release) -> bytes:
        with tempfile.TemporaryFile() as file:
            find_image(release, connection.store, stages=connection.image_sources().stages(release), into=file)
            file.seek(0)
            return file.read()

    return with_patches(draft, contract, read_image=read_image)


def find_higher_revoked(connection: Connection, draft: Draft) -> dict[Version, int]:
    """Find the revoked releases that have a higher security counter than a draft.

    A device refuses an image whose security counter is lower than the counter of its installed image. The search covers
    the revoked releases after the newest active release. It skips a release whose manifest is not found.

    Returns:
        The security counter of each found release, by version.
    """
    counter, contract, higher = draft.security_counter, connection.contract, dict[Version, int]()
    if counter is None:
        return higher
    for release in contract.history(draft.product):
        if release.status is Status.ACTIVE:
            break
        manifest = describe(connection, release).manifest
        if manifest and (manifest.security_counter or 0) > counter:
            higher[release.version] = manifest.security_counter or 0
    return higher


def _newest_counter(connection: Connection, contract: BlockOTAContract, product: str) -> int:
    """Return the security counter of a product's newest active release.

    Returns 0 if the product has no active release, or if the release has no security counter.

    Raises:
        StoreError: the manifest, which contains the security counter, was not found.
    """
    newest = contract.latest(product)
    if newest is None:
        return 0

    stages = connection.image_sources().stages(newest)
    described = find_description(contract, newest, open_store=lambda: connection.store, stages=stages)
    if described.trouble:
        raise StoreError(
            f"the security counter of {product} {newest.version} is not known",
            why=f"the counter is in the manifest, which was not found: {described.trouble}",
            remedy="name a source that has the manifest, or the store from which it was published",
            action=Action.NAME_VENDOR_SOURCE,
        )

    return described.manifest.security_counter or 0 if described.manifest else 0


def _with_image(draft: Draft, path: Path, *, contract: BlockOTAContract) -> Draft:
    product = contract.paired_product(draft.product)
    if product.chip_id == NO_CHIP and draft.configuration and draft.container is Container.STM32:
        draft = replace(draft, container=Container.OPAQUE)
    if product.chip_id == NO_CHIP or draft.container is not Container.STM32:
        return with_file(draft, path, product=product)

    chip = require_chip(product.chip_id)
    memory = ChipMemory(
        ram=tuple(Region(part.start, len(part)) for part in chip.ram),
        erase_units=_erase_units(chip),  # `with_image` looks for whole erase units in the image's gaps
        erased_byte=chip.erased_byte,
        family=chip.family,
    )
    return with_image(draft, path, product=product, chip=memory)


def require_chip(chip_id: int) -> Chip:
    """Return the row of the chip table for a chip id.

    Raises:
        RefusedError: the chip table has no row for the chip id, so no bench could flash the chip.
    """
    if chip := find_chip(chip_id):
        return chip
    raise RefusedError(
        f"the chip id 0x{chip_id:03x} is not supported",
        why="the chip table has no row for this id, so no bench could flash the board",
        remedy="check the id that the board reports, or choose one of the supported ids",
        action=Action.LIST_CHIPS,
    )


def require_pairing(product: Product) -> None:
    """Refuse a pairing with a chip or region for which no bench or gateway could install a release.

    Raises:
        RefusedError: the chip is not in the chip table, the region does not fit the chip, or the region of a product
            with chip id 0 does not begin at 0.
    """
    if product.chip_id != NO_CHIP:
        require_flash_region(product.region, require_chip(product.chip_id))
        return
    if product.region.start:
        size = product.region.size
        raise RefusedError(
            "the region does not begin at 0",
            why=f"with chip id 0, only the size of the region has a meaning, but {product.region} is given",
            remedy=f"give 0:{size}, where {size} is the largest size in bytes",
        )


def require_flash_region(region: Region, chip: Chip) -> None:
    """Refuse a region that does not fit the chip, because every bench would refuse the product's releases (check 7).

    A region must consist of whole erase units, so that flashing one product never erases bytes of another product.

    Raises:
        RefusedError: the region exceeds the largest flash of the chip, or contains only a part of an erase unit.
    """
    flash = Region(FLASH_BASE, chip.flash_limit)
    if not flash.contains(region):
        raise RefusedError(
            f"the region is not inside the flash of the chip 0x{chip.product_id:03x}",
            why=f"the region is {region}, and the largest flash of an {chip.name} is {flash}",
            remedy="give the part of the flash that the product's images occupy",
        )

    touched = [unit for unit in _erase_units(chip) if unit.overlaps(region)]
    start, end = touched[0].start, touched[-1].end
    if (start, end) != (region.start, region.end):
        raise RefusedError(
            "the region does not consist of whole erase units",
            why=f"the region is {region}, and the erase units that it touches are {Region(start, end - start)}",
            remedy=f"give 0x{start:08x}:{end - start}, or fewer erase units",
        )


def _erase_units(chip: Chip) -> tuple[Region, ...]:
    """Return the erase units of the chip's largest flash.

    If the size of the erase units is not known, the smallest possible size is used.
    """
    if not chip.is_erased_whole:
        return tuple(Region(unit.address, unit.size) for unit in chip.erase_units(chip.flash_limit))
    page = _SMALLEST_PAGES.get(chip.product_id, _SMALLEST_PAGE)
    return tuple(Region(address, page) for address in range(FLASH_BASE, FLASH_BASE + chip.flash_limit, page))
