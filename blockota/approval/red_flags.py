"""Finds red flags: unusual properties of a proposal that an owner must confirm before signing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.flags import RedFlag, Word
from blockota.approval.intent import SAFE
from blockota.approval.lookalikes import find_lookalike
from blockota.approval.proposal import Proposal
from blockota.approval.registry_flags import registry_flags
from blockota.approval.safe_transaction import DELEGATECALL
from blockota.approval.signature import Signature
from blockota.errors import Action, ProposalError, shortened
from blockota.ethereum import ZERO_ADDRESS
from blockota.formats.abi import SELECTOR_SIZE, encode_signature_call
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import MAX_MAJOR, Region, Version, product_name, show_chip, show_time

FAR_EXPIRY = 30 * 86400
"""Largest time until a proposal's expiry that is not flagged, in seconds."""
OLD_VIEW = 86400
"""Largest age of a chain view that is not flagged, in seconds."""
MUCH_LARGER = 1.5
"""Largest growth factor of an image that is not flagged."""
FAR_POSTPONED = 365 * 86400
"""Largest time until a release becomes active that is not flagged, in seconds."""
MOST_RELEASES = 4
"""Largest number of releases in a proposal that is not flagged. More releases do not fit on a screen, because each
takes about 12 lines."""
SLOW_CLOCK = 3600
"""Largest time that the local clock may be behind the chain view's block, in seconds."""
_STATUS_BEFORE = {
    "accept": AgreementStatus.PROPOSED,
    "acceptAll": AgreementStatus.PROPOSED,
    "decline": AgreementStatus.PROPOSED,
    "terminate": AgreementStatus.ACCEPTED,
}
"""The status that an agreement must have for each decision."""
_MULTI_SEND = encode_signature_call("multiSend(bytes)", b"")[:SELECTOR_SIZE]
"""The selector of MultiSend and MultiSendCallOnly, libraries of the Safe."""
_DECIDED = {"accept": "accepted", "acceptAll": "accepted", "decline": "declined", "terminate": "terminated"}


def red_flags(proposal: Proposal, view: ChainView, *, signer: str | None, now: int) -> list[RedFlag]:
    """Find the red flags of a proposal.

    Args:
        proposal: the proposal to be signed or executed.
        view: the state of the chain.
        signer: address of the owner who is about to sign; None to omit the check of the signer.
        now: current time, in Unix seconds.

    Raises:
        ProposalError: the proposal is for another chain or another Safe than the chain view.
    """
    check_place(proposal, view)
    found = [*_of_transaction(proposal, view), *_of_time(proposal, view, now=now)]

    if not view.is_pinned:
        only = f"your settings do not name the contract, so {view.source} cannot be checked"
        found.append(RedFlag(Word.UNCONFIGURED, f"{only}: copy the vendor's blockota.toml to this folder"))
    if signer is not None and signer not in view.safe.owners:
        owners = shortened(view.safe.owners)
        stranger = f"{signer} is not an owner of the Safe, so this signature would not count"
        found.append(RedFlag(Word.STRANGER, f"{stranger}: sign with the key of one of {owners}"))

    if obstacle := view.safe.obstacle(view.contract_owners):
        found.append(RedFlag(Word.SAFE, f"the Safe cannot be operated here: {obstacle}"))
    if view.configured_safe.lower() not in ("", view.safe.address.lower()):
        moved = f"the contract's owner is {view.safe.address}, and your settings name the Safe {view.configured_safe}"
        found.append(RedFlag(Word.MOVED, moved))

    found += [*_of_nonce(proposal, view), *_of_releases(proposal, view), *_of_call(proposal, view)]
    found += registry_flags(proposal.call, view)

    is_outdated = bool(view.source) and view.block_time < proposal.created <= now
    return _blame_age(found, proposal, view) if is_outdated else found


def signature_flags(signatures: Iterable[Signature]) -> list[RedFlag]:
    """Flag each signature that does not cover the proposal's text (reason, proposer and expiry)."""
    flags = []
    for one in signatures:
        if not one.text_signature:
            made = f"the signature of {one.signer} was made with another tool{' (eth_sign)' * one.is_eth_sign}"
            unsigned = "reason, proposer and expiry are not signed, and may have been changed later"
            flags.append(RedFlag(Word.TEXT, f"{made}: {unsigned}"))
    return flags


