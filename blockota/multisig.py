"""The vendor's Safe: its state, its execution of a proposal, and a fresh one for a local chain.

Source: Safe smart account 1.5 (``Safe.sol``, ``SafeProxyFactory.sol``). On public networks the Safe is there
already; locally it is deployed from the artifacts that the npm package ships.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_abi.exceptions import DecodingError
from eth_account.signers.base import BaseAccount
from eth_utils.address import to_checksum_address

from blockota.abi import decode, encode_signature_call
from blockota.chain import Chain, Receipt
from blockota.contract import refusals_in_words
from blockota.errors import ProposalError, RefusedError, RevertedError, UsageError
from blockota.proposal import Proposal, Signature, accept

_ZERO = "0x" + "00" * 20
SAFE_ARTIFACTS = Path("node_modules/@safe-global/safe-smart-account/build/artifacts/contracts")
"""Where the npm package keeps the Safe's prebuilt artifacts."""


@dataclass(frozen=True)
class SafeState:
    """What a Safe says of itself.

    Attributes:
        address: checksummed.
        owners: checksummed addresses.
        threshold: how many owners must sign.
        nonce: of the next transaction.
    """

    address: str
    owners: tuple[str, ...]
    threshold: int
    nonce: int


def read_safe(chain: Chain, address: str) -> SafeState:
    """Ask a Safe for its owners, threshold and nonce.

    Raises:
        RefusedError: no Safe lies there.
    """
    try:
        owners = decode(["address[]"], chain.call(address, encode_signature_call("getOwners()")))[0]
        threshold = decode(["uint256"], chain.call(address, encode_signature_call("getThreshold()")))[0]
        nonce = decode(["uint256"], chain.call(address, encode_signature_call("nonce()")))[0]
    except (DecodingError, RevertedError) as error:
        raise RefusedError(
            f"there is no Safe at {address}",
            why=f"what lies there on chain {chain.chain_id} does not answer getOwners()",
            remedy="check that the contract's owner is the vendor's Safe",
        ) from error
    return SafeState(to_checksum_address(address), tuple(map(to_checksum_address, owners)), threshold, nonce)


def execute(
    chain: Chain, proposal: Proposal, *, signatures: Sequence[Signature], account: BaseAccount, now: int
) -> Receipt:
    """Check a signed proposal as the Safe will, simulate it, and send it. Anyone may.

    Args:
        chain: where the Safe lies.
        proposal: what was signed.
        signatures: of at least as many owners as the Safe's threshold.
        account: pays for the transaction; needs not be an owner.
        now: Unix time, in seconds.

    Raises:
        ProposalError: expired, for another chain or nonce, or the signatures are not enough.
        ContractRefusalError: the contract would not do it.
    """
    proposal.check_time(now)
    if proposal.chain_id != chain.chain_id:
        raise ProposalError(
            "the proposal is for another chain",
            why=f"it names chain id {proposal.chain_id}, this is {chain.chain_id}",
            remedy="choose the network it was made for",
        )
    safe = read_safe(chain, proposal.safe)
    ordered = accept(proposal, signatures, owners=safe.owners, threshold=safe.threshold)
    check_nonce(proposal, safe)
    with refusals_in_words():
        chain.call(proposal.to, proposal.data, sender=proposal.safe)
        return chain.send(account, _execution_call(proposal, ordered), to=proposal.safe)


def check_nonce(proposal: Proposal, safe: SafeState) -> None:
    """Refuse a proposal whose nonce is not the Safe's next.

    Raises:
        ProposalError: it was executed already or replaced, or others come first.
    """
    if proposal.nonce < safe.nonce:
        raise ProposalError(
            "the proposal cannot be executed any more",
            why=f"it takes nonce {proposal.nonce}, the Safe is at {safe.nonce}: it, or another one, was executed",
            remedy="see `blockota release list`; make the proposal again if it is still wanted",
        )
    if proposal.nonce > safe.nonce:
        raise ProposalError(
            "other proposals come first",
            why=f"it takes nonce {proposal.nonce}, the Safe is at {safe.nonce}",
            remedy="execute those first",
        )


def deploy_safe(chain: Chain, account: BaseAccount, *, owners: Sequence[str], threshold: int, artifacts: Path) -> str:
    """Put a Safe on a local chain: singleton, factory, and a proxy with these owners.

    Args:
        chain: a local chain.
        account: pays.
        owners: addresses.
        threshold: how many of them must sign.
        artifacts: the folder that `SAFE_ARTIFACTS` names.

    Returns:
        The Safe's checksummed address.

    Raises:
        UsageError: the npm package is not installed.
    """
    singleton = _created(chain, account, bytecode=_bytecode(artifacts / "Safe.sol/Safe.json"))
    factory = _created(
        chain, account, bytecode=_bytecode(artifacts / "proxies/SafeProxyFactory.sol/SafeProxyFactory.json")
    )
    setup = encode_signature_call(
        "setup(address[],uint256,address,bytes,address,address,uint256,address)",
        *(list(owners), threshold, _ZERO, b"", _ZERO, _ZERO, 0, _ZERO),
    )
    creation = encode_signature_call("createProxyWithNonce(address,bytes,uint256)", singleton, setup, 0)
    address = decode(["address"], chain.call(factory, creation))[0]
    chain.send(account, creation, to=factory)
    return str(to_checksum_address(address))


def _execution_call(proposal: Proposal, signatures: Sequence[Signature]) -> bytes:
    joined = b"".join(signature.signature for signature in signatures)
    return encode_signature_call(
        "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
        *(proposal.to, 0, proposal.data, 0, 0, 0, 0, _ZERO, _ZERO, joined),
    )


def _created(chain: Chain, account: BaseAccount, *, bytecode: bytes) -> str:
    address = chain.send(account, bytecode).contract
    if address is None:
        raise AssertionError("a creation transaction has a contract address")
    return address


def _bytecode(path: Path) -> bytes:
    try:
        artifact = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(
            "no Safe can be deployed", why=f"{path} is missing", remedy="run `npm ci` in the BlockOTA folder"
        ) from error
    return bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
