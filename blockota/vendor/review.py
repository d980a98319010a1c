"""Reviews proposals: collects the facts that owners see before they sign.

An owner's machine takes these steps before a signature:

1. The proposal's intent equals its decoded calldata (`Proposal.from_json`).
2. The proposal is for the chain and the Safe of the chain view, and can still be executed (`check_pending`).
3. Each image is found and hashed, and has the SHA-256, size and content address in the calldata (`check_images`).
4. The owner sees the decoded calldata, the changes since the newest release, and the hashes to compare with a wallet
   (`blockota.vendor.screen`).
5. The owner types the word of each red flag (`Review.red_flags`), and confirms the signature.

`review_to_sign` runs steps 2 and 3, for a person and for a script. The command line also runs step 2 before it opens
the key: it does not request a password for a proposal that cannot be executed. The command line opens the key before
step 3: it reports a wrong password before it reads the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.flags import RedFlag
from blockota.approval.loader_flags import loader_flags
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import address_flag, check_place, container_flag, red_flags
from blockota.approval.signature import Signature, check_signature
from blockota.errors import ProposalError
from blockota.model.container import find_misfit
from blockota.model.release import Version, product_name
from blockota.vendor.images import CheckedImage, ImageInputs, UncheckedImage, check_images
from blockota.vendor.queue import check_pending


@dataclass(frozen=True)
class Review:
    """A proposal with the results of its checks.

    Attributes:
        view: the state of the chain; None if it is not known.
        images: results of the image checks, one for each release that the proposal publishes.
    """

    proposal: Proposal
    view: ChainView | None
    images: tuple[CheckedImage | UncheckedImage, ...] = ()

    def red_flags(self, *, signer: str | None, now: int) -> list[RedFlag] | None:
        """Return the red flags of the proposal and its images; None if the state of the chain is not known."""
        if self.view is None:
            return None
        flags = red_flags(self.proposal, self.view, signer=signer, now=now)
        return [
            *flags,
            *self._container_flags(self.view),
            *self._loader_flags(self.view),
            *self._address_flags(),
        ]

    def as_fields(self, *, now: int) -> dict[str, Any]:
        """Return the review as a JSON object: the fields of the proposal file, and values computed from them."""
        proposal = self.proposal
        fields: dict[str, Any] = json.loads(proposal.to_json())
        return fields | {
            **hash_fields(proposal),
            "contract": self._called,
            "expired": now >= proposal.expires,
            "images": [image.fields for image in self.images],
        }

    @property
    def _called(self) -> str | None:
        """Name of the called contract.

        Without a view, this is the first contract that has the called function.
        """
        if self.proposal.call is None:
            return None
        return (self.view.name_of(self.proposal.to) if self.view else "") or self.proposal.call.contract

    def _container_flags(self, view: ChainView) -> Iterator[RedFlag]:
        for release, image in zip(self.proposal.releases, self.images, strict=False):
            product, found = view.product(product_name(release["product"])), image.description
            why = find_misfit(found.container, product.chip_id) if product else ""
            if why and found.trouble:
                why = f"its product is not for an STM32, and its manifest was not found: {found.trouble}"
            if why and product:
                yield container_flag(f"{product.name} {Version.unpack(release['version'])}", why)

    def _loader_flags(self, view: ChainView) -> Iterator[RedFlag]:
        earlier: dict[str, tuple[Version, int]] = {}
        for release, image in zip(self.proposal.releases, self.images, strict=False):
            if not isinstance(image, CheckedImage) or image.loader is None:
                continue
            product, version = product_name(release["product"]), Version.unpack(release["version"]) or Version(0, 0, 0)
            facts, since, known = image.loader, image.since, view.product(product)
            # The previous release can be in the same proposal.
            if product in earlier:
                since, before = earlier[product]
                facts = replace(facts, before=before)
            floor = known.minimum_version if known else None
            manifest = image.description.manifest
            yield from loader_flags(f"{product} {version}", facts, manifest, since=since, floor=floor)
            if facts.counter is not None:
                earlier[product] = version, facts.counter

    def _address_flags(self) -> list[RedFlag]:
        flags = []
        for release, image in zip(self.proposal.releases, self.images, strict=False):
            if not isinstance(image, CheckedImage) or image.linked_for is None:
                continue

            manifest = image.description.manifest
            accepted = "the publisher did not accept this in the manifest, so no bench would install the release"
            if image.description.trouble:
                accepted = "the manifest, in which the publisher may have accepted this, was not found"
            elif manifest and manifest.accepts_load_address:
                accepted = "the publisher accepted this"

            name, address = product_name(release["product"]), release["loadAddress"]
            flags.append(address_flag(name, address, linked_for=image.linked_for, accepted=accepted))
        return flags


def review_to_sign(
    proposal: Proposal,
    view: ChainView,
    inputs: ImageInputs,
    *,
    now: int,
    read_executed: Callable[[], Collection[bytes]] | None,
) -> Review:
    """Review a proposal for an owner who is about to sign it (steps 2 and 3 in the module's docstring).

    Args:
        proposal: the proposal.
        view: the state of the chain, with the place of the proposal in its queue (`with_queue`).
        inputs: where the images are.
        now: the current time, in Unix seconds.
        read_executed: the argument `read_executed` of `check_pending`.

    Raises:
        ProposalError: the proposal is for another chain or Safe, can no longer be executed, or an image is not the
            image in the calldata.
        VerificationError, StoreError, UsageError, ImageError: an image cannot be checked (`check_images`).
    """
    check_pending(proposal, view, now=now, read_executed=read_executed)
    return review_proposal(proposal, view, inputs, is_required=True)


def review_proposal(proposal: Proposal, view: ChainView | None, inputs: ImageInputs, *, is_required: bool) -> Review:
    """Check chain, Safe and images of a proposal. The proposal may have been executed already.

    A `view` of None means that the state of the chain is not known. With `is_required`, an image that cannot be checked
    is an error.

    Raises:
        ProposalError: the proposal is for another chain or Safe, or an image is not the image in the calldata.
        VerificationError, StoreError, UsageError, ImageError: an image cannot be checked (`check_images`).
    """
    if view is not None:
        check_place(proposal, view)
    return Review(proposal, view, check_images(proposal, view, inputs, is_required=is_required))


def signature_status(proposal: Proposal, signature: Signature, *, view: ChainView | None) -> str:
    """Return a text that states whether a signature is valid and made by an owner."""
    try:
        check_signature(proposal, signature)
    except ProposalError as error:
        return f"NOT VALID: {error.what}, {error.why}"

    if view is None:
        status = "valid; the execution checks whether the signer is an owner"
    elif signature.signer in view.safe.owners:
        status = "valid, by an owner"
    else:
        status = "valid, but NOT BY AN OWNER"

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
