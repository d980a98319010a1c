"""What a call of the contract means, in words; decoded from calldata, never read from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blockota.approval.safe_transaction import SafeTransaction
from blockota.errors import ProposalError
from blockota.formats.abi import SELECTOR_SIZE, Decoded, interface
from blockota.formats.cid import CID, DAG_PB, RAW
from blockota.model.release import Version, product_name, show_time

CONTRACTS = ("BlockOTA", "FirmwareReplication")
"""The contracts whose calls and errors are read."""
SAFE = "Safe"
"""The name under which a Safe's calls to itself are read."""
MAX_TEXT = 200
"""Characters of a reason."""
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


def read_call(transaction: SafeTransaction) -> tuple[str, Decoded] | None:
    """The contract and the function that a transaction calls; None where it is nothing that a vendor's Safe does.

    A Safe's own functions are meant only where the Safe calls itself. A getter, or a list of no releases, does nothing
    and poses as something that does.
    """
    for contract in (SAFE,) if transaction.to == transaction.safe else CONTRACTS:
        call = interface(contract).decode_call(transaction.data)
        if call is not None and (call.name in _ACTIONS or call.arguments.get("releases")):
            return contract, call
    return None


def describe(transaction: SafeTransaction) -> list[dict[str, str]]:
    """A transaction in words: one group of label → value for each thing that it does."""
    if transaction.is_rejection:
        return [{"action": f"reject whatever else takes nonce {transaction.nonce}, and do nothing"}]
    read = read_call(transaction)
    if read is None:
        selector = f"0x{transaction.data[:SELECTOR_SIZE].hex()}"
        return [{"action": f"UNKNOWN: {selector} with {len(transaction.data)} bytes", "called": transaction.to}]
    call = read[1]
    if call.name == "publish":
        return [{"action": "publish a release", **_show_release(release)} for release in call.arguments["releases"]]
    shown = {name.lstrip("_"): show_value(name, value) for name, value in call.arguments.items()}
    return [{"action": _ACTIONS.get(call.name, call.name), **shown}]


def image_address(release: Mapping[str, Any]) -> CID:
    """The content address of the image that a ``publish`` argument names."""
    root = release["dagRoot"]
    return CID(DAG_PB, root) if any(root) else CID(RAW, release["sha256"])


def one_line(text: Any) -> str:
    """Return a text that can be shown as it is, and cannot look like something else.

    Raises:
        ProposalError: it has control, direction or line characters, runs of spaces, or more than `MAX_TEXT` characters.
    """
    if not isinstance(text, str) or not text.isprintable():
        raise ProposalError("a text cannot be shown safely", why="it has characters that are not printable")
    if len(text) > MAX_TEXT or "  " in text:
        why = f"it has more than {MAX_TEXT} characters, or runs of spaces that could move a line"
        raise ProposalError("a text cannot be shown safely", why=why, remedy="say it shortly, on one line")
    return text


def show_value(name: str, value: Any) -> str:
    """One argument of a call or an error in words, by the name that the contract gives it."""
    if name in _SHOWN:
        return _SHOWN[name](value)
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if text.isprintable() else repr(text)


def _show_version(packed: int) -> str:
    return str(Version.unpack(packed) or "none")


def _show_address(address: int) -> str:
    return f"0x{address:08x}"


def _show_status(number: int) -> str:
    return _STATUSES[number] if number < len(_STATUSES) else str(number)


_SHOWN: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("version", "head", "minimumVersion", "requested"), _show_version),
    **dict.fromkeys(("product", "oem", "name"), product_name),
    **dict.fromkeys(("loadAddress", "flashStart"), _show_address),
    **dict.fromkeys(("expiresAt", "blockTime"), show_time),
    "activeFrom": lambda seconds: show_time(seconds) if seconds else "at once",
    "chipId": lambda number: f"0x{number:03x}",
    "status": _show_status,
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
