"""Hashes and signatures of Safe transactions, compared with those of safe-eth-py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_typing import URI
from eth_utils.address import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import CALL, DELEGATECALL, SafeTransaction
from blockota.approval.signature import Signature, accept, sign, waive_text
from blockota.bindings.block_ota import publish_call
from blockota.bindings.safe import execute, read_safe
from blockota.errors import ProposalError
from blockota.ethereum import ZERO_ADDRESS
from blockota.keys import dev_account
from blockota.model.release import Product, Version
from blockota.vendor.propose import propose
from tests.conftest import REASON, Vendor
from tests.support.samples import NOW, proposal_with, release_of
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from safe_eth.eth import EthereumClient
    from safe_eth.safe.safe_tx import SafeTx

NOWHERE = "http://127.0.0.1:9"
"""URL of a node that is never contacted: safe-eth-py computes hashes from the given values alone."""
SAFE_VERSION = "1.5.0"
OWNERS = tuple(dev_account(number) for number in range(1, 4))
uint256 = st.integers(0, (1 << 256) - 1)
addresses = st.binary(min_size=20, max_size=20).map(to_checksum_address)
transactions = st.builds(
    SafeTransaction,
    chain_id=st.integers(0, (1 << 64) - 1),
    safe=addresses,
    nonce=st.integers(0, (1 << 64) - 1),
    to=addresses,
    data=st.binary(max_size=300),
    value=uint256,
    operation=st.sampled_from([CALL, DELEGATECALL]),
    safe_tx_gas=uint256,
    base_gas=uint256,
    gas_price=uint256,
    gas_token=st.just(ZERO_ADDRESS) | addresses,
    refund_receiver=st.just(ZERO_ADDRESS) | addresses,
)


@cache
def client_of(url: str) -> EthereumClient:
    """Return the client of safe-eth-py for the node at a URL."""
    from safe_eth.eth import EthereumClient

    return EthereumClient(URI(url))


def theirs(transaction: SafeTransaction, url: str = NOWHERE, *, signatures: bytes = b"") -> SafeTx:
    """Convert a Safe transaction to an object of safe-eth-py."""
    from safe_eth.safe.safe_tx import SafeTx

    return SafeTx(
        client_of(url),
        to_checksum_address(transaction.safe),
        to_checksum_address(transaction.to),
        transaction.value,
        transaction.data,
        transaction.operation,
        transaction.safe_tx_gas,
        transaction.base_gas,
        transaction.gas_price,
        to_checksum_address(transaction.gas_token),
        to_checksum_address(transaction.refund_receiver),
        signatures=signatures,
        safe_nonce=transaction.nonce,
        safe_version=SAFE_VERSION,
        chain_id=transaction.chain_id,
    )


def joined(signatures: Sequence[Signature]) -> bytes:
    """Concatenate signatures as the Safe expects them."""
    return b"".join(signature.signature for signature in signatures)


def made_by_safe_eth(proposal: Proposal, signer: LocalAccount) -> Signature:
    """Sign a proposal with safe-eth-py, and convert the result to a `Signature` of BlockOTA."""
    made = theirs(proposal).sign(signer.key.hex())
    return Signature(proposal.digest, proposal.safe_tx_hash, signer.address, bytes(made))


@settings(max_examples=100, deadline=None)
@given(transactions)
def test_the_hash_is_safe_eth_py_s(transaction: SafeTransaction) -> None:
    """The domain, message and transaction hashes of any Safe transaction equal those of safe-eth-py."""
    other = theirs(transaction)
    assert transaction.safe_tx_hash == bytes(other.safe_tx_hash)
    preimage = b"\x19\x01" + transaction.domain_hash + transaction.message_hash
    assert preimage == bytes(other.safe_tx_hash_preimage)


@settings(max_examples=12, deadline=None)
@given(transaction=transactions, signers=st.permutations(OWNERS), threshold=st.integers(1, 3))
def test_our_signatures_are_read_by_safe_eth_py(
    transaction: SafeTransaction, signers: list[LocalAccount], threshold: int
) -> None:
    """Safe-eth-py reads BlockOTA's signatures as ECDSA signatures of the owners, in the Safe's order."""
    from safe_eth.safe.safe_signature import SafeSignature, SafeSignatureEOA

    proposal = Proposal(**vars(transaction), reason="", created=NOW, expires=NOW + 1)
    made = [sign(proposal, signer) for signer in signers[:threshold]]
    owners = [owner.address for owner in OWNERS]
    ordered = accept(proposal, made, owners=owners, threshold=threshold)
    read = SafeSignature.parse_signature(joined(ordered), proposal.safe_tx_hash)
    assert all(isinstance(one, SafeSignatureEOA) and one.is_valid() for one in read)
    assert [one.owner for one in read] == [one.signer for one in ordered]
    assert SafeSignature.export_signatures(read) == joined(ordered)
    assert theirs(transaction, signatures=joined(ordered)).sorted_signers == [one.signer for one in ordered]


@settings(max_examples=12, deadline=None)
@given(transaction=transactions, signer=st.sampled_from(OWNERS))
def test_both_make_the_same_signature(transaction: SafeTransaction, signer: LocalAccount) -> None:
    """BlockOTA and safe-eth-py make the same deterministic signature (RFC 6979)."""
    proposal = Proposal(**vars(transaction), reason="", created=NOW, expires=NOW + 1)
    made = made_by_safe_eth(proposal, signer)
    assert made == replace(sign(proposal, signer), text_signature=b"")
    assert accept(proposal, waive_text([made]), owners=[signer.address], threshold=1) == [made]


def by_eth_sign(proposal: Proposal, signer: LocalAccount) -> Signature:
    """Sign the Safe's transaction hash as a personal message, with the `v` that marks `eth_sign`."""
    made = bytes(signer.sign_message(encode_defunct(proposal.safe_tx_hash)).signature)
    raised = made[:64] + bytes([made[64] + 4])
    return Signature(proposal.digest, proposal.safe_tx_hash, signer.address, raised)


