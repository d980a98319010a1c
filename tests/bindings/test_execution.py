"""Execution and simulation of unusual proposals: gas limits, ether values, delegatecalls and late failures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account.signers.local import LocalAccount

from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import DELEGATECALL
from blockota.approval.signature import sign
from blockota.bindings.block_ota import publish_call
from blockota.bindings.safe import Rehearsal, execute, read_safe, rehearse
from blockota.chain import Receipt
from blockota.errors import ContractRefusalError, ProposalError
from blockota.formats.abi import encode_signature_call
from blockota.model.release import Product, Version
from blockota.vendor.propose import Reason, propose, propose_rejection
from tests.conftest import REASON, Cast, Vendor
from tests.support.networks import rpc
from tests.support.samples import NOW, release_of

ENOUGH_GAS, TOO_LITTLE_GAS = 500_000, 30_000
REVERTS_IN_A_BLOCK = bytes.fromhex("3a15600a5760006000fd5b00")
"""Reverts in a block, not in a simulation: GASPRICE ISZERO PUSH1 10 JUMPI, PUSH1 0 PUSH1 0 REVERT, JUMPDEST STOP."""
EMITS_A_FOREIGN_FAILURE = (
    bytes.fromhex("7f")
    + bytes.fromhex("23428b18acfb3ea64b08dc0c1d296ea9c09702c09083ca5272e64d115b687d23")
    + b"\x60\0\x60\0\xa1\0"
)
"""Emits an ExecutionFailure event that is not the Safe's: PUSH32 topic, PUSH1 0 PUSH1 0 LOG1 STOP."""


@pytest.fixture
def proposal(vendor: Vendor, product: Product) -> Proposal:
    """Return a proposal to publish a release, at the Safe's next nonce."""
    image = product.name.encode()
    return propose(vendor.contract, publish_call([release_of(image, product=product.name)]), reason=REASON)


def run(vendor: Vendor, proposal: Proposal, *signers: LocalAccount) -> Receipt:
    """Execute a proposal as the broker, signed by the given owners or by the first two."""
    signatures = [sign(proposal, signer) for signer in signers or (vendor.cast.owner_a, vendor.cast.owner_b)]
    return execute(vendor.chain, proposal, signatures=signatures, account=vendor.cast.broker, now=NOW)


def try_out(vendor: Vendor, proposal: Proposal, *signers: LocalAccount) -> Rehearsal:
    """Simulate a proposal with the signatures of the given owners."""
    return rehearse(vendor.chain, proposal, signatures=[sign(proposal, signer) for signer in signers])


def nonce(vendor: Vendor) -> int:
    """Return the Safe's next nonce."""
    return read_safe(vendor.chain, vendor.safe).nonce


def contract_with(vendor: Vendor, runtime: bytes) -> str:
    """Deploy a contract with the given runtime code, and return its address."""
    size = bytes((len(runtime),))
    creation = b"\x60" + size + b"\x60\x0c\x60\0\x39\x60" + size + b"\x60\0\xf3" + runtime
    address = vendor.chain.send(vendor.cast.payer, creation).contract
    assert address is not None
    return address


def test_sufficient_gas_limits_are_accepted(vendor: Vendor, proposal: Proposal, product: Product) -> None:
    """A proposal with sufficient gas limits is executed."""
    run(vendor, replace(proposal, safe_tx_gas=ENOUGH_GAS))
    assert vendor.contract.release(product.name, Version(1, 1, 0)) is not None


def test_a_call_that_would_only_cost_its_nonce_is_found_before_sending(vendor: Vendor, proposal: Proposal) -> None:
    """A proposal is refused before sending, without using up its nonce, if the call's gas limit is too low."""
    rpc(vendor.chain, "anvil_setBalance", vendor.safe, hex(10**18))
    priced = replace(proposal, gas_price=1, safe_tx_gas=TOO_LITTLE_GAS)
    paying = replace(proposal, value=1, safe_tx_gas=1)
    for doomed in (priced, paying):
        with pytest.raises(ContractRefusalError, match=f"the Safe's call would fail: .* use up nonce {proposal.nonce}"):
            run(vendor, doomed)
        with pytest.raises(ContractRefusalError, match="the Safe's call would fail"):
            try_out(vendor, doomed, vendor.cast.owner_a, vendor.cast.owner_b)
    rpc(vendor.chain, "anvil_setBalance", vendor.safe, hex(0))
    assert nonce(vendor) == proposal.nonce


def test_a_call_that_fails_only_in_the_block_is_reported(vendor: Vendor, proposal: Proposal) -> None:
    """A call that succeeds in the simulation but fails in the block is reported as a failure."""
    trap = contract_with(vendor, REVERTS_IN_A_BLOCK)
    trapped = replace(proposal, to=trap, data=b"", safe_tx_gas=ENOUGH_GAS)
    assert try_out(vendor, trapped, vendor.cast.owner_a, vendor.cast.owner_b) == Rehearsal(call=True, execution=True)
    with pytest.raises(
        ContractRefusalError, match=rf"the Safe's call failed: nonce {proposal.nonce} was used up in block"
    ):
        run(vendor, trapped)
    assert nonce(vendor) == proposal.nonce + 1


