"""The signing screen: what an owner reads before signing, in rows of labels and values.

The parts of the screen have this order:

1. What is proposed: the decoded calldata, the reason, the expiry and the nonce.
2. What changes: images and products compared with the chain, agreements, and the owners of the Safe.
3. What is unusual: the red flags (`blockota.vendor.review.Review.red_flags`).
4. Below a horizontal line, the evidence: addresses, and the hashes to compare with the screen of a wallet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import SAFE, KnownCall
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import is_named
from blockota.approval.registry_flags import registry_changes
from blockota.errors import shortened
from blockota.model.agreement import Agreement
from blockota.model.difference import PAGE_SIZE
from blockota.model.manifest import Description
from blockota.model.release import Region, show_chip, show_time
from blockota.vendor.images import CheckedImage, UncheckedImage
from blockota.vendor.review import Review, hash_fields

Rows = dict[str, object]
"""A group of labels and values to print. A tuple is printed as one line for each item."""
_MOST_LINES = 20
"""Maximum number of lines of release notes that are shown."""
_LABELS = {"sha256": "SHA-256", "cid": "CID", "uuid": "UUID", "virtualIp": "virtual IP"}
_HASHES = ("SHA-256", "CID", "manifest", "prev owner")
"""Labels of an action that are shown with the evidence (part 4)."""
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


@dataclass(frozen=True)
class Screen:
    """The parts of the signing screen, without the red flags. Each part is a list of groups of rows."""

    asked: list[Rows]
    changes: list[Rows]
    evidence: list[Rows]


def screen_of(review: Review, *, now: int) -> Screen:
    """Return the signing screen of a reviewed proposal. `now` is the current time, in Unix seconds."""
    proposal, view = review.proposal, review.view
    asked, changes, evidence = list[Rows](), list[Rows](), list[Rows]()
    count = len(proposal.intent)
    # A long list could scroll off the screen, so its length comes first.
    if count > 1:
        asked.append({"asks for": f"{count} actions, each shown below"})
    for number, intent in enumerate(proposal.intent):
        rows, change = _labelled(intent), _today(view, intent.get("product"))
        name = {"for": f"{rows.get('product', '')} {rows.get('version', '')}"} if count > 1 else {}
        if hashes := {label: rows.pop(label) for label in _HASHES if label in rows}:
            evidence.append(name | hashes)
        if proposal.releases:
            release, image = proposal.releases[number], review.images[number]
            place = {"addresses": Region(release["loadAddress"], release["size"])}
            described = _description_rows(image.description) | _loader_rows(image)
            change = name | place | _image_rows(image) | described | change
            rows = {label: value for label, value in rows.items() if label not in {"size", "load address"}}
        asked.append(rows)
        if change:
            changes.append(change)
    if not proposal.is_known:
        asked[0]["data"] = "0x" + proposal.data.hex()
    changes += _agreement_changes(proposal.call, view)
    if view and (today := registry_changes(proposal.call, view)):
        changes.append({"today": today})
    if view and proposal.call and proposal.call.contract == SAFE:
        changes.append(_owner_changes(proposal.call, view))

    asked.append(_terms(proposal, view, now=now))
    evidence += [_place(proposal, view), hash_rows(proposal)]
    return Screen(asked, changes, evidence)


def hash_rows(proposal: Proposal) -> Rows:
    """Return the hashes with the names that wallets use.

    A wallet shows the hashes of the text message in the second signature request.
    """
    labels = ("domain hash", "message hash", "safeTxHash", "text domain", "text message")
    return dict(zip(labels, hash_fields(proposal).values(), strict=True))


def view_rows(view: ChainView) -> Rows:
    """Return the owners of the Safe and the block of a chain view, as rows to print."""
    origin = f"from {view.source}, not checked: " if view.source else ""
    return {
        "owners": view.safe.quorum,
        "chain view": f"{origin}block {view.block_number:,} of {show_time(view.block_time)}",
        "block hash": "0x" + view.block_hash.hex(),
    }


def agreement_rows(agreement: Agreement) -> Rows:
    """Return the state and the terms of an agreement, as rows to print."""
    return {
        "agreement": f"{agreement.number}, {agreement.status}",
        "broker": agreement.broker,
        "serves": f"{agreement.product} {agreement.version}",
        "until": show_time(agreement.expires_at),
    }


def _labelled(intent: dict[str, str]) -> Rows:
    """Return an action with labels made from its parameters: ``activeFrom`` becomes ``active from``."""
    words = {name: re.sub("[A-Z]", lambda letter: f" {letter[0].lower()}", name) for name in intent}
    return {_LABELS.get(name, words[name]): value for name, value in intent.items()}


def _terms(proposal: Proposal, view: ChainView | None, *, now: int) -> Rows:
    """Return reason, proposer, expiry and nonce.

    If the proposal sets Safe transaction fields that BlockOTA itself never sets, the result includes these fields.
    """
    rows: Rows = {}
    if proposal.operation:
        rows["operation"] = "DELEGATECALL"
    if proposal.value:
        rows["sends"] = f"{proposal.value} wei"
    gas = proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price
    if any(gas):
        rows["gas limits"] = "{}, base {}, price {}".format(*gas)

    rows["reason"] = repr(proposal.reason) if proposal.reason else "none given"
    rows["proposer"] = f"{proposal.proposer!r}, not authenticated" if proposal.proposer else "not named"

    # The time left is rounded down, in the largest unit of which more than two are left.
    left = proposal.expires - now
    size, unit = next(((size, unit) for size, unit in _UNITS if left > 2 * size), _UNITS[-1])
    rows["expires"] = show_time(proposal.expires) + (f", in {left // size} {unit}" if left > 0 else " (EXPIRED)")
    rows["nonce"] = f"{proposal.nonce}{_place_in_queue(proposal, view)}"
    return rows


def _place_in_queue(proposal: Proposal, view: ChainView | None) -> str:
    if view is None:
        return ""
    place = f"the Safe's next nonce is {view.safe.nonce}"
    if proposal.nonce < view.safe.nonce:
        return f", used; {place}"
    if proposal.nonce == view.safe.nonce:
        place = "the Safe's next"
    elif before := view.queued.get(proposal.nonce - 1):
        place = f"after {before}; {place}"
    return f", {place}; competes with {shortened(view.rivals)}" if view.rivals else f", {place}"


def _place(proposal: Proposal, view: ChainView | None) -> Rows:
    contract = proposal.call.contract if proposal.call else ""
    if view:
        contract = view.name_of(proposal.to)
    rows: Rows = {"calls": f"{contract} {proposal.to}".lstrip(), "Safe": proposal.safe, "chain id": proposal.chain_id}
    return rows | view_rows(view) if view else rows


def _today(view: ChainView | None, name: str | None) -> Rows:
    """Return the state of a product on the chain."""
    if view is None or name is None:
        return {}
    product, newest = view.product(name), view.newest_of(name)
    if product is None:
        return {"today": "the product does not exist"}
    pairing = f"OEM {product.oem}, chip id {show_chip(product.chip_id)}" if product.paired else "NOT PAIRED"
    releases = f"newest {newest.version}" if newest else "no release"
    floor = f"floor {product.minimum_version}" if product.minimum_version else "no floor"
    return {"today": (f"{pairing}, {releases}, {floor}", f"region {product.region}")}


def _agreement_changes(call: KnownCall | None, view: ChainView | None) -> list[Rows]:
    """Return the state of each agreement on the chain.

    If the recorded terms of an agreement differ from the terms in the call, the recorded terms are returned too.
    """
    groups: list[Rows] = []
    for terms in call.agreements if call else []:
        number = terms["id"]
        found = view.agreement(number) if view else None

        if found is None:
            state = "does not exist" if view else "state unknown"
            groups.append({"agreement": f"{number}, {state}"})
        elif is_named(found, terms):
            groups.append({"agreement": f"{number}, {found.status}, with these terms"})
        else:
            groups.append(agreement_rows(found))
    return groups


def _owner_changes(call: KnownCall, view: ChainView) -> Rows:
    """Return the Safe's owners before and after the execution."""
    owners, arguments = list(view.safe.owners), call.arguments
    if call.name == "addOwnerWithThreshold":
        owners.append(arguments["owner"])
    elif call.name == "removeOwner":
        owners = [owner for owner in owners if owner != arguments["owner"]]
    elif call.name == "swapOwner":
        owners = [arguments["newOwner"] if owner == arguments["oldOwner"] else owner for owner in owners]
    threshold = arguments.get("_threshold", view.safe.threshold)
    afterwards = replace(view.safe, owners=tuple(owners), threshold=threshold)
    return {"today": view.safe.quorum, "afterwards": afterwards.quorum}