def address_flag(name: str, load_address: int, *, linked_for: int, accepted: str) -> RedFlag:
    """Flag a program that was linked for an address other than its load address.

    `accepted` is a clause of the message: it states whether the release's manifest accepts the difference. A bench
    installs the release only if the manifest accepts the difference.
    """
    addresses = f"0x{linked_for:08x}, and would be written at 0x{load_address:08x}"
    return RedFlag(Word.ADDRESS, f"the image of {name} seems to be linked for {addresses}; {accepted}")


def container_flag(name: str, why: str) -> RedFlag:
    """Flag a release whose container is unreadable or does not match the chip id of the product."""
    return RedFlag(Word.CONTAINER, f"no bench and no gateway would install {name}: {why}")


def check_place(proposal: Proposal, view: ChainView) -> None:
    """Refuse a proposal for another chain or Safe than the chain view. An owner cannot override this refusal.

    Raises:
        ProposalError: the proposal is for another chain or another Safe than the chain view.
    """
    if proposal.chain_id != view.chain_id:
        raise ProposalError(
            "the proposal is for another chain",
            why=f"the proposal has chain id {proposal.chain_id}, but the chain view has chain id {view.chain_id}",
            remedy="choose the network or the chain view that the proposal was made for",
            action=Action.CHOOSE_NETWORK,
        )

    if proposal.safe != view.safe.address:
        raise ProposalError(
            "the proposal is for another Safe",
            why=f"the proposal is for {proposal.safe}, but the contract's owner is {view.safe.address}",
            remedy="do not sign the proposal; ask its proposer",
        )


