"""The meaning of a Safe transaction in words, decoded from its calldata and never read from a file. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from blockota.approval.safe_transaction import SafeTransaction
from blockota.errors import BLANK, ProposalError
from blockota.formats.abi import SELECTOR_SIZE, interface
from blockota.formats.cid import CID, DAG_PB, RAW
from blockota.model.release import Version, product_name, show_time

CONTRACTS = ("BlockOTA", "FirmwareReplication")
"""Contracts whose calls and errors are decoded."""
SAFE = "Safe"
"""Name of the interface by which a Safe's calls to itself are decoded."""
MAX_TEXT = 200
"""Maximum length of a reason, in characters."""
# These texts are part of the proposal file: a file whose intent has other words than its calldata gives is refused.
_ACTIONS = {
    "pairOem": "pair a product with an OEM, a chip and a flash region",
    "unpairOem": "unpair a product: nothing can be published for it",
    "revoke": "revoke a release, for good",
    "setMinimumVersion": "raise the floor, for good: nothing older may be installed",
    "pause": "pause the contract: nothing is published or installed",
    "resume": "resume the contract",
    "transferOwnership": "offer the contract to another owner",
    "renounceOwnership": "give the contract up: nobody could publish any more",
    "acceptOwnership": "take over the contract that was offered",
    "accept": "accept an agreement with a broker",
    "decline": "decline an agreement with a broker",
    "terminate": "terminate an agreement with a broker",
    "addOwnerWithThreshold": "add an owner to the Safe",
    "removeOwner": "remove an owner from the Safe",
    "swapOwner": "replace an owner of the Safe",
    "changeThreshold": "change how many owners must sign",
}
_STATUSES = ("unknown", "proposed", "accepted", "declined", "withdrawn", "terminated")


@dataclass(frozen=True)
class KnownCall:
    """A call of one of our contracts, or of the Safe to itself.

    Attributes:
        contract: name of the contract: BlockOTA, FirmwareReplication or Safe.
        arguments: arguments by parameter name; a struct is a dict, an array a list.
    """

    contract: str
    name: str
    arguments: dict[str, Any]


def read_call(transaction: SafeTransaction) -> KnownCall | None:
    """Decode the calldata of a transaction.

    Returns:
        None if it is not a call that a vendor's Safe makes. A Safe's own functions are accepted only if the Safe
        calls itself. Getters and an empty list of releases are not accepted: a proposal with them would look as
        if it changed something.
    """
    for contract in (SAFE,) if transaction.to == transaction.safe else CONTRACTS:
        call = interface(contract).decode_call(transaction.data)
        if call is not None and (call.name in _ACTIONS or call.arguments.get("releases")):
            return KnownCall(contract, call.name, call.arguments)
    return None


def describe(transaction: SafeTransaction, call: KnownCall | None) -> list[dict[str, str]]:
    """Describe a transaction in words, with the result of `read_call` for it.

    Returns:
        One group of labels and values for each action; each group has the label ``action``.
    """
    if transaction.is_rejection:
        return [{"action": f"reject whatever else takes nonce {transaction.nonce}, and do nothing"}]
    if call is None:
        selector = f"0x{transaction.data[:SELECTOR_SIZE].hex()}"
        return [{"action": f"UNKNOWN: {selector} with {len(transaction.data)} bytes", "called": transaction.to}]
    if call.name == "publish":
        return [{"action": "publish a release", **_show_release(release)} for release in call.arguments["releases"]]
    shown = {name.lstrip("_"): show_value(name, value) for name, value in call.arguments.items()}
    return [{"action": _ACTIONS[call.name], **shown}]


def image_address(release: Mapping[str, Any]) -> CID:
    """The content address of the image of a release argument of ``publish``."""
    root = release["dagRoot"]
    return CID(DAG_PB, root) if any(root) else CID(RAW, release["sha256"])


def one_line(text: Any) -> str:
    """Return the text unchanged if it can be shown safely on one line.

    Raises:
        ProposalError: the value is not a text, has control, line, invisible, combining or right-to-left characters,
            runs of spaces, or more than `MAX_TEXT` characters.
    """
    if not isinstance(text, str) or not text.isprintable():
        raise ProposalError("a text cannot be shown safely", why="it has unprintable characters")
    if hidden := next((letter for letter in text if not _is_plain(letter)), ""):
        raise ProposalError(
            "a text cannot be shown safely",
            why=f"it has U+{ord(hidden):04X}, an invisible, combining or right-to-left character, by which a text can "
            "look like rows of the review",
            remedy="use characters that stand for themselves, such as é in place of e with an accent",
        )
    if len(text) > MAX_TEXT or "  " in text:
        why = f"it has more than {MAX_TEXT} characters, or runs of spaces that could move a line"
        raise ProposalError("a text cannot be shown safely", why=why, remedy="use one short line")
    return text


def show_value(name: str, value: Any) -> str:
    """Format one argument of a call or an error.

    Args:
        name: name of the parameter in the contract, which selects the format.
        value: decoded value.
    """
    if name in _SHOWN:
        return _SHOWN[name](value)
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if all(map(_is_plain, text)) else ascii(text)


def _is_plain(letter: str) -> bool:
    """Whether a character is visible, stands in its own column, and is written from left to right."""
    is_combining = unicodedata.category(letter).startswith("M")
    is_leftward = unicodedata.bidirectional(letter) in {"R", "AL", "AN"}
    return letter.isprintable() and letter not in BLANK and not is_combining and not is_leftward


_SHOWN: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(
        ("version", "head", "minimumVersion", "requested"), lambda packed: str(Version.unpack(packed) or "none")
    ),
    **dict.fromkeys(("product", "oem", "name"), product_name),
    **dict.fromkeys(("loadAddress", "flashStart"), lambda address: f"0x{address:08x}"),
    **dict.fromkeys(("expiresAt", "blockTime"), show_time),
    "activeFrom": lambda seconds: show_time(seconds) if seconds else "at once",
    "chipId": lambda number: f"0x{number:03x}",
    "status": lambda number: _STATUSES[number] if number < len(_STATUSES) else str(number),
}


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
