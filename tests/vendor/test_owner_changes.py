"""Changes of a Safe's owners and threshold, on a real chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from eth_account.signers.local import LocalAccount

from blockota.approval.chain_view import SafeState
from blockota.approval.intent import SAFE
from blockota.approval.proposal import Proposal
from blockota.approval.signature import sign
from blockota.bindings.safe import execute, read_safe
from blockota.errors import ContractRefusalError, RefusedError
from blockota.formats.abi import interface
from blockota.keys import dev_account
from blockota.vendor.propose import Reason, add_call, propose_to_itself, remove_call, replace_call, threshold_call
from tests.conftest import REASON, Vendor
from tests.support.networks import rpc
from tests.support.samples import NOW

DORA = dev_account(8)
STATE = SafeState(
    dev_account(12).address,
    tuple(dev_account(number).address for number in range(1, 4)),
    threshold=2,
    nonce=7,
    version="1.5.0",
)


@pytest.fixture(autouse=True)
def restored(vendor: Vendor) -> Iterator[None]:
    """Restore the Safe's state after each test."""
    snapshot = rpc(vendor.chain, "evm_snapshot")
    yield
    rpc(vendor.chain, "evm_revert", snapshot)


def state(vendor: Vendor) -> SafeState:
    """Return the Safe's current state."""
    return read_safe(vendor.chain, vendor.safe)


def signers(vendor: Vendor) -> list[LocalAccount]:
    """Return the accounts of the Safe's current owners."""
    known: dict[str, LocalAccount] = {
        account.address: account for account in (dev_account(number) for number in range(20))
    }
    return [known[owner] for owner in state(vendor).owners]


def decide(vendor: Vendor, make: Callable[[SafeState], bytes]) -> Proposal:
    """Propose, sign and execute a change of the Safe's owners, and return the proposal."""
    proposal = propose_to_itself(vendor.contract, make, reason=REASON)
    signatures = [sign(proposal, signer) for signer in signers(vendor)]
    execute(vendor.chain, proposal, signatures=signatures, account=vendor.cast.payer, now=NOW)
    return proposal


@pytest.mark.parametrize(("threshold", "expected"), [(None, 2), (1, 1), (4, 4)])
def test_an_owner_is_added(vendor: Vendor, threshold: int | None, expected: int) -> None:
    """An owner is added with the same or another threshold, and can sign the next proposal."""
    before = state(vendor)
    proposal = decide(vendor, lambda safe: add_call(safe, DORA.address, threshold=threshold))
    after = state(vendor)
    assert set(after.owners) == {*before.owners, DORA.address}
    assert after.threshold == expected
    assert proposal.intent == [
        {"action": "add an owner to the Safe", "owner": DORA.address, "threshold": str(expected)}
    ]
    decide(vendor, lambda safe: remove_call(safe, DORA.address, threshold=2))
    assert set(state(vendor).owners) == set(before.owners)


@pytest.mark.parametrize(
    ("place", "threshold"), [(0, None), (1, 1), (2, None), (2, 1)], ids=["first", "middle", "last", "last to one"]
)
def test_an_owner_is_removed(vendor: Vendor, place: int, threshold: int | None) -> None:
    """An owner at any position of the Safe's list can be removed, and the remaining owners keep their order."""
    before = state(vendor)
    gone = before.owners[place]
    decide(vendor, lambda safe: remove_call(safe, gone.lower(), threshold=threshold))
    after = state(vendor)
    assert after.owners == tuple(owner for owner in before.owners if owner != gone)
    assert after.threshold == (threshold or before.threshold)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
def test_an_owner_is_replaced(vendor: Vendor, place: int) -> None:
    """An owner at any position of the Safe's list can be replaced.

    The new owner has the same position in the list as the replaced owner.
    """
    before = state(vendor)
    lost = before.owners[place]
    proposal = decide(vendor, lambda safe: replace_call(safe, lost.lower(), DORA.address))
    after = state(vendor)
    assert after.owners == tuple(DORA.address if owner == lost else owner for owner in before.owners)
    assert after.threshold == before.threshold
    assert (proposal.intent[0]["oldOwner"], proposal.intent[0]["newOwner"]) == (lost, DORA.address)


def test_owners_are_changed_one_proposal_after_the_other(vendor: Vendor) -> None:
    """While one change of owners waits, another change is refused, because the first alters the Safe's owner list."""

    def propose_threshold(threshold: int, reason: Reason) -> Proposal:
        return propose_to_itself(vendor.contract, lambda safe: threshold_call(safe, threshold), reason=reason)

    executed = decide(vendor, lambda safe: threshold_call(safe, 1))
    first = propose_threshold(2, replace(REASON, queued={"executed.json": executed}))
    assert first.nonce == executed.nonce + 1
    waiting = replace(REASON, queued={"first.json": first})
    with pytest.raises(RefusedError, match=r"first\.json changes the owners or the threshold first"):
        propose_threshold(3, waiting)
    assert propose_threshold(3, replace(waiting, nonce=first.nonce)).nonce == first.nonce
    assert propose_threshold(3, replace(waiting, now=first.expires)).nonce == first.nonce
    rejection = replace(first, data=b"")
    assert propose_threshold(3, replace(REASON, queued={"no.json": rejection})).nonce == first.nonce + 1


