"""Describes a Safe transaction in words. The words are always made from the decoded calldata. Pure."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from blockota.approval.safe_transaction import SafeTransaction
from blockota.errors import BLANK, ProposalError
from blockota.ethereum import ZERO_ADDRESS
from blockota.formats.abi import SELECTOR_SIZE, interface
from blockota.formats.cid import CID, DAG_PB, RAW
from blockota.model.release import Version, product_name, show_time

OWNED_REGISTRIES = ("Producers", "IdentityRegistry", "DeviceRegistry")
"""The contracts with records of producers, identities and devices that a Safe owns."""
CONTRACTS = ("BlockOTA", "FirmwareReplication", *OWNED_REGISTRIES)
"""The contracts whose functions a Safe calls."""
SAFE = "Safe"
"""Name of the ABI that decodes the calls of a Safe to itself."""
MAX_TEXT = 200
"""Maximum length of a reason and of a proposer's name, in characters."""
# These texts are part of the proposal file. A file is refused if its intent differs from the texts for its calldata.
_OWNERSHIP = {
    "transferOwnership": "offer the contract to another owner",
    "renounceOwnership": "give the contract up: no account could publish any more",
    "acceptOwnership": "take over the contract that was offered",
}
_ACTIONS: Mapping[str, Mapping[str, str]] = {
    "BlockOTA": {
        "publish": "publish a release",
        "pairOem": "pair a product with an OEM, a chip and a flash region",
        "unpairOem": "unpair a product: nothing can be published for it",
        "revoke": "revoke a release, for good",
        "setMinimumVersion": "raise the floor, for good: nothing older may be installed",
        "pause": "pause the contract: nothing is published or installed",
        "resume": "resume the contract",
        **_OWNERSHIP,
    },
    "FirmwareReplication": {
        "accept": "accept an agreement with a broker",
        "acceptAll": "accept an agreement with a broker",
        "decline": "decline an agreement with a broker",
        "terminate": "terminate an agreement with a broker",
    },
    "Producers": {
        "admit": "admit a producer: gateways follow the releases of its contract",
        "suspend": "suspend a producer: gateways install nothing from it",
        "restore": "restore a suspended producer",
        **_OWNERSHIP,
    },
    "IdentityRegistry": {
        "enrol": "enrol an identity, whose account and keys are its own for good",
        "enrolAll": "enrol an identity, whose account and keys are its own for good",
        "rotate": "replace the account and the keys of an identity",
        "retire": "retire an identity, for good",
        "ban": "ban an identity: it can anchor, order and ban nothing any more",
        "unban": "lift the ban of an identity",
        **_OWNERSHIP,
    },
    "DeviceRegistry": {
        "admitRegistrant": "admit a registrant, who registers devices under its name",
        "suspendRegistrant": "suspend a registrant: it can register and change nothing",
        "restoreRegistrant": "restore a suspended registrant",
        "setRegistrantAccount": "replace the account of a registrant",
        "giveBlocks": "give a site blocks of 256 device numbers, for good",
        "replaceSite": "give the device numbers of a site to another gateway",
        "importSpec": "import a spec of IOTRegistry, with a signature that nothing verifies",
        "importThings": "import a thing of IOTRegistry, with a signature that nothing verifies",
        "transfer": "transfer a device to another registrant",
        "ban": "ban a device: gateways offer it nothing",
        "unban": "lift the ban of a device",
        **_OWNERSHIP,
    },
    SAFE: {
        "addOwnerWithThreshold": "add an owner to the Safe",
        "removeOwner": "remove an owner from the Safe",
        "swapOwner": "replace an owner of the Safe",
        "changeThreshold": "change how many owners must sign",
    },
}
"""The calls that a Safe makes, in words."""
_LISTS = {"publish": "releases", "acceptAll": "terms", "enrolAll": "enrolments", "importThings": "things"}
"""Calls that take a list, with the name of the list."""
_KINDS = ("none", "validator", "gateway", "ADMINISTRATOR", "fog", "cloud", "operator", "technician")
"""The kinds of identities, in the order of IdentityRegistry. An administrator can ban identities and devices."""
ADMINISTRATOR = _KINDS.index("ADMINISTRATOR")
_KEY_KINDS = ("none", "P-256", "Ed25519", "RSA")
_OPTIONAL = {"account", "replication"}
"""Parameters of type address that may be empty."""
_UUID_SIZE, _LONGEST_HEX = 16, 65
"""The size of a UUID in bytes. Then the size of the longest value that is shown in full: a P-256 key, or a signature.
"""
_STATUSES = ("unknown", "proposed", "accepted", "declined", "withdrawn", "terminated")
_LOG_STATES = ("not anchored", "growing", "suspended", "retired")
_GROUP_KINDS = ("none", "model", "site", "list")
_ORDER_STATUSES = ("unknown", "open", "cancelled", "expired", "void")


