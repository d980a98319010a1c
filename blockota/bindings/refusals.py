"""Error messages for refusals of contracts: one for each custom error and for each error code of the Safe.

Sources: NatSpec of ``contracts/interfaces/``; OpenZeppelin Contracts 5 (Ownable, Pausable); Safe smart account 1.5,
``docs/error_codes.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from blockota.approval.intent import CONTRACTS, show_value
from blockota.errors import Action, ContractRefusalError, RevertedError
from blockota.formats.abi import interface, revert_text


class Refusal(NamedTuple):
    """The parts of an error message. Names in braces are parameters of the contract's custom error."""

    what: str
    why: str
    remedy: str = ""
    action: Action | None = None


_ASK_VENDOR = "this is the vendor's decision, made through its Safe"
REFUSALS: Mapping[str, Refusal] = {
    # BlockOTA
    "NothingToPublish": Refusal(
        "the list of releases is empty", "there is nothing to publish", "name at least one release"
    ),
    "ProductNotPaired": Refusal(
        "{product} is not paired with an OEM",
        "releases are published for paired products only",
        "check the name, or pair the product",
        Action.PAIR_PRODUCT,
    ),
    "VersionNotNewer": Refusal(
        "{product} {version} is not newer than the last release",
        "the last version published is {head}, and versions only increase",
        "choose a version above {head}",
    ),
    "VersionBelowMinimum": Refusal(
        "{product} {version} is below the floor",
        "nothing older than {minimumVersion} may be published",
        "choose {minimumVersion} or newer",
    ),
    "DigestMissing": Refusal("{product} {version} has no SHA-256", "an image is identified by its digest"),
    "ImageAlreadyPublished": Refusal(
        "this image is already published for {product}",
        "it is version {version}, with SHA-256 {sha256}, and one image cannot have two versions",
        "put the new version into the image, for example into its version string, and build it again",
    ),
    "ImageEmpty": Refusal(
        "the image of {product} {version} is empty", "its size is 0 bytes", "publish the built image"
    ),
    "ImageOutsideRegion": Refusal(
        "the image does not fit the region of {product}",
        "it has {size} bytes at {loadAddress}, the region has {flashSize} bytes at {flashStart}",
        "link the image for the region, or pair the product again",
    ),
    "DagRootMismatch": Refusal(
        "the DAG root of {product} {version} does not match its size",
        "an image above 1048576 bytes needs one, a smaller one has none; this one has {size} bytes",
        "make the proposal with BlockOTA, which adds the DAG root where it is needed",
    ),
    "ReleaseUnknown": Refusal(
        "release {product} {version} does not exist",
        "the contract has no record of it",
        "check the product and the version",
        Action.LIST_RELEASES,
    ),
    "ReleaseAlreadyRevoked": Refusal("{product} {version} is already revoked", "a revocation is final"),
    "MinimumVersionNotRaised": Refusal(
        "the floor of {product} cannot become {requested}",
        "it is {minimumVersion}, and a floor only rises",
        "choose a version above {minimumVersion}",
    ),
    "NameInvalid": Refusal(
        "the contract does not accept a name", "{name} is not 1 to 31 printable ASCII characters", "choose another name"
    ),
    "RegionInvalid": Refusal(
        "the flash region is not valid",
        "it has {flashSize} bytes at {flashStart}, and must lie within 32-bit addresses",
        "give the region of the chip's flash",
    ),
    "RenouncingRefused": Refusal(
        "the contract must keep an owner", "without one, nothing could be revoked", "transfer the ownership instead"
    ),
    "PausingNotAllowed": Refusal(
        "{account} may not pause the contract", "the Safe and each of its owners may", "ask one of them"
    ),
    # FirmwareReplication
    "NotAContract": Refusal("{account} is not a contract", "the replication contract needs the address of BlockOTA"),
    "NotTheVendor": Refusal(
        "{caller} may not decide that", "the vendor's Safe {vendor} decides on agreements", _ASK_VENDOR
    ),
    "NotTheBroker": Refusal(
        "agreement {id} is another broker's",
        "it was proposed by {broker}, and the sender is {caller}",
        "use the key that proposed it",
    ),
    "NothingToAccept": Refusal(
        "no agreement is named", "the list of agreements is empty", "name at least one", Action.LIST_AGREEMENTS
    ),
    "AgreementUnknown": Refusal(
        "agreement {id} does not exist",
        "none was proposed under this number",
        "check the number",
        Action.LIST_AGREEMENTS,
    ),
    "AgreementDiffers": Refusal(
        "agreement {id} is not the one that was decided on",
        "on record it is that of {broker} on {product} {version} until {expiresAt}: the chain was reorganised",
        "look at the agreements again, and decide anew",
        Action.LIST_AGREEMENTS,
    ),
    "WrongAgreementStatus": Refusal(
        "agreement {id} is {status}, which does not allow this step",
        "only a proposed agreement can be accepted or declined, and only an accepted one announced or terminated",
        "if it is proposed, wait for the vendor's decision",
        Action.LIST_AGREEMENTS,
    ),
    "AgreementExpired": Refusal("agreement {id} has expired", "it was valid until {expiresAt}", "propose it again"),
    "AgreementStillOpen": Refusal(
        "there is already an agreement for that release",
        "agreement {id} is open until {expiresAt}",
        "use that one, or withdraw it first",
    ),
    "ExpiryInPast": Refusal(
        "the agreement would expire at once",
        "{expiresAt} is not after the chain's time, {blockTime}",
        "choose a later time",
    ),
    "ReleaseRevokedAlready": Refusal(
        "{product} {version} is revoked", "a revoked release has no replicas", "choose a release that is active"
    ),
    "InvalidUriLength": Refusal(
        "the URL cannot be announced", "it has {length} bytes, 1 to {limit} are allowed", "choose a shorter address"
    ),
    # OpenZeppelin
    "OwnableUnauthorizedAccount": Refusal("{account} may not do that", "only the contract's owner may", _ASK_VENDOR),
    "OwnableInvalidOwner": Refusal("{owner} cannot own the contract", "the zero address has no key", "name the Safe"),
    "EnforcedPause": Refusal("the contract is paused", "the vendor stopped all releases", _ASK_VENDOR),
    "ExpectedPause": Refusal("the contract is not paused", "only a paused contract can be resumed"),
}
"""The error messages, by the name of the contract's custom error."""

