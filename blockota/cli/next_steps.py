"""The next step after a command: the last sentence that a command prints, and the field ``next`` of its JSON result."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.approval.chain_view import ChainView
from blockota.approval.proposal import Proposal
from blockota.errors import shortened
from blockota.model.release import Version, product_name
from blockota.vendor.files import is_beside
from blockota.vendor.queue import ListedProposal, ProposalState

if TYPE_CHECKING:  # the package would delay every command
    from blockota.broker.sync import Done

_AFTER_EXECUTION = {
    "pairOem": "`blockota release publish IMAGE --product {product} --version VERSION -o FILE` proposes a release",
    "unpairOem": "`blockota product list` shows the products",
    "publish": "`blockota flash --product {product}` installs the release on a board; "
    "`blockota repository serve` serves its image to other machines",
    "revoke": "`blockota board list --product {product} --version {version} LOG...` lists the boards that have it",
    "setMinimumVersion": "`blockota product show {product}` shows the floor",
    "pause": "find the fault; then `blockota contract resume -o FILE` proposes to allow releases again",
    "resume": "`blockota contract show` shows that the contract is not paused",
    "accept": "the broker runs `blockota broker sync --announce URL --key KEY`",
    "acceptAll": "the brokers run `blockota broker sync --announce URL --key KEY`",
    "decline": "`blockota replica list` shows the open offers",
    "terminate": "`blockota replica list` shows the agreements that remain",
    "addOwnerWithThreshold": "`blockota safe owners` shows the owners",
    "removeOwner": "`blockota safe owners` shows the owners",
    "swapOwner": "`blockota safe owners` shows the owners",
    "changeThreshold": "`blockota safe owners` shows the threshold",
    **dict.fromkeys(
        ("admitRegistrant", "suspendRegistrant", "restoreRegistrant", "setRegistrantAccount"),
        "`blockota device registrant list` shows the registrants",
    ),
    "importSpec": "`blockota device spec list` shows the specs",
    "giveBlocks": "`blockota device site list` shows the gateways with device numbers",
    "replaceSite": "`blockota device site list` shows the gateways with device numbers",
}
"""The next step after the execution of each call, by the name of the function."""
_AFTER_REGISTRY = {
    "Producers": "`blockota producer list` shows the producers",
    "IdentityRegistry": "`blockota identity list` shows the identities",
    "DeviceRegistry": "`blockota device list` shows the devices",
}
"""The next step after the execution of another call, by the called contract."""


def after_proposing(file: Path, *, signed: int, threshold: int, first: str = "") -> str:
    """Return the next step for a proposal with `signed` signatures: collect more signatures, or execute the proposal.

    `first` is the proposal file that must be executed before `file`; empty if no proposal must be executed first.
    """
    name = shlex.quote(str(file))
    execute = f"`blockota proposal execute {name} --key KEY`"
    count = f"{signed} of {threshold} signed."

    if signed >= threshold and first:
        return f"{count} Execute {first} first; then {execute}"
    if signed >= threshold:
        return f"{count} Next: {execute}"

    if signed:
        others = f"Send {file} to the owners who have not signed"
        return f"{count} {others}, and put all signature files beside it on one machine; then {execute}"
    return f"{count} Send {file} to the owners, who sign with `blockota proposal sign {name} --key KEY`"


def after_packing(file: Path, pack: Path) -> str:
    """Return the next step after a pack of a proposal was written.

    `proposal execute` finds the owner's signature file only if pack and proposal have the same file name without the
    extension.
    """
    sign = f"`blockota proposal sign {shlex.quote(pack.name)} --key KEY`"
    name, beside, option = shlex.quote(str(file)), f"beside {file}", ""
    if pack.stem != file.stem:
        beside, option = "here", " --signature SIGNATURE"
    execute = f"`blockota proposal execute {name}{option} --key KEY`"
    signing = f"Send {pack} to the owner, who signs with {sign}"
    return f"{signing}. Put the signature file of this owner {beside}; then {execute}"


def after_merging(signatures: Path) -> str:
    """Return the next step for signatures that were merged into one file."""
    name = shlex.quote(str(signatures))
    return f"Next: `blockota proposal execute FILE --signature {name} --key KEY` executes the proposal FILE"


def after_viewing(view: Path) -> str:
    """Return the next step for a chain view that was exported."""
    sign = f"`blockota proposal sign FILE --view {shlex.quote(str(view))} --image IMAGE --key KEY`"
    return f"Send {view}, the proposal FILE and its IMAGE to the owner, who signs off line with {sign}"


def after_finding_packs(packs: Sequence[Path]) -> str:
    """Return the next step in a folder that has packs but no proposal files; empty for a folder without packs."""
    return f"Next: `blockota proposal show {shlex.quote(str(packs[0]))}` reviews a pack" if packs else ""


def after_listing(listed: Sequence[ListedProposal]) -> str:
    """Return the next step for a folder's proposals, in order of execution; empty if no proposal is pending."""
    first = listed[0]
    if first.state is ProposalState.LATER:
        waits = f"Nonce {first.next_nonce} must be executed first, and no pending proposal here takes it"
        return f"{waits}: put that proposal here, or pass --nonce {first.next_nonce} when you make one"
    if first.state is not ProposalState.NEXT:
        return ""
    if first.competes_with:
        names = shortened([first.file.name, *first.competes_with])
        return f"Next: decide on one of {names}; the execution of one replaces the others"
    return after_proposing(first.file, signed=len(first.signers), threshold=first.threshold)


