"""The options of every command that makes a proposal, and the file that it writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.parameters import SPAN
from blockota.cli.session import Session
from blockota.errors import UsageError

if TYPE_CHECKING:
    from blockota.approval.proposal import Proposal
    from blockota.vendor.propose import Reason

_WEEK = 7 * 86400


def proposing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-o``, ``--reason``, ``--proposer``, ``--expires-in`` and ``--nonce``."""
    return _with_options(command, output_is_required=True)


def may_propose_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the same to a command that can do its work without a proposal, where ``-o`` may be left out."""
    return _with_options(command, output_is_required=False)


def save_proposal(
    session: Session,
    make: Callable[[Reason], Proposal],
    *,
    about: Callable[[], Mapping[str, Any]] = dict,
    **options: Any,
) -> None:
    """Make a proposal and write its file, which must not be there yet.

    Args:
        session: the command's.
        make: makes the proposal from what the options say.
        about: what is told beside it, in JSON; asked once the proposal is made.
        **options: the values of `proposing_options`.
    """
    from blockota.files import write_result

    path: Path = options["output"]
    refuse_existing(path)
    proposal = make(reason_from(options))
    write_result(path, proposal.to_json())
    fields = {"proposal": str(path), "nonce": proposal.nonce, "safeTxHash": "0x" + proposal.safe_tx_hash.hex()}
    session.result({**fields, **about()}, lambda: _show(session, path, proposal=proposal))


def reason_from(options: Mapping[str, Any]) -> Reason:
    """What the values of `proposing_options` say, as of now.

    Raises:
        ProposalError: a text cannot be shown safely.
    """
    from blockota.approval.intent import one_line
    from blockota.vendor.propose import Reason

    return Reason(
        one_line(options["reason"]),
        int(time.time()),
        options["expires_in"],
        nonce=options["nonce"],
        proposer=one_line(options["proposer"]),
    )


def refuse_existing(path: Path, *, why: str = "owners may have signed it, so it is not overwritten") -> None:
    """Refuse to write over a proposal or a signature.

    Raises:
        UsageError: the file is there.
    """
    if path.exists():
        raise UsageError(
            f"{path} is there already",
            why=why,
            remedy="name another file with -o, or remove it first",
        )


def _show(session: Session, path: Path, *, proposal: Proposal) -> None:
    session.done(f"{path} proposes transaction {proposal.nonce} of the Safe {proposal.safe}")
    session.note(f"Next: each owner runs `blockota proposal sign {path} --key KEY`")


def _with_options(command: Callable[..., Any], *, output_is_required: bool) -> Callable[..., Any]:
    output = click.Path(path_type=Path)
    for option in (
        click.option(
            "--nonce", type=click.IntRange(0, (1 << 64) - 1), help="Nonce of the Safe to take; its next by default."
        ),
        click.option("--expires-in", type=SPAN, default=_WEEK, show_default="7d", help="How long it may be signed."),
        click.option("--proposer", default="", envvar="BLOCKOTA_PROPOSER", help="Who proposes, for the other owners."),
        click.option("--reason", default="", help="Why, for the other owners."),
        click.option("-o", "--output", type=output, required=output_is_required, help="Proposal file to write."),
    ):
        command = option(command)
    return command
