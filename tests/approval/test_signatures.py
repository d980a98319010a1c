"""Signatures to a proposal: from enough owners, each once, and for this proposal only."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature, accept, from_json, merge, sign, to_json
from blockota.errors import ProposalError
from tests.conftest import Cast
from tests.support.samples import SAFE, proposal_with

PROPOSAL = proposal_with()
SOME_SIGNATURE = Signature(PROPOSAL.digest, PROPOSAL.safe_tx_hash, SAFE, bytes(65))
RAW = to_json([SOME_SIGNATURE])
OTHERS = {
    "another version": proposal_with(data=proposal_with().data[:-33] + b"\1" + proposal_with().data[-32:]),
    "another chain": proposal_with(chain_id=1),
    "another Safe": proposal_with(safe=proposal_with().to),
    "another nonce": proposal_with(nonce=8),
    "another contract": proposal_with(to=SAFE),
    "another reason": proposal_with(reason="release 1.1.1"),
    "another expiry": proposal_with(expires=PROPOSAL.expires + 1),
}
SEEN_BY_THE_SAFE = {name: other for name, other in OTHERS.items() if name not in ("another reason", "another expiry")}


@pytest.fixture
def owners(cast: Cast) -> list[str]:
    """Return the addresses of the Safe's owners."""
    return [cast.owner_a.address, cast.owner_b.address, cast.owner_c.address]


def accepted(*signatures: Signature, owners: list[str], threshold: int = 2) -> list[str]:
    """Return the signers in the order of the Safe."""
    checked = accept(PROPOSAL, signatures, owners=owners, threshold=threshold)
    return [signature.signer for signature in checked]


def by(account: LocalAccount, proposal: Proposal = PROPOSAL) -> Signature:
    """Return an account's signature."""
    return sign(proposal, account)


def test_signatures_come_in_the_order_of_the_signers(cast: Cast, owners: list[str]) -> None:
    """Signatures are sorted by ascending address, whatever the order of the files."""
    expected = sorted(owners, key=lambda owner: int(owner, 16))
    for order in itertools.permutations([by(cast.owner_a), by(cast.owner_b), by(cast.owner_c)]):
        assert accepted(*order, owners=owners) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_signatures_are_refused(count: int, cast: Cast, owners: list[str]) -> None:
    """Below the threshold all are refused; the error contains the counts."""
    with pytest.raises(ProposalError, match=f"too few signatures: {count} of 2 are there.* another owner"):
        accepted(*[by(cast.owner_a)][:count], owners=owners)


def test_a_stranger_is_refused(cast: Cast, owners: list[str]) -> None:
    """A signature by an account that is not an owner is refused; the error names signer and owners."""
    with pytest.raises(ProposalError, match=f"{cast.mallory.address} is not an owner .*{owners[2]}"):
        accepted(by(cast.owner_a), by(cast.mallory), by(cast.owner_b), owners=owners)


def test_a_former_owner_is_refused(cast: Cast, owners: list[str]) -> None:
    """Only present owners of the Safe count."""
    with pytest.raises(ProposalError, match="is not an owner"):
        accepted(by(cast.owner_a), by(cast.owner_b), owners=owners[1:])


def test_a_signature_counted_twice_is_refused(cast: Cast, owners: list[str]) -> None:
    """An owner counts once."""
    with pytest.raises(ProposalError, match=f"{cast.owner_a.address} signed twice"):
        accepted(by(cast.owner_a), by(cast.owner_a), owners=owners)


def test_a_forged_signature_is_refused(cast: Cast, owners: list[str]) -> None:
    """A signature under another owner's name is found by recovering the key."""
    forged = replace(by(cast.mallory), signer=cast.owner_b.address)
    with pytest.raises(ProposalError, match=f"{cast.owner_b.address} is forged"):
        accepted(by(cast.owner_a), forged, owners=owners)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_signature_for_another_proposal_is_refused(other: Proposal, cast: Cast, owners: list[str]) -> None:
    """A signature is valid for one Safe, chain, nonce, call, reason and expiry."""
    with pytest.raises(ProposalError, match=r"for another proposal: .* Sign the proposal again"):
        accepted(by(cast.owner_a), by(cast.owner_b, other), owners=owners)


