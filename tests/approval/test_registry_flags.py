"""Calls of a Safe to Producers, IdentityRegistry and DeviceRegistry: their descriptions and their red flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from eth_abi.abi import encode

from blockota.approval.chain_view import ChainView, SafeState
from blockota.approval.intent import CONTRACTS, OWNED_REGISTRIES, describe, show_value
from blockota.approval.intent import SAFE as SAFE_NAME
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import red_flags
from blockota.approval.registry_flags import MOST_BLOCKS, MOST_ITEMS, open_questions, registry_changes
from blockota.approval.registry_records import Question
from blockota.approval.safe_transaction import DELEGATECALL
from blockota.ethereum import ZERO_ADDRESS
from blockota.formats.abi import artifact, interface
from blockota.formats.public_key import KeyKind
from blockota.keys import dev_account
from blockota.model.identity import IdentityKind
from blockota.model.release import product_key
from tests.support.samples import CONTRACT, NOW, SAFE, proposal_with

OWNERS = tuple(dev_account(number).address for number in range(1, 4))
ACCOUNT, OTHER, VENDOR = (dev_account(number).address for number in (7, 8, 9))
PLACES = {name: dev_account(20 + number).address for number, name in enumerate(OWNED_REGISTRIES)}
GATEWAY, ADMINISTRATOR = 2, 3
UUID_BYTES = UUID("0f6b3c1e-5a77-4b1c-9b1e-1f0a3a5d7c11").bytes
KEY = bytes(range(1, 65))
VIEW = ChainView(1337, 100, bytes(32), NOW, None, None, SafeState(SAFE, OWNERS, 2, 7, "1.5.0"), registries=PLACES)
ENROLMENT = {
    "uuid": UUID_BYTES,
    "kind": GATEWAY,
    "account": ACCOUNT,
    "keyKind": 1,
    "key": KEY,
    "logKey": bytes(range(32)),
    "tunnelKey": bytes(32),
    "virtualIp": 0x0A00_0001,
}
CHIEF = ENROLMENT | {"kind": ADMINISTRATOR}
IDENTITY = ENROLMENT | {
    "banned": True,
    "bannedAt": NOW,
    "retired": False,
    "since": 5,
    "fromBlock": 9,
    "previous": bytes(16),
}
THING = {
    "registrant": product_key("acme"),
    "nonce": b"\x0a",
    "aliases": ["acme/thermo2/17", "acme/seventeen"],
    "data": "",
    "spec": "acme/thermo2",
    "site": UUID_BYTES,
    "keyX": bytes(32),
    "keyY": bytes(32),
}


def calling(contract: str, function: str, *arguments: Any, **changes: Any) -> Proposal:
    """Return a proposal of the Safe that calls a registry."""
    data = interface(contract).encode_call(function, *arguments)
    return proposal_with(**({"to": PLACES[contract], "data": data} | changes))


def answering(proposal: Proposal, changes: Mapping[Question, Any] | None = None) -> ChainView:
    """Return the view with the answers to all contract reads that a call needs.

    An answer is taken from `changes`, or else from `ANSWERS`. The value None stands for a contract read that failed.
    """
    view = VIEW
    while missing := open_questions(proposal.call, view):
        answers = dict(view.answers)
        for question in missing:
            value = (changes or {}).get(question, ANSWERS[question.getter])
            answers[question.address, question.calldata] = None if value is None else result(question, value)
        view = replace(VIEW, answers=answers)
    return view


def result(question: Question, value: Any) -> bytes:
    """Return the ABI encoding of the result of a contract read."""
    getter = next(e for e in artifact(question.contract)["abi"] if e.get("name") == question.getter)
    return encode([kind_of(output) for output in getter["outputs"]], [shaped(getter["outputs"][0], value)])


def kind_of(parameter: Mapping[str, Any]) -> str:
    """Return the type of a parameter, in which a struct is a tuple."""
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(kind_of, parameter['components']))}){kind.removeprefix('tuple')}"


def shaped(parameter: Mapping[str, Any], value: Any) -> Any:
    """Return a copy of a value in which tuples replace all dicts."""
    if isinstance(value, list):
        return [shaped(parameter, one) for one in value]
    if isinstance(value, dict):
        return tuple(shaped(part, value[part["name"]]) for part in parameter["components"])
    return value


def words(proposal: Proposal, view: ChainView) -> list[str]:
    """Return the words of the red flags of a proposal."""
    return [flag.word for flag in red_flags(proposal, view, signer=OWNERS[0], now=NOW)]


def admitting(name: str = "acme", replication: str = ZERO_ADDRESS) -> Proposal:
    """Return a proposal to admit a producer."""
    return calling("Producers", "admit", product_key(name), CONTRACT, replication)


PRODUCERS = Question(PLACES["Producers"], "Producers", "producers", (0, 256))
ACME = {"name": product_key("acme"), "blockOta": OTHER, "replication": ZERO_ADDRESS, "suspended": False, "since": 5}
OWNER = Question(CONTRACT, "BlockOTA", "owner")
PRODUCTS = Question(CONTRACT, "BlockOTA", "products", (0, 1))
PENDING = Question(CONTRACT, "BlockOTA", "pendingOwner")
THRESHOLD = Question(VENDOR, SAFE_NAME, "getThreshold")
REPLICATION = Question(OTHER, "FirmwareReplication", "blockOta")
WHO = Question(PLACES["IdentityRegistry"], "IdentityRegistry", "identity", (UUID_BYTES,))
REGISTRANT = {"name": product_key("acme"), "account": OTHER, "suspended": False, "since": 5, "publicKey": b"\x02" * 33}
REGISTRANTS = Question(PLACES["DeviceRegistry"], "DeviceRegistry", "registrants", (0, 256))
DEVICE = {
    "number": 300,
    "registrant": product_key("acme"),
    "specHash": bytes(32),
    "site": UUID_BYTES,
    "imported": False,
    "ban": 0,
    "bannedAt": 0,
    "since": 5,
    "fromBlock": 9,
    "key": b"",
    "nonce": b"\x0a",
    "signature": b"",
    "record": b'\n\x0facme/thermo2/17\x12\x0202"\x0cacme/thermo2',
}
ANSWERS: Mapping[str, Any] = {
    "producers": [],
    "products": [],
    "producer": ACME,
    "owner": VENDOR,
    "pendingOwner": ZERO_ADDRESS,
    "getThreshold": 2,
    "blockOta": CONTRACT,
    "identity": IDENTITY,
    "registrants": [],
    "registrant": REGISTRANT,
    "site": {"uuid": UUID_BYTES, "given": 512, "left": 12},
    "device": DEVICE,
}
"""The answers of the getters, if a test does not change them."""
rotation = calling("IdentityRegistry", "rotate", UUID_BYTES, OTHER, 1, KEY, IDENTITY["logKey"], bytes(32))

UNREMARKABLE: Mapping[str, Proposal] = {
    "admit": admitting(replication=OTHER),
    "suspend": calling("Producers", "suspend", product_key("acme")),
    "enrol": calling("IdentityRegistry", "enrol", ENROLMENT),
    "enrol several": calling("IdentityRegistry", "enrolAll", [ENROLMENT] * MOST_ITEMS),
    "ban": calling("IdentityRegistry", "ban", UUID_BYTES, b"stolen".ljust(32, b"\0")),
    "retire": calling("IdentityRegistry", "retire", UUID_BYTES),
    "take over": calling("IdentityRegistry", "acceptOwnership"),
    "admit a registrant": calling("DeviceRegistry", "admitRegistrant", product_key("acme"), b"\x02" * 33, ACCOUNT),
    "suspend a registrant": calling("DeviceRegistry", "suspendRegistrant", product_key("acme")),
    "give blocks": calling("DeviceRegistry", "giveBlocks", UUID_BYTES, MOST_BLOCKS),
    "replace a site": calling("DeviceRegistry", "replaceSite", UUID_BYTES, bytes(15) + b"\1"),
    "ban a device": calling("DeviceRegistry", "ban", 300, b"stolen".ljust(32, b"\0")),
    "transfer": calling("DeviceRegistry", "transfer", 300, product_key("other")),
}
REMARKABLE: Mapping[str, tuple[Proposal, dict[Question, Any], list[str]]] = {
    "without an owner": (admitting(), {OWNER: None}, ["producer"]),
    "another contract with an owner": (admitting(), {PRODUCTS: None}, ["producer"]),
    "owned by an account": (admitting(), {THRESHOLD: None}, ["producer"]),
    "owned by one person": (admitting(), {THRESHOLD: 1}, ["producer"]),
    "owned by the consortium": (admitting(), {OWNER: SAFE}, ["producer"]),
    "offered to another": (admitting(), {PENDING: OTHER}, ["producer"]),
    "another's replication": (admitting(replication=OTHER), {REPLICATION: OTHER}, ["producer"]),
    "a similar name": (admitting("acrne"), {PRODUCERS: [ACME]}, ["lookalike"]),
    "restore": (calling("Producers", "restore", product_key("acme")), {}, ["unban"]),
    "offer": (calling("Producers", "transferOwnership", OTHER), {}, ["ownership"]),
    "an administrator": (calling("IdentityRegistry", "enrol", CHIEF), {}, ["administrator"]),
    "an administrator among others": (
        calling("IdentityRegistry", "enrolAll", [ENROLMENT, CHIEF]),
        {},
        ["administrator"],
    ),
    "many things": (
        calling("DeviceRegistry", "importThings", [{"thing": THING, "signature": b"\x30"}] * (MOST_ITEMS + 1)),
        {},
        ["many", "import"],
    ),
    "many": (calling("IdentityRegistry", "enrolAll", [ENROLMENT] * (MOST_ITEMS + 1)), {}, ["many"]),
    "rotate": (rotation, {}, ["keys"]),
    "rotate an administrator": (rotation, {WHO: IDENTITY | {"kind": ADMINISTRATOR}}, ["keys", "administrator"]),
    "rotate what cannot be read": (rotation, {WHO: None}, ["keys"]),
    "unban": (calling("IdentityRegistry", "unban", UUID_BYTES), {}, ["unban"]),
    "a similar registrant": (
        calling("DeviceRegistry", "admitRegistrant", product_key("acrne"), b"\x02" * 33, ACCOUNT),
        {REGISTRANTS: [REGISTRANT]},
        ["lookalike"],
    ),
    "another account": (calling("DeviceRegistry", "setRegistrantAccount", product_key("acme"), ACCOUNT), {}, ["keys"]),
    "restore a registrant": (calling("DeviceRegistry", "restoreRegistrant", product_key("acme")), {}, ["unban"]),
    "unban a device": (calling("DeviceRegistry", "unban", 300), {}, ["unban"]),
    "import things": (
        calling("DeviceRegistry", "importThings", [{"thing": THING, "signature": b"\x30"}]),
        {},
        ["import"],
    ),
    "import a spec": (
        calling("DeviceRegistry", "importSpec", product_key("acme"), "acme/thermo2", "", b"\x30"),
        {},
        ["import"],
    ),
    "many blocks": (calling("DeviceRegistry", "giveBlocks", UUID_BYTES, MOST_BLOCKS + 1), {}, ["blocks"]),
}
TODAY: Mapping[str, tuple[Proposal, str]] = {
    "identity": (
        UNREMARKABLE["ban"],
        f"gateway, BANNED, account {ACCOUNT}, enrolled 1970-01-01 00:00:05 UTC",
    ),
    "producer": (
        UNREMARKABLE["suspend"],
        f"BlockOTA {OTHER}, admitted, known since 1970-01-01 00:00:05 UTC",
    ),
    "registrant": (UNREMARKABLE["suspend a registrant"], f"admitted, account {OTHER}"),
    "site": (UNREMARKABLE["give blocks"], "512 device numbers given, 12 of them not used"),
    "device": (
        UNREMARKABLE["transfer"],
        f"acme/thermo2/17, registrant acme, site {UUID(bytes=UUID_BYTES)}, not banned",
    ),
    "no record": (UNREMARKABLE["enrol"], ""),
}


@pytest.mark.parametrize("proposal", UNREMARKABLE.values(), ids=UNREMARKABLE)
def test_a_usual_call_has_no_flag(proposal: Proposal) -> None:
    """An ordinary call to a registry is decoded and raises no red flag."""
    assert words(proposal, answering(proposal)) == []
    assert Proposal.from_json(proposal.to_json()) == proposal


@pytest.mark.parametrize(("proposal", "changes", "flags"), REMARKABLE.values(), ids=REMARKABLE)
def test_an_unusual_call_has_its_flag(proposal: Proposal, changes: dict[Question, Any], flags: list[str]) -> None:
    """Each unusual call to a registry raises exactly its own red flags."""
    assert words(proposal, answering(proposal, changes)) == flags


@pytest.mark.parametrize(("proposal", "today"), TODAY.values(), ids=TODAY)
def test_the_present_record_is_described(proposal: Proposal, today: str) -> None:
    """If a call changes a record, its description contains the present contents of the record."""
    assert registry_changes(proposal.call, answering(proposal)) == today


@pytest.mark.parametrize("content", [b"", b"\xff"], ids=["a batch", "garbled"])
def test_a_device_without_a_readable_record_is_described(content: bytes) -> None:
    """The description of a device from a batch contains no record, because such a device has none.

    A device record that cannot be decoded is described as unreadable.
    """
    transfer = UNREMARKABLE["transfer"]
    place = Question(PLACES["DeviceRegistry"], "DeviceRegistry", "device", (300,))
    today = registry_changes(transfer.call, answering(transfer, {place: DEVICE | {"record": content}}))
    assert today.startswith("a device of a batch, " if not content else "a device whose record cannot be read, ")


def test_the_words_describe_the_arguments() -> None:
    """A struct is shown by its fields, a UUID and an address in their usual notation, and missing values as none."""
    (shown,) = calling("IdentityRegistry", "enrol", ENROLMENT).intent
    assert shown == {
        "action": "enrol an identity, whose account and keys are its own for good",
        "uuid": str(UUID(bytes=UUID_BYTES)),
        "kind": "gateway",
        "account": ACCOUNT,
        "keyKind": "P-256",
        "key": KEY.hex(),
        "logKey": bytes(range(32)).hex(),
        "tunnelKey": "none",
        "virtualIp": "10.0.0.1",
    }
    (thing,) = calling("DeviceRegistry", "importThings", [{"thing": THING, "signature": b"\x30"}]).intent
    assert (thing["aliases"], thing["spec"], thing["keyX"]) == (
        "acme/thermo2/17, acme/seventeen",
        "acme/thermo2",
        "none",
    )
    (long,) = calling("IdentityRegistry", "enrol", ENROLMENT | {"keyKind": 3, "key": b"\x30" * 294}).intent
    assert long["key"].startswith("294 bytes with SHA-256 ")


@pytest.mark.parametrize("function", ["transferOwnership", "acceptOwnership"])
def test_a_call_of_several_contracts_is_for_the_called_one(function: str) -> None:
    """A function that several contracts have is accepted only at the addresses of these contracts."""
    arguments = [OTHER] if function == "transferOwnership" else []
    for name in OWNED_REGISTRIES:
        assert "target" not in words(calling(name, function, *arguments), VIEW)
    assert "target" in words(calling("Producers", function, *arguments, to=OTHER), VIEW)


def test_every_function_of_a_safe_has_words() -> None:
    """Calls of all functions that change a registry are decoded, except the functions for registrants."""
    registrants = {"registerSpec", "allow", "disallow", "register", "registerBatch", "setKey"}
    for name in OWNED_REGISTRIES:
        for entry in artifact(name)["abi"]:
            if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure"):
                made = calling(name, entry["name"], *map(sample, entry["inputs"]))
                assert made.is_known == (entry["name"] not in registrants), entry["name"]


def sample(parameter: Mapping[str, Any]) -> Any:
    """Return an example value for a parameter of a function."""
    kind = parameter["type"]
    if kind.endswith("[]"):
        return [sample({**parameter, "type": kind.removesuffix("[]")})]
    if kind == "tuple":
        return {part["name"]: sample(part) for part in parameter["components"]}
    if kind.startswith("bytes"):
        return b"\1" * int(kind.removeprefix("bytes") or 1)
    return {"address": OTHER, "string": "text"}.get(kind, 1)


def test_functions_of_several_contracts_have_the_same_words() -> None:
    """A function that several contracts have is described in the same way for each of them."""
    calls: dict[tuple[str, ...], list[str]] = {}
    for name in CONTRACTS:
        for entry in artifact(name)["abi"]:
            if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure"):
                signature = (entry["name"], *map(kind_of, entry["inputs"]))
                calls.setdefault(signature, []).append(name)
    shared = {signature for signature, names in calls.items() if len(names) > 1}
    assert shared == {("transferOwnership", "address"), ("acceptOwnership",)}
    for signature in shared:
        proposal = calling("Producers", signature[0], *[OTHER] * (len(signature) - 1))
        assert proposal.call
        assert list(proposal.call.contracts) == calls[signature]
        described = [describe(proposal, replace(proposal.call, contracts=(name,))) for name in proposal.call.contracts]
        assert all(one == described[0] for one in described)


@pytest.mark.parametrize(("name", "place"), [("Producers", "IdentityRegistry"), ("IdentityRegistry", "DeviceRegistry")])
def test_a_call_at_another_contracts_address_is_flagged(name: str, place: str) -> None:
    """A flag is raised if a call goes to another registry's address, or if its registry is not configured."""
    function = {"Producers": "suspend", "IdentityRegistry": "retire"}[name]
    argument = product_key("acme") if name == "Producers" else UUID_BYTES
    wrong = calling(name, function, argument, to=PLACES[place])
    assert words(wrong, answering(wrong)) == ["target"]
    without = replace(VIEW, registries={other: at for other, at in PLACES.items() if other != name})
    assert "target" in words(calling(name, function, argument), without)


