"""Makes, reads, merges and checks the signatures of a proposal's owners. Pure.

An owner signs two messages: the Safe transaction, and the text message with reason, proposer and expiry
(`Proposal.text_signable`). The Safe checks only the signature of the transaction, and other tools do not sign the text
message. If the text message is not signed, reason, proposer and expiry can be changed later. A signature of the
transaction alone therefore counts only if the executor accepts an unsigned text (`waive_text`).

The rules for v come from ``checkNSignatures`` in ``Safe.sol`` (Safe smart account 1.5). If v is 27 or 28, the owner
signed the EIP-712 message. If v is 31 or 32, the owner signed the message's hash with ``eth_sign``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blockota.approval.proposal import Proposal
from blockota.errors import Action, ProposalError, shortened
from blockota.strict_json import address, digest, dump, fault, hexadecimal, load

if TYPE_CHECKING:
    from eth_account.messages import SignableMessage
    from eth_account.signers.base import BaseAccount

_FORMAT = "blockota-signatures-2"
_SIZE = 65
_EIP712, _ETH_SIGN = (27, 28), (31, 32)
"""Supported values of v. The library eth-account also accepts other values, but they have another meaning for a Safe.
"""
_ETH_SIGN_OFFSET = 4
_MOST = 256
"""Maximum number of signatures in one file."""


@dataclass(frozen=True)
class Signature:
    """One owner's signature of one proposal.

    Attributes:
        proposal: digest of the proposal file (`Proposal.digest`).
        safe_tx_hash: hash of the Safe transaction that was signed.
        signer: address of the owner, checksummed.
        signature: signature of the Safe transaction (r, s and v, 65 bytes).
        text_signature: signature of the text message (r, s and v, 65 bytes); empty if another tool made `signature`.
        text_waived: whether the executor accepts that the text message is not signed.

    Examples:
        >>> _, signatures = load_proposal("1.1.0.json")
        >>> [signature.signer[:10] for signature in signatures]
        ['0x3C44CdDd', '0x70997970']
    """

    proposal: str
    safe_tx_hash: bytes
    signer: str
    signature: bytes
    text_signature: bytes = b""
    text_waived: bool = field(default=False, compare=False)

    @property
    def counts(self) -> bool:
        """Whether a valid signature counts towards the threshold: its text is signed, or the text may be unsigned."""
        return bool(self.text_signature) or self.text_waived

    @property
    def is_eth_sign(self) -> bool:
        """Whether the hash was signed as a personal message. The owner's wallet then showed only the hash."""
        return len(self.signature) == _SIZE and self.signature[-1] in _ETH_SIGN

    def as_fields(self) -> dict[str, str | None]:
        """The signature's JSON object in a signature file.

        It omits the proposal's hashes, which the file contains once.
        """
        return {
            "signer": self.signer,
            "signature": "0x" + self.signature.hex(),
            "textSignature": "0x" + self.text_signature.hex() if self.text_signature else None,
        }


def sign(proposal: Proposal, account: BaseAccount) -> Signature:
    """Sign the Safe transaction and then the text message of a proposal. A wallet shows two requests."""
    signed, text = (account.sign_message(message).signature for message in (proposal.signable, proposal.text_signable))
    return Signature(proposal.digest, proposal.safe_tx_hash, account.address, bytes(signed), bytes(text))


def waive_text(signatures: Iterable[Signature]) -> list[Signature]:
    """Copy the signatures, and mark in each copy that the executor accepts an unsigned text message."""
    return [replace(signature, text_waived=True) for signature in signatures]


def from_other_tool(raw: bytes, proposal: Proposal) -> list[Signature]:
    """Read signatures of the Safe transaction from another tool: hexadecimal text, one signature after the other.

    Raises:
        ProposalError: the file is not hexadecimal, or a signature is of an unsupported kind.
    """
    text = re.sub(rb"\s|0x", b"", raw)
    if not re.fullmatch(rb"(?:[0-9a-fA-F]{130})+", text):
        raise ProposalError(
            "the file is not a signature file", why="it contains neither JSON nor 65-byte signatures in hexadecimal"
        )

    joined = bytes.fromhex(text.decode())
    found = [joined[place : place + _SIZE] for place in range(0, len(joined), _SIZE)]

    signatures = []
    for one in found:
        signer = _recover_safe(proposal, one)
        if not signer:
            raise ProposalError("the signature cannot be used", why=_unsupported(one) or "no key could have made it")
        signatures.append(Signature(proposal.digest, proposal.safe_tx_hash, signer, one))
    return signatures


