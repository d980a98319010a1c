"""Error messages for refusals of the contract DeviceRegistry, one for each custom error."""

from __future__ import annotations

from collections.abc import Mapping

from blockota.bindings.refusal import Refusal
from blockota.errors import Action

_FOR_EVER = "it stays with this device for good, even after a transfer or a change of the key"

DEVICE_REFUSALS: Mapping[str, Refusal] = {
    # Registrants
    "PublicKeyInvalid": Refusal(
        "{publicKey} is not the key of a registrant",
        "a compressed secp256k1 key has 33 bytes, of which the first is 02 or 03",
        "give the registrant's compressed public key",
    ),
    "PublicKeyTaken": Refusal(
        "the key {publicKey} belongs to a registrant already",
        "a key identifies one registrant for good",
        "check the key",
        Action.LIST_REGISTRANTS,
    ),
    "AccountMissing": Refusal("the registrant has no account", "its account is the zero address", "give its account"),
    "RegistrantAccountTaken": Refusal(
        "{account} is or was the account of the registrant {name}",
        "an account belongs to one registrant for good",
        "use another account",
        Action.LIST_REGISTRANTS,
    ),
    "RegistrantKnown": Refusal(
        "the registrant {name} is admitted already",
        "a name belongs to one registrant for good",
        "choose another name, or restore the registrant if it is suspended",
        Action.LIST_REGISTRANTS,
    ),
    "RegistrantUnknown": Refusal(
        "the registrant {name} is not admitted",
        "no registrant has this name",
        "check the name, or ask the city to admit the registrant",
        Action.LIST_REGISTRANTS,
    ),
    "SuspensionUnchanged": Refusal(
        "nothing would change for the registrant {name}",
        "only a suspended registrant can be restored, and only a registrant that is not suspended can be suspended",
        "show the registrant",
        Action.LIST_REGISTRANTS,
    ),
    "RegistrantIsSuspended": Refusal(
        "the registrant {name} is suspended", "a suspended registrant changes nothing", "ask the city to restore it"
    ),
    "NotARegistrant": Refusal(
        "{caller} may not do this",
        "it is not the account of a registrant",
        "use the registrant's key, or ask the city to admit the registrant",
        Action.LIST_REGISTRANTS,
    ),
    # Specs
    "SpecOfAnotherRegistrant": Refusal(
        "the spec belongs to the registrant {registrant}",
        "only its registrant changes the spec {specHash} and registers devices of it",
        "use that registrant's key, or another spec",
        Action.LIST_SPECS,
    ),
    "SpecKnown": Refusal(
        "the spec {specName} is registered already",
        "a spec never changes, and its name is its own for good",
        "choose another name",
        Action.LIST_SPECS,
    ),
    "SpecUnknown": Refusal(
        "the spec is not registered",
        "no spec has the hash {specHash}",
        "register the spec first, or check its name",
        Action.LIST_SPECS,
    ),
    "SpecNameInvalid": Refusal(
        "{specName} cannot be the name of a spec",
        "a name has 1 to 64 visible ASCII characters without '/'",
        "choose another name",
    ),
    "TextTooLong": Refusal("the text is too long", "it has {length} bytes, and {limit} are allowed", "shorten it"),
    "SignatureLengthInvalid": Refusal(
        "IOTRegistry's signature cannot be kept", "it has {length} bytes, and 1 to {limit} are allowed"
    ),
    "UpdateInvalid": Refusal(
        "the list cannot have this entry",
        "the chain id is {chain} and the contract {blockOta}; neither may be zero",
        "give the chain id and the address of the vendor's BlockOTA",
    ),
    "UpdateUnchanged": Refusal(
        "nothing would change for {product}",
        "the spec's list allows or omits {product} of {blockOta} on chain {chain} already",
        "show the list",
        Action.LIST_SPECS,
    ),
    # Sites
    "NotAGateway": Refusal(
        "{site} is not an active gateway",
        "only enrolled gateways that are neither banned nor retired get device numbers",
        "check the UUID",
        Action.LIST_IDENTITIES,
    ),
    "BlockCountInvalid": Refusal(
        "{count} blocks cannot be given", "a transaction gives 1 to {limit} blocks of 256 numbers", "give fewer blocks"
    ),
    "SiteUnknown": Refusal(
        "{site} has no device numbers",
        "the city gave this gateway no block of numbers",
        "check the UUID, or ask the city for a block",
        Action.LIST_SITES,
    ),
    "SiteKnown": Refusal(
        "{site} has device numbers of its own",
        "a gateway that replaces another must not have any",
        "choose another gateway",
        Action.LIST_SITES,
    ),
    "NumbersMissing": Refusal(
        "{site} has too few device numbers left",
        "{count} consecutive numbers are needed",
        "ask the city for another block",
        Action.LIST_SITES,
    ),
    # Devices
    "NothingToImport": Refusal("the list of things is empty", "there is nothing to import", "name at least one thing"),
    "SignatureOfAnother": Refusal(
        "the signature is not that of the registrant {registrant}",
        "it is valid for the account {signer}, or for another registration, chain or contract",
        "sign with the registrant's key",
        Action.LIST_REGISTRANTS,
    ),
    "NonceInvalid": Refusal(
        "the nonce cannot identify a device", "it has {length} bytes, and 1 to {limit} are allowed", "choose another"
    ),
    "NonceTaken": Refusal(
        "the nonce {nonce} belongs to the device {number}", _FOR_EVER, "choose another nonce", Action.LIST_DEVICES
    ),
    "AliasCountInvalid": Refusal(
        "a device cannot have {count} aliases", "1 to {limit} are allowed", "give fewer aliases"
    ),
    "AliasInvalid": Refusal(
        "{aliasText} cannot be the alias of this device",
        "the first is REGISTRANT/SPEC/SERIAL, the others begin with REGISTRANT/, and each has at most 128 visible "
        "ASCII characters; of an imported device, aliases with '/' begin with REGISTRANT/",
        "choose another alias",
    ),
    "AliasTaken": Refusal(
        "the alias {aliasText} belongs to the device {number}",
        _FOR_EVER,
        "check the serial number, or choose another alias",
        Action.LIST_DEVICES,
    ),
    "DeviceKeyInvalid": Refusal(
        "this is not a P-256 key", "{keyX} and {keyY} are not the coordinates of a point of the curve", "check the key"
    ),
    "DeviceKeyTaken": Refusal(
        "the key belongs to the device {number}", _FOR_EVER, "make a new key in the device", Action.LIST_DEVICES
    ),
    "BatchInvalid": Refusal(
        "the batch cannot be registered",
        "it has the root {root} and {count} devices; a root is not zero, and a batch has 1 to {limit} devices",
        "check both",
    ),
    "DeviceUnknown": Refusal(
        "device {number} is not registered",
        "no device has this number, or it is one of a batch, whose key and registrant do not change",
        "check the number",
        Action.LIST_DEVICES,
    ),
    "DeviceOfAnother": Refusal(
        "{caller} may not change the device {number}",
        "the device has another registrant",
        "use its registrant's key",
        Action.LIST_DEVICES,
    ),
    "TransferToSelf": Refusal("the device {number} belongs to {registrant} already", "nothing would change"),
    "DeviceAlreadyBanned": Refusal(
        "the device {number} is banned already",
        "the city can replace a ban by the registrant, but no other ban can be replaced",
    ),
    "DeviceNotBanned": Refusal(
        "the device {number} has no ban that may be lifted",
        "it is not banned, or the city banned it; the city's Safe and Administrators lift such a ban",
        "show the device",
        Action.LIST_DEVICES,
    ),
}
"""The error messages, by the name of the contract's custom error."""