def _word_of(words: tuple[str, ...]) -> Callable[[int], str]:
    """Return a function that converts the number of an enum member to a word."""
    return lambda number: words[number] if number < len(words) else str(number)


@dataclass(frozen=True)
class KnownCall:
    """A decoded call: a Safe calls one of BlockOTA's contracts, or itself.

    Attributes:
        contracts: names of the contracts that have the called function, from `CONTRACTS` and `SAFE`. A function such as
            ``transferOwnership`` belongs to several contracts.
        name: name of the called function.
        arguments: decoded arguments by parameter name; a struct is a dict, and an array is a list.
    """

    contracts: tuple[str, ...]
    name: str
    arguments: dict[str, Any]

    @property
    def contract(self) -> str:
        """Name of the called contract; the first of `contracts` if several contracts have the function."""
        return self.contracts[0]

    @property
    def items(self) -> list[dict[str, Any]]:
        """One dict of arguments for each action.

        A call with a list has one action for each element; any other call is a single action.
        """
        return self.arguments[_LISTS[self.name]] if self.name in _LISTS else [self.arguments]

    @property
    def agreements(self) -> list[dict[str, Any]]:
        """The terms of each agreement that the call decides on."""
        return self.items if self.contract == "FirmwareReplication" else []


def read_call(transaction: SafeTransaction) -> KnownCall | None:
    """Decode the calldata of a transaction.

    Returns:
        The decoded call; None for a call that a proposal must not contain. The Safe's own functions are accepted only
        if the Safe calls itself. Getters and calls with an empty list are refused, because they change nothing.
    """
    found = []
    for contract in (SAFE,) if transaction.to == transaction.safe else CONTRACTS:
        call = interface(contract).decode_call(transaction.data)
        if call and call.name in _ACTIONS[contract]:
            found.append(KnownCall((contract,), call.name, call.arguments))
    if not found or not found[0].items:
        return None
    return replace(found[0], contracts=tuple(one.contract for one in found))


def describe(transaction: SafeTransaction, call: KnownCall | None) -> list[dict[str, str]]:
    """Describe a transaction in words. `call` is the result of `read_call` for the transaction.

    Returns:
        One dict of labels and values for each action. The label ``action`` has the action in words.
    """
    if transaction.is_rejection:
        return [{"action": f"reject whatever else takes nonce {transaction.nonce}, and do nothing"}]
    if call is None:
        selector = f"0x{transaction.data[:SELECTOR_SIZE].hex()}"
        return [{"action": f"UNKNOWN: {selector} with {len(transaction.data)} bytes", "called": transaction.to}]
    action = {"action": _ACTIONS[call.contract][call.name]}
    if call.name == "publish":
        return [action | _show_release(release) for release in call.items]
    return [action | _show_arguments(arguments) for arguments in call.items]


def image_address(release: Mapping[str, Any]) -> CID:
    """Return the content address of a release's image. The release is an argument of ``publish``."""
    root = release["dagRoot"]
    return CID(DAG_PB, root) if any(root) else CID(RAW, release["sha256"])


