"""``blockota proposal``: what the vendor's Safe is asked, owner by owner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli import proposal_files as files
from blockota.cli.proposal_files import FILE, signature_option, view_option
from blockota.cli.proposal_shown import as_fields, show_flags, show_identity, show_meaning, show_view
from blockota.cli.proposing import proposing_options, refuse_existing, save_proposal
from blockota.cli.session import Session, with_session
from blockota.cli.signing import execute, sign
from blockota.errors import UsageError
from blockota.release import show_time

if TYPE_CHECKING:
    from blockota.chain_view import ChainView
    from blockota.proposal import Proposal


@click.group()
def proposal() -> None:
    """Proposals: one transaction of the vendor's Safe each, as a file that its owners sign."""


proposal.add_command(sign)
proposal.add_command(execute)


@proposal.command("list")
@click.argument("folder", type=FILE, default=".")
@view_option
@with_session
def list_(session: Session, /, folder: Path, view: Path | None) -> None:
    """List the proposals in FOLDER (this one by default): who signed, what is next, and what competes.

    \b
    Example:  blockota proposal list proposals/
    """
    found = list(files.proposals_in(session, folder))
    known = files.open_view(session, [], path=view) if found else None
    rows = [_listed(session, path, others=found, view=known) for path, _ in found] if known else []
    columns = ("FILE", "NONCE", "WHAT", "SIGNED", "EXPIRES", "STATE")
    shown = [(r["file"], r["nonce"], r["what"], r["signed"], show_time(r["expires"]), r["state"]) for r in rows]
    session.result({"proposals": rows}, lambda: session.table(columns, shown))


@proposal.command()
@click.argument("file", type=FILE)
@signature_option
@view_option
@with_session
def show(session: Session, /, file: Path, signatures: tuple[Path, ...], view: Path | None) -> None:
    """Show what FILE asks for, decoded from its calldata, who signed it, and, by a chain view, its red flags.

    \b
    Example:  blockota proposal show 1.4.0.json
    """
    from blockota.red_flags import red_flags

    found = files.read_proposal(file)
    known = files.open_view(session, [found], path=view) if view else None
    flags = red_flags(found, known, signer=None, now=int(time.time())) if known else None
    collected = files.collect_signatures(session, file, named=signatures)
    signed = {one.signer: files.standing(found, one, view=known) for one in collected}

    def show_all() -> None:
        show_meaning(session, found, view=known)
        show_identity(session, found, view=known)
        for signer, worth in signed.items():
            session.fields({f"signature of {signer}": worth})
        show_flags(session, flags or [])

    session.result(as_fields(found, flags=flags, signers=signed), show_all)


@proposal.command()
@proposing_options
@with_session
def reject(session: Session, /, **proposing: Any) -> None:
    """Propose the empty transaction at a nonce (--nonce): once executed, nothing else at it can be.

    \b
    Example:  blockota proposal reject --nonce 7 --reason "wrong image" -o reject-7.json
    """
    from blockota.approval import propose_rejection

    if proposing["nonce"] is None:
        raise UsageError(
            "it is not said what to reject", why="a rejection takes the nonce of what it rejects", remedy="say --nonce"
        )
    save_proposal(session, lambda reason: propose_rejection(session.contract, reason=reason), **proposing)


@proposal.command()
@click.argument("file", type=FILE)
@signature_option
@with_session
def simulate(session: Session, /, file: Path, signatures: tuple[Path, ...]) -> None:
    """Try on the chain what FILE would do today, without sending anything; with enough signatures, all of it.

    \b
    Example:  blockota proposal simulate 1.4.0.json
    """
    from blockota.multisig import rehearse

    found = files.read_proposal(file)
    signed = files.collect_signatures(session, file, named=signatures)
    result = rehearse(session.chain, found, signatures=signed)
    call = "the call succeeds, made as the Safe" if result.call else "there is no plain call that could be tried"
    whole = (
        "the execution succeeds with these signatures"
        if result.execution
        else f"the execution was not tried: {len(signed)} signatures, or other proposals come first"
    )
    session.result({"call": result.call, "execution": result.execution}, lambda: session.done(f"{call}; {whole}"))


@proposal.command()
@click.argument("signatures", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="Signature file to write.")
@with_session
def merge(session: Session, /, signatures: tuple[Path, ...], output: Path) -> None:
    """Merge SIGNATURES of one proposal into one file.

    \b
    Example:  blockota proposal merge alice.signature.json bob.signature.json -o 1.4.0.signatures.json
    """
    from blockota.files import write_result
    from blockota.signature import merge as merge_signatures
    from blockota.signature import to_json

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
    """Write what a signer must know of the chain, for signing PROPOSALS without a network.

    \b
    Example:  blockota proposal export-view 1.4.0.json -o view.json
    """
    from blockota.files import write_result

    view = files.open_view(session, [files.read_proposal(path) for path in proposals], path=None)
    write_result(output, view.to_json())
    fields = {"view": str(output), "block": view.block_number, "blockHash": "0x" + view.block_hash.hex()}

    def show_written() -> None:
        session.done(f"{output} is the chain as of block {view.block_number}")
        show_view(session, view)

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
    from blockota.files import write_result
    from blockota.transaction_builder import to_builder

    refuse_existing(output, why="it may be another one's")
    write_result(output, to_builder(files.read_proposal(file)))
    session.result({"file": str(output)}, lambda: session.done(f"{output} is for Safe's Transaction Builder"))


@proposal.command("import")
@click.argument("file", type=FILE)
@proposing_options
@with_session
def import_(session: Session, /, file: Path, **proposing: Any) -> None:
    """Make a proposal of FILE, which Safe's Transaction Builder wrote; what is unusual is told when it is signed.

    \b
    Example:  blockota proposal import transaction-builder.json -o imported.json
    """
    from blockota.approval import propose_built
    from blockota.files import read_input
    from blockota.strict_json import MAX_FILE_SIZE
    from blockota.transaction_builder import from_builder

    found = from_builder(read_input(file, limit=MAX_FILE_SIZE))

    save_proposal(session, lambda reason: propose_built(session.contract, found, reason=reason), **proposing)


def _listed(
    session: Session, path: Path, *, others: Sequence[tuple[Path, Proposal]], view: ChainView
) -> dict[str, Any]:
    """One row: a proposal among the others of its folder."""
    from blockota.intent import describe

    found = next(other for place, other in others if place == path)
    collected = files.collect_signatures(session, path, named=())
    good = [s for s in collected if files.standing(found, s, view=view).endswith("an owner's")]
    rivals = [
        place.name
        for place, other in others
        if (other.chain_id, other.safe, other.nonce) == (found.chain_id, found.safe, found.nonce)
        and other.safe_tx_hash != found.safe_tx_hash
    ]
    state = _state(found, view) + (f", competes with {', '.join(rivals)}" if rivals else "")
    actions = [group["action"] for group in describe(found)]
    return {
        "file": path.name,
        "nonce": found.nonce,
        "what": actions[0] if len(actions) == 1 else f"{actions[0]} (and {len(actions) - 1} more)",
        "signed": f"{len(good)} of {view.safe.threshold}",
        "expires": found.expires,
        "state": state,
        "safeTxHash": "0x" + found.safe_tx_hash.hex(),
    }


def _state(found: Proposal, view: ChainView) -> str:
    if (found.chain_id, found.safe) != (view.chain_id, view.safe.address):
        return "for another chain or Safe"
    if found.nonce < view.safe.nonce:
        return "executed or replaced"
    if time.time() >= found.expires:
        return "expired"
    return "next" if found.nonce == view.safe.nonce else "waits for those before it"
