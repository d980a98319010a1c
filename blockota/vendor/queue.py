"""The queue of the Safe's transactions: the proposals of a folder, their states, and their order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import check_place
from blockota.errors import Action, ProposalError, UsageError
from blockota.vendor.files import ProposalFolder, collect_signatures, read_folder


class ProposalState(StrEnum):
    """The state of a proposal in a folder. A list of proposals is sorted in the order of these states."""

    NEXT = "next"
    LATER = "waits for those before it"
    EXPIRED = "expired"
    EXECUTED = "executed"
    REPLACED = "replaced"
    PAST = "executed or replaced"
    FOREIGN = "for another chain or Safe"


@dataclass(frozen=True)
class ListedProposal:
    """A proposal in the list of its folder.

    Attributes:
        signers: owners with a valid signature file beside the proposal. A file does not count if it lacks the signature
            of the proposal's text message.
        threshold: number of owners that must sign.
        next_nonce: next nonce of the Safe.
        competes_with: names of proposal files that contain another transaction with the same nonce.
    """

    file: Path
    proposal: Proposal
    signers: tuple[str, ...]
    threshold: int
    next_nonce: int
    state: ProposalState
    competes_with: tuple[str, ...]

    @property
    def fields(self) -> dict[str, Any]:
        """The listed proposal as a JSON object."""
        return {
            "file": self.file.name,
            "safe": self.proposal.safe,
            "nonce": self.proposal.nonce,
            "what": self.proposal.headline,
            "signed": f"{len(self.signers)} of {self.threshold}",
            "signers": list(self.signers),
            "state": str(self.state),
            "competesWith": list(self.competes_with),
            "expires": self.proposal.expires,
            "safeTxHash": "0x" + self.proposal.safe_tx_hash.hex(),
        }


@dataclass(frozen=True)
class QueuePlace:
    """The place of a proposal in the queue of its Safe.

    Attributes:
        before: file names of the pending proposals with lower nonces, by nonce.
        rivals: file names of proposals that contain another transaction with the same nonce.
        equal: file names of the proposals in `before` that make the same call; empty for a rejection.
        newer: file names of proposals in `before`, without those in `equal`. They publish the same or a newer version
            of one of the proposal's products.
    """

    before: Mapping[int, str]
    rivals: tuple[str, ...]
    equal: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()


def list_proposals(
    folder: ProposalFolder, views: Sequence[ChainView], *, now: int, note: Callable[[str], object] = lambda _: None
) -> list[ListedProposal]:
    """Compare the proposals of a folder with each other and with the chain. `views` has one view for each Safe.

    `note` is called with a sentence for each signature file that is skipped.

    Returns:
        The proposals; the proposals that can be executed next come first.
    """
    queue = {path.name: one for path, one in folder.proposals.items()}
    listed = []

    for path, one in folder.proposals.items():
        own = (one.chain_id, one.safe)
        view = next((view for view in views if (view.chain_id, view.safe.address) == own), views[0])
        state, place = _state(one, view, now=now), find_place(one, queue, nonce=view.safe.nonce, now=now)
        signatures = collect_signatures(path, one, note=note)
        signers = tuple(found.signer for found in signatures if found.counts and found.signer in view.safe.owners)
        competes_with = () if state in {ProposalState.PAST, ProposalState.EXPIRED} else place.rivals
        safe = view.safe
        listed.append(ListedProposal(path, one, signers, safe.threshold, safe.nonce, state, competes_with))
    return _sorted(listed)


def settle_past(listed: list[ListedProposal], executed: Collection[bytes]) -> list[ListedProposal]:
    """Replace the state PAST by EXECUTED or REPLACED. `executed` has the safeTxHash of all executed transactions."""
    settled = []
    for one in listed:
        if one.state is ProposalState.PAST:
            was_executed = one.proposal.safe_tx_hash in executed
            one = replace(one, state=ProposalState.EXECUTED if was_executed else ProposalState.REPLACED)  # noqa: PLW2901
        settled.append(one)
    return _sorted(settled)


def check_pending(
    proposal: Proposal, view: ChainView, *, now: int, read_executed: Callable[[], Collection[bytes]] | None = None
) -> None:
    """Refuse a proposal that cannot be executed any more, before the signer or the payer does any work.

    Args:
        proposal: the proposal.
        view: the state of the chain.
        now: the current time, in Unix seconds.
        read_executed: reads the safeTxHash of each executed transaction from the chain; called only if the proposal's
            nonce is used. None if no node is available.

    Raises:
        ProposalError: the proposal is for another chain or Safe, was executed, was replaced by another transaction, or
            has expired.
    """
    check_place(proposal, view)
    state = _state(proposal, view, now=now)
    if state is ProposalState.PAST:
        if read_executed is None:
            raise ProposalError(
                "the proposal was executed or replaced already",
                why=f"the proposal has nonce {proposal.nonce}, and the Safe's next nonce is {view.safe.nonce}",
                remedy="check which proposal was executed",
                action=Action.LIST_PROPOSALS,
            )

        if proposal.safe_tx_hash in read_executed():
            raise ProposalError(
                "the proposal was executed already",
                why=f"the Safe executed this transaction at nonce {proposal.nonce}",
                remedy="there is nothing left to sign or to execute",
            )
        raise ProposalError(
            "the proposal was replaced",
            why=f"the Safe executed another transaction at nonce {proposal.nonce}",
            remedy="make the proposal again if it is still wanted",
        )

    proposal.check_time(now)


def check_next(proposal: Proposal, view: ChainView) -> None:
    """Refuse to execute a proposal before the transactions with lower nonces.

    Raises:
        ProposalError: the nonce of the proposal is higher than the Safe's next nonce.
    """
    if first := view.first_before(proposal.nonce):
        raise ProposalError(
            "other proposals come first",
            why=f"the proposal has nonce {proposal.nonce}, and the Safe's next nonce is {view.safe.nonce}",
            remedy=f"execute {first} first",
            action=Action.LIST_PROPOSALS,
        )


def read_queue(folder: Path, *, without: Path | None = None) -> dict[str, Proposal]:
    """Return the readable proposals of a folder by file name; none if the folder does not exist.

    The file `without` is skipped, because its proposal was decoded already.
    """
    try:
        found = read_folder(folder, without=without).proposals
    except UsageError:
        return {}
    return {path.name: proposal for path, proposal in found.items()}


def find_place(proposal: Proposal, queue: Mapping[str, Proposal], *, nonce: int, now: int) -> QueuePlace:
    """Find the place of a proposal among the unexpired proposals of a queue. `nonce` is the Safe's next nonce.

    A Safe executes one transaction at each nonce, so proposals with the same chain, Safe and nonce compete.
    """
    before: dict[int, str] = {}
    rivals, equal, newer = [], [], []
    for name, other in queue.items():
        # The Safe does not know when a proposal expires, so a rejection competes with expired proposals too.
        is_pending = other.expires > now or (proposal.is_rejection and other.nonce == proposal.nonce)
        if not is_pending or (proposal.chain_id, proposal.safe) != (other.chain_id, other.safe):
            continue
        if nonce <= other.nonce < proposal.nonce:
            others = before.get(other.nonce)
            before[other.nonce] = f"{others} or {name}" if others else name
            if (other.to, other.data) == (proposal.to, proposal.data) and not proposal.is_rejection:
                equal.append(name)
            elif _hides(other, proposal):
                newer.append(name)
        elif other.nonce == proposal.nonce and other.safe_tx_hash != proposal.safe_tx_hash:
            rivals.append(name)
    return QueuePlace(before, tuple(rivals), tuple(equal), tuple(newer))


def with_queue(view: ChainView, proposal: Proposal, queue: Mapping[str, Proposal], *, now: int) -> ChainView:
    """Return a copy of a chain view, with the place of a proposal in a queue."""
    place = find_place(proposal, queue, nonce=view.safe.nonce, now=now)
    return replace(view, queued=place.before, rivals=place.rivals)


def _hides(first: Proposal, proposal: Proposal) -> bool:
    """Whether `first` publishes the same or a newer version, so that the contract would then refuse `proposal`."""
    if first.to != proposal.to:
        return False
    published = {one["product"]: one["version"] for one in _releases(first)}  # in rising order within a call
    return any(published.get(one["product"], 0) >= one["version"] for one in _releases(proposal))


def _releases(proposal: Proposal) -> list[dict[str, Any]]:
    return proposal.call.items if proposal.call and proposal.call.name == "publish" else []


def _state(proposal: Proposal, view: ChainView, *, now: int) -> ProposalState:
    if (proposal.chain_id, proposal.safe) != (view.chain_id, view.safe.address):
        return ProposalState.FOREIGN
    if proposal.nonce < view.safe.nonce:
        return ProposalState.PAST
    if now >= proposal.expires:
        return ProposalState.EXPIRED
    return ProposalState.NEXT if proposal.nonce == view.safe.nonce else ProposalState.LATER


def _sorted(listed: list[ListedProposal]) -> list[ListedProposal]:
    order = list(ProposalState)
    return sorted(listed, key=lambda one: (order.index(one.state), one.proposal.nonce, one.file.name))
