"""Decorators that add ``--source``, ``--of`` or the options of a proposal to a command."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.approval.chain_view import SafeState
from blockota.approval.intent import CONTRACTS, one_line
from blockota.approval.proposal import Proposal
from blockota.bindings.contract import OwnedContract
from blockota.bindings.safe import read_safe
from blockota.cli.keys import OpenSigner, sign_option
from blockota.cli.parameters import NONCE, VALIDITY
from blockota.cli.session import Session
from blockota.connection import Connection
from blockota.errors import shortened
from blockota.settings import GATEWAY_REGISTRIES, REGISTRIES
from blockota.vendor.propose import Reason, propose_call

if TYPE_CHECKING:
    from blockota.vendor.queue import QueuePlace
    from blockota.vendor.unattended import WrittenProposal

_URGENT = frozenset({"pause", "resume", "revoke"})
"""Calls that should not wait for others: while the contract is paused, a release before a resumption cannot succeed."""


@dataclass(frozen=True)
class ProposalOptions:
    """Option values of a command that makes a proposal.

    Attributes:
        nonce: the nonce of the Safe; None stands for the next free nonce in the folder.
        sign: opens the key of the owner who signs the new proposal; None leaves the proposal unsigned.
    """

    output: Path
    reason: str
    proposer: str
    expires_in: int
    nonce: int | None
    sign: OpenSigner | None = None

    def as_reason(self) -> Reason:
        """Return the option values as a `Reason`, with the current time and the other proposals in the output folder.

        Raises:
            ProposalError: the text of the reason or of the proposer cannot be shown safely.
        """
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


def of_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--of``, which selects a Safe by a contract that it owns (`Session.owned`)."""
    names = ("contract", *(setting for setting, name in REGISTRIES.items() if name in CONTRACTS))
    words = "Setting of a contract whose owner is meant."
    return click.option("--of", type=click.Choice(names), default="contract", show_default=True, help=words)(command)


def save_proposal(
    session: Session,
    make: Callable[[Reason], Proposal],
    proposing: ProposalOptions,
    *,
    about: Callable[[], ProposalDetails] = lambda: ProposalDetails({}),
    connection: Connection | None = None,
) -> None:
    """Make a proposal, write the proposal file, and print its name and the next step.

    `about` is called after the proposal was made. `connection` is the connection to the Safe's chain, by default to the
    producer chain. The signature of `proposing.sign` is written beside the proposal (`blockota.vendor.unattended`).

    Raises:
        UsageError: the file exists or cannot be written.
        ProposalError: the proposal has a red flag, so a person must sign it.
    """
    from blockota.cli.next_steps import after_proposing

    connection = connection or session.connection
    written, safe, place = write_proposed(connection, make, proposing, note=session.note)
    path, proposal, details = written.path, written.proposal, about()
    fields = {"proposal": str(path), "nonce": proposal.nonce, "safeTxHash": "0x" + proposal.safe_tx_hash.hex()}
    if written.signature:
        fields |= {"signature": str(written.signature), "signer": written.signer}
    before = [place.before[nonce] for nonce in sorted(place.before)]

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


def save_call(
    session: Session,
    contract: OwnedContract,
    function: str,
    *arguments: Any,
    proposing: ProposalOptions,
    details: ProposalDetails | None = None,
) -> None:
    """Propose to call a function of a registry, and write the proposal file (`save_proposal`)."""
    save_proposal(
        session,
        lambda reason: propose_call(contract, function, *arguments, reason=reason),
        proposing,
        about=lambda: details or ProposalDetails({}),
        connection=session.gateway if contract.SETTING in GATEWAY_REGISTRIES else session.connection,
    )


def write_proposed(
    connection: Connection,
    make: Callable[[Reason], Proposal],
    proposing: ProposalOptions,
    *,
    note: Callable[[str], object],
) -> tuple[WrittenProposal, SafeState, QueuePlace]:
    """Make a proposal, write the proposal file, and report by `note` what prevents its execution.

    Returns:
        ⟨written files, state of the Safe, position of the proposal in the queue of its folder⟩.

    Raises:
        UsageError: the file exists or cannot be written.
        ProposalError: the proposal has a red flag, so a person must sign it.
    """
    from blockota.desk import unattended_signer
    from blockota.vendor.queue import find_place, read_queue
    from blockota.vendor.unattended import write_proposal

    path, sign, reason = proposing.output, proposing.sign, proposing.as_reason()
    open_signer = partial(unattended_signer, connection, sign, reason=reason) if sign else None
    written = write_proposal(path, lambda: make(reason), open_signer=open_signer)
    safe = read_safe(connection.chain, written.proposal.safe)
    # The folder is read again: in a shared folder, another person may have proposed meanwhile.
    queue = read_queue(path.parent, without=path)
    place = find_place(written.proposal, queue, nonce=safe.nonce, now=reason.now)
    for warning in _warnings_of(written.proposal, place, safe=safe):
        note(warning)
    return written, safe, place


def _warnings_of(proposal: Proposal, place: QueuePlace, *, safe: SafeState) -> Iterator[str]:
    """Yield warnings about other proposals with the same or a lower nonce, and about a missing lower nonce."""
    if place.equal:
        yield (
            f"Warning: {shortened(place.equal)} proposes the same already. After its execution, this proposal can "
            "hardly succeed. If you proposed the same twice by mistake, remove the new file."
        )
    if place.newer:
        yield (
            f"Warning: {shortened(place.newer)} publishes the same version of a product first, or a newer one. After "
            "its execution, this proposal cannot be executed. Use a version above it, or reject one of the two."
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
    can_sign: bool = True,
    output_help: str = "Proposal file to write.",
    nonce_help: str = "Nonce; else the next after those beside -o.",
) -> Callable[..., None]:
    """Add ``-o``, ``--reason``, ``--proposer``, ``--expires-in``, ``--nonce`` and ``--sign``, as `proposing`.

    Without `default_output`, ``-o`` is required. Otherwise, `default_output` is called with the command's other values
    and returns the proposal file. If `default_output` returns None, `proposing` is None.
    """
    file = click.Path(path_type=Path)
    inner = _with_signer(command) if can_sign else command

    @click.option("-o", "--output", type=file, required=default_output is None, help=output_help)
    @click.option("--reason", default="", help="Your reason, for the other owners.")
    @click.option("--proposer", default="", envvar="BLOCKOTA_PROPOSER", help="Your name or role, for the other owners.")
    @click.option("--expires-in", type=VALIDITY, default="7d", show_default=True, help="Validity of the proposal.")
    @click.option("--nonce", type=NONCE, metavar="NUMBER", help=nonce_help)
    @functools.wraps(inner)
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
        inner(*args, proposing=proposing, **kwargs)

    return wrapped


def _with_signer(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--sign`` to a command that has the parameter `proposing`."""

    @sign_option
    @functools.wraps(command)
    def wrapped(*args: object, proposing: ProposalOptions | None, sign: OpenSigner | None, **kwargs: object) -> None:
        command(*args, proposing=replace(proposing, sign=sign) if proposing else None, **kwargs)

    return wrapped


may_propose_options = functools.partial(proposing_options, default_output=lambda _: None, can_sign=False)
"""`proposing_options` for a command with a key of its own, which can also act without a proposal."""