SAFE_CODES: Mapping[str, tuple[str, str]] = {
    "GS000": ("the Safe could not finish its setup", "the call given for the setup failed"),
    "GS001": ("the address is not a Safe that was set up", "it has no threshold"),
    "GS002": ("the Safe cannot be set up with that call", "its target is not a contract"),
    "GS010": ("the transaction needs more gas", "less is left than the proposal asks for"),
    "GS011": ("the Safe could not pay the refund", "it has too little ether"),
    "GS012": ("the Safe could not pay the refund", "it has too little of that token"),
    "GS013": ("the contract refused what the Safe asked", "the call inside the proposal was reverted"),
    "GS020": ("there are too few signatures", "fewer than the Safe's threshold were given"),
    "GS021": ("a contract signature cannot be read", "it points into the other signatures"),
    "GS022": ("a contract signature cannot be read", "its length lies outside the data"),
    "GS023": ("a contract signature cannot be read", "it reaches beyond the data"),
    "GS024": ("a contract signature was refused", "the contract that signs did not confirm it"),
    "GS025": ("a hash was not approved", "the owner who should have approved it on the chain did not"),
    "GS026": (
        "the signatures are not those of the Safe's owners for this proposal",
        "one is of another account, repeated, out of order, or for another Safe, chain, nonce or call",
    ),
    "GS030": ("only an owner may approve a hash", "the sender is not an owner of the Safe"),
    "GS031": ("only the Safe itself may do that", "the call did not come through it"),
    "GS100": ("the Safe's modules are set up already", "this happens once"),
    "GS101": ("that module cannot be used", "its address is zero or the sentinel"),
    "GS102": ("that module is enabled already", "a module is enabled once"),
    "GS103": ("the module list does not match", "the module named as the one before is not"),
    "GS104": ("that module is not enabled", "only an enabled module may act for the Safe"),
    "GS105": ("the module list cannot begin there", "the module named as the start is not enabled"),
    "GS106": ("a page of the module list is empty", "its size must be above zero"),
    "GS200": ("the Safe is set up already", "its owners are changed by proposals"),
    "GS201": ("the threshold is too high", "it is greater than the number of owners"),
    "GS202": ("the threshold is too low", "at least one owner must sign"),
    "GS203": ("an owner's address cannot be used", "it is zero, the sentinel, or the Safe itself"),
    "GS204": ("an owner is named twice", "each owner has one vote"),
    "GS205": ("the owner list does not match", "the owner named as the one before is not"),
    "GS300": ("that guard cannot be used", "it does not answer as a transaction guard"),
    "GS301": ("that module guard cannot be used", "it does not answer as a module guard"),
    "GS400": ("that fallback handler cannot be used", "it is the Safe itself"),
}
"""What happened and why, by the Safe's error codes."""


def explain(error: RevertedError) -> ContractRefusalError:
    """Translate an error's revert data into a message. Returns the same error if the revert data is unknown."""
    decoded = next(filter(None, (interface(name).decode_call(error.data) for name in CONTRACTS)), None)
    if decoded is not None and decoded.name in REFUSALS:
        refusal = REFUSALS[decoded.name]
        shown = {name: show_value(name, value) for name, value in decoded.arguments.items()}
        return ContractRefusalError(
            refusal.what.format(**shown),
            why=refusal.why.format(**shown),
            remedy=refusal.remedy.format(**shown),
            action=refusal.action,
        )

    text = revert_text(error.data) or error.message
    code = next((code for code in SAFE_CODES if code in text), None)
    if code is None:
        return error
    what, why = SAFE_CODES[code]
    return ContractRefusalError(what, why=f"{why} ({code})")
