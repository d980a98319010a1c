"""``blockota proposal``: what the vendor's Safe is asked, owner by owner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli import proposal_files as files
from blockota.cli.options import ProposalOptions, proposing_options, refuse_existing, save_proposal
from blockota.cli.proposal_files import FILE, signature_option, view_option
from blockota.cli.proposal_images import look_at_images
from blockota.cli.proposal_list import list_
from blockota.cli.proposal_search import Sources, image_options
from blockota.cli.proposal_shown import (
    as_fields,
    identity,
    meaning,
    show_flags,
    show_groups,
    view_rows,
)
from blockota.cli.session import Session, with_session
from blockota.cli.signing import execute, sign
from blockota.errors import BlockOTAError, UsageError

if TYPE_CHECKING:
    from blockota.approval.chain_view import ChainView, SafeState
    from blockota.approval.proposal import Proposal
    from blockota.approval.red_flags import RedFlag
    from blockota.bindings.safe import Rehearsal


@click.group()
def proposal() -> None:
    """Proposals: one transaction of the vendor's Safe each, as a file that its owners sign."""


for _command in (list_, sign, execute):
    proposal.add_command(_command)


@proposal.command()
@click.argument("file", type=FILE)
@signature_option
@image_options
@view_option
@with_session
def show(session: Session, /, file: Path, signatures: tuple[Path, ...], view: Path | None, **options: Any) -> None:
    """Show what FILE asks for, who signed it, and what is unusual.

    What it does is decoded from its calldata, and its images are hashed as `sign` does. Without a chain in reach, and
    without a chain view, red flags are not looked for.

    \b
    Example:  blockota proposal show 1.4.0.json
    """
    found = files.read_proposal(file)
    known, flags, trouble = _look_around(session, found, path=view)
    collected = files.collect_signatures(session, file, proposal=found, named=signatures)
    signed = {one.signer: files.standing(found, one, view=known) for one in collected}
    images = look_at_images(session, found, sources=Sources.taken_from(options), view=known)

    def show_all() -> None:
        groups = [*meaning(found, view=known, images=images), *identity(found, view=known)]
        if signed:
            groups.append({"signatures": tuple(f"{signer} {worth}" for signer, worth in signed.items())})
        show_groups(session, groups)
        show_flags(session, flags or [])
        if trouble:
            session.note(f"Red flags were not looked for: {trouble}")

    fields = as_fields(found, flags=flags, signers=signed) | {"images": [image.fields for image in images]}
    session.result(fields, show_all)


@proposal.command()
@proposing_options
@with_session
def reject(session: Session, /, proposing: ProposalOptions) -> None:
    """Propose the empty transaction at a nonce, which --nonce names.

    Once it is executed, nothing else at that nonce can be.

    \b
    Example:  blockota proposal reject --nonce 7 --reason "wrong image" -o reject-7.json
    """
    from blockota.vendor.propose import propose_rejection

    if proposing.nonce is None:
        raise UsageError(
            "it is not said what to reject", why="a rejection takes the nonce of what it rejects", remedy="say --nonce"
        )
    save_proposal(session, lambda reason: propose_rejection(session.contract, reason=reason), proposing)


@proposal.command()
@click.argument("file", type=FILE)
@signature_option
@with_session
def simulate(session: Session, /, file: Path, signatures: tuple[Path, ...]) -> None:
    """Try what FILE would do today, without sending anything.

    The call alone is tried as the Safe; with signatures of enough owners, the whole execution.

    \b
    Example:  blockota proposal simulate 1.4.0.json
    """
    from blockota.approval.red_flags import red_flags
    from blockota.bindings.safe import check_nonce, rehearse

    found, now = files.read_proposal(file), int(time.time())
    safe = (view := files.open_view(session, [found], path=None)).safe
    show_flags(session, red_flags(found, view, signer=None, now=now))
    found.check_time(now)
    if found.nonce < safe.nonce:
        check_nonce(found, safe)
    signed = files.collect_signatures(session, file, proposal=found, named=signatures, owners=safe.owners)
    result = rehearse(session.chain, found, signatures=signed)
    fields = {"call": result.call, "execution": result.execution, "signatures": len(signed)}
    lines = _rehearsed(found, result, signatures=len(signed), safe=safe)
    session.result(fields | {"threshold": safe.threshold}, lambda: _show_rehearsal(session, lines))


