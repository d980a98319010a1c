"""Reviews proposals: collects the facts that owners see before they sign, and finds competing proposals in a folder.

An owner's machine takes these steps before a signature:

1. The proposal's intent equals its decoded calldata (`Proposal.from_json`).
2. Chain and Safe of the proposal are those of the chain view (`check_place`).
3. Each image is found and hashed, and has the SHA-256, size and content address in the calldata (`check_images`).
4. The owner sees the decoded calldata, the changes since the newest release, and the hashes to compare with a wallet
   (`Review.groups`).
5. The owner types the word of each red flag (`Review.red_flags`), and confirms the signature.

The key is opened between the steps 4 and 5, because one red flag concerns the signer.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import RedFlag, address_flag, check_place, is_named, red_flags
from blockota.approval.signature import Signature, check_signature
from blockota.errors import ProposalError
from blockota.model.agreement import Agreement
from blockota.model.difference import PAGE_SIZE
from blockota.model.manifest import Description
from blockota.model.release import Region, product_name, show_time
from blockota.vendor.files import ProposalFolder, collect_signatures
from blockota.vendor.images import CheckedImage, ImageInputs, UncheckedImage, check_images
from blockota.vendor.propose import agreements_of

Rows = dict[str, object]
"""A group of labels and values to print; a tuple is printed as one line for each item."""
_MOST_LINES = 20
"""Maximum number of lines of release notes that are shown."""
_LABELS = {"sha256": "SHA-256", "cid": "CID"}
_DAY = 86400


@dataclass(frozen=True)
class Review:
    """A proposal with the results of its checks.

    Attributes:
        view: the state of the chain; None if it is not known.
        images: results of the image checks, one for each release that the proposal publishes.
        is_pinned: whether the signer's settings name the contract; otherwise only the chain view does.
    """

    proposal: Proposal
    view: ChainView | None
    images: tuple[CheckedImage | UncheckedImage, ...] = ()
    is_pinned: bool = True

    def red_flags(self, *, signer: str | None, now: int) -> list[RedFlag] | None:
        """Return the red flags of the proposal and its images; None if the state of the chain is not known."""
        if self.view is None:
            return None
        flags = red_flags(self.proposal, self.view, signer=signer, now=now, is_pinned=self.is_pinned)
        return [*flags, *self._address_flags()]

    def groups(self, *, now: int) -> list[Rows]:
        """Return all values that an owner should read, in groups.

        The groups have this order: the decoded calldata with the present state of the chain; reason and expiry; the
        called contract, chain, Safe and nonce; the hashes to compare with a wallet's screen.
        """
        proposal, left = self.proposal, self.proposal.expires - now
        remaining = f", in {left // _DAY} days" if left > 2 * _DAY else f", in {left // 3600} hours"
        why: Rows = {
            "reason": repr(proposal.reason) if proposal.reason else "none given",
            "proposer": f"{proposal.proposer!r}, not authenticated" if proposal.proposer else "not named",
            "expires": show_time(proposal.expires) + (remaining if left > 0 else " (EXPIRED)"),
        }
        # A long list could scroll off the screen, so its length comes first.
        count = len(proposal.releases)
        heading: list[Rows] = [{"publishes": f"{count} releases, each shown below"}] if count > 1 else []
        return [*heading, *self._actions(), *self._agreements(), why, self._place(), hash_rows(proposal)]

    def as_fields(self, *, now: int) -> dict[str, Any]:
        """Return the JSON object, with the fields of the proposal file and values that are computed from them."""
        proposal = self.proposal
        fields: dict[str, Any] = json.loads(proposal.to_json())
        return fields | {
            **hash_fields(proposal),
            "contract": proposal.call.contract if proposal.call else None,
            "expired": now >= proposal.expires,
            "images": [image.fields for image in self.images],
        }

    def _address_flags(self) -> list[RedFlag]:
        flags = []
        for release, image in zip(self.proposal.releases, self.images, strict=False):
            if not isinstance(image, CheckedImage) or image.linked_for is None:
                continue
            manifest = image.description.manifest
            insists = "its manifest does not record that the publisher insists, so no bench would install the release"
            if image.description.trouble:
                insists = "its manifest, which may record that the publisher insists, was not found"
            elif manifest and manifest.accepts_load_address:
                insists = "the publisher insists"
            name, address = product_name(release["product"]), release["loadAddress"]
            flags.append(address_flag(name, address, linked_for=image.linked_for, insists=insists))
        return flags

    def _actions(self) -> list[Rows]:
        groups: list[Rows] = []
        for number, intent in enumerate(self.proposal.intent):
            # A parameter's name becomes a label: ``activeFrom`` is ``active from``.
            words = {name: re.sub("[A-Z]", lambda letter: f" {letter[0].lower()}", name) for name in intent}
            rows: Rows = {_LABELS.get(name, words[name]): value for name, value in intent.items()}
            if self.proposal.releases:
                # The range of addresses replaces load address and size.
                release, image = self.proposal.releases[number], self.images[number]
                rows = {name: value for name, value in rows.items() if name not in {"size", "load address"}}
                rows["addresses"] = Region(release["loadAddress"], release["size"])
                rows |= _image_rows(image) | _description_rows(image.description)
            groups.append(rows | self._today(intent.get("product")))
        if not self.proposal.is_known:
            groups[0]["data"] = "0x" + self.proposal.data.hex()
        return groups

    def _agreements(self) -> list[Rows]:
        """Return the state of the agreement on the chain, and its terms if they differ from those of the call."""
        groups: list[Rows] = []
        for number in agreements_of([self.proposal]):
            found = self.view.agreement(number) if self.view else None
            if found is None:
                state = "does not exist" if self.view else "state unknown"
                groups.append({"agreement": f"{number}, {state}"})
            elif self.proposal.call and is_named(found, self.proposal.call.arguments):
                groups.append({"agreement": f"{number}, {found.status}, with these terms"})
            else:
                groups.append(agreement_rows(found))
        return groups

    def _today(self, name: str | None) -> Rows:
        """Return the state of a product on the chain."""
        if self.view is None or name is None:
            return {}
        product, newest = self.view.product(name), self.view.newest_of(name)
        if product is None:
            return {"today": "the product does not exist"}
        pairing = f"OEM {product.oem}, chip id 0x{product.chip_id:03x}" if product.paired else "NOT PAIRED"
        releases = f"newest {newest.version}" if newest else "no release"
        floor = f"floor {product.minimum_version}" if product.minimum_version else "no floor"
        return {"today": (f"{pairing}, {releases}, {floor}", f"region {product.region}")}

    def _place(self) -> Rows:
        proposal, view = self.proposal, self.view
        rows: Rows = {}
        # Fields that BlockOTA's own transactions never set are shown even if red flags cannot be checked.
        if proposal.operation:
            rows["operation"] = "DELEGATECALL"
        if proposal.value:
            rows["sends"] = f"{proposal.value} wei"
        gas = proposal.safe_tx_gas, proposal.base_gas, proposal.gas_price
        if any(gas):
            rows["gas limits"] = "{}, base {}, price {}".format(*gas)

        contract = f"{proposal.call.contract} " if proposal.call else ""
        rows |= {"calls": f"{contract}{proposal.to}", "Safe": proposal.safe, "chain id": proposal.chain_id}
        if view is None:
            return rows | {"nonce": proposal.nonce}
        is_next = proposal.nonce == view.safe.nonce
        nonce = "the Safe's next" if is_next else f"the Safe is at {view.safe.nonce}"
        return rows | {"nonce": f"{proposal.nonce}, {nonce}"} | view_rows(view)


def review_proposal(
    proposal: Proposal, view: ChainView | None, inputs: ImageInputs, *, is_pinned: bool, is_required: bool
) -> Review:
    """Check chain, Safe and images of a proposal (steps 2 and 3 in the module's docstring).

    A `view` of None means that the state of the chain is not known. If `is_required` is set, as before a signature, an
    image that cannot be checked is an error.

    Raises:
        ProposalError: the proposal is for another chain or Safe, or an image is not the one in the calldata.
        VerificationError, StoreError, UsageError, ImageError: an image cannot be checked (`check_images`).
    """
    if view is not None:
        check_place(proposal, view)
    images = check_images(proposal, view, inputs, is_required=is_required)
    return Review(proposal, view, images, is_pinned)


def headline(proposal: Proposal) -> str:
    """Return the effect of a proposal in a few words."""
    groups = proposal.intent
    action = re.split("[:,]", groups[0]["action"])[0]
    about = " ".join(groups[0][label] for label in ("product", "version", "owner", "called") if label in groups[0])
    more = f" and {len(groups) - 1} more" if len(groups) > 1 else ""
    return f"{action}: {about}{more}" if about else f"{action}{more}"


def signature_status(proposal: Proposal, signature: Signature, *, view: ChainView | None) -> str:
    """Return a text that states whether a signature counts."""
    try:
        check_signature(proposal, signature)
    except ProposalError as error:
        return f"NOT VALID: {error.what}, {error.why}"
    if view is None:
        status = "valid; the execution checks whether the signer is an owner"
    elif signature.signer in view.safe.owners:
        status = "valid, an owner's"
    else:
        status = "valid, but NOT AN OWNER'S"
    if signature.is_eth_sign:
        status += ", by eth_sign"
    return status if signature.text_signature else f"{status}; the TEXT IS NOT SIGNED: another tool made the signature"


def hash_fields(proposal: Proposal) -> dict[str, str]:
    """Return the hashes of the two messages that an owner signs, for JSON."""
    return {
        "domainHash": "0x" + proposal.domain_hash.hex(),
        "messageHash": "0x" + proposal.message_hash.hex(),
        "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
        "textDomainHash": "0x" + proposal.text_domain_hash.hex(),
        "textMessageHash": "0x" + proposal.text_message_hash.hex(),
    }


def hash_rows(proposal: Proposal) -> Rows:
    """Return the hashes with the names that wallets use; a wallet shows the text hashes in its second request."""
    labels = ("domain hash", "message hash", "safeTxHash", "text domain", "text message")
    return dict(zip(labels, hash_fields(proposal).values(), strict=True))


def view_rows(view: ChainView) -> Rows:
    """Return the owners of the Safe and the block of a chain view, as rows to print."""
    origin = f"from {view.source}, not checked: " if view.source else ""
    return {
        "owners": (*view.safe.owners, f"{view.safe.threshold} of these {len(view.safe.owners)} must sign"),
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


class ProposalState(StrEnum):
    """The state of a proposal in a folder. Proposals are listed in the order of these states."""

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
        signers: owners whose valid signature, which also covers the text, is in a file beside the proposal.
        threshold: number of owners that must sign.
        competes_with: names of the proposal files with another transaction at the same nonce.
    """

    file: Path
    proposal: Proposal
    signers: tuple[str, ...]
    threshold: int
    state: ProposalState
    competes_with: tuple[str, ...]

    @property
    def fields(self) -> dict[str, Any]:
        """The listed proposal as a JSON object."""
        return {
            "file": self.file.name,
            "nonce": self.proposal.nonce,
            "what": headline(self.proposal),
            "signed": f"{len(self.signers)} of {self.threshold}",
            "signers": list(self.signers),
            "state": str(self.state),
            "competesWith": list(self.competes_with),
            "expires": self.proposal.expires,
            "safeTxHash": "0x" + self.proposal.safe_tx_hash.hex(),
        }


def list_proposals(
    folder: ProposalFolder, view: ChainView, *, now: int, note: Callable[[str], object] = lambda _: None
) -> list[ListedProposal]:
    """Compare the proposals of a folder with each other and with the chain.

    `note` is called with a sentence for each signature file that is skipped.

    Returns:
        The proposals, beginning with those that can be executed next.
    """
    # A Safe executes one transaction at each nonce: proposals with the same chain, Safe and nonce compete.
    rivals: dict[tuple[int, str, int], dict[Path, bytes]] = defaultdict(dict)
    for path, one in folder.proposals.items():
        rivals[(one.chain_id, one.safe, one.nonce)][path] = one.safe_tx_hash

    listed = []
    for path, one in folder.proposals.items():
        state, others = _state(one, view, now=now), rivals[(one.chain_id, one.safe, one.nonce)]
        competing = tuple(p.name for p, other in others.items() if other != one.safe_tx_hash)
        signatures = collect_signatures(path, one, note=note)
        signers = tuple(found.signer for found in signatures if found.counts and found.signer in view.safe.owners)
        competes_with = () if state is ProposalState.PAST else competing
        listed.append(ListedProposal(path, one, signers, view.safe.threshold, state, competes_with))
    return _sorted(listed)


def settle_past(listed: list[ListedProposal], executed: Collection[bytes]) -> list[ListedProposal]:
    """Replace the state PAST by EXECUTED or REPLACED; `executed` has the safeTxHash of each executed transaction."""
    settled = []
    for one in listed:
        if one.state is ProposalState.PAST:
            was_executed = one.proposal.safe_tx_hash in executed
            one = replace(one, state=ProposalState.EXECUTED if was_executed else ProposalState.REPLACED)  # noqa: PLW2901
        settled.append(one)
    return _sorted(settled)


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


def _image_rows(image: CheckedImage | UncheckedImage) -> Rows:
    """Return the source of an image and its difference from the newest release, as rows to print."""
    if isinstance(image, UncheckedImage):
        return {"image": f"NOT CHECKED: {image.trouble}"}
    rows: Rows = {"image": f"hashed here from {image.source}: its {image.size:,} bytes have this SHA-256"}
    found = image.difference
    if isinstance(found, str):
        return rows | {"changes": found}
    sizes = f"since {image.since}: {found.old_size:,} → {found.new_size:,} bytes"
    if found.first is None or found.last is None:
        return rows | {"changes": f"{sizes}, and nothing differs"}
    pages = f"{found.changed_pages:,} of {found.pages:,} pages of {PAGE_SIZE} bytes"
    changed = f"{pages}, {found.changed_bytes:,} bytes, from 0x{found.first:08x} to 0x{found.last:08x}"
    return rows | {"changes": (sizes, changed)}


def _description_rows(found: Description) -> Rows:
    """Return notes and metadata, with a bar before each line, so that no line can imitate a row of the review."""
    if found.trouble:
        return {"notes": f"not shown: {found.trouble}"}
    if found.manifest is None:
        return {}
    rows: Rows = {}
    lines = found.manifest.notes.split("\n") if found.manifest.notes else []
    if lines:
        more = [f"and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
        rows["notes"] = tuple([f"│ {line}" for line in lines[:_MOST_LINES]] + more)
    if found.manifest.accepts_load_address:
        rows["load address"] = "the publisher insists, although the image seems to be linked for another one"
    if found.manifest.filled:
        rows["filled"] = (*map(str, found.manifest.filled), "with 0xFF: gaps in the file, erased on every board")
    if found.manifest.metadata:
        rows["metadata"] = tuple(f"│ {key} = {value}" for key, value in found.manifest.metadata)
    return rows