def test_a_bundle_of_calls_is_flagged() -> None:
    """A MultiSend is flagged and not decoded, because a delegatecall runs foreign code in the context of the Safe."""
    data = bytes.fromhex("8d80ff0a") + encode(["bytes"], [b"\0" * 85])
    bundle = proposal_with(to=OTHER, data=data, operation=DELEGATECALL)
    flags = red_flags(bundle, VIEW, signer=OWNERS[0], now=NOW)
    assert [flag.word for flag in flags] == ["delegatecall", "selector", "target"]
    assert "MultiSend" in flags[1].what


def test_kinds_have_the_names_of_the_registry() -> None:
    """Kinds of identities and keys are displayed by name, and ADMINISTRATOR in capitals."""
    kinds = [show_value("kind", kind.value) for kind in IdentityKind]
    assert [kind.lower() for kind in kinds] == [str(kind) for kind in IdentityKind]
    assert [kind for kind in kinds if kind.isupper()] == ["ADMINISTRATOR"]
    assert all(show_value("keyKind", kind.value) == str(kind) for kind in KeyKind if kind.value > 0)
    assert show_value("kind", 9) == "9"


def test_records_that_are_missing_are_flagged() -> None:
    """A call whose records were not read raises the flag ``unread``.

    Records that were read can refer to further records, which must also be read.
    """
    assert words(rotation, VIEW) == ["keys", "unread"]
    assert words(rotation, replace(VIEW, source="view.json", block_time=NOW - 1)) == ["old", "keys"]
    call = admitting().call
    assert open_questions(call, VIEW) == [PRODUCERS, OWNER]
    known = {(one.address, one.calldata): result(one, ANSWERS[one.getter]) for one in (PRODUCERS, OWNER, PRODUCTS)}
    assert open_questions(call, replace(VIEW, answers=known)) == [THRESHOLD, PENDING]


def test_a_view_with_records_is_read_back() -> None:
    """A chain view file with registries and records is read back as written.

    If the record of an identity cannot be decoded, a change of the identity's keys is still flagged.
    """
    view = answering(rotation, {WHO: IDENTITY})
    assert ChainView.from_json(view.to_json()) == view
    garbled = replace(VIEW, answers={(WHO.address, WHO.calldata): b"\1"})
    assert words(rotation, garbled) == ["keys"]
