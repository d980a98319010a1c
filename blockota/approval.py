"""The desk where the vendor's Safe is asked: make a proposal, and check what one is asked to sign."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from blockota.bindings import BlockOTAContract
from blockota.cid import CID, cid_of
from blockota.contract import refusals_in_words
from blockota.errors import ProposalError
from blockota.intent import image_address
from blockota.multisig import SafeState, read_safe
from blockota.proposal import Proposal


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