def to_json(signatures: Sequence[Signature]) -> bytes:
    """Return the bytes of a signature file.

    Args:
        signatures: one or more signatures to the same proposal.

    Raises:
        ProposalError: the signatures belong to different proposals.
    """
    first = signatures[0]
    if any((s.proposal, s.safe_tx_hash) != (first.proposal, first.safe_tx_hash) for s in signatures):
        raise ProposalError(
            "the signatures cannot be merged",
            why="the signatures belong to different proposals",
            remedy="merge only signatures of one proposal",
            action=Action.SHOW_PROPOSAL,
        )

    return dump(
        {
            "format": _FORMAT,
            "proposal": first.proposal,
            "safeTxHash": "0x" + first.safe_tx_hash.hex(),
            "signatures": [one.as_fields() for one in signatures],
        }
    )


def from_json(raw: bytes) -> list[Signature]:
    """Read a signature file.

    Raises:
        ProposalError: the file is not a signature file.
    """
    remedy = "give the signature file, or ask its signer for it again"
    fields = load(raw, form=_FORMAT, remedy=remedy)

    signatures = []
    try:
        _check_fields(fields)
        proposal, safe_tx_hash = digest(fields, "proposal", prefix="").hex(), digest(fields, "safeTxHash")
        for one in fields["signatures"]:
            signer, signature = address(one, "signer"), hexadecimal(one, "signature")
            text_signature = b"" if one["textSignature"] is None else hexadecimal(one, "textSignature")
            signatures.append(Signature(proposal, safe_tx_hash, signer, signature, text_signature))
    except (KeyError, TypeError, ValueError) as error:
        raise ProposalError("the file is not a signature file", why=fault(error), remedy=remedy) from error
    return signatures


def merge(signatures: Iterable[Signature]) -> list[Signature]:
    """Merge signatures from several files.

    Returns:
        One signature for each signer, in ascending order of the signers' addresses.

    Raises:
        ProposalError: a signer has two different signatures.
    """
    merged: dict[str, Signature] = {}
    for signature in signatures:
        if merged.setdefault(signature.signer, signature) != signature:
            raise ProposalError(
                f"{signature.signer} has two different signatures",
                why="each owner has one vote on one proposal",
                remedy="omit the signature file that was made for another proposal",
            )
    return sorted(merged.values(), key=_address)


def accept(
    proposal: Proposal, signatures: Iterable[Signature], *, owners: Sequence[str], threshold: int
) -> list[Signature]:
    """Check signatures by the Safe's rules, and check that they cover the proposal's text.

    Args:
        proposal: the signed proposal.
        signatures: signatures from any number of files.
        owners: the Safe's present owners.
        threshold: number of owners that must sign.

    Returns:
        The signatures that count, in ascending order of the signers' addresses, as the Safe requires.

    Raises:
        ProposalError: a signature is invalid, repeated, or not by an owner, or too few signatures count.
    """
    # (1) Each signature is valid, and each signer is an owner, who has one vote.
    accepted: dict[str, Signature] = {}
    for signature in signatures:
        check_signature(proposal, signature)
        if signature.signer not in owners:
            raise ProposalError(
                f"{signature.signer} is not an owner of the Safe",
                why=f"the owners are {shortened(owners)}",
                remedy="have an owner sign",
            )
        if signature.signer in accepted:
            raise ProposalError(
                f"{signature.signer} signed twice", why="each owner has one vote", remedy="give each signature once"
            )
        accepted[signature.signer] = signature

    # (2) A signature counts towards the threshold only if the text is signed too, or the executor waived that.
    counted = [signature for signature in accepted.values() if signature.counts]
    if len(counted) < threshold <= len(accepted):
        signers = shortened(signer for signer, signature in accepted.items() if not signature.counts)
        raise ProposalError(
            f"reason, proposer and expiry are not signed by {signers}",
            why="these signatures were made with another tool, and the proposal's text may have been changed later",
            remedy="have these owners sign with BlockOTA, or accept that the proposal's text is not signed",
            action=Action.ACCEPT_UNSIGNED_TEXT,
        )

    if len(counted) < threshold:
        raise ProposalError(
            "there are too few signatures",
            why=f"{len(accepted)} of {threshold} required signatures were found",
            remedy="have another owner sign, and put the signature file beside the proposal",
            action=Action.SIGN_PROPOSAL,
        )

    # (3) The Safe requires ascending addresses, by which it detects a repeated signer.
    return sorted(counted, key=_address)


