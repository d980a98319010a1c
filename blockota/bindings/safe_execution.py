"""Read which owners signed an executed transaction of a Safe.

Source: Safe smart account 1.5 (``Safe.sol``, ``checkNSignatures``). The Safe's event ``ExecutionSuccess`` has the hash
that the owners signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from blockota.chain import Receipt
from blockota.chain.records import TransactionCall
from blockota.ethereum import keccak
from blockota.formats.abi import DecodingError, decode

_TYPES = ("address", "uint256", "bytes", "uint8", "uint256", "uint256", "uint256", "address", "address", "bytes")
_EXECUTE = f"execTransaction({','.join(_TYPES)})"
_SELECTOR = keccak(text=_EXECUTE)[:4]
_SUCCESS = keccak(text="ExecutionSuccess(bytes32,uint256)")
_PERSONAL = b"\x19Ethereum Signed Message:\n32"
"""The words before a hash that a wallet signs as a message (EIP-191, version 0x45)."""
_SIZE, _ETH_SIGN_OFFSET, _LEAST_V, _LEAST_ETH_SIGN = 65, 4, 27, 31


@dataclass(frozen=True)
class SafeExecution:
    """An executed transaction of a Safe.

    Attributes:
        safe: address of the Safe.
        called: address of the contract that the Safe called.
        signed_hash: the hash that the owners signed (safeTxHash), 32 bytes.
        signers: the accounts that signed with their keys, in the order of the calldata. Owners that are contracts, and
            owners that approved the hash on the chain, are omitted.
    """

    safe: str
    called: str
    signed_hash: bytes
    signers: tuple[str, ...]


def read_execution(sent: TransactionCall, receipt: Receipt) -> SafeExecution | None:
    """Read which owners signed a transaction of a Safe; None if the transaction is not a successful execution.

    Args:
        sent: the transaction.
        receipt: its receipt.
    """
    if sent.to is None or not sent.data.startswith(_SELECTOR):
        return None
    found = next((log for log in receipt.logs if log.address == sent.to and log.topics[:1] == (_SUCCESS,)), None)
    if found is None:
        return None

    signed = found.topics[1] if found.topics[1:] else found.data[:32]  # indexed since Safe 1.4
    try:
        values = decode(_TYPES, sent.data[len(_SELECTOR) :])
    except DecodingError:
        return None

    raw: bytes = values[-1]
    parts = [raw[start : start + _SIZE] for start in range(0, len(raw) - _SIZE + 1, _SIZE)]
    signers = tuple(account for one in parts if (account := _signer(signed, one)))
    return SafeExecution(sent.to, str(values[0]), signed, signers)


def _signer(signed: bytes, signature: bytes) -> str:
    """Recover the account that made a signature; empty if the signature was not made with a private key."""
    from eth_keys.datatypes import Signature as KeySignature
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    v = signature[-1]
    if v >= _LEAST_ETH_SIGN:
        signed, v = keccak(_PERSONAL + signed), v - _ETH_SIGN_OFFSET
    try:
        parts = (v - _LEAST_V, int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]))
        return str(KeySignature(vrs=parts).recover_public_key_from_msg_hash(signed).to_checksum_address())
    except (BadSignature, ValidationError, ValueError):
        return ""