def _image_rows(image: CheckedImage | UncheckedImage) -> Rows:
    """Return the source of an image and its difference from the newest release, as rows to print."""
    if isinstance(image, UncheckedImage):
        return {"image": f"NOT CHECKED: {image.trouble}"}
    rows: Rows = {"image": f"hashed here from {image.source}: its {image.size:,} bytes have the SHA-256 below"}
    found = image.difference
    if isinstance(found, str):
        return rows | {"changes": found}

    sizes = f"since {image.since}: {found.old_size:,} → {found.new_size:,} bytes"
    if found.first is None or found.last is None:
        return rows | {"changes": f"{sizes}, and nothing differs"}

    pages = f"{found.changed_pages:,} of {found.pages:,} pages of {PAGE_SIZE} bytes"
    count = f"{found.changed_bytes:,} byte{'s' * (found.changed_bytes != 1)}"
    changed = f"{pages}, {count}, from 0x{found.first:08x} to 0x{found.last:08x}"
    return rows | {"changes": (sizes, changed)}


def _loader_rows(image: CheckedImage | UncheckedImage) -> Rows:
    """Return the security counter and the signature of an image for a loader, as rows to print."""
    facts = image.loader if isinstance(image, CheckedImage) else None
    if facts is None or not isinstance(image, CheckedImage):
        return {}

    rows: Rows = {}
    if facts.counter is not None:
        before = "not known" if facts.before is None else facts.before
        rows["security counter"] = f"{facts.counter}, {before} in {image.since}" if image.since else facts.counter

    if facts.signature_fault is None:
        signed = f"by the key with SHA-256 {facts.key.hex()}" if facts.key else "by no key that it names"
        rows["image signed"] = f"NOT CHECKED, {signed}: your settings name no image key of this product"
    elif facts.signature_fault:
        rows["image signed"] = f"NOT by the product's image key: {facts.signature_fault}"
    else:
        rows["image signed"] = "by the product's image key, which your settings name"
    return rows


def _description_rows(found: Description) -> Rows:
    """Return notes and metadata.

    Each line begins with a bar, so that no line can imitate a row of the review.
    """
    if found.trouble:
        return {"notes": f"not shown: {found.trouble}"}
    if found.manifest is None:
        return {}

    rows: Rows = {}
    lines = found.manifest.notes.split("\n") if found.manifest.notes else []
    if lines:
        more = [f"and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
        rows["notes"] = tuple([f"│ {line}" for line in lines[:_MOST_LINES]] + more)

    rows |= found.manifest.option_lines
    if found.manifest.metadata:
        rows["metadata"] = tuple(f"│ {key} = {value}" for key, value in found.manifest.metadata)
    return rows