def before_signing(file: Path, *, view: Path | None) -> str:
    """Return the next step of an off-line owner who has reviewed a pack, or a proposal with a chain view."""
    option = f" --view {shlex.quote(str(view))}" if view else ""
    return f"Next: `blockota proposal sign {shlex.quote(str(file))}{option} --key KEY`"


def after_signing(file: Path, signature: Path, proposal: Proposal, *, signed: int, view: ChainView) -> str:
    """Return the next step of an owner who has signed.

    A signature that was made off line must be sent back to the proposer.
    """
    if view.source:
        return f"{signed} of {view.safe.threshold} signed here. Send {signature} back to the sender of {file}"
    if not is_beside(signature, file):
        options = f"--signature {shlex.quote(str(signature))} --key KEY"
        execute = f"`blockota proposal execute {shlex.quote(str(file))} {options}`"
        return (
            f"{signed} of {view.safe.threshold} signed. The execution needs the name of your signature file: {execute}"
        )
    return after_review(file, proposal, signed=signed, view=view)


def after_review(file: Path, proposal: Proposal, *, signed: int, view: ChainView) -> str:
    """Return the next step for a pending proposal with `signed` signatures."""
    first = view.first_before(proposal.nonce)
    return after_proposing(file, signed=signed, threshold=view.safe.threshold, first=first)


def after_pausing() -> str:
    """Return the next step after an owner has paused the contract."""
    return f"Next: {_AFTER_EXECUTION['pause']}"


def after_offering(number: int) -> str:
    """Return the next steps after a broker has offered to serve a release: one for the vendor, one for the broker."""
    accept = f"`blockota replica accept {number} -o FILE`"
    return f"Ask the vendor for {accept}; once it is executed, `blockota broker sync --announce URL --key KEY`"


def after_announcing(steps: Sequence[Done], *, broker: str) -> str:
    """Return the next step after a broker's round that announced a copy; empty if the round announced no copy."""
    if not any(done.verb == "announced" and not done.error for done in steps):
        return ""
    serve = f"`blockota repository serve --as broker --broker {broker} --listen HOST:PORT`"
    return f"Next: serve the copy with {serve}; then `blockota replica check` tests the announced URL"


def after_execution(proposal: Proposal) -> str:
    """Return the next step after the execution of a proposal; empty if no step follows."""
    if proposal.call is None:
        return "Next: `blockota proposal list` shows what waits" if proposal.is_rejection else ""
    arguments = proposal.releases[0] if proposal.releases else proposal.call.arguments
    product = shlex.quote(product_name(arguments.get("product", b"")))
    version = Version.unpack(arguments.get("version", 0))
    owner = "`blockota contract show` shows the contract's owner"
    if any(one["loadAddress"] == 0 for one in proposal.releases):  # the flash of an STM32 does not begin at 0
        return "Next: `blockota repository serve` serves the image to the gateways that install it"
    words = _AFTER_EXECUTION.get(proposal.call.name) or _AFTER_REGISTRY.get(proposal.call.contract, owner)
    return f"Next: {words.format(product=product, version=version)}"