def test_owners_are_removed_down_to_one(vendor: Vendor) -> None:
    """All owners except one can be removed; the removal of the last owner is refused."""
    for _ in range(2):
        decide(vendor, lambda safe: remove_call(safe, safe.owners[-1], threshold=1))
    alone = state(vendor)
    assert (len(alone.owners), alone.threshold) == (1, 1)
    with pytest.raises(RefusedError, match=r"a threshold of 1 cannot be met: the Safe would have 0 owners"):
        remove_call(alone, alone.owners[0], threshold=None)


@pytest.mark.parametrize("threshold", [1, 3])
def test_the_threshold_is_changed(vendor: Vendor, threshold: int) -> None:
    """The Safe's threshold is lowered and raised, and its owners do not change."""
    before = state(vendor)
    decide(vendor, lambda safe: threshold_call(safe, threshold))
    assert (state(vendor).threshold, state(vendor).owners) == (threshold, before.owners)


def test_a_removed_owner_s_signature_is_refused(vendor: Vendor) -> None:
    """A signature of a removed owner is refused, even if it was made before the removal."""
    later = propose_to_itself(vendor.contract, lambda safe: threshold_call(safe, 1), reason=REASON)
    gone, *others = signers(vendor)
    early = [sign(later, gone), sign(later, others[0])]
    decide(vendor, lambda safe: remove_call(safe, gone.address, threshold=None))
    with pytest.raises(RefusedError, match=f"{gone.address} is not an owner of the Safe"):
        execute(vendor.chain, later, signatures=early, account=vendor.cast.payer, now=NOW)


@pytest.mark.parametrize("who", ["0x" + "00" * 20, "0x" + "00" * 19 + "01", "the Safe itself"])
def test_an_address_that_can_own_nothing_is_refused_by_the_safe(vendor: Vendor, who: str) -> None:
    """The zero address, the sentinel of the owner list and the Safe itself are refused as owners."""
    owner = vendor.safe if who == "the Safe itself" else who
    with pytest.raises(ContractRefusalError, match=r"an owner's address cannot be used.*GS203"):
        propose_to_itself(vendor.contract, lambda safe: add_call(safe, owner, threshold=None), reason=REASON)


def test_a_removal_for_an_old_owner_list_is_refused_by_the_safe(vendor: Vendor) -> None:
    """The removal of an owner is refused if the Safe's owner list changed since the call was built."""
    before = state(vendor)
    stale = remove_call(before, before.owners[0], threshold=None)
    decide(vendor, lambda safe: add_call(safe, DORA.address, threshold=None))
    assert state(vendor).owners[0] == DORA.address
    with pytest.raises(ContractRefusalError, match=r"the owner list does not match.*GS205"):
        propose_to_itself(vendor.contract, lambda _: stale, reason=REASON)


def test_a_change_without_effect_is_refused() -> None:
    """An owner change without effect is refused with an error that shows the Safe's state."""
    shown = f"2 of {', '.join(STATE.owners)} must sign"
    with pytest.raises(RefusedError, match=f"{STATE.owners[1]} is an owner already: {shown}"):
        add_call(STATE, STATE.owners[1], threshold=None)
    with pytest.raises(RefusedError, match="is an owner already"):
        add_call(STATE, STATE.owners[1].lower(), threshold=None)
    with pytest.raises(RefusedError, match=f"{DORA.address} is not an owner of the Safe: {shown}"):
        remove_call(STATE, DORA.address, threshold=None)
    with pytest.raises(RefusedError, match=f"{DORA.address} is not an owner of the Safe: {shown}"):
        replace_call(STATE, DORA.address, STATE.owners[0])
    with pytest.raises(RefusedError, match=f"{STATE.owners[1]} is an owner already: {shown}"):
        replace_call(STATE, STATE.owners[0], STATE.owners[1])
    with pytest.raises(RefusedError, match=f"the threshold is 2 already: {shown}"):
        threshold_call(STATE, 2)


@pytest.mark.parametrize("threshold", [-1, 0, 5, 1 << 300])
def test_a_threshold_that_cannot_be_met_is_refused(threshold: int) -> None:
    """A threshold below 1 or above the resulting number of owners is refused."""
    with pytest.raises(RefusedError, match=f"a threshold of {threshold} cannot be met: the Safe would have 4 owners"):
        add_call(STATE, DORA.address, threshold=threshold)
    with pytest.raises(RefusedError, match=f"a threshold of {threshold} cannot be met: the Safe would have 3 owners"):
        threshold_call(STATE, threshold)
    with pytest.raises(RefusedError, match=f"a threshold of {threshold} cannot be met: the Safe would have 2 owners"):
        remove_call(STATE, STATE.owners[0], threshold=threshold)


def test_the_boundary_is_met() -> None:
    """A threshold equal to the number of owners is accepted."""
    assert interface(SAFE).decode_call(threshold_call(STATE, 3)) is not None
    assert interface(SAFE).decode_call(add_call(STATE, DORA.address, threshold=4)) is not None
    with pytest.raises(RefusedError, match="cannot be met"):
        remove_call(SafeState(STATE.address, STATE.owners[:2], 2, 7, "1.5.0"), STATE.owners[0], threshold=None)
