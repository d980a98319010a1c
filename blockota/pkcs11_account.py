"""An account whose key is in a PKCS #11 token, with the interface of eth-account.

A token returns only r and s of a signature. Two public keys match r and s, and the recovery id selects one of these
keys. The account computes the public key of each recovery id, and uses the recovery id of its own key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rlp
from eth_account.datastructures import SignedMessage, SignedTransaction
from eth_account.messages import SignableMessage
from eth_account.signers.base import BaseAccount
from eth_account.types import TransactionDictType
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_typing import ChecksumAddress, Hash32
from hexbytes import HexBytes

from blockota.ethereum import keccak, to_checksum_address
from blockota.pkcs11_keys import TokenKey

_FIRST_V, _FIRST_EIP155_V = 27, 35
_WORD = 32
_DYNAMIC_FEE = b"\x02"
"""The transaction type of EIP-1559 (EIP-2718)."""


@dataclass(frozen=True, eq=False)
class TokenAccount(BaseAccount):
    """An account in a token.

    Attributes:
        key: the key in the token; its curve is secp256k1.
    """

    key: TokenKey

    @property
    def address(self) -> ChecksumAddress:
        """The account's address: the last 20 bytes of the public key's hash."""
        return ChecksumAddress(to_checksum_address(keccak(self.key.public_key)[-20:]))  # type: ignore[arg-type]

    def sign_message(self, signable_message: SignableMessage) -> SignedMessage:
        """Sign a message (EIP-191, which includes EIP-712).

        Raises:
            RefusedError: the token did not sign.
        """
        digest = keccak(b"\x19" + b"".join(signable_message))
        return self.unsafe_sign_hash(Hash32(digest))

    def unsafe_sign_hash(self, message_hash: Hash32) -> SignedMessage:
        """Sign a hash.

        Raises:
            RefusedError: the token did not sign.
        """
        r, s, parity = self._sign(message_hash)
        v = _FIRST_V + parity
        return SignedMessage(HexBytes(message_hash), r, s, v, HexBytes(_word(r) + _word(s) + bytes([v])))

    def sign_transaction(self, transaction_dict: TransactionDictType) -> SignedTransaction:
        """Sign an EIP-1559 transaction, or a legacy transaction (EIP-155) if a gas price is given.

        Raises:
            RefusedError: the token did not sign.
        """
        fields: Mapping[str, Any] = transaction_dict
        chain_id = int(fields["chainId"])
        common = [int(fields["gas"]), _raw(fields.get("to")), int(fields.get("value", 0)), _raw(fields.get("data"))]

        if "gasPrice" in fields:
            # EIP-155: the signed hash covers the chain id, and v contains it.
            start = [int(fields["nonce"]), int(fields["gasPrice"]), *common]
            r, s, parity = self._sign(keccak(rlp.encode([*start, chain_id, 0, 0])))
            v = _FIRST_EIP155_V + 2 * chain_id + parity
            raw = rlp.encode([*start, v, r, s])
        else:
            tip, most = int(fields["maxPriorityFeePerGas"]), int(fields["maxFeePerGas"])
            start = [chain_id, int(fields["nonce"]), tip, most, *common, []]  # the access list is empty
            r, s, v = self._sign(keccak(_DYNAMIC_FEE + rlp.encode(start)))
            raw = _DYNAMIC_FEE + rlp.encode([*start, v, r, s])

        return SignedTransaction(HexBytes(raw), HexBytes(keccak(raw)), r, s, v)

    def _sign(self, digest: bytes) -> tuple[int, int, int]:
        """Sign a hash. Returns r, s and the parity of the point R."""
        signature = self.key.sign_digest(digest)
        r, s = int.from_bytes(signature[:_WORD]), int.from_bytes(signature[_WORD:])
        for parity in (0, 1):
            try:
                found = Signature(vrs=(parity, r, s)).recover_public_key_from_msg_hash(digest)
            except BadSignature:
                continue
            if found.to_bytes() == self.key.public_key:
                return r, s, parity
        raise AssertionError("no recovery id matches the verified signature")


def _word(number: int) -> bytes:
    return number.to_bytes(_WORD)


def _raw(value: str | bytes | None) -> bytes:
    """Return the bytes of an address or of calldata. eth-account accepts both as bytes and as hexadecimal text."""
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value or b"")
