"""Red flags: what should make an owner hesitate before signing. Pure.

Each flag has a word that the owner must type to sign in spite of it. The words, in the order of the checks:

==============  =====================================================================================
delegatecall    the transaction runs foreign code as the Safe itself
value           it sends ether
refund          it sets gas limits or a refund
selector        the call cannot be decoded
target          it calls an address that is not the vendor's contract for this call
expired         the proposal has expired
far             it expires more than `FAR_EXPIRY` from now
old             the chain view is older than `OLD_VIEW`
clock           the local clock is more than `SLOW_CLOCK` behind the chain
unconfigured    only the chain view names the contract, the signer's settings do not
stranger        the signer is not an owner of the Safe
nonce           the nonce is not the Safe's next
unpaired        a release is for a product without a pairing
postponed       a release becomes active more than `FAR_POSTPONED` after the block
lower           a release is not newer than the newest one of its product
grown           an image is more than `MUCH_LARGER` times as large as the newest one
ownership       the contract would get another owner, or none
floor           the floor would leave nothing to install
pairing         a product would be paired with other hardware than before
agreement       the agreement does not exist, is another one than the call names, or its status does not allow
                the decision
shallow         too few blocks lie above the agreement: a reorganisation can replace it
owner           the Safe would get an additional owner
swap            an owner of the Safe would be replaced
threshold       fewer signatures than today would be enough, or a single one
text            an owner's signature is of another tool, and does not cover reason, proposer and expiry
==============  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import SAFE
from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import DELEGATECALL, ZERO_ADDRESS
from blockota.approval.signature import Signature
from blockota.errors import Action, ProposalError
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Region, Version, product_name, show_time

FAR_EXPIRY = 30 * 86400
"""Seconds until the expiry beyond which it is flagged."""
OLD_VIEW = 86400
"""Age of a chain view, in seconds, beyond which it is flagged."""
MUCH_LARGER = 1.5
"""Growth factor of an image beyond which it is flagged."""
FAR_POSTPONED = 365 * 86400
"""Seconds until a release becomes active beyond which it is flagged."""
SLOW_CLOCK = 3600
"""Seconds by which the local clock may be behind the chain's."""
_STATUS_BEFORE = {
    "accept": AgreementStatus.PROPOSED,
    "decline": AgreementStatus.PROPOSED,
    "terminate": AgreementStatus.ACCEPTED,
}
"""Status that an agreement must have before each decision."""


@dataclass(frozen=True)
class RedFlag:
    """A reason to hesitate.

    Attributes:
        word: the word that the owner types to sign in spite of it.
        what: description of what is unusual, a sentence without a full stop.
    """

    word: str
    what: str


def red_flags(
    proposal: Proposal, view: ChainView, *, signer: str | None, now: int, is_pinned: bool = True
) -> list[RedFlag]:
    """Find everything that is unusual about a proposal.

    Args:
        proposal: the proposal to be signed or executed.
        view: the state of the chain.
        signer: address of the owner who is about to sign; None to omit the check of the signer.
        now: Unix time, in seconds.
        is_pinned: whether the signer's settings name the contract, so that the view need not be trusted for it.

    Raises:
        ProposalError: the view is of another chain or Safe.
    """
    check_place(proposal, view)
    found = [*_of_transaction(proposal), *_of_target(proposal, view), *_of_time(proposal, view, now=now)]
    if not is_pinned:
        found.append(RedFlag("unconfigured", f"your settings do not name your contract; only {view.source} does"))
    if signer is not None and signer not in view.safe.owners:
        owners = ", ".join(view.safe.owners)
        found.append(RedFlag("stranger", f"{signer} is not an owner of the Safe; its owners are {owners}"))
    return [*found, *_of_nonce(proposal, view), *_of_releases(proposal, view), *_of_call(proposal, view)]


def signature_flags(signatures: Iterable[Signature]) -> list[RedFlag]:
    """What is unusual about the signatures of an execution: each should cover the proposal's text."""
    return [
        RedFlag(
            "text",
            f"the signature of {one.signer} is of another tool{' (eth_sign)' * one.is_eth_sign}: reason, "
            "proposer and expiry are not signed, and may have been changed since",
        )
        for one in signatures
        if not one.text_signature
    ]


