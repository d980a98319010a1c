"""A proposal needs valid signatures by a sufficient number of different owners, made for exactly this proposal."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature, accept, from_json, from_other_tool, merge, sign, to_json, waive_text
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
    """Check signatures of the proposal, and return the signers in the Safe's order."""
    checked = accept(PROPOSAL, signatures, owners=owners, threshold=threshold)
    return [signature.signer for signature in checked]


def by(account: LocalAccount, proposal: Proposal = PROPOSAL) -> Signature:
    """Return an account's signature of a proposal."""
    return sign(proposal, account)


def test_signatures_come_in_the_order_of_the_signers(cast: Cast, owners: list[str]) -> None:
    """Accepted signatures are sorted by the signer's address, whatever their input order was."""
    expected = sorted(owners, key=lambda owner: int(owner, 16))
    for order in itertools.permutations([by(cast.owner_a), by(cast.owner_b), by(cast.owner_c)]):
        assert accepted(*order, owners=owners) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_signatures_are_refused(count: int, cast: Cast, owners: list[str]) -> None:
    """Fewer signatures than the threshold are refused with an error that contains both numbers."""
    with pytest.raises(
        ProposalError, match=f"too few signatures: {count} of 2 required signatures were found.* another owner"
    ):
        accepted(*[by(cast.owner_a)][:count], owners=owners)


def test_a_stranger_is_refused(cast: Cast, owners: list[str]) -> None:
    """A signature of a non-owner is refused with an error that names the signer and the owners."""
    with pytest.raises(ProposalError, match=f"{cast.mallory.address} is not an owner .*{owners[2]}"):
        accepted(by(cast.owner_a), by(cast.mallory), by(cast.owner_b), owners=owners)


def test_a_former_owner_is_refused(cast: Cast, owners: list[str]) -> None:
    """A signature of a former owner of the Safe is refused."""
    with pytest.raises(ProposalError, match="is not an owner"):
        accepted(by(cast.owner_a), by(cast.owner_b), owners=owners[1:])


def test_a_signature_counted_twice_is_refused(cast: Cast, owners: list[str]) -> None:
    """Two signatures of the same owner are refused."""
    with pytest.raises(ProposalError, match=f"{cast.owner_a.address} signed twice"):
        accepted(by(cast.owner_a), by(cast.owner_a), owners=owners)


def test_a_forged_signature_is_refused(cast: Cast, owners: list[str]) -> None:
    """A signature with a false signer address is refused, because the signer is recovered from the signature."""
    forged = replace(by(cast.mallory), signer=cast.owner_b.address)
    with pytest.raises(ProposalError, match=f"{cast.owner_b.address} is forged"):
        accepted(by(cast.owner_a), forged, owners=owners)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_signature_for_another_proposal_is_refused(other: Proposal, cast: Cast, owners: list[str]) -> None:
    """A signature for another Safe, chain, nonce, call, reason or expiry is refused."""
    with pytest.raises(ProposalError, match=r"for another proposal: .* Sign the proposal again"):
        accepted(by(cast.owner_a), by(cast.owner_b, other), owners=owners)


@pytest.mark.parametrize("other", SEEN_BY_THE_SAFE.values(), ids=SEEN_BY_THE_SAFE)
def test_a_relabelled_signature_is_refused(other: Proposal, cast: Cast, owners: list[str]) -> None:
    """A signature of another proposal is refused as forged, even if its file contains the hashes of this proposal."""
    relabelled = replace(by(cast.owner_b, other), proposal=PROPOSAL.digest, safe_tx_hash=PROPOSAL.safe_tx_hash)
    with pytest.raises(ProposalError, match="is forged"):
        accepted(by(cast.owner_a), relabelled, owners=owners)


@pytest.mark.parametrize(
    ("v", "why"),
    [(0, "signature of a contract"), (1, "recorded on the chain")] + [(v, f"v is {v}") for v in (26, 29, 37, 255)],
)
def test_other_kinds_of_signature_are_refused(v: int, why: str, cast: Cast, owners: list[str]) -> None:
    """Contract signatures, approved hashes and unknown values of `v` are refused as unsupported, not as forged."""
    signature = by(cast.owner_b).signature
    changed = replace(by(cast.owner_b), signature=signature[:64] + bytes((v,)))
    with pytest.raises(ProposalError, match=f"cannot be used: .*{why}.*; only signatures by a key count"):
        accepted(by(cast.owner_a), changed, owners=owners)