@pytest.mark.parametrize("other", SEEN_BY_THE_SAFE.values(), ids=SEEN_BY_THE_SAFE)
def test_a_relabelled_signature_is_refused(other: Proposal, cast: Cast, owners: list[str]) -> None:
    """Another proposal's signature with this proposal's hashes is refused."""
    relabelled = replace(by(cast.owner_b, other), proposal=PROPOSAL.digest, safe_tx_hash=PROPOSAL.safe_tx_hash)
    with pytest.raises(ProposalError, match="is forged"):
        accepted(by(cast.owner_a), relabelled, owners=owners)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 31, 37, 38, 255])
def test_other_kinds_of_signature_are_refused(v: int, cast: Cast, owners: list[str]) -> None:
    """Contract, approved-hash and eth_sign signatures (other values of v) are refused."""
    signature = by(cast.owner_b).signature
    changed = replace(by(cast.owner_b), signature=signature[:64] + bytes((v,)))
    with pytest.raises(ProposalError, match="is forged"):
        accepted(by(cast.owner_a), changed, owners=owners)


@pytest.mark.parametrize("raw", [b"", bytes(64), bytes(65), b"\xff" * 65, bytes(66), bytes(1000)])
def test_bytes_that_are_not_a_signature_are_refused(raw: bytes, cast: Cast, owners: list[str]) -> None:
    """A wrong length and points off the curve are refused."""
    with pytest.raises(ProposalError, match="is forged"):
        accepted(by(cast.owner_a), replace(by(cast.owner_b), signature=raw), owners=owners)


@settings(deadline=None, max_examples=60)
@given(bit=st.integers(0, 65 * 8 - 1))
def test_every_flipped_bit_is_refused(cast: Cast, bit: int) -> None:
    """A signature with a flipped bit is refused."""
    good = by(cast.owner_a)
    changed = bytearray(good.signature)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProposalError, match="is forged"):
        accepted(replace(good, signature=bytes(changed)), owners=[good.signer], threshold=1)


def test_a_signature_file_is_read_back(cast: Cast) -> None:
    """Reading reverts writing."""
    signature = by(cast.owner_a)
    both = [signature, by(cast.owner_b)]
    assert from_json(to_json(both)) == both


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "blockota-proposal-1"},
        {"signatures": [{"signer": SAFE.lower(), "signature": "0x00"}]},
        {"signatures": [{"signer": 5, "signature": "0x00"}]},
        {"signatures": [{"signer": SAFE, "signature": "00"}]},
        {"signatures": [{"signer": SAFE, "signature": "0xzz"}]},
        {"signatures": [{"signer": SAFE, "signature": "0x00", "extra": 1}]},
        {"signatures": [{"signer": SAFE}]},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": ["0x00"]},
        {"signatures": [{"signer": SAFE, "signature": "0x00"}] * 257},
        {"signer": SAFE},
        {"safeTxHash": None},
    ],
)
def test_a_signature_file_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    """The error contains the field's value or the required format."""
    with pytest.raises(ProposalError) as refused:
        from_json(json.dumps(json.loads(RAW) | changes).encode())
    assert refused.value.why


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", RAW[:-9], RAW.replace(b"{", b'{"proposal": "",', 1), PROPOSAL.to_json()]
)
def test_a_file_that_is_not_a_signature_is_refused(raw: bytes) -> None:
    """An empty file, a list, a key twice, or the proposal itself is refused."""
    with pytest.raises(ProposalError) as refused:
        from_json(raw)
    assert refused.value.why


def test_signatures_from_several_files_are_merged(cast: Cast) -> None:
    """Each signer is listed once, by ascending address; an equal duplicate is accepted."""
    one, other = by(cast.owner_a), by(cast.owner_b)
    merged = merge([one, other, one])
    assert merged == sorted([one, other], key=lambda signature: int(signature.signer, 16))


def test_two_different_signatures_of_one_signer_are_not_merged(cast: Cast) -> None:
    """Two different signatures of one signer are refused as ambiguous."""
    with pytest.raises(ProposalError, match="there are two different signatures of"):
        merge([by(cast.owner_a), by(cast.owner_a, proposal_with(nonce=8))])


def test_signatures_to_different_proposals_make_no_file(cast: Cast) -> None:
    """A file contains signatures for one proposal."""
    with pytest.raises(ProposalError, match="they are to different proposals"):
        to_json([by(cast.owner_a), by(cast.owner_b, proposal_with(nonce=8))])