def check_signature(proposal: Proposal, signature: Signature) -> None:
    """Check that a signature is for a proposal and was made with the key of its signer.

    Raises:
        ProposalError: the signature is for another proposal, or forged.
    """
    if signature.proposal != proposal.digest or signature.safe_tx_hash != proposal.safe_tx_hash:
        raise ProposalError(
            f"the signature of {signature.signer} is for another proposal",
            why="the proposal was changed after it was signed, or the signature file belongs to another proposal",
            remedy="sign the proposal again",
        )

    if why := _unsupported(signature.signature):
        raise ProposalError(f"the signature of {signature.signer} cannot be used", why=why)
    if _recover_safe(proposal, signature.signature) != signature.signer:
        raise ProposalError(f"the signature of {signature.signer} is forged", why="it was made with another key")

    if signature.text_signature and _recover_text(proposal, signature.text_signature) != signature.signer:
        raise ProposalError(
            f"the signature of {signature.signer} does not cover the proposal's text",
            why="reason, proposer, expiry or another field of the proposal was changed after it was signed, or the "
            "signature of the text is forged",
            remedy="ask the proposer, and sign the proposal again",
        )


def _address(signature: Signature) -> int:
    return int(signature.signer, 16)


def _check_fields(fields: dict[str, Any]) -> None:
    found = fields["signatures"]
    if not isinstance(found, list) or not 0 < len(found) <= _MOST or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"signatures is not a list of 1 to {_MOST} signatures")
    if fields.keys() != {"format", "proposal", "safeTxHash", "signatures"}:
        raise ValueError("the fields are not format, proposal, safeTxHash and signatures")
    if any(one.keys() != {"signer", "signature", "textSignature"} for one in found):
        raise ValueError("the fields of a signature are not signer, signature and textSignature")


def _unsupported(signature: bytes) -> str:
    """Return why a signature of this kind is not supported here; empty if it is supported.

    A Safe may accept more kinds.
    """
    if len(signature) != _SIZE or signature[-1] in _EIP712 + _ETH_SIGN:
        return ""
    kinds = {0: "it is the signature of a contract (v is 0)", 1: "it is an approval recorded on the chain (v is 1)"}
    kind = kinds.get(signature[-1], f"v is {signature[-1]}")
    return f"{kind}; only signatures by a key count here, with v of 27, 28, 31 or 32"


def _recover_safe(proposal: Proposal, signature: bytes) -> str:
    """Recover the address that signed the Safe transaction (``checkNSignatures``); empty for an invalid signature."""
    if len(signature) != _SIZE:
        return ""
    if signature[-1] in _ETH_SIGN:
        v = signature[-1] - _ETH_SIGN_OFFSET
        return _recover(proposal.eth_sign_signable, signature[:-1] + bytes([v]))
    return _recover(proposal.signable, signature) if signature[-1] in _EIP712 else ""


def _recover_text(proposal: Proposal, signature: bytes) -> str:
    is_valid = len(signature) == _SIZE and signature[-1] in _EIP712
    return _recover(proposal.text_signable, signature) if is_valid else ""


def _recover(message: SignableMessage, signature: bytes) -> str:
    from eth_account import Account
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    try:
        return str(Account.recover_message(message, signature=signature))
    except (BadSignature, ValidationError, ValueError):
        return ""
