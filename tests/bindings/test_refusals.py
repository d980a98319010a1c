"""Each error of the contracts and of the Safe is explained by a message that contains the error's values."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from blockota.bindings.refusals import EXPLAINED, REFUSALS, SAFE_CODES, explain
from blockota.errors import RevertedError
from blockota.formats.abi import artifact
from blockota.model.release import Version, product_key
from tests.conftest import ROOT
from tests.support.samples import SAFE

SAFE_SOURCES = ROOT / "node_modules" / "@safe-global" / "safe-smart-account" / "contracts"
ERRORS = {e["name"]: e for contract in EXPLAINED for e in artifact(contract)["abi"] if e["type"] == "error"}
VALUES: dict[str, Any] = {
    "product": product_key("acme-thermo2"),
    "name": b"two words".ljust(32, b"\0"),
    "version": Version(1, 2, 3).packed,
    "head": Version(4, 5, 6).packed,
    "minimumVersion": Version(7, 8, 9).packed,
    "requested": Version(1, 0, 0).packed,
    "sha256": bytes(range(32)),
    "dagRoot": bytes(32),
    "size": 70_000,
    "loadAddress": 0x0800_0000,
    "flashStart": 0x0800_4000,
    "flashSize": 65_536,
    "account": SAFE,
    "owner": SAFE,
    "caller": SAFE,
    "vendor": SAFE,
    "broker": SAFE,
    "id": 3,
    "status": 2,
    "expiresAt": 1_800_000_000,
    "blockTime": 1_700_000_000,
    "length": 300,
    "limit": 256,
    **dict.fromkeys(("blockOta", "replication", "served"), SAFE),
    "publicKey": b"\2" + bytes(range(32)),
    "registrant": product_key("acme"),
    "signer": SAFE,
    **dict.fromkeys(("suspended", "allowed"), False),
    **dict.fromkeys(("aliasText", "specName"), "acme/thermo2/SN-1"),
    **dict.fromkeys(("specHash", "keyX", "keyY", "root"), bytes(range(32))),
    "nonce": b"\1\2",
    **dict.fromkeys(("number", "count", "party"), 2),
    **dict.fromkeys(("uuid", "by", "site"), bytes(range(16))),
    "keyKind": 1,
    "keyHash": bytes(range(32)),
    "virtualIp": 0x0A400007,
    **dict.fromkeys(("bannedAt", "time"), 1_700_000_000),
    **dict.fromkeys(("deadline", "notBefore"), 1_900_000_000),
    **dict.fromkeys(("anchoredSize", "words", "bits", "index", "firstIndex", "secondIndex", "current"), 8),
    **dict.fromkeys(("kind", "groupKind", "orderStatus", "state"), 2),
    "active": False,
    "number": 300,
    "operator": bytes(range(16)),
    "release": bytes(range(32)),
    "value": bytes(range(32)),
    "group": product_key("thermo2-berlin"),
    "chain": 1,
}


def reverted(name: str) -> RevertedError:
    """Return the error of a call that a contract reverted, as a node reports it."""
    entry = ERRORS[name]
    types, values = [i["type"] for i in entry["inputs"]], [VALUES[i["name"]] for i in entry["inputs"]]
    return RevertedError(keccak(text=f"{name}({','.join(types)})")[:4] + encode(types, values), "no")


def test_every_error_of_the_contract_has_a_message() -> None:
    """The table of messages contains exactly the custom errors of the contracts."""
    assert set(REFUSALS) == set(ERRORS)


def test_every_code_of_the_safe_has_a_message() -> None:
    """The table of Safe error codes contains every code in the Safe's source files."""
    codes = {code for path in SAFE_SOURCES.rglob("*.sol") for code in re.findall(r"GS\d{3}", path.read_text())}
    assert len(codes) > 25
    assert codes <= set(SAFE_CODES)


@pytest.mark.parametrize("name", ERRORS)
def test_a_message_uses_only_fields_of_its_error(name: str) -> None:
    """Each message template uses only the fields of its contract error."""
    asked = {key for part in REFUSALS[name][:3] for _, key, _, _ in string.Formatter().parse(part) if key}
    assert asked <= {entry["name"] for entry in ERRORS[name]["inputs"]}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_becomes_a_message(name: str) -> None:
    """Each contract error becomes a complete message with exit status 3."""
    refusal = explain(reverted(name))
    assert not isinstance(refusal, RevertedError)
    assert refusal.what
    assert refusal.why
    assert not set("{}") & set(str(refusal))
    assert refusal.exit_status == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("VersionNotNewer", ("acme-thermo2 1.2.3 is not newer", "4.5.6", "above 4.5.6")),
        ("VersionBelowMinimum", ("acme-thermo2 1.2.3 is below", "a version below 7.8.9")),
        ("ImageAlreadyPublished", ("version 1.2.3", bytes(range(32)).hex(), "Put the new version into the image")),
        ("ImageOutsideRegion", ("70000 bytes at 0x08000000", "65536 bytes at 0x08004000")),
        ("DagRootMismatch", ("acme-thermo2 1.2.3", "70000 bytes")),
        ("MinimumVersionNotRaised", ("cannot become 1.0.0", "7.8.9")),
        ("NameInvalid", ("two words",)),
        ("WrongAgreementStatus", ("agreement 3 is accepted", "Leave the agreement out; the vendor can terminate it")),
        ("AgreementExpired", ("agreement 3", "2027-01-15")),
        ("OwnableUnauthorizedAccount", (SAFE, "it does not own the contract")),
    ],
)
def test_a_message_contains_the_values(name: str, words: tuple[str, ...]) -> None:
    """Versions, names, addresses and digests appear in readable form in the error message."""
    text = str(explain(reverted(name)))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "Wait for the vendor's decision"), (3, "its broker can make a new offer"), (4, "a new offer"), (5, "ended")],
)
def test_the_remedy_depends_on_the_status_of_the_agreement(
    monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    """The remedy for WrongAgreementStatus depends on the status: wait for a decision, or make a new offer."""
    monkeypatch.setitem(VALUES, "status", status)
    assert words in str(explain(reverted("WrongAgreementStatus")))


@pytest.mark.parametrize("code", sorted(SAFE_CODES))
def test_every_code_becomes_a_message(code: str) -> None:
    """An error code of the Safe is found in the revert data or in the node's message, and is explained."""
    data = bytes.fromhex("08c379a0") + encode(["string"], [code])
    for error in (RevertedError(data, ""), RevertedError(b"", f"execution reverted: {code}")):
        refusal = explain(error)
        assert (refusal.what, code in refusal.why) == (SAFE_CODES[code][0], True)


@pytest.mark.parametrize("data", [b"", b"\x12\x34", bytes(4), bytes(36), bytes.fromhex("4e487b71") + bytes(32)])
def test_an_unknown_error_is_reported_unchanged(data: bytes) -> None:
    """An unknown contract error is reported with its data or with the node's message."""
    error = RevertedError(data, "execution reverted")
    assert explain(error) is error
    assert "execution reverted" in str(error)
    assert f"0x{data.hex()}" in str(RevertedError(data, ""))