@proposal.command()
@click.argument("signatures", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="Signature file to write.")
@with_session
def merge(session: Session, /, signatures: tuple[Path, ...], output: Path) -> None:
    """Merge SIGNATURES of one proposal into one file.

    \b
    Example:  blockota proposal merge alice.signature.json bob.signature.json -o 1.4.0.signatures.json
    """
    from blockota.approval.signature import merge as merge_signatures
    from blockota.approval.signature import to_json
    from blockota.files import write_result

    refuse_existing(output, why="it may hold signatures")
    merged = merge_signatures(one for path in signatures for one in files.read_signatures(path))
    write_result(output, to_json(merged))
    signers = [one.signer for one in merged]
    sentence = f"{output} holds the signatures of {', '.join(signers)}"
    session.result({"signatures": str(output), "signers": signers}, lambda: session.done(sentence))


@proposal.command("export-view")
@click.argument("proposals", type=FILE, nargs=-1)
@click.option("-o", "--output", type=FILE, required=True, help="Chain view to write.")
@with_session
def export_view(session: Session, /, proposals: tuple[Path, ...], output: Path) -> None:
    """Write what signers of PROPOSALS must know of the chain.

    With this file they sign without a network.

    \b
    Example:  blockota proposal export-view 1.4.0.json -o view.json
    """
    from blockota.files import write_result

    files.refuse_to_replace(output, "blockota-view-")
    view = files.open_view(session, [files.read_proposal(path) for path in proposals], path=None)
    write_result(output, view.to_json())
    fields = {"view": str(output), "block": view.block_number, "blockHash": "0x" + view.block_hash.hex()}

    def show_written() -> None:
        show_groups(session, [view_rows(view)])
        session.done(f"{output} is the chain as of block {view.block_number}")

    session.result(fields, show_written)


@proposal.command("export")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Transaction Builder file to write.")
@with_session
def export_(session: Session, /, file: Path, output: Path) -> None:
    """Write FILE as JSON for Safe's Transaction Builder.

    \b
    Example:  blockota proposal export 1.4.0.json -o transaction-builder.json
    """
    from blockota.approval.transaction_builder import to_builder
    from blockota.files import write_result

    refuse_existing(output, why="it may be another one's")
    write_result(output, to_builder(files.read_proposal(file)))
    session.result({"file": str(output)}, lambda: session.done(f"{output} is for Safe's Transaction Builder"))


@proposal.command("import")
@click.argument("file", type=FILE)
@proposing_options
@with_session
def import_(session: Session, /, file: Path, proposing: ProposalOptions) -> None:
    """Make a proposal of a file of Safe's Transaction Builder.

    What is unusual about it is told when it is signed.

    \b
    Example:  blockota proposal import transaction-builder.json -o imported.json
    """
    from blockota.vendor.propose import propose_built

    found = files.read_builder(file)
    save_proposal(session, lambda reason: propose_built(session.contract, found, reason=reason), proposing)


def _look_around(
    session: Session, found: Proposal, *, path: Path | None
) -> tuple[ChainView | None, list[RedFlag] | None, str]:
    """What the chain says of a proposal, and its red flags; or why that is not known, where no view was named."""
    from blockota.approval.red_flags import red_flags

    try:
        view = files.open_view(session, [found], path=path)
        pinned = files.is_pinned(session, view)
        return view, red_flags(found, view, signer=None, now=int(time.time()), is_pinned=pinned), ""
    except BlockOTAError as error:
        if path:
            raise
        return None, None, str(error)


def _rehearsed(found: Proposal, result: Rehearsal, *, signatures: int, safe: SafeState) -> list[tuple[bool, str]]:
    """What was tried, and what was not and why."""
    count = f"{signatures} of {safe.threshold} signatures"
    if result.execution:
        whole = f"the execution succeeds, with {count}"
    elif found.nonce > safe.nonce:
        whole = (
            f"the execution was not tried: it takes nonce {found.nonce}, the Safe is at {safe.nonce}; it has {count}"
        )
    else:
        whole = f"the execution was not tried: it has {count}"
    call = "the call succeeds, made as the Safe" if result.call else "the call was not tried alone: it is no plain one"
    return [(result.call, call), (result.execution, whole)]


def _show_rehearsal(session: Session, lines: list[tuple[bool, str]]) -> None:
    for is_tried, line in lines:
        if is_tried:
            session.done(line)
        else:
            session.out.print(f"- {line}", markup=False)
