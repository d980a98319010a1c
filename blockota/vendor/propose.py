"""The desk where the vendor's Safe is asked: make proposals, and gather what an owner must know before signing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from blockota.approval.chain_view import ChainView, SafeState
from blockota.approval.proposal import Proposal
from blockota.approval.transaction_builder import BuilderTransaction
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.contract import refusals_in_words
from blockota.bindings.replication import ReplicationContract
from blockota.bindings.safe import read_safe
from blockota.errors import ChainError, ProposalError
from blockota.ethereum import to_checksum_address
from blockota.model.agreement import Agreement


@dataclass(frozen=True)
class Reason:
    """What goes into a proposal beside its call.

    Attributes:
        text: why, for the other owners; one line.
        now: Unix time, in seconds.
        lifetime: seconds until the proposal expires.
        nonce: the Safe's nonce to take; None means its next.
        proposer: who proposes, as they call themselves; one line.
    """

    text: str
    now: int
    lifetime: int
    nonce: int | None = None
    proposer: str = ""


def propose(contract: BlockOTAContract, call: bytes, *, reason: Reason, target: str | None = None) -> Proposal:
    """Make a proposal, after asking the contract that it calls whether it would do this today.

    Args:
        contract: the contract whose owner is the Safe.
        call: calldata.
        reason: why, when, and until when.
        target: address of the contract that is called; None means `contract` itself.

    Raises:
        ContractRefusalError: it would not.
    """
    safe = read_safe(contract.chain, contract.owner())
    address = to_checksum_address(target or contract.address)
    with refusals_in_words():
        contract.chain.call(address, call, sender=safe.address)
    return _proposal(contract, safe, reason=reason, to=address, data=call)


def propose_to_itself(contract: BlockOTAContract, make: Callable[[SafeState], bytes], *, reason: Reason) -> Proposal:
    """Make a proposal by which the Safe changes its own owners or threshold.

    Args:
        contract: the contract whose owner is the Safe.
        make: the calldata, from what the Safe is today.
        reason: why, when, and until when.

    Raises:
        ContractRefusalError: the Safe would not.
    """
    safe = read_safe(contract.chain, contract.owner())
    call = make(safe)
    with refusals_in_words():
        contract.chain.call(safe.address, call, sender=safe.address)
    return _proposal(contract, safe, reason=reason, to=safe.address, data=call)


def propose_rejection(contract: BlockOTAContract, *, reason: Reason) -> Proposal:
    """Make the empty transaction at a nonce: once it is executed, nothing else at that nonce can be."""
    safe = read_safe(contract.chain, contract.owner())
    return _proposal(contract, safe, reason=reason, to=safe.address, data=b"")


def propose_built(contract: BlockOTAContract, built: BuilderTransaction, *, reason: Reason) -> Proposal:
    """Make a proposal of a transaction that the Transaction Builder prepared; the contract is not asked yet.

    Raises:
        ProposalError: it is for another chain or Safe.
    """
    safe = read_safe(contract.chain, contract.owner())
    if built.chain_id != contract.chain.chain_id or built.safe not in (None, safe.address):
        raise ProposalError(
            "the file is for another chain or Safe",
            why=f"it names chain id {built.chain_id} and the Safe {built.safe or 'of nobody'}; here it is "
            f"{contract.chain.chain_id} and {safe.address}",
            remedy="choose the network it was made for with --network",
        )
    return replace(_proposal(contract, safe, reason=reason, to=built.to, data=built.data), value=built.value)


def read_view(
    contract: BlockOTAContract, replication: ReplicationContract | None, *, about: Iterable[int]
) -> ChainView:
    """What a signer must know of the chain, at its newest block.

    Args:
        contract: the configured contract.
        replication: the configured replication contract, if there is one.
        about: numbers of the agreements that proposals at hand are about.

    Raises:
        ChainError: the block was replaced while the chain was asked.
    """
    head = contract.chain.head()
    products = tuple(contract.products(block=head.number))
    newest = (contract.latest(product.name, block=head.number) for product in products)
    view = ChainView(
        chain_id=contract.chain.chain_id,
        block_number=head.number,
        block_hash=head.hash,
        block_time=head.time,
        contract=to_checksum_address(contract.address),
        replication=to_checksum_address(replication.address) if replication else None,
        safe=read_safe(contract.chain, contract.owner(block=head.number), block=head.number),
        products=products,
        newest=tuple(release for release in newest if release),
        agreements=_agreements(replication, about, block=head.number),
    )
    if contract.chain.head(head.number).hash != head.hash:
        raise ChainError("the chain was rewritten while it was asked", remedy="try again")
    return view


def _agreements(
    replication: ReplicationContract | None, numbers: Iterable[int], *, block: int
) -> tuple[Agreement, ...]:
    found = (replication.agreement(number, block=block) for number in numbers) if replication else ()
    return tuple(agreement for agreement in found if agreement)


def agreements_of(proposals: Iterable[Proposal]) -> list[int]:
    """Numbers of the agreements that proposals are about."""
    calls = [proposal.call for proposal in proposals if proposal.call]
    return sorted({call.arguments["id"] for call in calls if call.contract == "FirmwareReplication"})


def _proposal(contract: BlockOTAContract, safe: SafeState, *, reason: Reason, to: str, data: bytes) -> Proposal:
    return Proposal(
        chain_id=contract.chain.chain_id,
        safe=safe.address,
        nonce=_nonce(safe, reason.nonce),
        to=to,
        data=data,
        reason=reason.text,
        proposer=reason.proposer,
        created=reason.now,
        expires=reason.now + reason.lifetime,
    )


def _nonce(safe: SafeState, wanted: int | None) -> int:
    if wanted is not None and wanted < safe.nonce:
        raise ProposalError(
            f"nonce {wanted} is used already",
            why=f"the Safe is at {safe.nonce}",
            remedy="leave --nonce out for the next one",
        )
    return safe.nonce if wanted is None else wanted
