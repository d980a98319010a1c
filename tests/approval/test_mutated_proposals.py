"""BlockOTA's checks refuse mutated proposals, and the Safe itself refuses them if the checks are bypassed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature, from_json, sign, to_json
from blockota.bindings.block_ota import publish_call
from blockota.bindings.safe import deploy_safe, execute, read_safe
from blockota.errors import ProposalError, RefusedError, RevertedError
from blockota.keys import dev_account
from blockota.model.release import Version
from blockota.vendor.propose import propose
from blockota.vendor.publish import propose_pairing
from tests.conftest import REASON, Vendor
from tests.support.networks import rpc
from tests.support.samples import NOW, PRODUCT, release_of
from tests.support.strategies import addresses, json_values

NAME = "mutated"
MALLORY = dev_account(6).address
OTHER_CHAIN = 31337


@dataclass(frozen=True)
class Signed:
    """A proposal with the signatures of two owners of the Safe.

    Attributes:
        vendor: the vendor whose Safe is to execute the proposal.
        proposal: the proposal as signed.
        signatures: the signatures of two owners, in the order that the Safe requires.
        other_safe: address of another Safe with the same owners.
    """

    vendor: Vendor
    proposal: Proposal
    signatures: list[Signature]
    other_safe: str

    @property
    def joined(self) -> bytes:
        """The two signatures, concatenated as the Safe expects them."""
        return b"".join(one.signature for one in self.signatures)

    def untouched(self) -> bool:
        """Whether the Safe's nonce is unchanged, so that nothing was executed."""
        return read_safe(self.vendor.chain, self.vendor.safe).nonce == self.proposal.nonce

    def execute(self, proposal: Proposal, signatures: list[Signature] | None = None) -> None:
        """Attempt to execute a proposal through BlockOTA's checks."""
        given_ = self.signatures if signatures is None else signatures
        execute(self.vendor.chain, proposal, signatures=given_, account=self.vendor.cast.mallory, now=NOW)

    def ask_the_safe(self, proposal: Proposal, joined: bytes) -> bytes:
        """Call the Safe with a transaction and signatures, without BlockOTA's checks."""
        return self.vendor.chain.call(self.vendor.safe, proposal.execution_call(joined), sender=MALLORY)

    def relabelled(self, proposal: Proposal) -> list[Signature]:
        """Return copies of the signatures in which the hashes are replaced by those of another proposal."""
        return [replace(one, proposal=proposal.digest, safe_tx_hash=proposal.safe_tx_hash) for one in self.signatures]


SPOILT: dict[str, Callable[[bytes, bytes], bytes]] = {
    "exchanged": lambda first, second: second + first,
    "the first twice": lambda first, _: first + first,
    "the second twice": lambda _, second: second + second,
    "cut": lambda first, second: first + second[:-1],
    "one": lambda first, _: first,
    "none": lambda _first, _second: b"",
}


@pytest.fixture(scope="module")
def signed(vendor: Vendor) -> Signed:
    """Return a valid proposal with two valid signatures, which each test mutates."""
    cast, chain = vendor.cast, vendor.chain
    vendor.decide(propose_pairing(vendor.contract, replace(PRODUCT, name=NAME), reason=REASON).data)
    proposal = propose(vendor.contract, publish_call([release_of(b"\xa5" * 64, product=NAME)]), reason=REASON)
    owners = sorted((cast.owner_a, cast.owner_b), key=lambda owner: int(owner.address, 16))
    all_three = [cast.owner_a.address, cast.owner_b.address, cast.owner_c.address]
    other_safe = deploy_safe(chain, cast.payer, owners=all_three, threshold=2)
    return Signed(vendor, proposal, [sign(proposal, owner) for owner in owners], other_safe)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every node inside a JSON value, the root excluded."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, child in inside for place in ((*path, key), *places(child, (*path, key)))]


