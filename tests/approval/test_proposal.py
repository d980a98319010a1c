"""Proposal files: their hashes equal those of eth-account, and malformed files are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.intent import one_line
from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import CALL, DELEGATECALL
from blockota.bindings.block_ota import pair_call, publish_call, revoke_call
from blockota.errors import ProposalError
from blockota.formats.abi import interface
from blockota.model.release import Product, Region, Version
from tests.support.samples import CONTRACT, NOW, PRODUCT, SAFE, code, proposal_with, release_of
from tests.support.strategies import addresses, json_values, names, uint64, versions

ZERO = "0x" + "00" * 20
SAFE_TX = [
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "data", "type": "bytes"},
    {"name": "operation", "type": "uint8"},
    {"name": "safeTxGas", "type": "uint256"},
    {"name": "baseGas", "type": "uint256"},
    {"name": "gasPrice", "type": "uint256"},
    {"name": "gasToken", "type": "address"},
    {"name": "refundReceiver", "type": "address"},
    {"name": "nonce", "type": "uint256"},
]
DOMAIN = [{"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"}]
LARGEST_TIME = (1 << 40) - 1
PROPOSAL = proposal_with()
calls = st.one_of(
    st.builds(revoke_call, names, versions, reason=st.text(max_size=40)),
    st.binary(min_size=1, max_size=80).map(lambda image: publish_call([release_of(image), release_of(image + b"2")])),
    st.builds(
        lambda name, oem, chip: pair_call(Product(name, oem, chip, Region(0, (1 << 32) - 1), None, paired=True)),
        names,
        names,
        st.integers(0, 0xFFFF),
    ),
    st.sampled_from(["pause", "resume", "acceptOwnership"]).map(interface("BlockOTA").encode_call),
)
words = st.text(st.characters(categories=["Lu", "Nd", "Pd", "Sm", "Zs"], max_codepoint=0x500), max_size=200).map(
    lambda text: " ".join(text.split())
)
uint256 = st.integers(0, (1 << 256) - 1)
anyones = st.just(ZERO) | addresses
proposals = st.builds(
    Proposal,
    chain_id=uint64,
    safe=addresses,
    nonce=uint64,
    to=addresses,
    data=calls | st.binary(max_size=40),
    value=uint256,
    operation=st.sampled_from([CALL, DELEGATECALL]),
    safe_tx_gas=uint256,
    base_gas=uint256,
    gas_price=uint256,
    gas_token=anyones,
    refund_receiver=anyones,
    reason=words,
    proposer=words,
    created=uint64,
    expires=uint64,
)


def as_typed_data(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal's Safe transaction as EIP-712 typed data."""
    return {
        "types": {"EIP712Domain": DOMAIN, "SafeTx": SAFE_TX},
        "primaryType": "SafeTx",
        "domain": {"chainId": proposal.chain_id, "verifyingContract": proposal.safe},
        "message": {
            "to": proposal.to,
            "value": proposal.value,
            "data": proposal.data,
            "operation": proposal.operation,
            "safeTxGas": proposal.safe_tx_gas,
            "baseGas": proposal.base_gas,
            "gasPrice": proposal.gas_price,
            "gasToken": proposal.gas_token,
            "refundReceiver": proposal.refund_receiver,
            "nonce": proposal.nonce,
        },
    }


def fields_of(proposal: Proposal) -> dict[str, Any]:
    """Return the JSON fields of a proposal file."""
    fields: dict[str, Any] = json.loads(proposal.to_json())
    return fields


def read(fields: object) -> Proposal:
    """Read a proposal from the given JSON fields."""
    return Proposal.from_json(json.dumps(fields).encode())


@settings(max_examples=60, deadline=None)
@given(proposals)
def test_the_hashes_are_those_of_eip_712(proposal: Proposal) -> None:
    """The domain hash, message hash and safeTxHash of a proposal equal those that eth-account computes."""
    expected = encode_typed_data(full_message=as_typed_data(proposal))
    assert (proposal.domain_hash, proposal.message_hash) == (expected.header, expected.body)
    assert proposal.safe_tx_hash == keccak(b"\x19" + expected.version + expected.header + expected.body)
    assert proposal.signable == expected


@settings(max_examples=60, deadline=None)
@given(proposals)
def test_a_file_is_read_back(proposal: Proposal) -> None:
    """A proposal survives writing and reading, and equal proposals are written as equal bytes."""
    raw = proposal.to_json()
    assert Proposal.from_json(raw) == proposal
    assert Proposal.from_json(raw).to_json() == raw


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(fields_of(PROPOSAL))), value=json_values)
def test_a_changed_field_is_refused_or_names_another_file(name: str, value: Any) -> None:
    """A proposal file with a changed field is refused or has a new digest."""
    try:
        found = read(fields_of(PROPOSAL) | {name: value})
    except ProposalError:
        return
    assert found.digest != PROPOSAL.digest or fields_of(PROPOSAL)[name] == value


