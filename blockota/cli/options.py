"""Decorators that add ``--source`` to a command, or the options of every command that makes a proposal."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.approval.intent import one_line
from blockota.cli.keys import OpenSigner
from blockota.cli.next_steps import after_proposing
from blockota.cli.parameters import NONCE, VALIDITY
from blockota.cli.session import Session
from blockota.errors import shortened

if TYPE_CHECKING:
    from blockota.approval.chain_view import SafeState
    from blockota.approval.proposal import Proposal
    from blockota.vendor.propose import Reason
    from blockota.vendor.queue import QueuePlace


_URGENT = frozenset({"pause", "resume", "revoke"})
"""Calls that should not wait for others: while the contract is paused, a release before a resumption cannot succeed."""


@dataclass(frozen=True)
class ProposalOptions:
    """Option values of a command that makes a proposal. A nonce of None stands for the next free one in the folder."""

    output: Path
    reason: str
    proposer: str
    expires_in: int
    nonce: int | None

    def as_reason(self) -> Reason:
        """Return the option values as a `Reason` for the proposal, with the current time and the proposals beside it.

        Raises:
            ProposalError: the reason or the proposer cannot be shown safely.
        """
        from blockota.vendor.propose import Reason
        from blockota.vendor.queue import read_queue

        return Reason(
            one_line(self.reason),
            int(time.time()),
            self.expires_in,
            nonce=self.nonce,
            proposer=one_line(self.proposer),
            queued=read_queue(self.output.parent),
        )


@dataclass(frozen=True)
class ProposalDetails:
    """Details of a proposal that a command shows: further fields of the JSON result, and rows for the terminal."""

    fields: Mapping[str, Any]
    rows: Sequence[Mapping[str, object]] = ()


def source_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--source``, whose sources are asked before the sources of the settings and the chain."""
    words = "Repository or gateway to ask first if the store lacks the image; may be repeated."
    return click.option("--source", multiple=True, metavar="URL", help=words)(command)


def save_proposal(
    session: Session,
    make: Callable[[Reason], Proposal],
    proposing: ProposalOptions,
    *,
    about: Callable[[], ProposalDetails] = lambda: ProposalDetails({}),
    sign: OpenSigner | None = None,
) -> None:
    """Make a proposal, write the proposal file, and print its name and the next step.

    `about` is called after the proposal was made. If `sign` is given, its owner signs too, and the signature is written
    beside the proposal (`blockota.vendor.unattended`).

    Raises:
        UsageError: the file exists or cannot be written.
        ProposalError: the proposal has a red flag, so that it is not signed without a person.
    """
    from blockota.bindings.safe import read_safe
    from blockota.desk import unattended_signer
    from blockota.vendor.queue import find_place, read_queue
    from blockota.vendor.unattended import write_proposal

    path, reason = proposing.output, proposing.as_reason()
    open_signer = partial(unattended_signer, session.connection, sign, reason=reason) if sign else None
    written = write_proposal(path, lambda: make(reason), open_signer=open_signer)
    proposal = written.proposal
    fields = {"proposal": str(path), "nonce": proposal.nonce, "safeTxHash": "0x" + proposal.safe_tx_hash.hex()}
    if written.signature:
        fields |= {"signature": str(written.signature), "signer": written.signer}

    details, safe = about(), read_safe(session.chain, proposal.safe)
    queue = read_queue(path.parent)  # read again: in a shared folder, another person may have proposed meanwhile
    place = find_place(proposal, queue, nonce=safe.nonce, now=reason.now)
    before = [place.before[nonce] for nonce in sorted(place.before)]
    for warning in warnings_of(proposal, place, safe=safe):
        session.note(warning)

    def show() -> None:
        session.done(f"{path} proposes transaction {proposal.nonce} of the Safe {proposal.safe}")
        if before:
            session.print(f"It can be executed after {shortened(before)}.")
        if proposal.is_rejection and place.rivals:
            session.print(f"Its execution rejects {shortened(place.rivals)}.")
        if written.signature:
            session.done(f"{written.signature} is the signature of {written.signer}")
        for rows in details.rows:
            session.fields(rows)

    then = after_proposing(path, signed=int(written.signature is not None), threshold=safe.threshold)
    session.result({**fields, **details.fields}, show, then=then)


def warnings_of(proposal: Proposal, place: QueuePlace, *, safe: SafeState) -> Iterator[str]:
    """Yield warnings of other proposals with the nonce of a new proposal or before it, and of a gap before it."""
    if place.equal:
        yield (
            f"Warning: {shortened(place.equal)} proposes the same already. After its execution, this proposal can "
            "hardly succeed. If you proposed the same twice by mistake, remove the new file."
        )
    first = place.before.get(safe.nonce)
    if first and proposal.call and proposal.call.name in _URGENT:
        yield (
            f"Warning: {first} must be executed before this proposal. If you cannot wait, make this proposal again "
            f"with --nonce {safe.nonce}: its execution then replaces {first}."
        )
    if place.rivals and not proposal.is_rejection:
        yield (
            f"Warning: nonce {proposal.nonce} is taken by {shortened(place.rivals)} too, and only one can be executed. "
            "To have all executed, make this proposal again without --nonce."
        )
    if (missing := safe.missing_before(proposal.nonce, place.before)) is not None:
        again = f" To take it, make this proposal again with --nonce {missing}."
        if proposal.is_rejection:  # a rejection is for one given nonce
            again = ""
        yield f"Warning: nonce {missing} must be executed first, and no pending proposal here takes it.{again}"


def proposing_options(
    command: Callable[..., None],
    *,
    default_output: Callable[[Mapping[str, Any]], Path | None] | None = None,
    output_help: str = "Proposal file to write.",
    nonce_help: str = "Nonce of the Safe; by default the next one after the proposals in the folder of -o.",
) -> Callable[..., None]:
    """Add ``-o``, ``--reason``, ``--proposer``, ``--expires-in`` and ``--nonce``, as the parameter `proposing`.

    Without `default_output`, ``-o`` is required. Otherwise, `default_output` is called with the command's other values
    and returns the proposal file. If it returns None, `proposing` is None.
    """
    file = click.Path(path_type=Path)

    @click.option("-o", "--output", type=file, required=default_output is None, help=output_help)
    @click.option("--reason", default="", help="Your reason, for the other owners.")
    @click.option("--proposer", default="", envvar="BLOCKOTA_PROPOSER", help="Your name or role, for the other owners.")
    @click.option("--expires-in", type=VALIDITY, default="7d", show_default=True, help="Validity of the proposal.")
    @click.option("--nonce", type=NONCE, metavar="NUMBER", help=nonce_help)
    @functools.wraps(command)
    def wrapped(
        *args: object,
        output: Path | None,
        reason: str,
        proposer: str,
        expires_in: int,
        nonce: int | None,
        **kwargs: object,
    ) -> None:
        if output is None and default_output:
            output = default_output(kwargs | {"nonce": nonce})
        proposing = ProposalOptions(output, reason, proposer, expires_in, nonce) if output else None
        command(*args, proposing=proposing, **kwargs)

    return wrapped


may_propose_options = functools.partial(proposing_options, default_output=lambda _: None)
"""`proposing_options` for a command that can also act without a proposal."""
