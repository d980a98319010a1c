"""Files of the Safe's Transaction Builder: export, import, and refusal of changed files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.safe_transaction import DELEGATECALL
from blockota.approval.transaction_builder import checksum, from_builder, to_builder
from blockota.bindings.block_ota import revoke_call
from blockota.errors import ProposalError
from blockota.formats.abi import encode_signature_call
from blockota.keys import dev_account
from blockota.model.release import Version
from blockota.vendor.propose import propose_built
from tests.conftest import REASON, Vendor
from tests.support.samples import CONTRACT, NOW, PRODUCT, SAFE, proposal_with

MALLORY = dev_account(6).address
PROPOSAL = proposal_with(reason="Größe ≤ 1 MiB, “ready”")
RAW = to_builder(PROPOSAL)

TOKEN = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"  # noqa: S105 - the address of a token contract on Ethereum's main network
TRANSFER_INPUTS = [
    {"name": "to", "type": "address", "internalType": "address"},
    {"name": "value", "type": "uint256", "internalType": "uint256"},
]
PUBLISHED: dict[str, Any] = {
    "version": "1.0",
    "chainId": "1",
    "createdAt": 1750255509666,
    "meta": {
        "name": "Transactions Batch",
        "description": "",
        "txBuilderVersion": "1.18.0",
        "createdFromSafeAddress": "0x7eC991e1648B7F1d5fa91ae3688C9f36a5CA6C8B",
        "createdFromOwnerAddress": "",
    },
    "transactions": [
        {
            "to": TOKEN,
            "value": "0",
            "data": None,
            "contractMethod": {"inputs": TRANSFER_INPUTS, "name": "transfer", "payable": False},
            "contractInputsValues": {"to": "0x116Da30d890533516f2683731F9Bd167807448b8", "value": "1000000"},
        }
    ],
}
"""A file that Transaction Builder 1.18.0 wrote for Ethereum's main network, from the tests of a public repository."""
PUBLISHED_CHECKSUM = "0xf1966baf2cdc7c68774e5be291e81549cc7438efbceccaad0003bb12f8d30baf"

STUB = "0x49d4450977E2c95362C13D3a31a09311E0Ea26A6"
FIXTURE: dict[str, Any] = {
    "version": "1.0",
    "chainId": "4",
    "createdAt": 1654585765226,
    "meta": {
        "name": "test-batch",
        "description": "",
        "txBuilderVersion": "1.8.0",
        "createdFromSafeAddress": "0x91dB860c37E83dab0A4A005E209577E64c61EEfA",
        "createdFromOwnerAddress": "",
        "checksum": "0x6dbbd70f5e99a0c3959f2f8575373d7ad105f026b09f4c59f15083a3e723c25e",
    },
    "transactions": [
        {"to": STUB, "value": "0", "data": data, "contractMethod": method, "contractInputsValues": values}
        for data, method, values in (
            ("0x", None, None),
            (None, ("paramAddress", "address", "testAddress"), {"paramAddress": STUB}),
            (None, {"inputs": [], "name": "fallback", "payable": True}, None),
            (None, ("paramBool", "bool", "testBool"), {"paramAddress": "", "paramBool": "true"}),
            (None, ("paramBytes32", "bytes32", "testBytes32"), {"paramAddress": "", "paramBytes32": "0x"}),
        )
    ],
}
"""The file cypress/fixtures/test-batch.json of safe-global/safe-react-apps, with its checksum."""
for _transaction in FIXTURE["transactions"]:
    if isinstance(_transaction["contractMethod"], tuple):
        _name, _type, _method = _transaction["contractMethod"]
        _inputs = [{"internalType": _type, "name": _name, "type": _type}]
        _transaction["contractMethod"] = {"inputs": _inputs, "name": _method, "payable": False}


def fields_of(raw: bytes = RAW) -> dict[str, Any]:
    """Return the JSON fields of a Transaction Builder file."""
    fields: dict[str, Any] = json.loads(raw)
    return fields


def with_transaction(**changes: Any) -> bytes:
    """Return the exported file without its checksum and with changed fields in its transaction."""
    fields = fields_of()
    del fields["meta"]["checksum"]
    fields["transactions"][0] |= changes
    return json.dumps(fields).encode()


def refusal(raw: bytes) -> str:
    """Return the text of the error that importing a file raises."""
    with pytest.raises(ProposalError) as refused:
        from_builder(raw)
    assert refused.value.why
    return str(refused.value)


