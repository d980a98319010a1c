"""What should make an owner hesitate before signing, each with a word that must be typed to go on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import SAFE, read_call
from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import DELEGATECALL, NOBODY
from blockota.errors import ProposalError
from blockota.model.agreement import AgreementStatus
from blockota.model.release import Region, Version, product_name, show_time

FAR_EXPIRY = 30 * 86400
"""Seconds beyond which an expiry is called far."""
OLD_VIEW = 86400
"""Seconds after which what the chain said is called old."""
MUCH_LARGER = 1.5
"""How many times the newest image's size is called grown."""
FAR_POSTPONED = 365 * 86400
"""Seconds after which a release would begin that is called postponed for long."""
SLOW_CLOCK = 3600
"""Seconds by which a clock that is behind the chain's is called slow."""
_DECIDED = {
    "accept": AgreementStatus.PROPOSED,
    "decline": AgreementStatus.PROPOSED,
    "terminate": AgreementStatus.ACCEPTED,
}


@dataclass(frozen=True)
class RedFlag:
    """One reason to hesitate.

    Attributes:
        word: what a person types to go on in spite of it.
        what: what is unusual, a sentence without its full stop.
    """

    word: str
    what: str


def red_flags(
    proposal: Proposal, view: ChainView, *, signer: str | None, now: int, is_pinned: bool = True
) -> list[RedFlag]:
    """Everything unusual about a proposal, as the chain is.

    Args:
        proposal: what is to be signed.
        view: what the chain says; of the proposal's chain and Safe.
        signer: address of the one who is to sign; None where nobody is.
        now: Unix time, in seconds.
        is_pinned: whether the signer's own settings name the contract, so that the view is not believed in that.

    Raises:
        ProposalError: the view is of another chain or Safe.
    """
    _check_place(proposal, view)
    found = [*_of_transaction(proposal), *_of_target(proposal, view), *_of_time(proposal, view, now=now)]
    if not is_pinned:
        found.append(RedFlag("unconfigured", f"no settings here name your contract; {view.source} alone does"))
    if signer is not None and signer not in view.safe.owners:
        found.append(RedFlag("stranger", f"{signer} is no owner of the Safe, whose owners are {_join(view)}"))
    return [*found, *_of_nonce(proposal, view), *_of_call(proposal, view)]


def _check_place(proposal: Proposal, view: ChainView) -> None:
    if proposal.chain_id != view.chain_id:
        raise ProposalError(
            "the proposal is for another chain",
            why=f"it names chain id {proposal.chain_id}, the chain that was asked is {view.chain_id}",
            remedy="choose the network, or the chain view, that it was made for",
        )
    if proposal.safe != view.safe.address:
        raise ProposalError(
            "the proposal is for another Safe",
            why=f"it names {proposal.safe}, the contract's owner is {view.safe.address}",
            remedy="do not sign it; ask who made it",
        )


def _of_transaction(proposal: Proposal) -> Iterator[RedFlag]:
    if proposal.operation == DELEGATECALL:
        yield RedFlag("delegatecall", "it runs foreign code as the Safe itself, which can take the Safe over")
    if proposal.value:
        yield RedFlag("value", f"it sends {proposal.value} wei, which no call of BlockOTA needs")
    refund = (proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price)
    if any(refund) or (proposal.gas_token, proposal.refund_receiver) != (NOBODY, NOBODY):
        yield RedFlag(
            "refund",
            f"it sets gas limits or a refund: safeTxGas, baseGas and gasPrice are {', '.join(map(str, refund))}, the "
            f"token is {proposal.gas_token}, the receiver {proposal.refund_receiver}",
        )


