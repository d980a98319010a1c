"""Error messages for refusals of contracts: one for each custom error and for each error code of the Safe.

Sources: NatSpec of ``contracts/interfaces/``; OpenZeppelin Contracts 5 (Ownable, Pausable); Safe smart account 1.5,
``docs/error_codes.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

from blockota.approval.intent import show_value
from blockota.bindings.device_refusals import DEVICE_REFUSALS
from blockota.bindings.refusal import Refusal
from blockota.bindings.registry_refusals import REGISTRY_REFUSALS
from blockota.errors import Action, ContractRefusalError, RevertedError
from blockota.formats.abi import interface, revert_text

EXPLAINED = (
    "BlockOTA",
    "FirmwareReplication",
    "Producers",
    "IdentityRegistry",
    "DeviceRegistry",
    "UpdateLedger",
    "UpdateOrders",
)
"""The contracts whose errors are explained."""
_ASK_VENDOR = "ask the vendor, who decides this through its Safe"
_STATUS_REMEDIES = {
    "proposed": "wait for the vendor's decision; the vendor can decline the offer, and its broker can withdraw it",
    "accepted": "leave the agreement out; the vendor can terminate it, and its broker can withdraw it",
}
_STATUS_REMEDIES |= dict.fromkeys(
    ("declined", "withdrawn", "terminated"),
    "leave the agreement out, because it has ended; its broker can make a new offer",
)
REFUSALS: Mapping[str, Refusal] = {
    # BlockOTA
    "NothingToPublish": Refusal(
        "the list of releases is empty", "there is nothing to publish", "name at least one release"
    ),
    "ProductNotPaired": Refusal(
        "{product} is not paired with an OEM",
        "a release can be published only for a paired product",
        "check the name, or pair the product",
        Action.PAIR_PRODUCT,
    ),
    "VersionNotNewer": Refusal(
        "{product} {version} is not newer than the last release",
        "the last published version is {head}, and a new version must be higher",
        "choose a version above {head}",
    ),
    "VersionBelowMinimum": Refusal(
        "{product} {version} is below the floor",
        "a version below {minimumVersion} cannot be published",
        "choose {minimumVersion} or newer",
    ),
    "DigestMissing": Refusal("{product} {version} has no SHA-256", "the contract identifies an image by its SHA-256"),
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
        "the DAG root of {product} {version} does not match the image's size",
        "only an image above 1048576 bytes has a DAG root, and this image has {size} bytes",
        "make the proposal with BlockOTA, which adds a DAG root if the image needs it",
    ),
    "ReleaseUnknown": Refusal(
        "release {product} {version} does not exist",
        "the contract has no record of this release",
        "check the product and the version",
        Action.LIST_RELEASES,
    ),
    "ReleaseAlreadyRevoked": Refusal("{product} {version} is already revoked", "a revocation is final"),
    "MinimumVersionNotRaised": Refusal(
        "the floor of {product} cannot become {requested}",
        "the floor is {minimumVersion}, and can only be raised",
        "choose a version above {minimumVersion}",
    ),
    "NameInvalid": Refusal(
        "the contract does not accept a name", "{name} is not 1 to 31 printable ASCII characters", "choose another name"
    ),
    "RegionInvalid": Refusal(
        "the flash region is not valid",
        "the region has {flashSize} bytes at {flashStart}, and its addresses must fit in 32 bits",
        "give the region of the chip's flash",
    ),
    "RenouncingRefused": Refusal(
        "the contract must keep an owner",
        "without an owner, nothing could be revoked, suspended or banned",
        "transfer the ownership instead",
    ),
    "PausingNotAllowed": Refusal(
        "{account} may not pause the contract", "only the Safe and its owners may", "ask an owner of the Safe"
    ),
    # FirmwareReplication
    "NotAContract": Refusal("{account} is not a contract", "the replication contract needs the address of BlockOTA"),
    "NotTheVendor": Refusal(
        "{caller} may not decide on agreements", "only the vendor's Safe {vendor} may", _ASK_VENDOR
    ),
    "NotTheBroker": Refusal(
        "agreement {id} belongs to another broker",
        "{broker} proposed the agreement, and the sender is {caller}",
        "use the key that proposed the agreement",
    ),
    "NothingToAccept": Refusal(
        "nothing can be accepted", "the list of agreements is empty", "give an agreement", Action.LIST_AGREEMENTS
    ),
    "AgreementUnknown": Refusal(
        "agreement {id} does not exist",
        "no agreement with this number was proposed",
        "check the number",
        Action.LIST_AGREEMENTS,
    ),
    "AgreementDiffers": Refusal(
        "agreement {id} is not the agreement of the decision",
        "after a reorganisation, {id} is the agreement of {broker} on {product} {version} until {expiresAt}",
        "list the agreements again, and make another decision",
        Action.LIST_AGREEMENTS,
    ),
    "WrongAgreementStatus": Refusal(
        "agreement {id} is {status}, which does not allow this step",
        "a proposed agreement can be accepted or declined, an accepted agreement can be announced or terminated",
        action=Action.LIST_AGREEMENTS,
    ),
    "AgreementExpired": Refusal("agreement {id} has expired", "it was valid until {expiresAt}", "propose a new one"),
    "AgreementStillOpen": Refusal(
        "there is already an agreement for that release",
        "agreement {id} is open until {expiresAt}",
        "use that agreement, or withdraw it first",
    ),
    "ExpiryInPast": Refusal(
        "the agreement would expire immediately",
        "{expiresAt} is not after the chain's time, {blockTime}",
        "choose a later time",
    ),
    "ReleaseRevokedAlready": Refusal(
        "{product} {version} is revoked", "brokers may not serve a revoked release", "choose an active release"
    ),
    "InvalidUriLength": Refusal(
        "the URL cannot be announced", "it has {length} bytes, and 1 to {limit} are allowed", "choose a shorter URL"
    ),
    # UpdateLedger
    "NotALogKeeper": Refusal(
        "{caller} may not anchor a log",
        "only active gateways, validators, technicians and clouds keep logs, "
        "and its identity (kind: {kind}) is missing, banned, retired or of another kind",
        "use the newest account of an active identity of these kinds",
        Action.LIST_IDENTITIES,
    ),
    "NotAnAdministrator": Refusal(
        "{caller} may not decide on a log",
        "only active administrators decide, "
        "and its identity (kind: {kind}) is missing, banned, retired or of another kind",
        "use the newest account of an active administrator",
        Action.LIST_IDENTITIES,
    ),
    "WrongLogState": Refusal(
        "the log of {uuid} is {state}, which does not allow this step",
        "only a growing log can be anchored or suspected, and only a suspended log can be decided on",
        "show the log",
        Action.SHOW_LOG,
    ),
    "SizeNotGreater": Refusal(
        "the log of {uuid} has not grown",
        "it was anchored with {anchoredSize} entries, and the new anchor has {size}",
        "append an entry first; if the log's folder is older than the anchor, restore the newest copy of the folder",
    ),
    "LogNotConsistent": Refusal(
        "the log does not continue the anchored log of {uuid}",
        "the proof from {anchoredSize} to {size} entries does not lead from the anchored root to the new one",
        "restore the newest copy of the log's folder; a lost log ends with its UUID",
    ),
    "WordsAndBitsDiffer": Refusal(
        "no devices can be recorded", "the call has {words} words of numbers and {bits} words of bits", "name a device"
    ),
    "DevicesNotOfSite": Refusal(
        "the devices are not those of {uuid}",
        "a gateway records only devices of its own blocks of numbers",
        "check the numbers, or anchor without them",
    ),
    "AlreadyInstalled": Refusal(
        "device {number} already has the release",
        "an installation of the release with the hash {release} is on record for it, and each is recorded once",
        "record a repair as an entry of kind reinstall, and anchor without this device",
    ),
    "NotAnInstall": Refusal(
        "entry {index} is not evidence",
        "it is not an install entry of a registered device; repairs are entries of kind reinstall",
        "name two install entries",
    ),
    "EntriesNotInOrder": Refusal(
        "entries {firstIndex} and {secondIndex} are not evidence",
        "evidence is two different entries, the one with the smaller index first",
        "name two entries of the log in ascending order",
    ),
    "EntriesDiffer": Refusal(
        "entries {firstIndex} and {secondIndex} are not evidence",
        "they are not for one device and one release",
        "name two install entries of one device and one release",
    ),
    "EntryNotInLog": Refusal(
        "entry {index} is not in the anchored log of {uuid}",
        "its path does not lead to the root of the {anchoredSize} anchored entries",
        "make the proof again for the anchored size",
    ),
    "AlreadyDecided": Refusal(
        "an administrator has decided on these entries of {uuid}",
        "for device {number} and release {release}, the decision covers all entries below {size}",
        "only an entry that was appended later is new evidence",
    ),
    "SuspicionDiffers": Refusal(
        "the suspicion of {uuid} is another one",
        "the log is suspected because of device {number} and release {release}",
        "show the log again, and make another decision",
        Action.SHOW_LOG,
    ),
    "Sha256Failed": Refusal(
        "the proof could not be verified",
        "the contract got no SHA-256: the call ran out of gas, or the chain does not have the function",
        "try again; a chain without SHA-256 cannot be the gateway chain",
    ),
    # UpdateOrders
    "NotAnOperator": Refusal(
        "{caller} may not order",
        "only an active operator orders, "
        "and its identity (kind: {kind}) is missing, banned, retired or of another kind",
        "use the newest account of an active operator",
        Action.LIST_IDENTITIES,
    ),
    "CancellingNotAllowed": Refusal(
        "{caller} may not cancel order {id}",
        "only the operator of the order and administrators cancel it, and only while they are active",
        "use the key of one of them",
    ),
    "GroupNameInvalid": Refusal(
        "the group cannot be named {group}", "a name is 1 to 31 visible ASCII characters", "choose another name"
    ),
    "GroupDefinedAlready": Refusal(
        "there is already a group {group}",
        "it is defined by {groupKind}, and a group never changes",
        "choose another name",
    ),
    "InvalidGroup": Refusal(
        "the group {group} has no devices",
        "{value} is not a value for a group by {groupKind}",
        "name the model, the site or the list of devices",
    ),
    "GroupUnknown": Refusal(
        "the group {group} is not defined", "no operator has defined it", "check the name, or define it"
    ),
    "ProductNotAllowed": Refusal(
        "{product} may not update the devices of {group}",
        "the Spec of the model does not list this product of {blockOta} on chain {chain}",
        "ask the registrant of the model to allow the product",
    ),
    "VersionMissing": Refusal("the order names no release", "its version is 0.0.0", "name a published version"),
    "DeadlineInPast": Refusal(
        "the order would be over at once",
        "its deadline {deadline} is not after the chain's time, {blockTime}",
        "choose a later deadline",
    ),
    "WindowEmpty": Refusal(
        "the order has no time to be carried out",
        "it would begin at {notBefore} and end at {deadline}",
        "let it begin before its deadline",
    ),
    "OrderStillOpen": Refusal(
        "the group has an open order for this product",
        "order {id} of {operator} for {version} is open until {deadline}",
        "wait for it, or cancel it first",
        Action.LIST_ORDERS,
    ),
    "OrderDiffers": Refusal(
        "order {id} is not the current order of the group for this product",
        "order {current} is",
        "list the orders again",
        Action.LIST_ORDERS,
    ),
    "WrongOrderStatus": Refusal(
        "order {id} cannot be cancelled", "it is {orderStatus}, and only an open order can be cancelled"
    ),
    "RegistryMissing": Refusal(
        "{account} is not a registry", "there is no contract at this address", "deploy the registries first"
    ),
    # OpenZeppelin
    "OwnableUnauthorizedAccount": Refusal(
        "{account} may not do that",
        "it does not own the contract",
        "ask the owner of the contract, who decides this through its Safe",
    ),
    "OwnableInvalidOwner": Refusal("{owner} cannot own the contract", "the zero address has no key", "name the Safe"),
    "EnforcedPause": Refusal(
        "the contract is paused",
        "the vendor stopped all releases",
        "the owners of the vendor's Safe decide when to resume it",
        Action.RESUME_CONTRACT,
    ),
    "ExpectedPause": Refusal("the contract is not paused", "only a paused contract can be resumed"),
    **REGISTRY_REFUSALS,
    **DEVICE_REFUSALS,
}
"""The error messages, by the name of the contract's custom error."""

