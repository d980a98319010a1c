"""A Safe: read its state, execute proposals, and deploy a Safe on a local chain.

Source: Safe smart account 1.5 (``Safe.sol``, ``SafeProxyFactory.sol``). On public networks the vendor already has a
Safe; on a local chain, a Safe is deployed from the artifacts of the npm package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.approval.chain_view import SafeState
from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import CALL
from blockota.approval.signature import Signature, accept
from blockota.bindings.contract import refusals_in_words
from blockota.chain import Chain, Receipt
from blockota.chain.local import project_folders
from blockota.errors import Action, ContractRefusalError, ProposalError, RefusedError, RevertedError, UsageError
from blockota.ethereum import ZERO_ADDRESS, keccak, to_checksum_address
from blockota.formats.abi import DecodingError, decode, encode_signature_call

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_SUCCESS = keccak(text="ExecutionSuccess(bytes32,uint256)")
_FAILURE = keccak(text="ExecutionFailure(bytes32,uint256)")
SAFE_ARTIFACTS = Path("node_modules/@safe-global/safe-smart-account/build/artifacts/contracts")
"""Folder of the npm package with the Safe's prebuilt artifacts."""


@dataclass(frozen=True)
class Rehearsal:
    """The parts of a proposal's execution that were simulated.

    Attributes:
        call: whether the call was simulated with the Safe as sender; False for a delegatecall, a call with a value, or
            a rejection.
        execution: whether the whole execution was simulated, with the signatures of enough owners.
    """

    call: bool
    execution: bool


def read_safe(chain: Chain, address: str, *, block: int | None = None) -> SafeState:
    """Read a Safe's owners, threshold, nonce and version.

    Raises:
        RefusedError: no Safe exists at the address.
    """
    getters = {"getOwners()": "address[]", "getThreshold()": "uint256", "nonce()": "uint256", "VERSION()": "string"}
    try:
        answers = chain.call_many([(address, encode_signature_call(getter)) for getter in getters], block=block)
        owners, threshold, nonce, version = (
            decode([kind], answer)[0] for kind, answer in zip(getters.values(), answers, strict=True)
        )
        return SafeState(
            to_checksum_address(address), tuple(map(to_checksum_address, owners)), threshold, nonce, version
        )
    except (DecodingError, RevertedError, ValueError) as error:
        raise RefusedError(
            f"no Safe at {address}",
            why=f"the code at this address on chain {chain.chain_id} does not answer getOwners() and VERSION()",
            remedy="check the address; the owner of a contract should be a Safe",
        ) from error


def execute(
    chain: Chain, proposal: Proposal, *, signatures: Sequence[Signature], account: BaseAccount, now: int
) -> Receipt:
    """Check a signed proposal as the Safe would, simulate it, and send it. Any account may execute a proposal.

    Args:
        chain: the chain with the Safe.
        proposal: the proposal.
        signatures: the signatures of at least as many owners as the Safe's threshold.
        account: the account that pays for the transaction; it need not be an owner.
        now: Unix time, in seconds.

    Raises:
        ProposalError: the proposal has expired, is for another chain or nonce, or has too few signatures.
        ContractRefusalError: the contract or the Safe refused the call, in the simulation or on the chain.
    """
    # (1) Check expiry, chain and signatures.
    proposal.check_time(now)
    _check_chain(proposal, chain)
    safe = read_safe(chain, proposal.safe)
    ordered = accept(proposal, signatures, owners=safe.owners, threshold=safe.threshold)
    call = proposal.execution_call(b"".join(one.signature for one in ordered))
    # (2) Refuse a proposal that another account of this machine is executing, because both accounts would pay.
    for entry in chain.unsettled():
        if entry.sender != account.address and entry.matches(call, to=proposal.safe):
            raise ProposalError(
                "the proposal is already being executed",
                why=f"{entry.sender} sent the transaction {entry.hash}, which is not settled",
                remedy="continue with that transaction",
                action=Action.RESUME_TRANSACTION,
                values={"hash": entry.hash},
            )
    # (3) Simulate, and send.
    with _refusals_of_proposals():
        if not chain.is_sending(account.address, call, to=proposal.safe):  # else it was simulated before
            check_nonce(proposal, safe)
            _try_call(chain, proposal)
            _try_execution(chain, proposal, call=call, sender=account.address)
        receipt = chain.send(account, call, to=proposal.safe)
    # (4) Check the proposal's call: the transaction can succeed although the call failed.
    _check_success(receipt, proposal)
    return receipt


def executed_hashes(chain: Chain, safe: str, *, from_block: int) -> frozenset[bytes]:
    """Return the safeTxHash of every proposal that a Safe executed.

    In events of Safe 1.4 and newer, the hash is a topic.
    """
    found = chain.logs(safe, [_SUCCESS], from_block=from_block)
    return frozenset(log.topics[1] if log.topics[1:] else log.data[:32] for log in found)


def rehearse(chain: Chain, proposal: Proposal, *, signatures: Sequence[Signature]) -> Rehearsal:
    """Simulate a proposal's call. With enough signatures and the Safe's next nonce, also simulate the execution.

    Raises:
        ProposalError: the proposal is for another chain, or a signature is not valid.
        ContractRefusalError: the contract or the Safe would refuse the call.
    """
    _check_chain(proposal, chain)
    safe = read_safe(chain, proposal.safe)
    ordered = accept(proposal, signatures, owners=safe.owners, threshold=0)
    is_whole = len(ordered) >= safe.threshold and proposal.nonce == safe.nonce
    with _refusals_of_proposals():
        tried = _try_call(chain, proposal)
        if is_whole:
            call = proposal.execution_call(b"".join(one.signature for one in ordered))
            _try_execution(chain, proposal, call=call, sender=ordered[0].signer)
    return Rehearsal(call=tried, execution=is_whole)