def test_our_file_is_read_back() -> None:
    """An exported proposal is imported with the same chain, Safe, target, value, calldata and reason."""
    built = from_builder(RAW)
    assert (built.chain_id, built.safe, built.to) == (PROPOSAL.chain_id, PROPOSAL.safe, PROPOSAL.to)
    assert (built.value, built.data, built.description) == (0, PROPOSAL.data, PROPOSAL.reason)
    assert fields_of()["meta"]["checksum"] == checksum(fields_of())
    assert fields_of()["createdAt"] == NOW * 1000


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80), value=st.integers(0, (1 << 256) - 1), reason=st.text(max_size=40))
def test_any_plain_call_is_read_back(data: bytes, value: int, reason: str) -> None:
    """Any calldata, value and reason survive export and import."""
    built = from_builder(to_builder(proposal_with(data=data, value=value, reason=reason)))
    assert (built.data, built.value, built.description) == (data, value, reason)


def test_the_checksum_is_the_transaction_builder_s() -> None:
    """The computed checksums equal those of two published Transaction Builder files."""
    assert checksum(PUBLISHED) == PUBLISHED_CHECKSUM
    assert checksum(FIXTURE) == FIXTURE["meta"]["checksum"]
    assert checksum(FIXTURE | {"transactions": FIXTURE["transactions"][::-1]}) != checksum(FIXTURE)


def test_the_checksum_serialises_every_character() -> None:
    """The checksum serialises texts as JSON.stringify does, and sorts keys in UTF-16 order."""
    meta = {"name": "x", "description": 'Größe ≤\u2028\u007f\u0007\b\n"\\/ 🙂 \ud800!', "\ufb00": 1, "🙂": 2}
    fields = {"version": "1.0", "chainId": "1337", "createdAt": 1, "meta": meta, "transactions": []}
    hashed = (
        '{["chainId","createdAt","meta","transactions","version"]"1337",1,{["description","name","🙂","\ufb00"]'
        '"Größe ≤\u2028\u007f\\u0007\\b\\n\\"\\\\/ 🙂 \\ud800!",null,2,1,},[],"1.0",}'
    )
    assert checksum(fields) == "0x" + keccak(text=hashed).hex()


def test_name_and_order_do_not_count() -> None:
    """The checksum does not depend on the batch's name or on the order of the fields."""
    meta = {**dict(reversed(PUBLISHED["meta"].items())), "name": "Other", "checksum": "0x00"}
    assert checksum({**dict(reversed(PUBLISHED.items())), "meta": meta}) == PUBLISHED_CHECKSUM


@pytest.mark.parametrize(
    "path",
    [("chainId",), ("createdAt",), ("meta", "description"), ("meta", "createdFromSafeAddress")]
    + [("transactions", 0, name) for name in ("to", "value", "data", "contractMethod", "contractInputsValues")],
    ids=lambda path: ".".join(map(str, path)),
)
def test_a_changed_file_is_refused(path: tuple[Any, ...]) -> None:
    """A file with a changed field is refused, and the error contains its checksum; only a changed name is accepted."""
    fields = fields_of()
    target: Any = fields
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = {"to": MALLORY, "value": "1", "data": "0x00"}.get(path[-1], "1")
    assert f"changed after it was written: the file states the checksum '{fields['meta']['checksum']}'" in refusal(
        json.dumps(fields).encode()
    )


@pytest.mark.parametrize("claimed", ["0x00", PUBLISHED_CHECKSUM, 5, {"a": []}, "\x1b[2J"], ids=repr)
def test_a_wrong_checksum_is_refused(claimed: Any) -> None:
    """A file with a wrong checksum is refused with a printable error."""
    fields = fields_of()
    sentence = refusal(json.dumps(fields | {"meta": fields["meta"] | {"checksum": claimed}}).encode())
    assert "was changed after it was written" in sentence
    assert sentence.isprintable()


@pytest.mark.parametrize("claimed", ["", None])
def test_a_file_without_a_checksum_is_read(claimed: str | None) -> None:
    """A file without a checksum is accepted, because several tools leave the field empty."""
    fields = fields_of()
    raw = json.dumps(fields | {"meta": fields["meta"] | {"checksum": claimed}}).encode()
    assert from_builder(raw) == from_builder(RAW)


def test_several_transactions_are_refused() -> None:
    """A file with no transaction or with several transactions is refused."""
    fields = fields_of()
    del fields["meta"]["checksum"]
    one = fields["transactions"]
    assert "has 5 transactions" in refusal(json.dumps(FIXTURE).encode())
    for count in (0, 2, 3):
        raw = json.dumps(fields | {"transactions": one * count}).encode()
        assert f"has {count} transactions, and a Safe can execute several at a time only" in refusal(raw)


