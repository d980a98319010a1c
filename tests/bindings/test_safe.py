"""The vendor's Safe on a real chain: its state, executions, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from blockota.approval.proposal import Proposal
from blockota.approval.signature import Signature, sign
from blockota.bindings.block_ota import publish_call
from blockota.bindings.contract import refusals_in_words
from blockota.bindings.safe import check_nonce, deploy_safe, execute, read_safe
from blockota.chain import Chain, Receipt
from blockota.errors import ContractRefusalError, ProposalError, RefusedError, RevertedError, UsageError
from blockota.ethereum import ZERO_ADDRESS
from blockota.formats.abi import encode_signature_call
from blockota.model.release import Product, Version
from blockota.vendor.propose import propose
from tests.conftest import REASON, Cast, Vendor
from tests.support.samples import NOW, release_of


@pytest.fixture
def proposal(vendor: Vendor, product: Product) -> Proposal:
    """Return a proposal to publish a release, at the Safe's next nonce."""
    image = product.name.encode()
    return propose(vendor.contract, publish_call([release_of(image, product=product.name)]), reason=REASON)


def run(vendor: Vendor, proposal: Proposal, *signers: LocalAccount, now: int = NOW) -> Receipt:
    """Execute a proposal as the broker, with the signatures of the given owners."""
    signatures = [sign(proposal, signer) for signer in signers]
    return execute(vendor.chain, proposal, signatures=signatures, account=vendor.cast.broker, now=now)


def test_the_state_of_a_safe_is_read(vendor: Vendor, cast: Cast) -> None:
    """The owners and the threshold of a Safe are read, whatever the letter case of its address."""
    state = read_safe(vendor.chain, vendor.safe.lower())
    assert set(state.owners) == {cast.owner_a.address, cast.owner_b.address, cast.owner_c.address}
    assert (state.address, state.threshold) == (vendor.safe, 2)