def _of_target(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    known = {"BlockOTA": view.contract, "FirmwareReplication": view.replication, SAFE: view.safe.address}
    read = read_call(proposal)
    if read is None and not proposal.is_rejection:
        yield RedFlag(
            "selector", f"nobody here can tell what the call does: its data begin 0x{proposal.data[:4].hex()}"
        )
    expected = known.values() if read is None else [known[read[0]]]
    if proposal.to not in expected:
        yield RedFlag("target", f"it calls {proposal.to}, which is none of the vendor's contracts for such a call")


def _of_time(proposal: Proposal, view: ChainView, *, now: int) -> Iterator[RedFlag]:
    if now >= proposal.expires:
        yield RedFlag("expired", f"it was good until {show_time(proposal.expires)}")
    elif proposal.expires - now > FAR_EXPIRY:
        days = (proposal.expires - now) // 86400
        yield RedFlag("far", f"it is good for {days} more days, until {show_time(proposal.expires)}")
    if now - view.block_time > OLD_VIEW:
        yield RedFlag(
            "old", f"what is known of the chain is of {show_time(view.block_time)}, block {view.block_number}"
        )
    if view.block_time - now > SLOW_CLOCK:
        yield RedFlag(
            "clock",
            f"this machine's clock says {show_time(now)}, before block {view.block_number} of "
            f"{show_time(view.block_time)}: it cannot tell what has expired",
        )


def _of_nonce(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    if proposal.nonce == view.safe.nonce:
        return
    later = proposal.nonce > view.safe.nonce
    why = "others must be executed before it" if later else "it, or another one, was executed already"
    yield RedFlag("nonce", f"it takes nonce {proposal.nonce}, the Safe is at {view.safe.nonce}: {why}")


def _of_call(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    yield from _of_releases(proposal, view)
    read = read_call(proposal)
    name, arguments = (read[1].name, read[1].arguments) if read else ("", {})
    if name in ("transferOwnership", "renounceOwnership"):
        yield RedFlag("ownership", "it gives the contract away: another owner can publish anything, and nobody nothing")
    if name == "setMinimumVersion":
        yield from _of_floor(arguments, view)
    if name == "pairOem":
        yield from _of_pairing(arguments, view)
    if read and read[0] == "FirmwareReplication":
        yield from _of_agreement(name, arguments["id"], view=view)
    if name == "addOwnerWithThreshold":
        yield RedFlag("owner", f"it gives {arguments['owner']} a vote, who has none among the {len(view.safe.owners)}")
    if name == "swapOwner":
        old, new = arguments["oldOwner"], arguments["newOwner"]
        yield RedFlag("swap", f"it gives the vote of {old} to {new}, and no command here proposes that")
    if "_threshold" in arguments:
        yield from _of_threshold(arguments["_threshold"], view)


def _of_agreement(name: str, number: int, *, view: ChainView) -> Iterator[RedFlag]:
    """What is decided about an agreement that is not as it should be could be filled in by somebody later."""
    agreement, wanted = view.agreement(number), _DECIDED.get(name)
    if agreement is None:
        yield RedFlag("agreement", f"there is no agreement {number}; whoever proposes next could become it")
    elif agreement.status is not wanted:
        yield RedFlag("agreement", f"agreement {number} is {agreement.status}, which cannot be followed by {name}")


def _of_releases(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    """Each release against the newest of its product, and those of one proposal against each other."""
    before = {release.product: (release.version.packed, release.size) for release in view.newest}
    for release in proposal.releases:
        name, version, size = product_name(release["product"]), release["version"], release["size"]
        older, smaller = before.get(name, (0, size))
        yield from _of_product(release, name, view=view)
        if version <= older:
            yield RedFlag("lower", f"{name} {_shown(version)} is not newer than {_shown(older)}")
        if size > MUCH_LARGER * smaller:
            grown = f"{smaller:,} to {size:,} bytes"
            yield RedFlag("grown", f"the image of {name} grows by more than half, from {grown}")
        before[name] = version, min(smaller, size)


def _of_product(release: dict[str, Any], name: str, *, view: ChainView) -> Iterator[RedFlag]:
    product = view.product(name)
    if product is None or not product.paired:
        yield RedFlag("unpaired", f"{name} is paired with no OEM: no board would take a release of it")
    if release["activeFrom"] - view.block_time > FAR_POSTPONED:
        when = show_time(release["activeFrom"])
        yield RedFlag(
            "postponed", f"{name} {_shown(release['version'])} begins {when}, and nothing older can follow it"
        )


def _shown(version: int) -> str:
    return str(Version.unpack(version) or "no version")


def _of_pairing(arguments: dict[str, Any], view: ChainView) -> Iterator[RedFlag]:
    product = view.product(product_name(arguments["product"]))
    if product is None:
        return
    region = Region(arguments["flashStart"], arguments["flashSize"])
    wanted = (product_name(arguments["oem"]), arguments["chipId"], region)
    if wanted != (product.oem, product.chip_id, product.region):
        yield RedFlag(
            "pairing",
            f"{product.name} was paired with {product.oem}, chip id 0x{product.chip_id:03x}, {product.region}: its "
            "next releases would be for other boards",
        )


def _of_threshold(wanted: int, view: ChainView) -> Iterator[RedFlag]:
    if wanted == 1:
        yield RedFlag("threshold", "after it, a single owner decides everything")
    elif wanted < view.safe.threshold:
        yield RedFlag("threshold", f"after it, {wanted} owners decide what takes {view.safe.threshold} today")


def _of_floor(arguments: dict[str, Any], view: ChainView) -> Iterator[RedFlag]:
    name, version = product_name(arguments["product"]), Version.unpack(arguments["version"])
    newest = view.newest_of(name)
    if version and (newest is None or version > newest.version):
        yield RedFlag("floor", f"nothing that is published for {name} could be installed below the floor {version}")
    elif version and newest and newest.active_from > view.block_time and version > (newest.previous or version):
        when = show_time(newest.active_from)
        yield RedFlag("floor", f"nothing could be installed for {name} before {newest.version} begins, {when}")


def _join(view: ChainView) -> str:
    return ", ".join(view.safe.owners)
