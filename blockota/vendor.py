"""The vendor's work: prepare a release, propose it to the Safe, and check what one is asked to sign."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from blockota.bindings import BlockOTAContract, pair_call, publish_call
from blockota.chain import Chain
from blockota.cid import CID, cid_of
from blockota.contract import refusals_in_words
from blockota.deployment import Deployment
from blockota.errors import ProposalError, RefusedError, UsageError
from blockota.intent import image_address
from blockota.localchain import project_folders
from blockota.multisig import SAFE_ARTIFACTS, SafeState, deploy_safe, read_safe
from blockota.proposal import Proposal
from blockota.release import SINGLE_BLOCK_SIZE, Product, Release, Status, Version
from blockota.replication import ReplicationContract
from blockota.stores import Store


@dataclass(frozen=True)
class Reason:
    """What goes into a proposal beside its call.

    Attributes:
        text: why, for the other owners; one line.
        now: Unix time, in seconds.
        lifetime: seconds until the proposal expires.
        nonce: the Safe's nonce to take; None means its next.
    """

    text: str
    now: int
    lifetime: int
    nonce: int | None = None


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


def propose(contract: BlockOTAContract, call: bytes, *, reason: Reason, target: str | None = None) -> Proposal:
    """Make a proposal, after asking the contract that it calls whether it would do this today.

    Args:
        contract: the contract whose owner is the Safe.
        call: calldata.
        reason: why, when, and until when.
        target: address of the contract that is called; None means `contract` itself.

    Raises:
        ContractRefusalError: it would not.
    """
    safe = read_safe(contract.chain, contract.owner())
    address = to_checksum_address(target or contract.address)
    with refusals_in_words():
        contract.chain.call(address, call, sender=safe.address)
    return Proposal(
        chain_id=contract.chain.chain_id,
        safe=safe.address,
        nonce=_nonce(safe, reason.nonce),
        to=address,
        data=call,
        reason=reason.text,
        created=reason.now,
        expires=reason.now + reason.lifetime,
    )


def _nonce(safe: SafeState, wanted: int | None) -> int:
    if wanted is not None and wanted < safe.nonce:
        raise ProposalError(
            f"nonce {wanted} is used already",
            why=f"the Safe is at {safe.nonce}",
            remedy="leave --nonce out for the next one",
        )
    return safe.nonce if wanted is None else wanted


def check_images(proposal: Proposal, fetch: Callable[[CID, int], bytes]) -> None:
    """Hash every image that a proposal publishes, as each owner does before signing.

    Args:
        proposal: the proposal.
        fetch: returns the image that somebody claims to be that of an address, of so many bytes.

    Raises:
        ProposalError: an image is not the one in the calldata.
    """
    for release in proposal.call.arguments.get("releases", []):
        image = fetch(image_address(release), release["size"])
        found = hashlib.sha256(image).digest()
        if found != release["sha256"] or len(image) != release["size"]:
            raise ProposalError(
                "the image is not the one in the proposal",
                why=f"it has {len(image)} bytes with SHA-256 {found.hex()}, the proposal says {release['size']} bytes"
                f" with {release['sha256'].hex()}",
                remedy="do not sign; ask who made the proposal",
            )
        if (address := cid_of(io.BytesIO(image))) != image_address(release):
            raise ProposalError(
                "the proposal names a wrong content address",
                why=f"the image's is {address}, the proposal says {image_address(release)}: nobody could fetch it",
                remedy="do not sign; ask who made the proposal",
            )


def check_target(proposal: Proposal, *, chain_id: int, contracts: Mapping[str, str | None]) -> None:
    """Refuse a proposal that does not go to the configured contract of its kind.

    Args:
        proposal: the proposal.
        chain_id: the configured chain.
        contracts: configured addresses by the contracts' names.

    Raises:
        ProposalError: it names another chain or target.
    """
    if proposal.chain_id != chain_id:
        raise ProposalError(
            "the proposal is for another chain",
            why=f"it names chain id {proposal.chain_id}, the settings say {chain_id}",
            remedy="choose the network it was made for with --network",
        )
    expected = contracts.get(proposal.contract)
    if expected is None or proposal.to.lower() != expected.lower():
        raise ProposalError(
            "the proposal calls another contract",
            why=f"it calls {proposal.to}, the settings say {expected or 'nothing'} for {proposal.contract}",
            remedy="do not sign it; ask who made it",
        )


def check_owner(safe: SafeState, signer: str) -> None:
    """Refuse a signer who is no owner of the Safe.

    Raises:
        ProposalError: the Safe would not count that signature.
    """
    if signer not in safe.owners:
        raise ProposalError(
            f"{signer} is no owner of the Safe",
            why=f"the owners are {', '.join(safe.owners)}",
            remedy="sign with an owner's key",
        )


def deploy_local_safe(chain: Chain, account: LocalAccount, *, owners: Sequence[str], threshold: int) -> str:
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


def deploy(chain: Chain, account: LocalAccount, *, safe: str) -> Deployment:
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