@pytest.mark.parametrize("name", sorted(fields_of(PROPOSAL)))
def test_a_missing_field_is_refused(name: str) -> None:
    """A proposal file without one of its fields is refused."""
    with pytest.raises(ProposalError):
        read({key: value for key, value in fields_of(PROPOSAL).items() if key != name})


@pytest.mark.parametrize(
    ("label", "value"),
    [("version", "9.9.9"), ("product", "acme-other"), ("sha256", "00" * 32), ("size", "65 bytes"), ("note", "new")],
)
def test_an_intent_that_differs_from_the_calldata_is_refused(label: str, value: str) -> None:
    """A proposal file is refused if its description differs from the decoded calldata."""
    fields = fields_of(PROPOSAL)
    fields["intent"][0][label] = value
    with pytest.raises(ProposalError, match=r"contradicts itself.* Do not sign the proposal"):
        read(fields)


def test_other_calldata_under_the_same_intent_is_refused() -> None:
    """A proposal file with replaced calldata and an unchanged description is refused."""
    other = proposal_with(data=publish_call([release_of(code(65))]))
    with pytest.raises(ProposalError, match="contradicts itself"):
        read(fields_of(PROPOSAL) | {"data": "0x" + other.data.hex()})


WRONG_FIELDS: tuple[dict[str, Any], ...] = (
    {"format": "blockota-proposal-2"},
    {"chainId": "1337"},
    {"chainId": 1337.0},
    {"chainId": True},
    {"chainId": 1 << 64},
    {"nonce": -1},
    {"nonce": None},
    {"safe": SAFE.lower()},
    {"safe": SAFE[:-1]},
    {"safe": 5},
    {"to": ZERO[:-1] + "g"},
    {"data": PROPOSAL.data.hex()},
    {"data": "0x" + PROPOSAL.data.hex().upper()},
    {"data": "0x" + PROPOSAL.data.hex(" ")},
    {"data": "0x" + PROPOSAL.data.hex() + "0"},
    {"data": "0xzz"},
    {"data": ["0x"]},
    {"value": 0},
    {"value": "00"},
    {"value": "-1"},
    {"value": str(1 << 256)},
    {"operation": 2},
    {"operation": "0"},
    {"gasPrice": "0x0"},
    {"gasToken": "0x0"},
    {"refundReceiver": SAFE.lower()},
    {"proposer": 7},
    {"proposer": "a" * 201},
    {"reason": None},
    {"extra": "field"},
    {"intent": []},
)


@pytest.mark.parametrize("changes", WRONG_FIELDS)
def test_a_field_of_the_wrong_kind_is_refused(changes: dict[str, Any]) -> None:
    """A proposal file is refused if a field has a wrong type or spelling, or is unknown."""
    with pytest.raises(ProposalError) as refused:
        read(fields_of(PROPOSAL) | changes)
    assert refused.value.why


SELECTOR_OF_AN_ERROR = keccak(text="EnforcedPause()")[:4]
WRONG_CALLS = (
    b"",
    b"\0",
    PROPOSAL.data[:4],
    PROPOSAL.data[:-1],
    PROPOSAL.data + b"\0",
    PROPOSAL.data + bytes(32),
    b"\xff\xff\xff\xff" + PROPOSAL.data[4:],
    SELECTOR_OF_AN_ERROR,
    keccak(text="addOwnerWithThreshold(address,uint256)")[:4] + bytes(64),
)


@pytest.mark.parametrize("data", WRONG_CALLS)
def test_calldata_that_cannot_be_read_to_its_end_is_unknown(data: bytes) -> None:
    """Calldata with trailing bytes, missing arguments or a foreign selector is described as an unknown call."""
    with pytest.raises(ProposalError, match="contradicts itself"):
        read(fields_of(PROPOSAL) | {"data": "0x" + data.hex()})
    unknown = proposal_with(data=data)
    assert not unknown.is_known
    assert fields_of(unknown)["intent"] == [
        {"action": f"UNKNOWN: 0x{data[:4].hex()} with {len(data)} bytes", "called": CONTRACT}
    ]
    assert unknown.call is None


@pytest.mark.parametrize("hidden", ["\n", "\x1b[2K", "\u202e", "\u200b", "\u2066", "\x00", "\ud800", "\u2028", "\xa0"])
def test_a_reason_that_could_hide_something_is_refused(hidden: str) -> None:
    """A reason with control, bidirectional, invisible or line break characters is refused."""
    with pytest.raises(ProposalError, match="cannot be shown safely"):
        read(fields_of(PROPOSAL) | {"reason": f"release{hidden}1.1.0"})