def test_the_text_message_is_eth_account_s() -> None:
    """The EIP-712 message with a proposal's reason equals the encoding of eth-account."""
    fields = {
        "safeTxHash": PROPOSAL.safe_tx_hash,
        "reason": PROPOSAL.reason,
        "proposer": PROPOSAL.proposer,
        "expiresAt": PROPOSAL.expires,
        "fileDigest": bytes.fromhex(PROPOSAL.digest),
    }
    kinds = ("bytes32", "string", "string", "uint256", "bytes32")
    types = {"ProposalText": [{"name": name, "type": kind} for name, kind in zip(fields, kinds, strict=True)]}
    domain = {"name": "BlockOTA proposal", "chainId": PROPOSAL.chain_id, "verifyingContract": PROPOSAL.safe}
    assert PROPOSAL.text_signable == encode_typed_data(domain, types, fields)


@pytest.mark.parametrize(
    "changes",
    [{"reason": "other"}, {"proposer": "Eve"}, {"expires": PROPOSAL.expires + 1}, {"created": PROPOSAL.created + 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_text_is_refused(changes: dict[str, Any], cast: Cast, owners: list[str]) -> None:
    """After a change of reason, proposer or a time, signatures are refused, although the Safe's hash is the same."""
    changed = replace(PROPOSAL, **changes)
    assert changed.safe_tx_hash == PROPOSAL.safe_tx_hash
    moved = [replace(by(owner), proposal=changed.digest) for owner in (cast.owner_a, cast.owner_b)]
    for signatures in (moved, waive_text(moved)):
        with pytest.raises(ProposalError, match="does not cover the proposal's text"):
            accept(changed, signatures, owners=owners, threshold=2)


def test_a_signature_without_the_text_counts_only_on_consent(cast: Cast, owners: list[str]) -> None:
    """A signature without a signature of the proposal's reason is accepted only if the executor consents."""
    bare = replace(by(cast.owner_a), text_signature=b"")
    with pytest.raises(ProposalError, match=f"are not signed by {bare.signer}: .* or accept that"):
        accepted(bare, by(cast.owner_b), owners=owners)
    with pytest.raises(ProposalError, match="too few signatures: 1 of 2"):
        accepted(bare, owners=owners)
    assert set(accepted(*waive_text([bare, by(cast.owner_b)]), owners=owners)) == set(owners[:2])
    assert set(accepted(bare, by(cast.owner_b), by(cast.owner_c), owners=owners)) == set(owners[1:])


def test_an_eth_sign_signature_is_checked_as_by_the_safe(cast: Cast, owners: list[str]) -> None:
    """A `v` of 31 or 32 is accepted only for a signature of the hash as a personal message."""
    hashed = encode_defunct(PROPOSAL.safe_tx_hash)
    personal = raised(cast.owner_a.sign_message(hashed).signature)
    good = replace(by(cast.owner_a), signature=personal)
    assert good.is_eth_sign
    assert accepted(good, owners=owners, threshold=1) == [good.signer]
    assert Account.recover_message(hashed, signature=personal[:64] + bytes([personal[64] - 4])) == good.signer
    with pytest.raises(ProposalError, match="is forged"):
        accepted(replace(good, signature=raised(by(cast.owner_a).signature)), owners=owners, threshold=1)


def raised(signature: bytes) -> bytes:
    """Return a signature with `v` raised by 4, by which the Safe recognises an `eth_sign` signature."""
    return bytes(signature[:64]) + bytes([signature[64] + 4])


def test_signatures_of_other_tools_are_read_as_hexadecimal(cast: Cast) -> None:
    """Concatenated hexadecimal signatures of other tools are read, and their signers are recovered."""
    bare = [replace(by(owner), text_signature=b"") for owner in (cast.owner_a, cast.owner_b)]
    read = functools.partial(from_other_tool, proposal=PROPOSAL)
    assert read(f"0x{bare[0].signature.hex()}{bare[1].signature.hex()}\n".encode()) == bare
    assert read(f"{bare[0].signature.hex().upper()}\n0x{bare[1].signature.hex()}".encode()) == bare
    for raw in (b"", b"0x", b"0x" + b"1" * 129, b"zz" * 65):
        with pytest.raises(ProposalError, match="neither JSON nor 65-byte signatures"):
            read(raw)
    with pytest.raises(ProposalError, match="signature of a contract"):
        read(b"00" * 65)


@pytest.mark.parametrize("raw", [b"", bytes(64), bytes(64) + b"\x1b", b"\xff" * 64 + b"\x20", bytes(66), bytes(1000)])
def test_bytes_that_are_not_a_signature_are_refused(raw: bytes, cast: Cast, owners: list[str]) -> None:
    """A signature of a wrong length or with a point off the curve is refused."""
    with pytest.raises(ProposalError, match="is forged"):
        accepted(by(cast.owner_a), replace(by(cast.owner_b), signature=raw), owners=owners)
    if raw:
        with pytest.raises(ProposalError, match="does not cover the proposal's text"):
            accepted(by(cast.owner_a), replace(by(cast.owner_b), text_signature=raw), owners=owners)


@settings(deadline=None, max_examples=60)
@given(bit=st.integers(0, 65 * 8 - 1), part=st.sampled_from(["signature", "text_signature"]))
def test_every_flipped_bit_is_refused(cast: Cast, bit: int, part: str) -> None:
    """A signature with one flipped bit is refused, even if the executor accepts signatures without the reason."""
    good = by(cast.owner_a)
    changed = bytearray(getattr(good, part))
    changed[bit // 8] ^= 1 << bit % 8
    spoiled: dict[str, Any] = {part: bytes(changed)}
    with pytest.raises(ProposalError, match=r"is forged|cannot be used|does not cover"):
        accepted(*waive_text([replace(good, **spoiled)]), owners=[good.signer], threshold=1)


def test_a_signature_file_is_read_back(cast: Cast) -> None:
    """A signature file is read back as it was written."""
    signature = by(cast.owner_a)
    both = [signature, replace(by(cast.owner_b), text_signature=b"")]
    assert from_json(to_json(both)) == both


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "blockota-proposal-1"},
        {"signatures": [{"signer": SAFE.lower(), "signature": "0x00", "textSignature": "0x00"}]},
        {"signatures": [{"signer": 5, "signature": "0x00", "textSignature": "0x00"}]},
        {"signatures": [{"signer": SAFE, "signature": "00"}]},
        {"signatures": [{"signer": SAFE, "signature": "0xzz"}]},
        {"signatures": [{"signer": SAFE, "signature": "0x00", "textSignature": None, "extra": 1}]},
        {"signatures": [{"signer": SAFE}]},
        {"signatures": [{"signer": SAFE, "signature": "0x00"}]},
        {"signatures": [{"signer": SAFE, "signature": "0x00", "textSignature": ""}]},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": ["0x00"]},
        {"signatures": [{"signer": SAFE, "signature": "0x00", "textSignature": "0x00"}] * 257},
        {"signer": SAFE},
        {"safeTxHash": None},
    ],
)
def test_a_signature_file_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    """A signature file with a missing, unknown or malformed field is refused with a reason."""
    with pytest.raises(ProposalError) as refused:
        from_json(json.dumps(json.loads(RAW) | changes).encode())
    assert refused.value.why


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", RAW[:-9], RAW.replace(b"{", b'{"proposal": "",', 1), PROPOSAL.to_json()]
)
def test_a_file_that_is_not_a_signature_is_refused(raw: bytes) -> None:
    """An empty file, a list, a repeated key and a proposal are refused as signature files."""
    with pytest.raises(ProposalError) as refused:
        from_json(raw)
    assert refused.value.why


def test_signatures_from_several_files_are_merged(cast: Cast) -> None:
    """Merging signatures removes equal duplicates, and sorts the signatures by the signer's address."""
    one, other = by(cast.owner_a), by(cast.owner_b)
    merged = merge([one, other, one])
    assert merged == sorted([one, other], key=lambda signature: int(signature.signer, 16))


def test_two_different_signatures_of_one_signer_are_not_merged(cast: Cast) -> None:
    """Two different signatures of one signer are refused instead of merged."""
    with pytest.raises(ProposalError, match="has two different signatures"):
        merge([by(cast.owner_a), by(cast.owner_a, proposal_with(nonce=8))])


def test_signatures_to_different_proposals_make_no_file(cast: Cast) -> None:
    """A signature file cannot contain signatures of different proposals."""
    with pytest.raises(ProposalError, match="the signatures belong to different proposals"):
        to_json([by(cast.owner_a), by(cast.owner_b, proposal_with(nonce=8))])
