"""Signatures of owners to a proposal: detached files that can be merged, and the checks that the Safe makes. Pure.

Source: Safe smart account 1.5, ``Safe.sol`` (``checkNSignatures``): ECDSA signatures with v of 27 or 28.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockota.approval.proposal import Proposal
from blockota.errors import Action, ProposalError
from blockota.strict_json import address, digest, dump, fault, hexadecimal, load

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_FORMAT = "blockota-signatures-1"
_SIZE = 65
_RECOVERY_IDS = (27, 28)  # eth-account accepts others, which have another meaning for a Safe
_MOST = 256
"""Maximum number of signatures in one file."""


@dataclass(frozen=True)
class Signature:
    """One owner's signature to one proposal.

    Attributes:
        proposal: `Proposal.digest` of the proposal.
        safe_tx_hash: the hash that was signed.
        signer: checksummed address of the owner.
        signature: r, s and v, 65 bytes.
    """

    proposal: str
    safe_tx_hash: bytes
    signer: str
    signature: bytes


def sign(proposal: Proposal, account: BaseAccount) -> Signature:
    """Sign a proposal with an owner's key."""
    signed = account.sign_message(proposal.signable)
    return Signature(proposal.digest, proposal.safe_tx_hash, account.address, bytes(signed.signature))


def to_json(signatures: Sequence[Signature]) -> bytes:
    """The bytes of a file of signatures.

    Args:
        signatures: signatures to one proposal, at least one.

    Raises:
        ProposalError: the signatures are to different proposals.
    """
    first = signatures[0]
    if any((s.proposal, s.safe_tx_hash) != (first.proposal, first.safe_tx_hash) for s in signatures):
        raise ProposalError(
            "the signatures cannot be merged",
            why="they are to different proposals",
            remedy="merge those of one proposal",
            action=Action.SHOW_PROPOSAL,
        )
    return dump(
        {
            "format": _FORMAT,
            "proposal": first.proposal,
            "safeTxHash": "0x" + first.safe_tx_hash.hex(),
            "signatures": [{"signer": s.signer, "signature": "0x" + s.signature.hex()} for s in signatures],
        }
    )


def from_json(raw: bytes) -> list[Signature]:
    """Read a file of signatures.

    Raises:
        ProposalError: the file is not a file of signatures.
    """
    remedy = "give the proposal first, then the signatures"
    fields = load(raw, form=_FORMAT, remedy=remedy, action=Action.GIVE_PROPOSAL_FIRST)
    try:
        _check_fields(fields)
        proposal, safe_tx_hash = digest(fields, "proposal", prefix="").hex(), digest(fields, "safeTxHash")
        return [
            Signature(proposal, safe_tx_hash, address(one, "signer"), hexadecimal(one, "signature"))
            for one in fields["signatures"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ProposalError("the file is not a file of signatures", why=fault(error)) from error


def merge(signatures: Iterable[Signature]) -> list[Signature]:
    """Merge signatures from several files.

    Returns:
        One signature for each signer, in ascending order of the addresses.

    Raises:
        ProposalError: a signer has two different signatures.
    """
    merged: dict[str, Signature] = {}
    for signature in signatures:
        if merged.setdefault(signature.signer, signature) != signature:
            raise ProposalError(
                f"there are two different signatures of {signature.signer}",
                why="each owner has one vote on one proposal",
                remedy="omit the file that belongs to another proposal",
            )
    return sorted(merged.values(), key=_address)


def accept(
    proposal: Proposal, signatures: Iterable[Signature], *, owners: Sequence[str], threshold: int
) -> list[Signature]:
    """Check signatures as the Safe does.

    Args:
        proposal: the signed proposal.
        signatures: signatures from any number of files.
        owners: the Safe's present owners.
        threshold: number of owners that must sign.

    Returns:
        The signatures in ascending order of the signers' addresses, as the Safe requires.

    Raises:
        ProposalError: a signature is for another proposal, forged, repeated, or not an owner's, or there are too few.
    """
    accepted: dict[str, Signature] = {}
    for signature in signatures:
        check_signature(proposal, signature)
        if signature.signer not in owners:
            raise ProposalError(
                f"{signature.signer} is not an owner of the Safe",
                why=f"the owners are {', '.join(owners)}",
                remedy="have an owner sign",
            )
        if signature.signer in accepted:
            raise ProposalError(
                f"{signature.signer} signed twice", why="each owner has one vote", remedy="give each signature once"
            )
        accepted[signature.signer] = signature
    if len(accepted) < threshold:
        raise ProposalError(
            "there are too few signatures",
            why=f"{len(accepted)} of {threshold} are there",
            remedy="have another owner sign",
            action=Action.SIGN_PROPOSAL,
        )
    return sorted(accepted.values(), key=_address)


def check_signature(proposal: Proposal, signature: Signature) -> None:
    """Check that a signature was made by its signer, to this proposal.

    Raises:
        ProposalError: the signature is for another proposal, or forged.
    """
    if signature.proposal != proposal.digest or signature.safe_tx_hash != proposal.safe_tx_hash:
        raise ProposalError(
            f"the signature of {signature.signer} is for another proposal",
            why="the proposal was changed after it was signed, or the file belongs to another one",
            remedy="sign the proposal again",
        )
    if _recover(proposal, signature) != signature.signer:
        raise ProposalError(f"the signature of {signature.signer} is forged", why="it was made with another key")


def _address(signature: Signature) -> int:
    return int(signature.signer, 16)


def _check_fields(fields: dict[str, Any]) -> None:
    found = fields["signatures"]
    if not isinstance(found, list) or not 0 < len(found) <= _MOST or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"signatures is not a list of 1 to {_MOST} signatures")
    if fields.keys() != {"format", "proposal", "safeTxHash", "signatures"}:
        raise ValueError("of the file, or one of them, does not belong there")
    if any(one.keys() != {"signer", "signature"} for one in found):
        raise ValueError("of a signature, or one of them, does not belong there")


def _recover(proposal: Proposal, signature: Signature) -> str:
    if len(signature.signature) != _SIZE or signature.signature[-1] not in _RECOVERY_IDS:
        return ""
    from eth_account import Account
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    try:
        return str(Account.recover_message(proposal.signable, signature=signature.signature))
    except (BadSignature, ValidationError, ValueError):
        return ""