SAFE_CODES: Mapping[str, tuple[str, str]] = {
    "GS000": ("the Safe could not finish its setup", "the setup's call failed"),
    "GS001": ("the address is not a Safe that was set up", "it has no threshold"),
    "GS002": ("the Safe cannot be set up with that call", "its target is not a contract"),
    "GS010": ("the transaction needs more gas", "the remaining gas is less than the proposal requires"),
    "GS011": ("the Safe could not pay the refund", "it has too little ether"),
    "GS012": ("the Safe could not pay the refund", "it has too little of the refund's token"),
    "GS013": ("the contract refused the Safe's call", "the call inside the proposal was reverted"),
    "GS020": ("there are too few signatures", "fewer than the Safe's threshold were given"),
    "GS021": ("a contract signature cannot be read", "its data overlaps the other signatures"),
    "GS022": ("a contract signature cannot be read", "the field with its length is missing"),
    "GS023": ("a contract signature cannot be read", "its data is incomplete"),
    "GS024": ("a contract signature was refused", "the signing contract did not confirm it"),
    "GS025": ("a hash was not approved", "the owner did not approve the hash on the chain"),
    "GS026": (
        "the signatures are not those of the Safe's owners for this proposal",
        "a signature is by another account, repeated, out of order, or for another Safe, chain, nonce or call",
    ),
    "GS030": ("only an owner may approve a hash", "the sender is not an owner of the Safe"),
    "GS031": ("only the Safe itself may make this call", "the sender is not the Safe"),
    "GS100": ("the Safe's modules are set up already", "modules are set up only once"),
    "GS101": ("that module cannot be used", "its address is zero or the sentinel"),
    "GS102": ("that module is enabled already", "a module can be enabled only once"),
    "GS103": ("the module list does not match", "the given previous module does not precede the module"),
    "GS104": ("that module is not enabled", "only an enabled module may act for the Safe"),
    "GS105": ("the module list cannot begin there", "the given first module is not enabled"),
    "GS106": ("the page size of the module list is zero", "a page must have at least one module"),
    "GS200": ("the Safe is set up already", "its owners are changed by proposals"),
    "GS201": ("the threshold is too high", "it is greater than the number of owners"),
    "GS202": ("the threshold is too low", "at least one owner must sign"),
    "GS203": ("an owner's address cannot be used", "it is zero, the sentinel, or the Safe itself"),
    "GS204": ("an owner is named twice", "each owner has one vote"),
    "GS205": ("the owner list does not match", "the given previous owner does not precede the owner"),
    "GS300": ("that guard cannot be used", "the contract does not implement a transaction guard"),
    "GS301": ("that module guard cannot be used", "the contract does not implement a module guard"),
    "GS400": ("that fallback handler cannot be used", "it is the Safe itself"),
}
"""What happened and why, by the Safe's error codes."""


def explain(error: RevertedError) -> ContractRefusalError:
    """Translate an error's revert data into a message. Returns the error unchanged if its revert data is unknown."""
    decoded = next(filter(None, (interface(name).decode_call(error.data) for name in EXPLAINED)), None)
    if decoded is not None and decoded.name in REFUSALS:
        refusal = REFUSALS[decoded.name]
        shown = {name: show_value(name, value) for name, value in decoded.arguments.items()}
        return ContractRefusalError(
            refusal.what.format(**shown),
            why=refusal.why.format(**shown),
            remedy=refusal.remedy.format(**shown) or _STATUS_REMEDIES.get(shown.get("status", ""), ""),
            action=refusal.action,
        )

    text = revert_text(error.data) or error.message
    code = next((code for code in SAFE_CODES if code in text), None)
    if code is None:
        return error
    what, why = SAFE_CODES[code]
    return ContractRefusalError(what, why=f"{why} ({code})")