def test_the_failure_of_another_safe_is_ignored(vendor: Vendor, proposal: Proposal) -> None:
    """An ExecutionFailure event of another contract is ignored."""
    emitter = contract_with(vendor, EMITS_A_FOREIGN_FAILURE)
    receipt = run(vendor, replace(proposal, to=emitter, data=b""))
    assert any(log.topics[0].hex().startswith("23428b18") for log in receipt.logs)


def test_a_failing_call_without_gas_limits_is_refused_by_the_safe(vendor: Vendor, proposal: Proposal) -> None:
    """A proposal without gas limits is refused before sending, without using up its nonce, if its call would fail."""
    paying = replace(proposal, value=1)
    with pytest.raises(ContractRefusalError, match="the contract refused"):
        run(vendor, paying)
    with pytest.raises(ContractRefusalError, match="the contract refused"):
        try_out(vendor, paying, vendor.cast.owner_a, vendor.cast.owner_b)
    assert nonce(vendor) == proposal.nonce


def test_a_refund_that_the_safe_cannot_pay_is_refused(vendor: Vendor, proposal: Proposal) -> None:
    """A gas refund that the Safe cannot pay is refused."""
    with pytest.raises(ContractRefusalError, match=r"could not pay the refund.*GS011"):
        run(vendor, replace(proposal, gas_price=1, safe_tx_gas=ENOUGH_GAS))


def test_a_value_is_sent(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """The ether value that the owners signed is transferred with the proposal's call."""
    rpc(vendor.chain, "anvil_setBalance", vendor.safe, hex(100))
    before = int(rpc(vendor.chain, "eth_getBalance", cast.mallory.address, "latest"), 16)
    run(vendor, replace(proposal, to=cast.mallory.address, data=b"", value=60))
    assert int(rpc(vendor.chain, "eth_getBalance", cast.mallory.address, "latest"), 16) == before + 60
    assert int(rpc(vendor.chain, "eth_getBalance", vendor.safe, "latest"), 16) == 40


def test_a_delegatecall_runs_as_the_safe(vendor: Vendor, proposal: Proposal) -> None:
    """A delegatecall is simulated only within the Safe's execution, because a plain call has another context."""
    emitter = contract_with(vendor, EMITS_A_FOREIGN_FAILURE)
    foreign = replace(proposal, to=emitter, data=b"", operation=DELEGATECALL)
    assert try_out(vendor, foreign, vendor.cast.owner_a, vendor.cast.owner_b) == Rehearsal(call=False, execution=True)
    run(vendor, foreign)
    assert nonce(vendor) == proposal.nonce + 1


def test_a_rejection_takes_the_nonce(vendor: Vendor, proposal: Proposal, product: Product) -> None:
    """A rejection uses up the Safe's nonce, so the rejected proposal can never be executed."""
    rejection = propose_rejection(vendor.contract, reason=Reason("wrong image", NOW, 3600, nonce=proposal.nonce))
    assert rejection.is_rejection
    assert try_out(vendor, rejection) == Rehearsal(call=False, execution=False)
    run(vendor, rejection)
    with pytest.raises(ProposalError, match="this proposal or another one was executed"):
        run(vendor, proposal)
    assert vendor.contract.release(product.name, Version(1, 1, 0)) is None


def test_a_rehearsal_changes_nothing(vendor: Vendor, proposal: Proposal, product: Product, cast: Cast) -> None:
    """A simulation sends nothing.

    The simulation includes the Safe's execution only if there are enough signatures for the next nonce.
    """
    assert try_out(vendor, proposal) == Rehearsal(call=True, execution=False)
    assert try_out(vendor, proposal, cast.owner_a) == Rehearsal(call=True, execution=False)
    ahead = replace(proposal, nonce=proposal.nonce + 1)
    assert try_out(vendor, ahead, cast.owner_a, cast.owner_b) == Rehearsal(call=True, execution=False)
    assert try_out(vendor, proposal, cast.owner_c, cast.owner_a) == Rehearsal(call=True, execution=True)
    assert nonce(vendor) == proposal.nonce
    assert vendor.contract.release(product.name, Version(1, 1, 0)) is None


def test_a_rehearsal_refuses_what_an_execution_would(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """A simulation refuses another chain id, a signature of a non-owner, a forged signature, and a reverting call."""
    with pytest.raises(ProposalError, match="names chain id 1, the network has chain id 1337"):
        try_out(vendor, replace(proposal, chain_id=1))
    with pytest.raises(ProposalError, match="is not an owner"):
        try_out(vendor, proposal, cast.mallory)
    forged = replace(sign(proposal, cast.mallory), signer=cast.owner_a.address)
    with pytest.raises(ProposalError, match="is forged"):
        rehearse(vendor.chain, proposal, signatures=[forged])
    unknown = publish_call([release_of(b"x", product="never-paired")])
    with pytest.raises(ContractRefusalError, match="never-paired is not paired"):
        try_out(vendor, replace(proposal, data=unknown))


def test_an_owner_change_by_a_direct_call_is_refused(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """The Safe refuses a change of its owners that is not called by the Safe itself."""
    call = encode_signature_call("addOwnerWithThreshold(address,uint256)", cast.mallory.address, 1)
    with pytest.raises(ContractRefusalError, match="GS031"):
        vendor.chain.send(cast.mallory, call, to=vendor.safe)
    assert nonce(vendor) == proposal.nonce
