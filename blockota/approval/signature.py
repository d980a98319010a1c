"""Owners' signatures to a proposal, as files of their own that can be merged, and the check that they are enough. Pure.

Source: Safe smart account 1.5, ``Safe.sol`` (``checkNSignatures``): ECDSA signatures with v of 27 or 28.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eth_account import Account
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from blockota.approval.proposal import Proposal
from blockota.errors import ProposalError
from blockota.strict_json import address, digest, dump, fault, hexadecimal, load

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_FORMAT = "blockota-signatures-1"
_SIZE = 65
_RECOVERY_IDS = (27, 28)  # eth-account takes others, which mean something else to a Safe
_MOST = 256
"""Signatures in one file."""


@dataclass(frozen=True)
class Signature:
    """One owner's signature to one proposal.

    Attributes:
        proposal: the proposal's `Proposal.digest`.
        safe_tx_hash: what was signed.
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
    """The bytes of a file with signatures to one proposal, at least one.

    Raises:
        ProposalError: they are to different proposals.
    """
    first = signatures[0]
    if any((s.proposal, s.safe_tx_hash) != (first.proposal, first.safe_tx_hash) for s in signatures):
        raise ProposalError(
            "the signatures cannot be merged",
            why="they are to different proposals",
            remedy="merge those of one proposal; `blockota proposal show` tells which belong to it",
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
        ProposalError: it is no signature file.
    """
    fields = load(raw, form=_FORMAT, remedy="give the proposal first, signatures with --signature")
    try:
        _check_fields(fields)
        proposal, safe_tx_hash = digest(fields, "proposal", prefix="").hex(), digest(fields, "safeTxHash")
        return [
            Signature(proposal, safe_tx_hash, address(one, "signer"), hexadecimal(one, "signature"))
            for one in fields["signatures"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ProposalError("the file is no signature", why=fault(error)) from error


def merge(signatures: Iterable[Signature]) -> list[Signature]:
    """Signatures from several files, each signer once, by ascending address.

    Raises:
        ProposalError: one signer has two different signatures.
    """
    merged: dict[str, Signature] = {}
    for signature in signatures:
        if merged.setdefault(signature.signer, signature) != signature:
            raise ProposalError(
                f"{signature.signer} signed twice, and differently",
                why="each owner has one vote on one proposal",
                remedy="leave out the file that belongs to another proposal",
            )
    return sorted(merged.values(), key=_order)


def accept(
    proposal: Proposal, signatures: Iterable[Signature], *, owners: Sequence[str], threshold: int
) -> list[Signature]:
    """Check signatures as the Safe will, and put them into the order it wants (ascending signer).

    Args:
        proposal: what was signed.
        signatures: from any number of files.
        owners: the Safe's owners today.
        threshold: how many of them must sign.

    Raises:
        ProposalError: one is for something else, by a stranger, forged or given twice, or there are too few.
    """
    accepted: dict[str, Signature] = {}
    for signature in signatures:
        check_signature(proposal, signature)
        _check_owner(signature, owners)
        if signature.signer in accepted:
            raise ProposalError(
                f"{signature.signer} signed twice", why="each owner has one vote", remedy="give each signature once"
            )
        accepted[signature.signer] = signature
    if len(accepted) < threshold:
        raise ProposalError(
            "there are too few signatures",
            why=f"{len(accepted)} of {threshold} needed were given",
            remedy="have another owner run `blockota proposal sign`",
        )
    return sorted(accepted.values(), key=_order)


def check_signature(proposal: Proposal, signature: Signature) -> None:
    """Refuse a signature that its signer did not make to this proposal.

    Raises:
        ProposalError: it is for another proposal, or forged.
    """
    if signature.proposal != proposal.digest or signature.safe_tx_hash != proposal.safe_tx_hash:
        raise ProposalError(
            f"the signature of {signature.signer} is for another proposal",
            why="the proposal was changed after it was signed, or the file belongs to another one",
            remedy="sign the proposal again",
        )
    if _recover(proposal, signature) != signature.signer:
        raise ProposalError(f"the signature of {signature.signer} is forged", why="that key did not make it")


def _order(signature: Signature) -> int:
    return int(signature.signer, 16)


def _check_fields(fields: dict[str, Any]) -> None:
    found = fields["signatures"]
    if not isinstance(found, list) or not 0 < len(found) <= _MOST or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"signatures is no list of 1 to {_MOST} signatures")
    if fields.keys() != {"format", "proposal", "safeTxHash", "signatures"}:
        raise ValueError("of the file, or one of them, does not belong there")
    if any(one.keys() != {"signer", "signature"} for one in found):
        raise ValueError("of a signature, or one of them, does not belong there")


def _check_owner(signature: Signature, owners: Sequence[str]) -> None:
    if signature.signer not in owners:
        raise ProposalError(
            f"{signature.signer} is no owner of the Safe",
            why=f"the owners are {', '.join(owners)}",
            remedy="have an owner sign",
        )


def _recover(proposal: Proposal, signature: Signature) -> str:
    if len(signature.signature) != _SIZE or signature.signature[-1] not in _RECOVERY_IDS:
        return ""
    try:
        return str(Account.recover_message(proposal.signable, signature=signature.signature))
    except (BadSignature, ValidationError, ValueError):
        return ""
