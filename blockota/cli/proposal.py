"""``blockota proposal``: review, sign and execute proposals, which are transactions of a Safe as files."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import check_place
from blockota.approval.signature import merge as merge_signatures
from blockota.approval.signature import to_json, waive_text
from blockota.approval.transaction_builder import to_builder
from blockota.bindings.safe import rehearse
from blockota.cli.layout import print_sentence
from blockota.cli.next_steps import (
    after_finding_packs,
    after_listing,
    after_merging,
    after_review,
    after_viewing,
    before_signing,
)
from blockota.cli.options import ProposalOptions, of_option, proposing_options, save_proposal
from blockota.cli.pack import pack
from blockota.cli.proposal_text import readable, show_flags, show_part, show_screen
from blockota.cli.remedies import sentence_of
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.cli.signing import (
    FILE,
    execute,
    image_inputs,
    image_options,
    open_view,
    opened_proposal,
    require_pending,
    sign,
    signature_option,
    unsigned_text_option,
    view_option,
    with_neighbours,
)
from blockota.desk import executed_on, find_desk, views_of
from blockota.errors import BlockOTAError, UsageError, shortened
from blockota.files import check_new_file, write_result
from blockota.model.release import show_time
from blockota.vendor.files import (
    VIEW_MARK,
    collect_signatures,
    is_pack,
    read_builder,
    read_folder,
    read_proposal,
    read_signatures,
    refuse_to_replace,
)
from blockota.vendor.propose import Reason, propose_built, propose_rejection
from blockota.vendor.queue import ListedProposal, ProposalState, list_proposals, settle_past
from blockota.vendor.review import Review, review_proposal, signature_status
from blockota.vendor.screen import screen_of, view_rows


@click.group(cls=VerbGroup)
def proposal() -> None:
    """Review, sign and execute proposals: transactions of a Safe, as files.

    Commands such as `blockota release publish` make the proposals.
    """


@proposal.command("list")
@click.argument("folder", type=FILE, default=".")
@view_option
@with_session
def list_(session: Session, /, folder: Path, view: Path | None) -> None:
    """List the proposals in FOLDER with their signatures and states.

    Proposals that compete for a nonce are marked.

    \b
    Example:  blockota proposal list proposals/
    """
    found = read_folder(folder)
    listed: list[ListedProposal] = []
    if found.proposals:
        if view:
            views = [open_view(session, [], path=view)]
        else:
            views, unreachable = views_of(session.connection_to, found.proposals.values())
            found = found.without(unreachable)
        listed = list_proposals(found, views, now=int(time.time()), note=session.note)
        # Only the events on the chain distinguish executed from replaced proposals, so a node is needed.
        if view is None and any(one.state is ProposalState.PAST for one in listed):
            executed = (executed_on(session.connection_to(chain.chain_id), chain) for chain in views)
            listed = settle_past(listed, frozenset[bytes]().union(*executed))
        then = after_listing(listed) if listed else ""
    else:
        then = after_finding_packs([path for path in sorted(folder.glob("*.pack")) if is_pack(path)])

    for why in found.skipped.values():  # the reason begins with the file
        session.note(f"Skipped: {why}")
    skipped = [{"file": path.name, "why": why} for path, why in found.skipped.items()]
    rows = [one.fields for one in listed]

    def show() -> None:
        columns: tuple[str, ...] = ("FILE", "NONCE", "WHAT", "SIGNATURES", "STATE", "EXPIRES")
        has_safes = len({(one.proposal.chain_id, one.proposal.safe) for one in listed}) > 1
        if has_safes:
            columns = (*columns, "SAFE")

        lines = []
        for one in listed:
            made, what = one.proposal, readable(one.fields["what"])
            signatures = f"{len(one.signers)}, {one.threshold} needed"
            state = f"{one.state}, COMPETES with {shortened(one.competes_with)}" if one.competes_with else one.state
            line = (one.file.name, made.nonce, what, signatures, state, show_time(made.expires))
            lines.append((*line, f"{made.safe} on chain {made.chain_id}") if has_safes else line)
        session.table(columns, lines, empty=f"No proposals in {folder.resolve()}.")

    session.result({"proposals": rows, "leftAside": skipped}, show, then=then)


@proposal.command()
@click.argument("file", type=FILE)
@signature_option
@image_options
@view_option
@with_session
def show(
    session: Session,
    /,
    file: Path,
    signatures: tuple[Path, ...],
    image: tuple[Path, ...],
    previous: tuple[Path, ...],
    source: tuple[str, ...],
    view: Path | None,
) -> None:
    """Show the effect of FILE, its signatures, and its red flags.

    Like `proposal sign`, the command decodes the transaction and hashes the images. Red flags are checked only with a
    node or a chain view.

    \b
    Example:  blockota proposal show 1.4.0.json
              blockota proposal show 1.4.0.pack
    """
    now = int(time.time())
    with opened_proposal(session, file, view=view) as (found, read_view, open_store):
        try:
            chain, trouble = with_neighbours(read_view(), file, found, now=now), ""
            check_place(found, chain)
        except BlockOTAError as error:
            if view or is_pack(file):
                raise
            # A proposal can be shown without a node; the reason why red flags are missing is printed.
            chain, trouble = None, str(error)
        inputs = image_inputs(session, image, previous, source, open_store=open_store)
        review = review_proposal(found, chain, inputs, is_required=False)
    collected = collect_signatures(file, found, named=signatures, note=session.note)
    signers = {one.signer: signature_status(found, one, view=chain) for one in collected}
    flags = review.red_flags(signer=None, now=now)

    def show_all() -> None:
        show_screen(session, screen_of(review, now=now), flags)
        if signers:
            session.out.print()
            show_part(session, [{"signatures": tuple(f"{signer} {status}" for signer, status in signers.items())}])
        if trouble:
            session.note(f"Red flags were not checked: {trouble}")

    shown_flags = None if flags is None else [flag.as_fields() for flag in flags]
    signed = sum(one.counts and (chain is None or one.signer in chain.safe.owners) for one in collected)
    then = ""
    if chain:
        try:
            require_pending(session, found, chain, now=now)
            then = after_review(file, found, signed=signed, view=chain)
            if chain.source:
                then = before_signing(file, view=view)
        except BlockOTAError as error:  # the proposal was executed, was replaced or has expired
            sentence = sentence_of(error)
            then = sentence[:1].upper() + sentence[1:]
    fields = review.as_fields(now=now) | {"signers": signers, "redFlags": shown_flags}
    session.result(fields, show_all, then=then)


proposal.add_command(pack)
proposal.add_command(sign)
proposal.add_command(execute)


def _rejection_file(values: Mapping[str, Any]) -> Path:
    """Return the default file name of a rejection, in the folder of the rejected proposal."""
    file, nonce = values["file"], values["nonce"]
    return file.with_name(f"reject-{file.name}") if file else Path(f"reject-{nonce}.json")


@proposal.command()
@click.argument("file", type=FILE, required=False)
@functools.partial(
    proposing_options,
    default_output=_rejection_file,
    output_help="Proposal file to write; reject-FILE beside FILE by default.",
    nonce_help="Nonce to reject, if FILE is not at hand.",
)
@of_option
@with_session
def reject(session: Session, /, file: Path | None, of: str, proposing: ProposalOptions) -> None:
    """Propose an empty transaction in place of the proposal FILE.

    With --nonce instead of FILE, the empty transaction replaces every proposal with this nonce.

    After the empty transaction is executed, no other transaction with its nonce can be executed.

    \b
    Example:  blockota proposal reject 1.4.0.json --reason "wrong image"
              blockota proposal reject --nonce 7 --reason "wrong image"
    """
    if (file is None) == (proposing.nonce is None):
        raise UsageError(
            "exactly one of FILE and --nonce is needed",
            why="a rejection has the nonce of the rejected proposal, from its FILE or from --nonce NUMBER",
            remedy="pass one of them",
        )
    rejected = read_proposal(file) if file else None
    if rejected:
        connection = session.connection_to(rejected.chain_id)
        contract = find_desk(connection, rejected.safe).owned
    else:
        connection, contract = session.owned(of)

    def make(reason: Reason) -> Proposal:
        return propose_rejection(contract, reason=reason, rejected=rejected)

    save_proposal(session, make, proposing, connection=connection)


@proposal.command()
@click.argument("file", type=FILE)
@signature_option
@unsigned_text_option
@with_session
def simulate(session: Session, /, file: Path, signatures: tuple[Path, ...], *, unsigned_text: bool) -> None:
    """Simulate FILE on the chain's newest state; nothing is sent.

    The call is simulated with the Safe as its sender. If enough owners have signed, the whole execution is simulated.

    \b
    Example:  blockota proposal simulate 1.4.0.json
    """
    found, now = read_proposal(file), int(time.time())
    view = with_neighbours(open_view(session, [found], path=None), file, found, now=now)
    require_pending(session, found, view, now=now)  # a later nonce can still be simulated as a call
    show_flags(session.err, Review(found, view).red_flags(signer=None, now=now) or [])
    signed = collect_signatures(file, found, named=signatures, owners=view.safe.owners, note=session.note)
    if unsigned_text:
        signed = waive_text(signed)
    result = rehearse(session.connection_to(found.chain_id).chain, found, signatures=signed)

    counted = sum(one.counts for one in signed)
    count = f"{counted} signature{'s' * (counted != 1)}, {view.safe.threshold} needed"
    if result.execution:
        whole = f"the execution succeeds, with {count}"
    elif found.nonce > view.safe.nonce:
        whole = f"the execution was not tried: the proposal has nonce {found.nonce} and {count}, "
        whole += f"and the Safe's next nonce is {view.safe.nonce}"
    else:
        whole = f"the execution was not tried: it has {count}"
    call = "the call was not tried alone: it is not a plain call"
    if result.call:
        call = "the call succeeds, made as the Safe"

    def show_all() -> None:
        for was_tried, line in ((result.call, call), (result.execution, whole)):
            if was_tried:
                session.done(line)
            else:
                print_sentence(session.out, line, mark="- ")

    fields = {"call": result.call, "execution": result.execution, "signatures": counted}
    then = after_review(file, found, signed=counted, view=view)
    session.result(fields | {"threshold": view.safe.threshold}, show_all, then=then)


@proposal.command()
@click.argument("signatures", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="Signature file to write.")
@with_session
def merge(session: Session, /, signatures: tuple[Path, ...], output: Path) -> None:
    """Merge SIGNATURES of one proposal into one file.

    \b
    Example:  blockota proposal merge alice.signature.json bob.signature.json \\
                  -o 1.4.0.signatures.json
    """
    check_new_file(output, why="it may contain signatures")
    merged = merge_signatures(one for path in signatures for one in read_signatures(path))
    write_result(output, to_json(merged))
    signers = [one.signer for one in merged]
    sentence = f"{output} contains the signatures of {', '.join(signers)}"
    fields = {"signatures": str(output), "signers": signers}
    session.result(fields, lambda: session.done(sentence), then=after_merging(output))


@proposal.command("export-view")
@click.argument("proposals", type=FILE, nargs=-1)
@click.option("-o", "--output", type=FILE, required=True, help="Chain view to write.")
@with_session
def export_view(session: Session, /, proposals: tuple[Path, ...], output: Path) -> None:
    """Write the state of the chain that off-line signers need.

    With this chain view, the owners can sign PROPOSALS without a network.

    \b
    Example:  blockota proposal export-view 1.4.0.json -o view.json
    """
    refuse_to_replace(output, VIEW_MARK)
    view = open_view(session, [read_proposal(path) for path in proposals], path=None)
    write_result(output, view.to_json())
    fields = {"view": str(output), "block": view.block_number, "blockHash": "0x" + view.block_hash.hex()}

    def show_written() -> None:
        show_part(session, [view_rows(view)])
        session.done(f"{output} is the chain as of block {view.block_number}")

    session.result(fields, show_written, then=after_viewing(output))


@proposal.command("export")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Transaction Builder file to write.")
@with_session
def export_(session: Session, /, file: Path, output: Path) -> None:
    """Write FILE as JSON for Safe's Transaction Builder.

    \b
    Example:  blockota proposal export 1.4.0.json -o transaction-builder.json
    """
    check_new_file(output, why="it may be the export of another proposal")
    write_result(output, to_builder(read_proposal(file)))
    session.result({"file": str(output)}, lambda: session.done(f"{output} is for Safe's Transaction Builder"))


@proposal.command("import")
@click.argument("file", type=FILE)
@of_option
@proposing_options
@with_session
def import_(session: Session, /, file: Path, of: str, proposing: ProposalOptions) -> None:
    """Make a proposal from a file of Safe's Transaction Builder.

    Red flags are reported when the proposal is shown or signed.

    \b
    Example:  blockota proposal import transaction-builder.json -o imported.json
    """
    found = read_builder(file)
    connection, contract = session.owned(of)
    save_proposal(
        session, lambda reason: propose_built(contract, found, reason=reason), proposing, connection=connection
    )
