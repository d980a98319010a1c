"""Error messages for refusals of the contracts Producers and IdentityRegistry, one for each custom error."""

from __future__ import annotations

from collections.abc import Mapping

from blockota.bindings.refusal import Refusal
from blockota.errors import Action

_BELONGS = "an account, a key and a virtual IP belong to one identity for good, even after its retirement"

REGISTRY_REFUSALS: Mapping[str, Refusal] = {
    # Producers
    "ProducerNameInvalid": Refusal(
        "the contract does not accept the name of a producer",
        "{name} is not 1 to 31 printable ASCII characters",
        "choose another name",
    ),
    "ProducerKnown": Refusal(
        "the producer {name} is admitted already",
        "its contract is {blockOta}, and a producer keeps its contract",
        "choose another name, or restore the producer if it is suspended",
        Action.LIST_PRODUCERS,
    ),
    "ProducerUnknown": Refusal(
        "the producer {name} is not admitted", "no producer has this name", "check the name", Action.LIST_PRODUCERS
    ),
    "ContractMissing": Refusal(
        "{account} is not a contract", "there is no code at this address", "check the address and the network"
    ),
    "BlockOtaTaken": Refusal(
        "{blockOta} belongs to the producer {name}",
        "each contract BlockOTA belongs to one producer",
        "check the address",
        Action.LIST_PRODUCERS,
    ),
    "ReplicationOfAnother": Refusal(
        "{replication} does not serve the releases of {blockOta}",
        "the contract FirmwareReplication that it names is: {served}",
        "give the producer's own contracts",
    ),
    "ProducerSuspendedAlready": Refusal("the producer {name} is suspended already", "nothing would change"),
    "ProducerNotSuspended": Refusal("the producer {name} is not suspended", "only a suspended producer is restored"),
    # IdentityRegistry
    "NothingToEnrol": Refusal(
        "the list of identities is empty", "there is nothing to enrol", "name at least one identity"
    ),
    "UuidMissing": Refusal("the identity has no UUID", "its UUID is zero", "give another UUID"),
    "KindMissing": Refusal("the identity {uuid} has no kind", "its rights depend on its kind", "give its kind"),
    "IdentityKnown": Refusal(
        "{uuid} is enrolled already",
        "a UUID names one identity for good",
        "rotate its keys, or enrol the identity under another UUID",
        Action.LIST_IDENTITIES,
    ),
    "IdentityUnknown": Refusal(
        "{uuid} is not enrolled", "no identity has this UUID", "check the UUID", Action.LIST_IDENTITIES
    ),
    "IdentityIsRetired": Refusal(
        "{uuid} is retired", "a retirement is final", "enrol another identity with new keys", Action.LIST_IDENTITIES
    ),
    "IdentityBannedAlready": Refusal("{uuid} is banned already", "it was banned on {bannedAt}"),
    "IdentityNotBanned": Refusal("{uuid} is not banned", "only the ban of a banned identity can be lifted"),
    "KeyInvalid": Refusal(
        "the key of {uuid} is not valid",
        "its {length} bytes are not a key of the kind {keyKind}: P-256 has a point on the curve, Ed25519 32 bytes, and "
        "RSA 2048, 3072 or 4096 bits with the exponent 65537",
        "give another key",
    ),
    "AccountTaken": Refusal("{account} belongs to the identity {uuid}", _BELONGS, "use another account"),
    "KeyTaken": Refusal("the key belongs to the identity {uuid}", f"{_BELONGS} (hash {{keyHash}})", "make a new key"),
    "VirtualIpTaken": Refusal("the virtual IP {virtualIp} is in use", _BELONGS, "choose another address"),
    "BanningNotAllowed": Refusal(
        "{account} may not ban identities",
        "it is neither the city's Safe nor the account of an active Administrator",
        "ask an Administrator, or propose the ban to the Safe",
    ),
    "AdministratorProtected": Refusal(
        "{uuid} is an Administrator", "only the city's Safe bans Administrators", "propose the ban to the Safe"
    ),
    "TooManyBans": Refusal(
        "the Administrator {by} may not ban another identity now",
        "it banned 10 within an hour, and may ban again on {time}",
        "wait until then, or propose the ban to the Safe",
    ),
}
"""The error messages, by the name of the contract's custom error."""
