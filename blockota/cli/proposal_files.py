"""Proposals, their signatures and chain views as files that a command was given."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blockota.cli.session import Session
from blockota.errors import BlockOTAError, ProposalError

if TYPE_CHECKING:
    from blockota.chain_view import ChainView
    from blockota.proposal import Proposal
    from blockota.signature import Signature

FILE = click.Path(path_type=Path)
view_option = click.option(
    "--view", type=FILE, help="Chain view to believe instead of asking the chain; needs no network."
)
signature_option = click.option(
    "--signature", "signatures", type=FILE, multiple=True, help="Signature file; those beside FILE too."
)


def read_proposal(path: Path) -> Proposal:
    """The proposal in a file."""
    from blockota.files import read_input
    from blockota.proposal import Proposal
    from blockota.strict_json import MAX_FILE_SIZE

    return Proposal.from_json(read_input(path, limit=MAX_FILE_SIZE))


def read_signatures(path: Path) -> list[Signature]:
    """The signatures in a file."""
    from blockota import signature
    from blockota.files import read_input
    from blockota.strict_json import MAX_FILE_SIZE

    return signature.from_json(read_input(path, limit=MAX_FILE_SIZE))


def collect_signatures(session: Session, file: Path, *, named: Sequence[Path]) -> list[Signature]:
    """The named signatures, and those beside the proposal that belong to it, each once."""
    from blockota.signature import merge

    digest = read_proposal(file).digest
    found = [signature for path in named for signature in read_signatures(path)]
    for path in sorted(file.parent.glob(f"{glob.escape(file.stem)}.*signature*.json")):
        if path.resolve() in {other.resolve() for other in named}:
            continue
        beside = read_signatures(path)
        found += [signature for signature in beside if signature.proposal == digest]
        if any(signature.proposal != digest for signature in beside):
            session.note(f"{path.name} is for another proposal, and was left aside")
    return merge(found)


def standing(proposal: Proposal, signature: Signature, *, view: ChainView | None) -> str:
    """What a signature is worth, in words."""
    from blockota.signature import check_signature

    try:
        check_signature(proposal, signature)
    except ProposalError as error:
        return f"NOT VALID: {error.what}, {error.why}"
    if view is None:
        return "valid; whether it is an owner's is checked when executing"
    return "valid, an owner's" if signature.signer in view.safe.owners else "valid, but NOT AN OWNER'S"


def open_view(session: Session, proposals: Sequence[Proposal], *, path: Path | None) -> ChainView:
    """What the chain says, from a file, or from the chain itself.

    Raises:
        ProposalError: the file is of another chain or contract than the settings name.
    """
    from blockota.approval import agreements_of, read_view

    if path is None:
        replication = session.replication if session.settings.replication else None
        return read_view(session.contract, replication, about=agreements_of(proposals))
    from blockota.chain_view import ChainView
    from blockota.files import read_input
    from blockota.strict_json import MAX_FILE_SIZE

    view = ChainView.from_json(read_input(path, limit=MAX_FILE_SIZE))
    settings = session.settings
    known = (settings.chain_id, (settings.contract or "").lower())
    if settings.contract and known != (view.chain_id, view.contract.lower()):
        raise ProposalError(
            "the chain view is of another contract",
            why=f"it is of {view.contract} on chain {view.chain_id}, the settings say {settings.contract} on chain "
            f"{settings.chain_id}",
            remedy="export it again from your network, or choose the network with --network",
        )
    return view


def proposals_in(session: Session, folder: Path) -> Iterator[tuple[Path, Proposal]]:
    """The proposals among the files of a folder; what poses as one and is none is told.

    Raises:
        UsageError: there is no such folder.
    """
    from blockota.errors import UsageError

    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", why="proposals are looked for in one", remedy="name a folder")
    for path in sorted(folder.glob("*.json")):
        if not _poses_as_proposal(path):
            continue
        try:
            yield path, read_proposal(path)
        except BlockOTAError as error:
            session.note(f"{path.name} was left aside: {error.what}, {error.why}")


def _poses_as_proposal(path: Path) -> bool:
    """Whether a file says near its beginning that it is a proposal, as `Proposal.to_json` writes it."""
    try:
        with path.open("rb") as file:
            return b"blockota-proposal-" in file.read(256)
    except OSError:
        return False