def one_line(text: Any) -> str:
    """Return the text unchanged if it can be shown safely on one line.

    Raises:
        ProposalError: the value is not a string, has more than `MAX_TEXT` characters, or contains runs of spaces, or
            control, line-break, invisible, combining or right-to-left characters.
    """
    if not isinstance(text, str) or not text.isprintable():
        why = "the text has unprintable characters"
        raise ProposalError("the reason or the proposer cannot be shown safely", why=why)

    if hidden := next((letter for letter in text if not _is_plain(letter)), ""):
        raise ProposalError(
            "the reason or the proposer cannot be shown safely",
            why=f"the text has U+{ord(hidden):04X}, an invisible, combining or right-to-left character, which could "
            "imitate rows of the review",
            remedy="use plain characters, for example a single character é instead of e with a combining accent",
        )

    if len(text) > MAX_TEXT or "  " in text:
        why = f"the text has more than {MAX_TEXT} characters, or runs of spaces, which could move a line"
        raise ProposalError("the reason or the proposer cannot be shown safely", why=why, remedy="use one short line")
    return text


def show_value(name: str, value: Any) -> str:
    """Format one argument of a contract call or of a contract error.

    Args:
        name: name of the parameter in the contract, which selects the format.
        value: decoded value.
    """
    if name in _SHOWN and not isinstance(value, str):
        return _SHOWN[name](value)
    if value == ZERO_ADDRESS and name in _OPTIONAL:
        return "none"
    text = _hex(value) if isinstance(value, bytes) else str(value)
    return text if all(map(_is_plain, text)) else ascii(text)


def _hex(value: bytes) -> str:
    """Format bytes.

    For a long value, such as an RSA key, the SHA-256 is shown.
    """
    if not any(value):
        return "none"
    if len(value) > _LONGEST_HEX:
        return f"{len(value)} bytes with SHA-256 {hashlib.sha256(value).hexdigest()}"
    return value.hex()


def _is_plain(letter: str) -> bool:
    """Return whether a character is visible, occupies its own column, and is written from left to right."""
    is_combining = unicodedata.category(letter).startswith("M")
    is_leftward = unicodedata.bidirectional(letter) in {"R", "AL", "AN"}
    return letter.isprintable() and letter not in BLANK and not is_combining and not is_leftward


def _place(place: bytes) -> str:
    """Format the new place of a device: the UUID of a site, or the name of a registrant."""
    return str(UUID(bytes=place)) if len(place) == _UUID_SIZE else product_name(place)


def _virtual_ip(number: int) -> str:
    return str(IPv4Address(number)) if number else "none"


def _start(seconds: int) -> str:
    return show_time(seconds) if seconds else "at once"


_SHOWN: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(
        ("version", "head", "minimumVersion", "requested"), lambda packed: str(Version.unpack(packed) or "none")
    ),
    **dict.fromkeys(("product", "oem", "name", "registrant", "group", "reason"), product_name),
    **dict.fromkeys(("uuid", "by", "site", "from", "operator"), lambda uuid: str(UUID(bytes=uuid))),
    "to": _place,
    "kind": _word_of(_KINDS),
    "keyKind": _word_of(_KEY_KINDS),
    "virtualIp": _virtual_ip,
    **dict.fromkeys(("loadAddress", "flashStart"), lambda address: f"0x{address:08x}"),
    **dict.fromkeys(("expiresAt", "blockTime", "bannedAt", "time", "deadline"), show_time),
    **dict.fromkeys(("activeFrom", "notBefore"), _start),
    "chipId": lambda number: f"0x{number:03x}",
    "status": _word_of(_STATUSES),
    "state": _word_of(_LOG_STATES),
    "groupKind": _word_of(_GROUP_KINDS),
    "orderStatus": _word_of(_ORDER_STATUSES),
}


def _show_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return labels and values of arguments.

    A struct is replaced by its fields.
    """
    shown: dict[str, str] = {}
    for name, value in arguments.items():
        if isinstance(value, dict):
            shown |= _show_arguments(value)
        elif isinstance(value, list):
            shown[name] = ", ".join(show_value(name, item) for item in value) or "none"
        else:
            shown[name.strip("_")] = show_value(name.strip("_"), value)
    return shown


def _show_release(release: dict[str, Any]) -> dict[str, str]:
    return {
        "product": show_value("product", release["product"]),
        "version": show_value("version", release["version"]),
        "sha256": release["sha256"].hex(),
        "cid": str(image_address(release)),
        "size": f"{release['size']} bytes",
        "loadAddress": show_value("loadAddress", release["loadAddress"]),
        "activeFrom": show_value("activeFrom", release["activeFrom"]),
        "manifest": str(CID(RAW, release["manifest"])) if any(release["manifest"]) else "none",
    }