def test_anyone_executes_what_two_owners_signed(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """Any account may execute a proposal that two owners signed, and the Safe's nonce increases by one."""
    receipt = run(vendor, proposal, cast.owner_c, cast.owner_a)
    product = proposal.releases[0]["product"].rstrip(b"\0").decode()
    assert vendor.contract.release(product, Version(1, 1, 0)) is not None
    assert read_safe(vendor.chain, vendor.safe).nonce == proposal.nonce + 1
    assert receipt.gas_used < 200_000


def test_all_three_owners_may_sign(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """A proposal with more signatures than required is executed."""
    assert run(vendor, proposal, cast.owner_a, cast.owner_b, cast.owner_c).block_number > 0


def test_a_proposal_is_executed_once(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """A second execution of a proposal is refused with an error that contains both nonces."""
    run(vendor, proposal, cast.owner_a, cast.owner_b)
    words = f"has nonce {proposal.nonce}, and the Safe's next nonce is {proposal.nonce + 1}: this proposal or another"
    with pytest.raises(ProposalError, match=words):
        run(vendor, proposal, cast.owner_a, cast.owner_b)


def test_a_proposal_waits_for_those_before_it(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """A proposal is refused until the proposals with all lower nonces were executed."""
    later = replace(proposal, nonce=proposal.nonce + 1)
    with pytest.raises(ProposalError, match=r"other proposals come first: .* has nonce .* Execute the other"):
        run(vendor, later, cast.owner_a, cast.owner_b)
    vendor.decide(publish_call([release_of(b"before", product=product_of(proposal), version=Version(1, 0, 0))]))
    run(vendor, later, cast.owner_a, cast.owner_b)


def product_of(proposal: Proposal) -> str:
    """Return the product name in a proposal that publishes a release."""
    name: bytes = proposal.releases[0]["product"]
    return name.rstrip(b"\0").decode()


def test_an_expired_proposal_is_not_executed(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """An expired proposal is refused by the execution."""
    with pytest.raises(ProposalError, match="has expired"):
        run(vendor, proposal, cast.owner_a, cast.owner_b, now=proposal.expires)


def test_a_proposal_for_another_chain_is_not_executed(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """A proposal for another chain is refused with an error that contains both chain ids."""
    with pytest.raises(ProposalError, match="names chain id 1, the network has chain id 1337"):
        run(vendor, replace(proposal, chain_id=1), cast.owner_a, cast.owner_b)


def test_too_few_or_foreign_signatures_cost_nothing(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """A proposal with too few or foreign signatures is refused, and is executed later with valid signatures."""
    with pytest.raises(ProposalError, match="1 of 2 required signatures were found"):
        run(vendor, proposal, cast.owner_a)
    with pytest.raises(ProposalError, match="is not an owner"):
        run(vendor, proposal, cast.owner_a, cast.mallory)
    run(vendor, proposal, cast.owner_a, cast.owner_b)


def test_an_error_of_the_contract_is_reported_through_the_safe(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """If a contract would refuse the Safe's call, the error is the contract's own error."""
    release = release_of(b"faster", product=product_of(proposal), version=Version(3, 0, 0))
    vendor.decide(publish_call([release]))
    overtaken = replace(proposal, nonce=proposal.nonce + 1)
    with pytest.raises(ContractRefusalError, match=r"1\.1\.0 is not newer .* the last published version is 3\.0\.0"):
        run(vendor, overtaken, cast.owner_a, cast.owner_b)


def unchecked_call(proposal: Proposal, signatures: list[Signature]) -> bytes:
    """Return the Safe's execution calldata with these signatures, without BlockOTA's checks."""
    joined = b"".join(signature.signature for signature in signatures)
    return encode_signature_call(
        "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
        *(proposal.to, 0, proposal.data, 0, 0, 0, 0, ZERO_ADDRESS, ZERO_ADDRESS, joined),
    )


def safe_s_answer(vendor: Vendor, proposal: Proposal, signatures: list[Signature]) -> str:
    """Return the text of the Safe's own error for signatures that BlockOTA did not check."""
    with pytest.raises(ContractRefusalError) as refusal, refusals_in_words():
        vendor.chain.call(proposal.safe, unchecked_call(proposal, signatures))
    assert not isinstance(refusal.value, RevertedError)
    return str(refusal.value)


def test_error_codes_of_the_safe_become_messages(vendor: Vendor, proposal: Proposal, cast: Cast) -> None:
    """The Safe itself refuses invalid signatures, and its error codes appear in the message."""
    a, b = sorted((cast.owner_a, cast.owner_b), key=lambda owner: int(owner.address, 16))
    in_order = [sign(proposal, a), sign(proposal, b)]
    stranger = [sign(proposal, a), sign(proposal, cast.mallory)]
    assert "GS020" in safe_s_answer(vendor, proposal, in_order[:1])
    assert "GS026" in safe_s_answer(vendor, proposal, in_order[::-1])
    assert "GS026" in safe_s_answer(vendor, proposal, in_order[:1] * 2)
    assert "GS026" in safe_s_answer(vendor, proposal, stranger)
    assert "GS026" in safe_s_answer(vendor, replace(proposal, nonce=proposal.nonce + 1), other_nonce(proposal, a, b))


def other_nonce(proposal: Proposal, *signers: LocalAccount) -> list[Signature]:
    """Return signatures for a later nonce than the proposal's."""
    return [sign(replace(proposal, nonce=proposal.nonce + 9), signer) for signer in signers]


def test_an_address_of_something_else_is_reported(vendor: Vendor, cast: Cast) -> None:
    """The address of an account or of another contract is reported as not being a Safe."""
    for address in (cast.mallory.address, vendor.contract.address):
        with pytest.raises(RefusedError, match=f"no Safe at {address}: .* on chain 1337"):
            read_safe(vendor.chain, address)


def test_a_nonce_is_checked_by_itself(vendor: Vendor, proposal: Proposal) -> None:
    """`check_nonce` refuses a proposal whose nonce is not the Safe's next nonce."""
    state = read_safe(vendor.chain, vendor.safe)
    check_nonce(proposal, state)
    with pytest.raises(ProposalError, match="cannot be executed any more"):
        check_nonce(proposal, replace(state, nonce=state.nonce + 1))
    with pytest.raises(ProposalError, match="other proposals come first"):
        check_nonce(replace(proposal, nonce=state.nonce + 1), state)


def test_a_safe_is_deployed_with_its_owners(anvil: Chain, cast: Cast) -> None:
    """Two Safes that are deployed with the same owners have different addresses."""
    owners = [cast.broker.address, cast.technician.address]
    first, second = (deploy_safe(anvil, cast.payer, owners=owners, threshold=1) for _ in range(2))
    assert first != second
    assert set(read_safe(anvil, first).owners) == set(owners)


@pytest.mark.parametrize("threshold", [0, 3])
def test_an_impossible_threshold_is_refused(anvil: Chain, cast: Cast, threshold: int) -> None:
    """Deploying a Safe with a threshold of 0, or above the number of owners, is refused."""
    owners = [cast.owner_a.address, cast.owner_b.address]
    with pytest.raises(ContractRefusalError):
        deploy_safe(anvil, cast.payer, owners=owners, threshold=threshold)


def test_missing_artifacts_are_reported(
    anvil: Chain, cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error for missing contract artifacts names the command that installs them."""
    monkeypatch.setattr("blockota.bindings.safe.project_folders", lambda: [tmp_path])
    with pytest.raises(UsageError, match=r"Safe\.json is missing\. Run `npm ci`"):
        deploy_safe(anvil, cast.payer, owners=[], threshold=1)