def check_place(proposal: Proposal, view: ChainView) -> None:
    """Refuse a proposal for another chain or Safe; no word overrides this.

    Raises:
        ProposalError: the view is of another chain or Safe.
    """
    if proposal.chain_id != view.chain_id:
        raise ProposalError(
            "the proposal is for another chain",
            why=f"it has chain id {proposal.chain_id}, the chain that was asked has {view.chain_id}",
            remedy="choose the network, or the chain view, that it was made for",
            action=Action.CHOOSE_NETWORK,
        )
    if proposal.safe != view.safe.address:
        raise ProposalError(
            "the proposal is for another Safe",
            why=f"it is for {proposal.safe}, the contract's owner is {view.safe.address}",
            remedy="do not sign it; ask who made it",
        )


def _of_transaction(proposal: Proposal) -> Iterator[RedFlag]:
    if proposal.operation == DELEGATECALL:
        yield RedFlag("delegatecall", "it runs foreign code as the Safe itself, which can take the Safe over")
    if proposal.value:
        yield RedFlag("value", f"it sends {proposal.value} wei, which no call of BlockOTA needs")
    refund = (proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price)
    if any(refund) or (proposal.gas_token, proposal.refund_receiver) != (ZERO_ADDRESS, ZERO_ADDRESS):
        yield RedFlag(
            "refund",
            f"it sets gas limits or a refund: safeTxGas, baseGas and gasPrice are {', '.join(map(str, refund))}, the "
            f"token is {proposal.gas_token}, the receiver {proposal.refund_receiver}",
        )


