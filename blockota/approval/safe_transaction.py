"""A transaction of a Safe, and the hash that its owners sign. Pure.

Sources: EIP-712; Safe smart account 1.5, ``Safe.sol`` (``getTransactionHash``, ``execTransaction``).
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.messages import SignableMessage
from eth_utils.crypto import keccak

from blockota.formats.abi import encode, encode_signature_call

CALL, DELEGATECALL = 0, 1
"""What a Safe does with a transaction (``Enum.Operation``)."""
NOBODY = "0x" + "00" * 20
_DOMAIN = keccak(text="EIP712Domain(uint256 chainId,address verifyingContract)")
_SAFE_TX = keccak(
    text="SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,"
    "uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)"
)
_TYPES = ["bytes32", "address", "uint256", "bytes32", "uint8", *["uint256"] * 3, "address", "address", "uint256"]
_EXECUTE = "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)"


@dataclass(frozen=True, kw_only=True)
class SafeTransaction:
    """What a Safe is asked to do.

    Attributes:
        chain_id: the chain (EIP-155).
        safe: checksummed address of the Safe.
        nonce: the Safe's nonce that the transaction takes.
        to: checksummed address of what is called.
        data: calldata.
        value: wei that go with the call.
        operation: `CALL` or `DELEGATECALL`.
        safe_tx_gas: gas for the call where `gas_price` is set, else the call has all that there is. Where this or
            `gas_price` is set, a call that fails takes the nonce; where both are 0 it is as if nothing had been sent.
        base_gas: gas that the refund counts beside it.
        gas_price: wei, or tokens, a unit of gas, paid by the Safe to whoever executes; 0 means no refund.
        gas_token: what the refund is paid in; `NOBODY` means ether.
        refund_receiver: who gets the refund; `NOBODY` means whoever executes.
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
    gas_token: str = NOBODY
    refund_receiver: str = NOBODY

    @property
    def is_rejection(self) -> bool:
        """Whether it does nothing but take its nonce."""
        has_more = self.data or self.value or self.operation != CALL
        return self.to == self.safe and not has_more and self._rest() == (CALL, 0, 0, 0, NOBODY, NOBODY)

    @property
    def domain_hash(self) -> bytes:
        """EIP-712 domain separator of the Safe."""
        return keccak(encode(["bytes32", "uint256", "address"], [_DOMAIN, self.chain_id, self.safe]))

    @property
    def message_hash(self) -> bytes:
        """EIP-712 struct hash of the ``SafeTx``."""
        return keccak(encode(_TYPES, [_SAFE_TX, self.to, self.value, keccak(self.data), *self._rest(), self.nonce]))

    @property
    def safe_tx_hash(self) -> bytes:
        """What the owners sign."""
        return keccak(b"\x19\x01" + self.domain_hash + self.message_hash)

    @property
    def signable(self) -> SignableMessage:
        """The form in which an account signs it."""
        return SignableMessage(b"\x01", self.domain_hash, self.message_hash)

    def execution_call(self, signatures: bytes) -> bytes:
        """Calldata that has the Safe do it.

        Args:
            signatures: r, s and v of each signer, by ascending address.
        """
        return encode_signature_call(_EXECUTE, self.to, self.value, self.data, *self._rest(), signatures)

    def _rest(self) -> tuple[int, int, int, int, str, str]:
        gas = self.safe_tx_gas, self.base_gas, self.gas_price
        return self.operation, *gas, self.gas_token, self.refund_receiver