def _of_transaction(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    if proposal.operation == DELEGATECALL:
        yield RedFlag(
            Word.DELEGATECALL, "the transaction runs foreign code with the Safe's rights, and can take over the Safe"
        )
    if proposal.value:
        yield RedFlag(Word.VALUE, f"the transaction sends {proposal.value} wei, but BlockOTA never sends ether")
    refund = (proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price)
    if any(refund) or (proposal.gas_token, proposal.refund_receiver) != (ZERO_ADDRESS, ZERO_ADDRESS):
        yield RedFlag(
            Word.REFUND,
            "the transaction sets gas limits or a refund: "
            f"safeTxGas, baseGas and gasPrice are {', '.join(map(str, refund))}, the token is {proposal.gas_token}, "
            f"the receiver {proposal.refund_receiver}",
        )

    known = view.contracts
    if proposal.data.startswith(_MULTI_SEND):
        yield RedFlag(Word.SELECTOR, "the transaction is a MultiSend: it makes several calls, which are not decoded")
    elif not proposal.is_known:
        yield RedFlag(Word.SELECTOR, f"the call cannot be decoded: its data begin with 0x{proposal.data[:4].hex()}")
    expected = [known.get(name) for name in proposal.call.contracts] if proposal.call else list(known.values())
    if proposal.to not in expected:
        yield RedFlag(Word.TARGET, f"the called address {proposal.to} is not the Safe's contract for this call")


def _of_time(proposal: Proposal, view: ChainView, *, now: int) -> Iterator[RedFlag]:
    if now >= proposal.expires:
        yield RedFlag(Word.EXPIRED, f"the proposal was valid until {show_time(proposal.expires)}")
    elif proposal.expires - now > FAR_EXPIRY:
        days = (proposal.expires - now) // 86400
        yield RedFlag(Word.FAR, f"the proposal is valid for {days} more days, until {show_time(proposal.expires)}")

    if now - view.block_time > OLD_VIEW:
        yield RedFlag(Word.OLD, f"the chain view is old: block {view.block_number} of {show_time(view.block_time)}")
    if view.block_time - now > SLOW_CLOCK:
        yield RedFlag(
            Word.CLOCK,
            f"this machine's clock shows {show_time(now)}, which is before block {view.block_number} of "
            f"{show_time(view.block_time)}, so expired proposals are not detected",
        )


def _blame_age(flags: list[RedFlag], proposal: Proposal, view: ChainView) -> list[RedFlag]:
    """Replace all flags about missing records by one flag: the chain view is older than the proposal."""
    lacking = [flag for flag in flags if flag.is_absence]
    if not lacking:
        return flags
    times = f"block {view.block_number} of {show_time(view.block_time)} is older than the proposal of"
    what = "; ".join(flag.what for flag in lacking)
    old = f"the chain view is outdated: its {times} {show_time(proposal.created)}. In the view, {what}"
    return [RedFlag(Word.OLD, old), *(flag for flag in flags if flag not in lacking and flag.word is not Word.OLD)]


def _of_nonce(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    """Flag a used nonce, and an earlier unused nonce for which the folder does not contain a proposal."""
    nonces = f"the proposal has nonce {proposal.nonce}, and the Safe's next nonce is {view.safe.nonce}"
    if proposal.nonce < view.safe.nonce:
        yield RedFlag(Word.NONCE, f"{nonces}: this or another proposal was executed already")
    if (missing := view.safe.missing_before(proposal.nonce, view.queued)) is not None:
        waits = f"{nonces}: others must be executed first, and no proposal here has nonce {missing}"
        yield RedFlag(Word.NONCE, waits, is_absence=True)


def _of_releases(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    """Compare each release with the newest release of its product, and with earlier releases of the same proposal."""
    if len(proposal.releases) > MOST_RELEASES:
        count = len(proposal.releases)
        yield RedFlag(Word.MANY, f"the proposal publishes {count} releases, too many for one screen: read all")

    before = {release.product: (release.version.packed, release.size) for release in view.newest}
    for release in proposal.releases:
        name, version, size = product_name(release["product"]), release["version"], release["size"]
        older, smaller = before.get(name, (0, size))
        product = view.product(name)
        if product is None or not product.paired:
            unpaired = f"{name} is not paired with an OEM, so no bench would install its releases"
            yield RedFlag(Word.UNPAIRED, unpaired, is_absence=product is None)

        if release["activeFrom"] - view.block_time > FAR_POSTPONED:
            active = (
                f"{name} {Version.unpack(version) or 'no version'} becomes active on {show_time(release['activeFrom'])}"
            )
            yield RedFlag(Word.POSTPONED, f"{active}, and a lower version cannot be published after it")

        image = Region(release["loadAddress"], size)
        if product and not product.region.contains(image):
            yield RedFlag(Word.REGION, f"the image of {name} lies at {image}, outside the region {product.region}")
        yield from _of_version(name, version, older=older)
        if size > MUCH_LARGER * smaller:
            grown = f"{smaller:,} to {size:,} bytes"
            yield RedFlag(Word.GROWN, f"the image of {name} grows by more than half, from {grown}")

        before[name] = version, min(smaller, size)


def _of_version(name: str, packed: int, *, older: int) -> Iterator[RedFlag]:
    version, newest = Version.unpack(packed), Version.unpack(older)
    if packed <= older:
        yield RedFlag(Word.LOWER, f"{name} {version or 'no version'} is not newer than {newest or 'no version'}")
    if version and version.major == MAX_MAJOR:
        yield RedFlag(Word.ROOM, f"{name} {version} has the highest major version: few or no versions can follow it")
    elif version and newest and version.major > newest.major + 1:
        yield RedFlag(Word.JUMP, f"{name} jumps from {newest} to {version}, and versions in between become impossible")


def _of_call(proposal: Proposal, view: ChainView) -> Iterator[RedFlag]:
    call = proposal.call
    if call is None:
        return

    name, arguments = call.name, call.arguments
    if name in ("transferOwnership", "renounceOwnership"):
        yield RedFlag(Word.OWNERSHIP, "the contract is given away: the Safe could not use it any more")
    if name == "setMinimumVersion" and (floor := Version.unpack(arguments["version"])):
        yield from _of_floor(product_name(arguments["product"]), floor, view=view)
    if name == "unpairOem":
        product = product_name(arguments["product"])
        yield RedFlag(Word.UNPAIRING, f"after the execution, nothing can be published or installed for {product}")
    if name == "pairOem":
        yield from _of_pairing(arguments, view)

    numbers = [terms["id"] for terms in call.agreements]
    if len(set(numbers)) < len(numbers):
        yield RedFlag(Word.AGREEMENT, "the proposal accepts an agreement twice, so its execution would fail")
    for terms in call.agreements:
        yield from _of_agreement(name, terms, view=view)

    if call.contract == SAFE:
        yield from _of_owners(name, arguments, view=view)


def _of_owners(name: str, arguments: Mapping[str, Any], *, view: ChainView) -> Iterator[RedFlag]:
    if name == "addOwnerWithThreshold":
        yield RedFlag(
            Word.OWNER, f"the proposal adds the owner {arguments['owner']} to the present {len(view.safe.owners)}"
        )
    if name == "swapOwner":
        old, new = arguments["oldOwner"], arguments["newOwner"]
        yield RedFlag(Word.SWAP, f"the proposal replaces the owner {old} by {new}, who could then sign")

    wanted = arguments.get("_threshold", view.safe.threshold)  # also in the calls that add or remove an owner
    owners = len(view.safe.owners) + {"addOwnerWithThreshold": 1, "removeOwner": -1}.get(name, 0)
    if name == "removeOwner" and wanted >= view.safe.threshold:
        removed = f"the owner {arguments['owner']} is removed, and {wanted} of the remaining {owners} must sign"
        yield RedFlag(Word.REMOVAL, removed)

    if wanted == owners > 1 and "_threshold" in arguments:
        yield RedFlag(Word.ALL, f"all {owners} owners would have to sign: one lost key would prevent every decision")
    if wanted == 1 and "_threshold" in arguments:
        yield RedFlag(Word.THRESHOLD, "a single owner would decide everything")
    elif wanted < view.safe.threshold:
        fewer = f"{wanted} signatures would be enough, in place of {view.safe.threshold} today"
        yield RedFlag(Word.THRESHOLD, fewer)


def _of_floor(product: str, floor: Version, *, view: ChainView) -> Iterator[RedFlag]:
    newest = view.newest_of(product)
    if newest is None or floor > newest.version:
        yield RedFlag(Word.FLOOR, f"no published release of {product} reaches the floor {floor}")
    elif newest.active_from > view.block_time and floor > (newest.previous or floor):
        active = f"{newest.version} becomes active on {show_time(newest.active_from)}"
        yield RedFlag(Word.FLOOR, f"nothing could be installed for {product} before {active}")


def _of_pairing(arguments: Mapping[str, Any], view: ChainView) -> Iterator[RedFlag]:
    name, oem = product_name(arguments["product"]), product_name(arguments["oem"])
    names, oems = ([one.name for one in view.products], sorted({one.oem for one in view.products}))
    if name not in names and (other := find_lookalike(name, names)):
        yield RedFlag(Word.LOOKALIKE, f"the new product {name} can be taken for {other}")
    if oem not in oems and (other := find_lookalike(oem, oems)):
        yield RedFlag(Word.LOOKALIKE, f"the new OEM {oem} can be taken for {other}")

    product = view.product(name)
    if product is None:
        return
    region = Region(arguments["flashStart"], arguments["flashSize"])
    wanted = (product_name(arguments["oem"]), arguments["chipId"], region)
    if wanted != (product.oem, product.chip_id, product.region):
        yield RedFlag(
            Word.PAIRING,
            f"{product.name} was paired with {product.oem}, chip id {show_chip(product.chip_id)}, {product.region}: "
            "its next releases would be for other boards",
        )


def _of_agreement(name: str, arguments: Mapping[str, Any], *, view: ChainView) -> Iterator[RedFlag]:
    """Flag a decision that the agreement's present status does not allow.

    After the review, the broker can still withdraw the agreement.
    """
    number, wanted = arguments["id"], _STATUS_BEFORE.get(name)
    agreement = view.agreement(number)
    if agreement is None:
        missing = f"agreement {number} does not exist; the next broker's offer could get this number"
        yield RedFlag(Word.AGREEMENT, missing, is_absence=True)
    elif not is_named(agreement, arguments):
        yield RedFlag(Word.AGREEMENT, f"agreement {number} on the chain has other terms than the call")
    elif agreement.status is not wanted:
        yield RedFlag(Word.AGREEMENT, f"agreement {number} is {agreement.status}, so it cannot be {_DECIDED[name]}")

    if number in view.shallow:
        yield RedFlag(
            Word.SHALLOW, f"agreement {number} is in one of the newest blocks, which a reorganisation can replace"
        )


def is_named(agreement: Agreement, arguments: Mapping[str, Any]) -> bool:
    """Return whether the arguments of a call match the terms of the agreement on the chain."""
    terms = (agreement.broker, agreement.product, agreement.version.packed, agreement.expires_at)
    names = ("broker", "product", "version", "expiresAt")
    broker, product, version, expires_at = (arguments.get(name) for name in names)
    return terms == (broker, product_name(product) if product else None, version, expires_at)