INVISIBLE = [
    "\u2800",
    "\u3164",
    "\u115f",
    "\u1160",
    "\uffa0",
    "\u034f",
    "\ufe0f",
    "\u17b4",
    "\u180b",
    "\U000e0100",
    "\U0001d159",
]
COMBINING = ["e\u0301", "\u0489", "\u20dd", "\u0903"]
RIGHT_TO_LEFT = ["\u05d0", "\u0627", "\u0661", "\U00010800"]


@pytest.mark.parametrize("hidden", [*INVISIBLE, *COMBINING, *RIGHT_TO_LEFT], ids=ascii)
def test_a_text_that_could_draw_rows_is_refused(hidden: str) -> None:
    """Invisible, combining and right-to-left characters are refused in a reason, and escaped in calldata."""
    fields = json.loads(proposal_with().to_json())
    for name in ("reason", "proposer"):
        with pytest.raises(ProposalError, match=r"has U\+[0-9A-F]{4,5}, an invisible, combining or right-to-left"):
            Proposal.from_json(json.dumps(fields | {name: f"first{hidden}release"}).encode())
    shown = proposal_with(data=revoke_call("acme-thermo2", Version(1, 0, 0), reason=f"a{hidden}b")).intent[0]["reason"]
    assert shown.isascii()


def test_other_languages_are_not_refused() -> None:
    """Composed letters, wide characters and symbols in texts are displayed unchanged."""
    for text in ("Größe geändert", "первый выпуск", "最初のリリース", "1 → 2, 50 µs"):
        assert one_line(text) == text


@pytest.mark.parametrize("hidden", ["\n", "\x1b[2K", "\u202e", "\u200b", "\x00"])
def test_a_text_of_the_calldata_is_shown_with_escapes(hidden: str) -> None:
    """Control characters in texts of the calldata are escaped for the terminal."""
    proposal = proposal_with(data=revoke_call(PRODUCT.name, Version(1, 1, 0), reason=f"bad{hidden}image"))
    (group,) = fields_of(proposal)["intent"]
    assert group["action"] == "revoke a release, for good"
    assert group["reason"] == repr(f"bad{hidden}image")


RAW = PROPOSAL.to_json()
WRONG_FILES = {
    "empty": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe\xfd",
    "a list": b"[]",
    "a number": b"5",
    "nothing": b"null",
    "cut": RAW[:-10],
    "two objects": RAW + RAW,
    "a key twice": RAW.replace(b'"nonce": 7', b'"nonce": 7, "nonce": 8'),
    "the format twice": RAW.replace(b"{", b'{"format": "blockota-proposal-1",', 1),
    "a number of 5000 digits": RAW.replace(b'"nonce": 7', b'"nonce": ' + b"7" * 5000),
    "nested without end": b"[" * 100_000,
    "infinity": RAW.replace(b'"nonce": 7', b'"nonce": Infinity'),
    "an exponent": RAW.replace(b'"nonce": 7', b'"nonce": 7e0'),
}


@pytest.mark.parametrize("raw", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_is_not_a_proposal_is_refused(raw: bytes) -> None:
    """Bytes that are not a proposal file are refused with a reason."""
    with pytest.raises(ProposalError) as refused:
        Proposal.from_json(raw)
    assert refused.value.why


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(RAW) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_names_another_file(position: int, byte: int) -> None:
    """A changed byte in a proposal file is refused, changes the digest, or leaves the content equal."""
    changed = RAW[:position] + bytes((byte,)) + RAW[position + 1 :]
    try:
        found = Proposal.from_json(changed)
    except ProposalError:
        return
    assert (found == PROPOSAL) == (found.digest == PROPOSAL.digest)
    assert found != PROPOSAL or json.loads(changed) == json.loads(RAW)


def test_a_time_beyond_the_calendar_is_shown() -> None:
    """The largest activation time in calldata is displayed, although `datetime` cannot represent it."""
    proposal = proposal_with(data=publish_call([release_of(code(), active_from=LARGEST_TIME)]))
    assert str(LARGEST_TIME) in fields_of(proposal)["intent"][0]["activeFrom"]
    with pytest.raises(ProposalError, match="expired"):
        proposal_with(expires=1).check_time((1 << 64) - 1)


def test_a_proposal_expires_at_its_second() -> None:
    """A proposal is refused at the second of its expiry and later; the error contains the time."""
    proposal = replace(PROPOSAL, expires=NOW)
    proposal.check_time(NOW - 1)
    with pytest.raises(ProposalError, match="has expired: it was valid until 2027-01-15 08:00:00 UTC"):
        proposal.check_time(NOW)


@given(st.lists(proposals, min_size=2, max_size=2, unique=True))
@settings(max_examples=30, deadline=None)
def test_different_proposals_have_different_digests(pair: list[Proposal]) -> None:
    """Two proposals that differ, even only in their reasons, have different digests."""
    first, second = pair
    assert first.digest != second.digest
    assert replace(first, reason=first.reason + "!").digest != first.digest
