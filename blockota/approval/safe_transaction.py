"""A transaction of a Safe, and the hash that the Safe's owners sign. Pure.

The sources are EIP-712 and ``Safe.sol`` of Safe smart account 1.5 (``getTransactionHash``, ``execTransaction``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockota.ethereum import ZERO_ADDRESS, keccak
from blockota.formats.abi import encode, encode_signature_call

if TYPE_CHECKING:
    from eth_account.messages import SignableMessage

CALL, DELEGATECALL = 0, 1
"""Operations of a Safe transaction (``Enum.Operation``)."""
_DOMAIN = keccak(text="EIP712Domain(uint256 chainId,address verifyingContract)")
_SAFE_TX = keccak(
    text="SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,"
    "uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)"
)
_TYPES = ["bytes32", "address", "uint256", "bytes32", "uint8", *["uint256"] * 3, "address", "address", "uint256"]
_EXECUTE = "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)"


@dataclass(frozen=True, kw_only=True)
class SafeTransaction:
    """A transaction of a Safe.

    Attributes:
        chain_id: chain id (EIP-155).
        safe: address of the Safe, checksummed.
        nonce: nonce of the Safe that the transaction uses.
        to: address that the Safe calls, checksummed.
        value: amount of wei that the call sends.
        operation: either `CALL` or `DELEGATECALL`.
        safe_tx_gas: gas limit of the call, if `gas_price` is not 0. If `gas_price` is 0, the call gets all remaining
            gas. If `safe_tx_gas` or `gas_price` is not 0, a failed call uses up the nonce. If both are 0, a failed call
            reverts the whole transaction.
        base_gas: gas for the work outside the call. The Safe refunds it in addition to the gas of the call.
        gas_price: amount of wei or tokens that the Safe refunds to the executor per unit of gas; 0 means no refund.
        gas_token: address of the token in which the refund is paid; `ZERO_ADDRESS` means ether.
        refund_receiver: address that receives the refund; `ZERO_ADDRESS` means the executor.
    """

    chain_id: int
    safe: str
    nonce: int
    to: str
    data: bytes
    value: int = 0
    operation: int = CALL
    safe_tx_gas: int = 0
    base_gas: int = 0
    gas_price: int = 0
    gas_token: str = ZERO_ADDRESS
    refund_receiver: str = ZERO_ADDRESS

    @property
    def is_rejection(self) -> bool:
        """Whether the transaction is a rejection: an empty call of the Safe to itself, which only uses up the nonce."""
        has_more = self.data or self.value or self.operation != CALL
        return self.to == self.safe and not has_more and self._rest() == (CALL, 0, 0, 0, ZERO_ADDRESS, ZERO_ADDRESS)

    @property
    def domain_hash(self) -> bytes:
        """EIP-712 domain separator of the Safe (``domainSeparator`` in Safe.sol)."""
        return keccak(encode(["bytes32", "uint256", "address"], [_DOMAIN, self.chain_id, self.safe]))

    @property
    def message_hash(self) -> bytes:
        """EIP-712 struct hash of the ``SafeTx``."""
        return keccak(encode(_TYPES, [_SAFE_TX, self.to, self.value, keccak(self.data), *self._rest(), self.nonce]))

    @property
    def safe_tx_hash(self) -> bytes:
        """The EIP-712 hash that the owners sign (``getTransactionHash`` in Safe.sol)."""
        return keccak(b"\x19\x01" + self.domain_hash + self.message_hash)

    @property
    def signable(self) -> SignableMessage:
        """The EIP-712 message in the form that accounts sign (EIP-191 version 1)."""
        return signable(self.domain_hash, self.message_hash)

    @property
    def eth_sign_signable(self) -> SignableMessage:
        """The hash as a personal message (EIP-191 version 0x45).

        A Safe accepts a signature of this message with v = 31 or 32.
        """
        from eth_account.messages import encode_defunct

        return encode_defunct(self.safe_tx_hash)

    def execution_call(self, signatures: bytes) -> bytes:
        """Return the calldata of ``execTransaction``.

        Args:
            signatures: r, s and v of each signer, in ascending order of the signers' addresses.
        """
        return encode_signature_call(_EXECUTE, self.to, self.value, self.data, *self._rest(), signatures)

    def _rest(self) -> tuple[int, int, int, int, str, str]:
        gas = self.safe_tx_gas, self.base_gas, self.gas_price
        return self.operation, *gas, self.gas_token, self.refund_receiver


def signable(domain_hash: bytes, message_hash: bytes) -> SignableMessage:
    """Return an EIP-712 message in the form that accounts sign (EIP-191 version 1)."""
    from eth_account.messages import SignableMessage

    return SignableMessage(b"\x01", domain_hash, message_hash)
