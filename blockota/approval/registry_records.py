"""Reads records of Producers, IdentityRegistry and DeviceRegistry for a review, and describes them in words. Pure.

A review asks for a record with a `Question`, and the chain view contains the answer. The program that creates the chain
view calls the contracts until each question has an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import KnownCall, show_value
from blockota.errors import UsageError
from blockota.ethereum import ZERO_ADDRESS
from blockota.formats.abi import DecodingError, interface
from blockota.formats.iotregistry import ThingRecord
from blockota.model.release import show_time


@dataclass(frozen=True)
class Question:
    """A getter call whose result a review needs.

    Attributes:
        address: address of the called contract.
        contract: name of the contract whose ABI has the getter.
    """

    address: str
    contract: str
    getter: str
    arguments: tuple[Any, ...] = ()

    @property
    def calldata(self) -> bytes:
        """The calldata of the getter."""
        return interface(self.contract).encode_call(self.getter, *self.arguments)

    def decode(self, result: bytes) -> Any:
        """Decode the result of the getter.

        Returns None if the result cannot be decoded, for example because another contract is at the address.
        """
        try:
            return interface(self.contract).decode_result(self.getter, result)
        except DecodingError:
            return None


Ask = Callable[[Question], Any]
"""Returns the decoded answer to a question. Returns None if the call failed, or if the answer is unknown."""


def registry_question(view: ChainView, contract: str, getter: str, *arguments: Any) -> Question:
    """Return a question to a registry of the Safe."""
    return Question(view.registries.get(contract, ZERO_ADDRESS), contract, getter, arguments)


def record_today(call: KnownCall | None, view: ChainView, ask: Ask) -> str:
    """Describe the present state of the record that a call would change; empty if the call changes no record.

    Args:
        call: the call.
        view: the state of the chain.
        ask: answers questions.
    """
    found = _RECORDS.get((call.contract, call.name)) if call else None
    if call is None or found is None:
        return ""
    parameter, getter, describe = found
    record = ask(registry_question(view, call.contract, getter, call.arguments[parameter]))
    return describe(record) if record else "the record cannot be read"


def _identity(record: Mapping[str, Any]) -> str:
    if not any(record["uuid"]):
        return "the identity does not exist"
    status = "BANNED" if record["banned"] else "active"
    if record["retired"]:
        status = "retired"
    account = show_value("account", record["account"])
    return f"{show_value('kind', record['kind'])}, {status}, account {account}, enrolled {show_time(record['since'])}"


def _producer(record: Mapping[str, Any]) -> str:
    if not any(record["name"]):
        return "the producer does not exist"
    status = "SUSPENDED" if record["suspended"] else "admitted"
    return f"BlockOTA {record['blockOta']}, {status}, known since {show_time(record['since'])}"


def _registrant(record: Mapping[str, Any]) -> str:
    if not any(record["name"]):
        return "the registrant does not exist"
    return f"{'SUSPENDED' if record['suspended'] else 'admitted'}, account {record['account']}"


def _site(record: Mapping[str, Any]) -> str:
    return f"{record['given']:,} device numbers given, {record['left']:,} of them not used"


def _device(record: Mapping[str, Any]) -> str:
    if not record["number"]:
        return "the device does not exist"
    status = "BANNED" if record["bannedAt"] else "not banned"
    registrant = show_value("registrant", record["registrant"])
    return f"{_alias(record['record'])}, registrant {registrant}, site {show_value('site', record['site'])}, {status}"


def _alias(record: bytes) -> str:
    """Return the first alias of a device's record. A device of a batch has no record on the chain."""
    try:
        return show_value("alias", ThingRecord.decode(record).aliases[0]) if record else "a device of a batch"
    except (UsageError, IndexError):
        return "a device whose record cannot be read"


_RECORDS: Mapping[tuple[str, str], tuple[str, str, Callable[[Mapping[str, Any]], str]]] = {
    **{("IdentityRegistry", name): ("uuid", "identity", _identity) for name in ("rotate", "retire", "ban", "unban")},
    **{("Producers", name): ("name", "producer", _producer) for name in ("suspend", "restore")},
    **{("DeviceRegistry", name): ("number", "device", _device) for name in ("ban", "unban", "transfer")},
    **{
        ("DeviceRegistry", name): ("name", "registrant", _registrant)
        for name in ("suspendRegistrant", "restoreRegistrant", "setRegistrantAccount")
    },
    ("DeviceRegistry", "giveBlocks"): ("site_", "site", _site),
    ("DeviceRegistry", "replaceSite"): ("from", "site", _site),
}
"""For each call that changes a record: the parameter that names the record, the record's getter, and a function that
describes the record."""
