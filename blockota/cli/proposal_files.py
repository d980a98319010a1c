"""Proposals, their signatures and chain views as files that a command was given."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blockota.cli.session import Session
from blockota.errors import BlockOTAError, ProposalError, UsageError

if TYPE_CHECKING:
    from blockota.approval.chain_view import ChainView
    from blockota.approval.proposal import Proposal
    from blockota.approval.signature import Signature
    from blockota.approval.transaction_builder import BuilderTransaction

FILE = click.Path(path_type=Path)
_HEAD_SIZE = 256
"""Bytes in which a file of ours says what it is."""
view_option = click.option(
    "--view", type=FILE, help="Chain view to believe instead of asking the chain; needs no network."
)
signature_option = click.option(
    "--signature", "signatures", type=FILE, multiple=True, help="Signature file; those beside FILE too."
)


@dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Attributes:
        proposals: by their files, in the order of the files' names.
        left_aside: files that pose as proposals and are none, and why.
    """

    proposals: dict[Path, Proposal]
    left_aside: dict[Path, str]


def read_proposal(path: Path) -> Proposal:
    """The proposal in a file."""
    from blockota.approval.proposal import Proposal

    raw = _read(path)
    with _naming(path):
        return Proposal.from_json(raw)


def read_signatures(path: Path) -> list[Signature]:
    """The signatures in a file."""
    from blockota.approval import signature

    raw = _read(path)
    with _naming(path):
        return signature.from_json(raw)


def read_builder(path: Path) -> BuilderTransaction:
    """The transaction in a file of Safe's Transaction Builder."""
    from blockota.approval.transaction_builder import from_builder

    raw = _read(path)
    with _naming(path):
        return from_builder(raw)


def collect_signatures(
    session: Session, file: Path, *, proposal: Proposal, named: Sequence[Path], owners: Sequence[str] | None = None
) -> list[Signature]:
    """The named signatures as they are, and those beside the proposal's file that are good for it, one a signer.

    Args:
        session: tells which files were left aside.
        file: where the proposal lies.
        proposal: what is in it.
        named: files of signatures that the person named; whoever uses them refuses the bad ones.
        owners: whose signatures beside the file count; None takes any signer's.
    """
    from blockota.approval.signature import merge

    given = [signature for path in named for signature in read_signatures(path)]
    found = {signature.signer: signature for signature in _beside(session, file, proposal=proposal, named=named)}
    for signer in sorted(found.keys() - {signature.signer for signature in given}):
        if owners is None or signer in owners:
            given.append(found[signer])
        else:
            session.note(f"The signature of {signer} was left aside: it is no owner of the Safe")
    return merge(given)


def standing(proposal: Proposal, signature: Signature, *, view: ChainView | None) -> str:
    """What a signature is worth, in words."""
    from blockota.approval.signature import check_signature

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
    from blockota.vendor.propose import agreements_of, read_view

    if path is None:
        replication = session.replication if session.settings.replication else None
        return read_view(session.contract, replication, about=agreements_of(proposals))
    from blockota.approval.chain_view import ChainView

    raw = _read(path)
    with _naming(path):
        view = replace(ChainView.from_json(raw), source=path.name)
    _check_view(session, view)
    return view


def is_pinned(session: Session, view: ChainView) -> bool:
    """Whether the settings, or the chain itself, name the contract that a view is of."""
    return not view.source or session.settings.contract is not None


def _check_view(session: Session, view: ChainView) -> None:
    """Refuse a view that is of another chain, contract or Safe than the settings name, as far as they name any."""
    settings = session.settings
    known = (settings.chain_id, (settings.contract or "").lower())
    if settings.contract and known != (view.chain_id, view.contract.lower()):
        raise ProposalError(
            "the chain view is of another contract",
            why=f"it is of {view.contract} on chain {view.chain_id}, the settings say {settings.contract} on chain "
            f"{settings.chain_id}",
            remedy="export it again from your network, or choose the network with --network",
        )
    for what, found, wanted in (
        ("replication contract", view.replication, settings.replication),
        ("Safe", view.safe.address, settings.safe),
    ):
        if settings.contract and wanted and (found or "").lower() != wanted.lower():
            raise ProposalError(
                f"the chain view is of another {what}",
                why=f"it says {found or 'that there is none'}, the settings say {wanted}",
                remedy="ask who exported it; where the vendor has moved, correct the settings",
            )


def proposals_in(folder: Path) -> Found:
    """The proposals among the files of a folder.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", why="proposals are looked for in one", remedy="name a folder")
    found = Found({}, {})
    for path in sorted(folder.glob("*.json")):
        if not poses_as(path, "blockota-proposal-"):
            continue
        try:
            found.proposals[path] = read_proposal(path)
        except BlockOTAError as error:
            found.left_aside[path] = f"{error.what}: {error.why}"
    return found


def refuse_to_replace(path: Path, form: str) -> None:
    """Refuse to write over a file that is not of the kind that is made anew at any time.

    Args:
        path: the file to be written.
        form: how the format of such files begins.

    Raises:
        UsageError: something else is there.
    """
    if path.exists() and not poses_as(path, form):
        raise UsageError(f"{path} already exists", why="it is something else", remedy="name another file with -o")


def poses_as(path: Path, form: str) -> bool:
    """Whether a file says near its beginning that it is of a format of ours."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return form.encode() in file.read(_HEAD_SIZE)
    except OSError:
        return False


def _beside(session: Session, file: Path, *, proposal: Proposal, named: Sequence[Path]) -> Iterator[Signature]:
    """The good signatures in files beside the proposal's; a bad file there must not keep others from executing."""
    from blockota.approval.signature import check_signature

    known = {path.resolve() for path in named}
    for path in sorted(file.parent.glob(f"{glob.escape(file.stem)}.*signature*.json")):
        if path.resolve() in known:
            continue
        try:
            for signature in read_signatures(path):
                check_signature(proposal, signature)
                yield signature
        except BlockOTAError as error:
            session.note(f"{path.name} was left aside: {error.what}: {error.why}")


def _read(path: Path) -> bytes:
    from blockota.files import read_input
    from blockota.strict_json import MAX_FILE_SIZE

    return read_input(path, limit=MAX_FILE_SIZE)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which of several files an error is."""
    try:
        yield
    except ProposalError as error:
        what = f"{path} cannot be used, {error.what}"
        raise ProposalError(what, why=error.why, remedy=error.remedy) from error