def test_a_method_without_calldata_is_refused() -> None:
    """A file that gives a method and its arguments but no calldata is refused."""
    meta = PUBLISHED["meta"] | {"checksum": PUBLISHED_CHECKSUM}
    assert "has a method, but no calldata" in refusal(json.dumps(PUBLISHED | {"meta": meta}).encode())


@pytest.mark.parametrize("operation", [1, "1", True, None, []], ids=repr)
def test_a_delegatecall_is_not_made_a_call(operation: Any) -> None:
    """A transaction whose `operation` is not 0 is refused, because the import would turn a delegatecall into a call."""
    assert "has the operation" in refusal(with_transaction(operation=operation))
    assert from_builder(with_transaction(operation=0)).data == PROPOSAL.data


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("to", MALLORY[:-1], "to is '0x"),
        ("to", MALLORY.replace("EA", "Ea"), "to is '0x"),
        ("to", MALLORY[2:], "to is '976"),
        ("to", None, "to is None"),
        ("to", "\x1b[2J", "to is '\\x1b[2J'"),
        ("value", 0, "value is 0"),
        ("value", "1e18", "value is '1e18'"),
        ("value", "-1", "value is '-1'"),
        ("value", "0x0", "value is '0x0'"),
        ("value", str(1 << 256), "value is '1157"),
        ("data", "abcd", "data is 'abcd'"),
        ("data", "0xabc", "data is '0xabc'"),
        ("data", "0x ab", "data is '0x ab'"),
        ("data", ["0x"], "data is ['0x']"),
        ("data", 5, "data is 5"),
    ],
)
def test_a_wrong_field_is_named(name: str, value: Any, why: str) -> None:
    """A file with an invalid address, value or calldata is refused with an error that names the field."""
    sentence = refusal(with_transaction(**{name: value}))
    assert f"not a Transaction Builder file: its field {why}" in sentence
    assert sentence.isprintable()


def test_other_spellings_are_read() -> None:
    """An imported file may have addresses without a checksum and upper-case calldata."""
    raw = with_transaction(to=CONTRACT.lower(), data="0x" + PROPOSAL.data.hex().upper())
    assert (from_builder(raw).to, from_builder(raw).data) == (CONTRACT, PROPOSAL.data)


@pytest.mark.parametrize(
    "fields", [{}, {"meta": 5}, {"meta": []}, {"meta": {}}, {"meta": {}, "transactions": [5]}, PROPOSAL.to_json()]
)
def test_a_file_of_another_kind_is_refused(fields: Any) -> None:
    """A file that is not a Transaction Builder file is refused."""
    raw = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    assert "is not a Transaction Builder file" in refusal(raw)


@pytest.mark.parametrize(
    "changes",
    [
        *({"operation": DELEGATECALL}, {"safe_tx_gas": 1}, {"base_gas": 1}, {"gas_price": 1}),
        *({"gas_token": MALLORY}, {"refund_receiver": MALLORY}),
    ],
    ids=str,
)
def test_what_the_format_cannot_express_is_not_exported(changes: dict[str, Any]) -> None:
    """A proposal with a gas limit, a refund or a delegatecall is not exported."""
    with pytest.raises(ProposalError, match="does not support gas limits, refunds and delegatecalls"):
        to_builder(proposal_with(**changes))


def test_a_file_becomes_a_proposal_of_its_safe(vendor: Vendor) -> None:
    """Importing a file, with or without a Safe's address, results in a proposal for the vendor's Safe."""
    call = revoke_call(PRODUCT.name, Version(1, 0, 0), reason="a test")
    wanted = proposal_with(safe=vendor.safe, to=vendor.contract.address, data=call, value=5)
    built = from_builder(to_builder(wanted))
    for file in (built, replace(built, safe=None)):
        made = propose_built(vendor.contract, file, reason=REASON)
        assert (made.to, made.data, made.value, made.safe) == (wanted.to, call, 5, vendor.safe)
        assert made.reason == REASON.text


@pytest.mark.parametrize(("name", "value"), [("chain_id", 1), ("safe", SAFE), ("safe", MALLORY)])
def test_a_file_for_another_place_is_refused(vendor: Vendor, name: str, value: Any) -> None:
    """Importing a file for another chain or Safe is refused with an error that names the chain and the Safe."""
    call = encode_signature_call("pause()")
    built = from_builder(to_builder(proposal_with(safe=vendor.safe, to=vendor.contract.address, data=call)))
    with pytest.raises(ProposalError, match=f"for another chain or Safe: .* {value}.*1337 and the Safe {vendor.safe}"):
        propose_built(vendor.contract, replace(built, **{name: value}), reason=REASON)