def at(root: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at a path."""
    for key in path:
        root = root[key]
    return root


@st.composite
def alike(draw: st.DrawFn, value: Any) -> Any:
    """Return a replacement for a JSON value: an integer for an integer, a text for a non-empty text, else any JSON."""
    if isinstance(value, int):
        return draw(st.integers(0, (1 << 64) - 1) | st.sampled_from([value + 1, max(value - 1, 0)]))
    if isinstance(value, str) and value:
        place, letter = draw(st.integers(0, len(value) - 1)), draw(st.sampled_from("0123456789abcdefx "))
        return draw(addresses | st.just(value[:place] + letter + value[place + 1 :]))
    return draw(json_values)


def refuse(signed: Signed, raw: bytes) -> None:
    """Assert that a mutated proposal file is refused, either when it is read or when it is executed."""
    try:
        found = Proposal.from_json(raw)
    except ProposalError:
        return
    assume(found != signed.proposal)
    attempts = [signed.signatures]
    if found.safe_tx_hash != signed.proposal.safe_tx_hash:
        attempts.append(signed.relabelled(found))
    for signatures in attempts:
        with pytest.raises(RefusedError, match=": "):
            signed.execute(found, signatures)


@settings(max_examples=80, deadline=None)
@given(choice=st.data())
def test_a_file_with_any_other_value_is_not_executed(signed: Signed, choice: st.DataObject) -> None:
    """A proposal file in which any value was changed is not executed."""
    root = json.loads(signed.proposal.to_json())
    path = choice.draw(st.sampled_from(places(root)))
    old = at(root, path)
    new = choice.draw(json_values | alike(old))
    assume(type(new) is not type(old) or new != old)
    at(root, path[:-1])[path[-1]] = new
    refuse(signed, json.dumps(root).encode())


@settings(max_examples=200, deadline=None)
@given(place=st.integers(min_value=0), new=st.binary(max_size=3), gone=st.integers(0, 3))
def test_a_file_with_other_bytes_is_not_executed(signed: Signed, place: int, new: bytes, gone: int) -> None:
    """A proposal file with replaced, removed or inserted bytes is not executed."""
    raw = signed.proposal.to_json()
    place %= len(raw)
    refuse(signed, raw[:place] + new + raw[place + gone :])


@settings(max_examples=30, deadline=None)
@given(place=st.integers(min_value=0), new=st.binary(max_size=40), gone=st.integers(0, 40))
def test_other_calldata_under_a_matching_intent_is_not_executed(
    signed: Signed, place: int, new: bytes, gone: int
) -> None:
    """Changed calldata with a matching description is refused, because no signature covers the new calldata."""
    data = signed.proposal.data
    place %= len(data)
    changed = replace(signed.proposal, data=data[:place] + new + data[place + gone :])
    assume(changed != signed.proposal)
    refuse(signed, changed.to_json())
    with pytest.raises(RevertedError, match="GS026"):
        signed.ask_the_safe(changed, signed.joined)


uint256 = st.integers(0, (1 << 256) - 1)
SEEN_IN_THE_CALL: dict[str, st.SearchStrategy[Any]] = {
    "to": addresses,
    "value": uint256,
    "data": st.binary(max_size=400),
    "operation": st.just(1),
    "safe_tx_gas": uint256,
    "base_gas": uint256,
    "gas_price": uint256,
    "gas_token": addresses,
    "refund_receiver": addresses,
}


@settings(max_examples=40, deadline=None)
@given(choice=st.data())
def test_the_safe_refuses_every_other_transaction(signed: Signed, choice: st.DataObject) -> None:
    """The Safe and BlockOTA refuse a transaction in which any field was changed after signing."""
    names = choice.draw(st.sets(st.sampled_from(sorted(SEEN_IN_THE_CALL)), min_size=1))
    changes = {name: choice.draw(SEEN_IN_THE_CALL[name]) for name in sorted(names)}
    changed = replace(signed.proposal, **changes)
    assume(changed != signed.proposal)
    with pytest.raises(RevertedError, match="GS0"):
        signed.ask_the_safe(changed, signed.joined)
    for signatures in (signed.signatures, signed.relabelled(changed)):
        with pytest.raises(ProposalError, match=r"for another proposal|is forged"):
            signed.execute(changed, signatures)


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 129), mask=st.integers(1, 255))
def test_a_spoiled_byte_of_a_signature_is_refused(signed: Signed, place: int, mask: int) -> None:
    """The Safe and BlockOTA refuse a signature in which one byte was changed."""
    spoiled = bytearray(signed.joined)
    spoiled[place] ^= mask
    refuse_signatures(signed, bytes(spoiled))


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_signatures_in_another_arrangement_are_refused(signed: Signed, spoil: Callable[[bytes, bytes], bytes]) -> None:
    """The Safe and BlockOTA refuse swapped, repeated, truncated and missing signatures."""
    refuse_signatures(signed, spoil(signed.joined[:65], signed.joined[65:]))


def refuse_signatures(signed: Signed, spoiled: bytes) -> None:
    """Assert that both the Safe and BlockOTA refuse the signatures."""
    with pytest.raises(RevertedError, match="revert"):
        signed.ask_the_safe(signed.proposal, spoiled)
    halves = (spoiled[:65], spoiled[65:])
    files = [replace(one, signature=raw) for one, raw in zip(signed.signatures, halves, strict=True)]
    with pytest.raises(ProposalError, match=r"is forged|cannot be used: v is"):
        signed.execute(signed.proposal, files)


@settings(max_examples=80, deadline=None)
@given(place=st.integers(min_value=0), new=st.binary(max_size=2), gone=st.integers(0, 2))
def test_a_spoiled_signature_file_is_not_executed(signed: Signed, place: int, new: bytes, gone: int) -> None:
    """A signature file with replaced, removed or inserted bytes is refused."""
    raw = to_json(signed.signatures)
    place %= len(raw)
    try:
        found = from_json(raw[:place] + new + raw[place + gone :])
    except ProposalError:
        return
    assume(found != signed.signatures)
    with pytest.raises(ProposalError):
        signed.execute(signed.proposal, found)


def test_signatures_are_good_on_one_chain(signed: Signed) -> None:
    """A Safe at the same address on another chain refuses the signatures."""
    chain = signed.vendor.chain
    rpc(chain, "anvil_setChainId", OTHER_CHAIN)
    try:
        with pytest.raises(RevertedError, match="GS026"):
            signed.ask_the_safe(signed.proposal, signed.joined)
    finally:
        rpc(chain, "anvil_setChainId", chain.chain_id)


OTHER_FIELDS: dict[str, tuple[Any, str, str]] = {
    "chain_id": (OTHER_CHAIN, "for another chain", "for another chain"),
    "safe": (None, "for another proposal", "is forged"),
    "nonce": (99, "for another proposal", "is forged"),
    "to": (MALLORY, "for another proposal", "is forged"),
    "value": (1, "for another proposal", "is forged"),
    "data": (publish_call([release_of(b"evil", product=NAME)]), "for another proposal", "is forged"),
    "operation": (1, "for another proposal", "is forged"),
    "safe_tx_gas": (1, "for another proposal", "is forged"),
    "base_gas": (1, "for another proposal", "is forged"),
    "gas_price": (1, "for another proposal", "is forged"),
    "gas_token": (MALLORY, "for another proposal", "is forged"),
    "refund_receiver": (MALLORY, "for another proposal", "is forged"),
}
BESIDE_THE_CALL: dict[str, Any] = {
    "reason": "another",
    "proposer": "mallory",
    "created": NOW + 1,
    "expires": NOW + 999_999,
}


@pytest.mark.parametrize("name", OTHER_FIELDS)
def test_every_field_changed_after_signing_is_refused(signed: Signed, name: str) -> None:
    """A proposal that was changed after signing is refused, even with signature files that contain its new hashes."""
    value, why, relabelled = OTHER_FIELDS[name]
    changes: dict[str, Any] = {name: signed.other_safe if name == "safe" else value}
    changed = replace(signed.proposal, **changes)
    read = Proposal.from_json(changed.to_json())
    with pytest.raises(ProposalError, match=why):
        signed.execute(read)
    with pytest.raises(ProposalError, match=relabelled):
        signed.execute(read, signed.relabelled(read))


@pytest.mark.parametrize("name", BESIDE_THE_CALL)
def test_fields_outside_the_safe_hash_are_signed_too(signed: Signed, name: str) -> None:
    """A changed reason, proposer or time is refused, although the Safe's transaction hash does not cover it."""
    changed = replace(signed.proposal, **{name: BESIDE_THE_CALL[name]})
    assert changed.safe_tx_hash == signed.proposal.safe_tx_hash
    with pytest.raises(ProposalError, match="changed after it was signed"):
        signed.execute(Proposal.from_json(changed.to_json()))


def test_the_other_safe_refuses_these_signatures(signed: Signed) -> None:
    """Another Safe with the same owners refuses the signatures, because the signed hash contains the Safe's address."""
    chain = signed.vendor.chain
    with pytest.raises(RevertedError, match="GS026"):
        chain.call(signed.other_safe, signed.proposal.execution_call(signed.joined), sender=MALLORY)


def test_the_unmutated_proposal_is_executed_once(signed: Signed) -> None:
    """The unchanged proposal is executed once, and its signatures cannot be used again."""
    assert signed.untouched()
    assert signed.vendor.contract.release(NAME, Version(1, 1, 0)) is None
    signed.execute(Proposal.from_json(signed.proposal.to_json()), from_json(to_json(signed.signatures)))
    assert signed.vendor.contract.release(NAME, Version(1, 1, 0)) is not None
    with pytest.raises(RevertedError, match="GS026"):
        signed.ask_the_safe(signed.proposal, signed.joined)
    with pytest.raises(ProposalError, match="was executed"):
        signed.execute(signed.proposal)
