"""Makes proposals for the Safe that owns a contract.

Changes of owners follow ``OwnerManager.sol`` of Safe smart account 1.5. A Safe stores its owners as a linked list, so
the call that removes an owner must also name the preceding owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from blockota.approval.chain_view import SafeState
from blockota.approval.intent import SAFE
from blockota.approval.proposal import Proposal
from blockota.approval.transaction_builder import BuilderTransaction
from blockota.bindings.contract import OwnedContract, refusals_in_words
from blockota.bindings.safe import read_safe
from blockota.errors import Action, ProposalError, RefusedError
from blockota.ethereum import to_checksum_address
from blockota.formats.abi import interface

_SENTINEL = "0x" + "00" * 19 + "01"
"""Start of the linked list of owners (``SENTINEL_OWNERS``)."""


@dataclass(frozen=True)
class Reason:
    """The fields of a proposal, except the call.

    Attributes:
        text: why the transaction is proposed, one line for the other owners.
        now: current time, in Unix seconds.
        lifetime: time until the proposal expires, in seconds.
        nonce: nonce of the Safe to use; None uses the first nonce after the `queued` proposals.
        proposer: name or role that the proposer entered, one line.
        queued: the proposals that are queued already, by file name. Proposals of other Safes are ignored.
    """

    text: str
    now: int
    lifetime: int
    nonce: int | None = None
    proposer: str = ""
    queued: Mapping[str, Proposal] = field(default_factory=dict)


def propose(contract: OwnedContract, call: bytes, *, reason: Reason, target: str | None = None) -> Proposal:
    """Make a proposal that calls `target`, by default the contract. The call is simulated from the Safe's address.

    Raises:
        ContractRefusalError: the called contract would refuse the call.
    """
    safe = read_safe(contract.chain, contract.owner())
    address = to_checksum_address(target or contract.address)
    with refusals_in_words():
        contract.chain.call(address, call, sender=safe.address)
    return _proposal(contract, safe, reason=reason, to=address, data=call)


def propose_call(contract: OwnedContract, function: str, *arguments: Any, reason: Reason) -> Proposal:
    """Make a proposal: the Safe that owns a contract calls a function of the contract. The call is simulated.

    Raises:
        ContractRefusalError: the contract would refuse the call.
    """
    return propose(contract, interface(contract.NAME).encode_call(function, *arguments), reason=reason)


def propose_to_itself(contract: OwnedContract, make: Callable[[SafeState], bytes], *, reason: Reason) -> Proposal:
    """Make a proposal by which the Safe changes its own owners or threshold.

    `make` receives the Safe's current state, and returns the calldata, for example the result of `add_call`.

    Raises:
        RefusedError: `make` refuses the change, or a proposal with a lower nonce also changes the owners.
        ContractRefusalError: the Safe would refuse the call.
    """
    safe = read_safe(contract.chain, contract.owner())
    # The call names an owner and the preceding owner, so it is valid only for the present list of owners.
    for name, other in _waiting(contract, safe, reason).items():
        is_before = reason.nonce is None or other.nonce < reason.nonce
        if other.to != safe.address or other.is_rejection or not is_before:
            continue
        raise RefusedError(
            f"{name} changes the owners or the threshold first",
            why=f"it has nonce {other.nonce}, and the new proposal must be made for the owners after that change",
            remedy="execute or reject that proposal, then make the new one",
            action=Action.LIST_PROPOSALS,
        )
    call = make(safe)
    with refusals_in_words():
        contract.chain.call(safe.address, call, sender=safe.address)
    return _proposal(contract, safe, reason=reason, to=safe.address, data=call)


def propose_rejection(contract: OwnedContract, *, reason: Reason, rejected: Proposal | None = None) -> Proposal:
    """Make a proposal of an empty transaction, which rejects another proposal.

    After the execution of the empty transaction, other transactions with the same nonce cannot be executed. The empty
    transaction has the nonce of `rejected`, or the nonce in `reason` if `rejected` is None.

    Raises:
        ProposalError: the nonce is used already, or the rejected proposal is for another chain or Safe.
    """
    safe, nonce = read_safe(contract.chain, contract.owner()), reason.nonce
    if rejected:
        if (rejected.chain_id, rejected.safe) != (contract.chain.chain_id, safe.address):
            raise ProposalError(
                "the proposal is for another chain or Safe",
                why=f"it is for chain id {rejected.chain_id} and the Safe {rejected.safe}",
                remedy="choose the network that the proposal was made for",
                action=Action.CHOOSE_NETWORK,
            )
        nonce = rejected.nonce

    if nonce is not None and nonce < safe.nonce:
        raise ProposalError(
            "there is nothing to reject",
            why=f"nonce {nonce} is used already, and the Safe's next nonce is {safe.nonce}",
            remedy="check which proposal was executed",
            action=Action.LIST_PROPOSALS,
        )

    reason = replace(reason, nonce=nonce)
    return _proposal(contract, safe, reason=reason, to=safe.address, data=b"")


def propose_built(contract: OwnedContract, built: BuilderTransaction, *, reason: Reason) -> Proposal:
    """Make a proposal from a transaction of the Transaction Builder. The call is not simulated.

    Raises:
        ProposalError: the transaction is for another chain or Safe.
    """
    safe = read_safe(contract.chain, contract.owner())
    if built.chain_id != contract.chain.chain_id or built.safe not in (None, safe.address):
        raise ProposalError(
            "the file is for another chain or Safe",
            why=f"the file has chain id {built.chain_id} and {f'the Safe {built.safe}' if built.safe else 'no Safe'}; "
            f"the network has chain id {contract.chain.chain_id} and the Safe {safe.address}",
            remedy="choose the network that the file was made for",
            action=Action.CHOOSE_NETWORK,
        )
    return replace(_proposal(contract, safe, reason=reason, to=built.to, data=built.data), value=built.value)


def add_call(safe: SafeState, owner: str, *, threshold: int | None) -> bytes:
    """Return the calldata that adds an owner. A `threshold` of None keeps the current threshold.

    Raises:
        RefusedError: the address is an owner already, or the owners could not meet the threshold.
    """
    _refuse_owner(safe, owner)
    wanted = _check_threshold(safe, threshold, owners=len(safe.owners) + 1)
    return interface(SAFE).encode_call("addOwnerWithThreshold", to_checksum_address(owner), wanted)


def remove_call(safe: SafeState, owner: str, *, threshold: int | None) -> bytes:
    """Return the calldata that removes an owner. A `threshold` of None keeps the current threshold.

    Raises:
        RefusedError: the address is not an owner, or the remaining owners could not meet the threshold.
    """
    place = _place_of(safe, owner)
    wanted = _check_threshold(safe, threshold, owners=len(safe.owners) - 1)
    return interface(SAFE).encode_call("removeOwner", *place, wanted)


def replace_call(safe: SafeState, old: str, new: str) -> bytes:
    """Return the calldata that replaces an owner by another address, and keeps the threshold.

    Raises:
        RefusedError: `old` is not an owner, or `new` is an owner already.
    """
    place = _place_of(safe, old)
    _refuse_owner(safe, new)
    return interface(SAFE).encode_call("swapOwner", *place, to_checksum_address(new))


def threshold_call(safe: SafeState, threshold: int) -> bytes:
    """Return the calldata that changes the number of owners that must sign.

    Raises:
        RefusedError: the threshold equals the current threshold, or exceeds the number of owners.
    """
    if threshold == safe.threshold:
        raise RefusedError(
            f"the threshold is {threshold} already", why=_show_owners(safe), remedy="keep this threshold"
        )
    wanted = _check_threshold(safe, threshold, owners=len(safe.owners))
    return interface(SAFE).encode_call("changeThreshold", wanted)


def _proposal(contract: OwnedContract, safe: SafeState, *, reason: Reason, to: str, data: bytes) -> Proposal:
    if reason.nonce is not None and reason.nonce < safe.nonce:
        raise ProposalError(
            f"nonce {reason.nonce} is used already",
            why=f"the Safe's next nonce is {safe.nonce}",
            remedy="use the next nonce",
            action=Action.CHOOSE_NONCE,
        )
    waiting = _waiting(contract, safe, reason)
    # As in Safe's own queue, a new transaction gets the first nonce after those that wait.
    behind = max((one.nonce for one in waiting.values()), default=safe.nonce - 1) + 1
    return Proposal(
        chain_id=contract.chain.chain_id,
        safe=safe.address,
        nonce=behind if reason.nonce is None else reason.nonce,
        to=to,
        data=data,
        reason=reason.text,
        proposer=reason.proposer,
        created=reason.now,
        expires=reason.now + reason.lifetime,
    )


def _waiting(contract: OwnedContract, safe: SafeState, reason: Reason) -> dict[str, Proposal]:
    """Return the Safe's queued proposals that have an unused nonce and have not expired."""
    place = (contract.chain.chain_id, safe.address)
    own = {name: one for name, one in reason.queued.items() if (one.chain_id, one.safe) == place}
    return {name: one for name, one in own.items() if one.nonce >= safe.nonce and one.expires > reason.now}