def _of_target(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    known = {"BlockOTA": view.contract, "FirmwareReplication": view.replication, SAFE: view.safe.address}
    if not proposal.is_known:
        yield RedFlag("selector", f"the call cannot be decoded: its data begin with 0x{proposal.data[:4].hex()}")
    expected = [known[proposal.call.contract]] if proposal.call else list(known.values())
    if proposal.to not in expected:
        yield RedFlag("target", f"it calls {proposal.to}, which is not the vendor's contract for such a call")


def _of_time(proposal: Proposal, view: ChainView, *, now: int) -> Iterator[RedFlag]:
    if now >= proposal.expires:
        yield RedFlag("expired", f"it was valid until {show_time(proposal.expires)}")
    elif proposal.expires - now > FAR_EXPIRY:
        days = (proposal.expires - now) // 86400
        yield RedFlag("far", f"it is valid for {days} more days, until {show_time(proposal.expires)}")
    if now - view.block_time > OLD_VIEW:
        yield RedFlag("old", f"the chain view is old: block {view.block_number} of {show_time(view.block_time)}")
    if view.block_time - now > SLOW_CLOCK:
        yield RedFlag(
            "clock",
            f"this machine's clock is at {show_time(now)}, before block {view.block_number} of "
            f"{show_time(view.block_time)}, so expired proposals are not detected",
        )


def _of_nonce(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    if proposal.nonce == view.safe.nonce:
        return
    later = proposal.nonce > view.safe.nonce
    why = "others must be executed before it" if later else "it, or another one, was executed already"
    yield RedFlag("nonce", f"it takes nonce {proposal.nonce}, the Safe is at {view.safe.nonce}: {why}")


def _of_releases(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    """Compare each release with the newest of its product, and with earlier releases of the same proposal."""
    before = {release.product: (release.version.packed, release.size) for release in view.newest}
    for release in proposal.releases:
        name, version, size = product_name(release["product"]), release["version"], release["size"]
        older, smaller = before.get(name, (0, size))
        yield from _of_product(release, name, view=view)
        if version <= older:
            yield RedFlag("lower", f"{name} {_show_version(version)} is not newer than {_show_version(older)}")
        if size > MUCH_LARGER * smaller:
            grown = f"{smaller:,} to {size:,} bytes"
            yield RedFlag("grown", f"the image of {name} grows by more than half, from {grown}")
        before[name] = version, min(smaller, size)


def _of_product(release: Mapping[str, Any], name: str, *, view: ChainView) -> Iterator[RedFlag]:
    product = view.product(name)
    if product is None or not product.paired:
        yield RedFlag("unpaired", f"{name} is not paired with an OEM: no board would accept a release of it")
    if release["activeFrom"] - view.block_time > FAR_POSTPONED:
        version, when = _show_version(release["version"]), show_time(release["activeFrom"])
        yield RedFlag("postponed", f"{name} {version} becomes active on {when}, and no older version can follow it")


def _of_call(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    call = proposal.call
    if call is None:
        return
    name, arguments = call.name, call.arguments
    if name in ("transferOwnership", "renounceOwnership"):
        yield RedFlag("ownership", "it gives the contract away: the vendor's Safe could not publish any more")
    if name == "setMinimumVersion":
        yield from _of_floor(arguments, view)
    if name == "pairOem":
        yield from _of_pairing(arguments, view)
    if call.contract == "FirmwareReplication":
        yield from _of_agreement(name, arguments, view=view)
    if name == "addOwnerWithThreshold":
        yield RedFlag("owner", f"it makes {arguments['owner']} an owner, beside the {len(view.safe.owners)} of today")
    if name == "swapOwner":
        old, new = arguments["oldOwner"], arguments["newOwner"]
        yield RedFlag("swap", f"it replaces the owner {old} by {new}, and BlockOTA has no command for this")
    if "_threshold" in arguments:
        yield from _of_threshold(arguments["_threshold"], view)


def _of_floor(arguments: Mapping[str, Any], view: ChainView) -> Iterator[RedFlag]:
    name, version = product_name(arguments["product"]), Version.unpack(arguments["version"])
    newest = view.newest_of(name)
    if version and (newest is None or version > newest.version):
        yield RedFlag("floor", f"no published release of {name} reaches the floor {version}")
    elif version and newest and newest.active_from > view.block_time and version > (newest.previous or version):
        when = show_time(newest.active_from)
        yield RedFlag("floor", f"nothing could be installed for {name} before {newest.version} becomes active, {when}")


def _of_pairing(arguments: Mapping[str, Any], view: ChainView) -> Iterator[RedFlag]:
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


def _of_agreement(name: str, arguments: Mapping[str, Any], *, view: ChainView) -> Iterator[RedFlag]:
    """Flag a decision that cannot apply today: a broker could create or change the agreement after the signature."""
    number, wanted = arguments["id"], _STATUS_BEFORE.get(name)
    agreement = view.agreement(number)
    if agreement is None:
        yield RedFlag("agreement", f"agreement {number} does not exist; the next broker's offer could get this number")
    elif not _is_named(agreement, arguments):
        yield RedFlag("agreement", f"agreement {number} on the chain is another one than the call names")
    elif agreement.status is not wanted:
        yield RedFlag("agreement", f"agreement {number} is {agreement.status}, so {name} does not apply")
    if number in view.shallow:
        yield RedFlag(
            "shallow", f"agreement {number} is in one of the newest blocks, which a reorganisation can replace"
        )


def _is_named(agreement: Agreement, arguments: Mapping[str, Any]) -> bool:
    """Whether a call has the terms of the agreement of its number."""
    terms = (agreement.broker, agreement.product, agreement.version.packed, agreement.expires_at)
    names = ("broker", "product", "version", "expiresAt")
    broker, product, version, expires_at = (arguments.get(name) for name in names)
    return terms == (broker, product_name(product) if product else None, version, expires_at)


def _of_threshold(wanted: int, view: ChainView) -> Iterator[RedFlag]:
    if wanted == 1:
        yield RedFlag("threshold", "after it, a single owner decides everything")
    elif wanted < view.safe.threshold:
        yield RedFlag("threshold", f"after it, {wanted} signatures are enough where {view.safe.threshold} are today")


def _show_version(version: int) -> str:
    return str(Version.unpack(version) or "no version")