def test_an_eth_sign_signature_is_read_by_both() -> None:
    """Both BlockOTA and safe-eth-py accept an `eth_sign` signature and recover the same owner."""
    from safe_eth.safe.safe_signature import SafeSignature, SafeSignatureEthSign

    proposal = proposal_with()
    made = by_eth_sign(proposal, OWNERS[0])
    (read,) = SafeSignature.parse_signature(made.signature, proposal.safe_tx_hash)
    assert isinstance(read, SafeSignatureEthSign)
    assert (read.owner, read.is_valid()) == (made.signer, True)
    assert accept(proposal, waive_text([made]), owners=[made.signer], threshold=1) == [made]


@pytest.fixture
def proposal(vendor: Vendor, product: Product) -> Proposal:
    """Return a proposal to publish a release, at the Safe's next nonce."""
    image = product.name.encode()
    return propose(vendor.contract, publish_call([release_of(image, product=product.name)]), reason=REASON)


def test_safe_eth_py_executes_with_our_signatures(vendor: Vendor, proposal: Proposal, product: Product) -> None:
    """Safe-eth-py computes the same transaction hash, and executes a proposal with BlockOTA's signatures."""
    from safe_eth.safe.safe_tx import SafeTx

    client = client_of(vendor.chain.url)
    state = read_safe(vendor.chain, vendor.safe)
    made = [sign(proposal, vendor.cast.owner_b), sign(proposal, vendor.cast.owner_c)]
    ordered = accept(proposal, made, owners=state.owners, threshold=state.threshold)
    safe, target = to_checksum_address(vendor.safe), to_checksum_address(proposal.to)
    asked = SafeTx(client, safe, target, 0, proposal.data, CALL, 0, 0, 0, None, None, signatures=joined(ordered))
    assert bytes(asked.safe_tx_hash) == proposal.safe_tx_hash
    assert asked.call(tx_sender_address=vendor.cast.broker.address)
    sent, _ = asked.execute(vendor.cast.broker.key.hex())
    assert client.get_transaction_receipt(sent, timeout=DEADLINE) is not None
    assert vendor.contract.release(product.name, Version(1, 1, 0)) is not None


def test_we_execute_with_signatures_of_safe_eth_py(vendor: Vendor, proposal: Proposal, product: Product) -> None:
    """Signatures of safe-eth-py do not cover the proposal's reason.

    The proposal is executed with these signatures only after explicit consent.
    """
    made = [made_by_safe_eth(proposal, vendor.cast.owner_a), by_eth_sign(proposal, vendor.cast.owner_c)]
    with pytest.raises(ProposalError, match="are not signed by"):
        execute(vendor.chain, proposal, signatures=made, account=vendor.cast.broker, now=NOW)
    execute(vendor.chain, proposal, signatures=waive_text(made), account=vendor.cast.broker, now=NOW)
    assert vendor.contract.release(product.name, Version(1, 1, 0)) is not None


def test_safe_eth_py_refuses_what_we_refuse(vendor: Vendor, proposal: Proposal) -> None:
    """Both libraries refuse too few signatures, a non-owner's signature, and a signature for another nonce."""
    from safe_eth.safe.exceptions import InvalidMultisigTx

    cast = vendor.cast
    spoiled = (
        [sign(proposal, cast.owner_a)],
        [sign(proposal, cast.owner_a), sign(proposal, cast.mallory)],
        [made_by_safe_eth(proposal_with(safe=vendor.safe, nonce=99), owner) for owner in (cast.owner_a, cast.owner_b)],
    )
    for signatures in spoiled:
        ordered = sorted(signatures, key=lambda one: int(one.signer, 16))
        with pytest.raises(InvalidMultisigTx):
            theirs(proposal, vendor.chain.url, signatures=joined(ordered)).call()
        with pytest.raises(ProposalError):
            execute(vendor.chain, proposal, signatures=signatures, account=cast.broker, now=NOW)
