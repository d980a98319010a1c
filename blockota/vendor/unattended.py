"""Makes and signs proposals without a person, for the vendor's build server and for scripts.

The rules of an unattended signature:

1. Before anything is stored, the key is opened, and the paths of both output files are checked.
2. The proposal is reviewed in the same way as for an owner who signs: each image is hashed again.
3. A proposal with a red flag is not signed, because only a person can judge the flag.
4. Either both files are written (the proposal and the signature), or none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature, sign, to_json
from blockota.errors import Action, ProposalError, UsageError
from blockota.files import check_new_file, result_files, write_result
from blockota.vendor.review import Review

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


@dataclass(frozen=True)
class UnattendedSigner:
    """An owner's key that signs proposals without a person, and the review before each signature.

    Attributes:
        account: the owner's account.
        review: reviews a proposal, with its images.
        now: the current time, in Unix seconds.
    """

    account: BaseAccount
    review: Callable[[Proposal], Review]
    now: int


@dataclass(frozen=True)
class WrittenProposal:
    """A proposal that was written to a file.

    Attributes:
        path: the proposal file.
        signature: the signature file; None if the proposal was not signed.
        signer: the address of the owner who signed; empty if the proposal was not signed.
    """

    proposal: Proposal
    path: Path
    signature: Path | None = None
    signer: str = ""


def write_proposal(
    path: Path, make: Callable[[], Proposal], *, open_signer: Callable[[], UnattendedSigner] | None = None
) -> WrittenProposal:
    """Make a proposal, sign it if a signer is given, and write both files or none.

    Args:
        path: the proposal file; the signature file is written into the same folder.
        make: makes the proposal, and can store images.
        open_signer: opens the key that signs the proposal; None leaves the signatures to the owners.

    Raises:
        UsageError: the file's name does not end in .json, or a file already exists or cannot be written.
        ProposalError: the proposal has a red flag, and is therefore not signed.
    """
    if path.suffix != ".json":
        raise UsageError(
            f"{path} cannot be the name of a proposal",
            why="only files whose names end in .json count as queued proposals when the next nonce is chosen",
            remedy=f"name it {path}.json",
        )
    check_new_file(path)
    signer = open_signer() if open_signer else None
    if signer is None:
        proposal = make()
        write_result(path, proposal.to_json())
        return WrittenProposal(proposal, path)

    beside = signature_path(path, signer.account.address)
    check_new_file(beside, why="it can belong to an earlier proposal with the same file name")
    proposal = make()
    signed = to_json([sign_review(signer.review(proposal), signer.account, now=signer.now)])
    with result_files(path, beside) as (file, companion):
        file.write(proposal.to_json())
        if companion:
            companion.write(signed)
    return WrittenProposal(proposal, path, beside, signer.account.address)


def sign_review(
    review: Review, account: BaseAccount, *, now: int, accepted: Collection[str] = frozenset()
) -> Signature:
    """Sign a reviewed proposal without asking a person.

    Args:
        review: the reviewed proposal, with a known state of the chain.
        account: an owner's account.
        now: the current time, in Unix seconds.
        accepted: the words of the red flags that a person has already judged.

    Raises:
        ProposalError: the proposal has a red flag that is not accepted.
    """
    flags = review.red_flags(signer=account.address, now=now)
    if flags is None:
        raise AssertionError("a proposal is not signed without the state of the chain")

    if others := [flag for flag in flags if flag.word not in accepted]:
        raise ProposalError(
            "the proposal is not signed automatically",
            why="; ".join(f"{flag.what} (red flag {flag.word})" for flag in others),
            remedy="have an owner review the proposal: the owner can accept a red flag by typing its word",
            action=Action.SIGN_LATER,
        )
    return sign(review.proposal, account)


def signature_path(proposal: Path, signer: str) -> Path:
    """Return the path at which `proposal execute` finds an owner's signature of a proposal file."""
    return proposal.with_name(f"{proposal.stem}.{signer.lower()[:10]}.signature.json")