def _refuse_owner(safe: SafeState, address: str) -> None:
    if to_checksum_address(address) in safe.owners:
        raise RefusedError(f"{address} is an owner already", why=_show_owners(safe), remedy="name another address")


def _place_of(safe: SafeState, owner: str) -> tuple[str, str]:
    """Return the predecessor of an owner in the Safe's linked list, and the owner itself."""
    if to_checksum_address(owner) not in safe.owners:
        raise RefusedError(
            f"{owner} is not an owner of the Safe",
            why=_show_owners(safe),
            remedy="name one of the owners",
            action=Action.LIST_OWNERS,
        )
    # getOwners() walks the linked list from its start, so the preceding owner in the list is the one before.
    place = safe.owners.index(to_checksum_address(owner))
    return safe.owners[place - 1] if place else _SENTINEL, safe.owners[place]


def _check_threshold(safe: SafeState, wanted: int | None, *, owners: int) -> int:
    threshold = safe.threshold if wanted is None else wanted
    if not 1 <= threshold <= owners:
        raise RefusedError(
            f"a threshold of {threshold} cannot be met",
            why=f"the Safe would have {owners} owner{'s' if owners != 1 else ''}",
            remedy=f"choose another threshold, from 1 to {owners}",
        )
    return threshold


def _show_owners(safe: SafeState) -> str:
    return f"{safe.threshold} of {', '.join(safe.owners)} must sign"