@contextmanager
def _refusals_of_proposals() -> Iterator[None]:
    """Raise a revert as a ContractRefusalError. If the error lacks a remedy, add the remedy to reject the proposal."""
    try:
        with refusals_in_words():
            yield
    except ContractRefusalError as error:
        if error.remedy:
            raise
        remedy = "reject this proposal, because later proposals cannot be executed before its nonce is used"
        raise error.revised(remedy=remedy, action=Action.REJECT_PROPOSAL) from error


def _try_call(chain: Chain, proposal: Proposal) -> bool:
    """Simulate the call with the Safe as sender, because the contract's error is clearer than the Safe's error."""
    if proposal.operation != CALL or proposal.value or proposal.is_rejection:
        return False
    chain.call(proposal.to, proposal.data, sender=proposal.safe)
    return True


def _try_execution(chain: Chain, proposal: Proposal, *, call: bytes, sender: str) -> None:
    """Simulate the whole execution. If safeTxGas or a gas price is set, the Safe returns false for a failed call."""
    if not int.from_bytes(chain.call(proposal.safe, call, sender=sender)):
        raise ContractRefusalError(
            "the Safe's call would fail",
            why=f"safeTxGas or a gas price is set, so the Safe would only use up nonce {proposal.nonce}",
            remedy="make the proposal again without safeTxGas and gas price",
        )


def _check_chain(proposal: Proposal, chain: Chain) -> None:
    if proposal.chain_id != chain.chain_id:
        raise ProposalError(
            "the proposal is for another chain",
            why=f"the proposal names chain id {proposal.chain_id}, the network has chain id {chain.chain_id}",
            remedy="choose the network for which the proposal was made",
        )


def _check_success(receipt: Receipt, proposal: Proposal) -> None:
    """Report a failed call. If safeTxGas or a gas price is set, a failed call uses up the Safe's nonce.

    For a failed call, the Safe emits an event with the proposal's safeTxHash. The function compares this hash, because
    the called contract can emit an event of the same kind.
    """
    if any(
        log.topics[:1] == (_FAILURE,) and proposal.safe_tx_hash in b"".join(log.topics[1:]) + log.data
        for log in receipt.logs
    ):
        raise ContractRefusalError(
            "the Safe's call failed",
            why=f"nonce {proposal.nonce} was used up in block {receipt.block_number}, and nothing else was changed",
            remedy="make the proposal again without safeTxGas and gas price",
        )


def check_nonce(proposal: Proposal, safe: SafeState) -> None:
    """Refuse a proposal whose nonce is not the Safe's next nonce.

    Raises:
        ProposalError: the proposal was executed or replaced, or other proposals come first.
    """
    if proposal.nonce < safe.nonce:
        raise ProposalError(
            "the proposal cannot be executed any more",
            why=f"the proposal has nonce {proposal.nonce}, and the Safe's next nonce is {safe.nonce}: this proposal or "
            "another one was executed",
            remedy="check which proposal was executed, and make this proposal again if it is still wanted",
            action=Action.LIST_PROPOSALS,
        )

    if proposal.nonce > safe.nonce:
        raise ProposalError(
            "other proposals come first",
            why=f"the proposal has nonce {proposal.nonce}, and the Safe's next nonce is {safe.nonce}",
            remedy="execute the other proposals first",
        )


def deploy_safe(chain: Chain, account: BaseAccount, *, owners: Sequence[str], threshold: int) -> str:
    """Deploy a Safe on a local chain: the singleton, the factory, and a proxy with the given owners.

    Returns:
        The Safe's checksummed address.

    Raises:
        UsageError: the npm package is not installed.
    """
    folders = [folder / SAFE_ARTIFACTS for folder in project_folders()]
    found = next((folder for folder in folders if folder.is_dir()), folders[0])
    singleton = _created(chain, account, artifact=found / "Safe.sol/Safe.json")
    factory = _created(chain, account, artifact=found / "proxies/SafeProxyFactory.sol/SafeProxyFactory.json")
    setup = encode_signature_call(
        "setup(address[],uint256,address,bytes,address,address,uint256,address)",
        *(list(owners), threshold, ZERO_ADDRESS, b"", ZERO_ADDRESS, ZERO_ADDRESS, 0, ZERO_ADDRESS),
    )
    creation = encode_signature_call("createProxyWithNonce(address,bytes,uint256)", singleton, setup, 0)
    # The address depends only on factory, singleton, setup and salt, so a simulated creation returns the real address.
    address = decode(["address"], chain.call(factory, creation))[0]
    chain.send(account, creation, to=factory)
    return str(to_checksum_address(address))


def _created(chain: Chain, account: BaseAccount, *, artifact: Path) -> str:
    try:
        bytecode = json.loads(artifact.read_bytes())["bytecode"]
    except OSError as error:
        raise UsageError(
            "the Safe cannot be deployed", why=f"{artifact} is missing", remedy="run `npm ci` in the BlockOTA folder"
        ) from error
    address = chain.send(account, bytes.fromhex(bytecode.removeprefix("0x"))).contract
    if address is None:
        raise AssertionError("the receipt of a contract creation has no contract address")
    return address
