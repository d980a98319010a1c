"""Accounts of Ape's plugins, such as hardware wallets, with the interface of eth-account.

This module is separate from `keys` because it imports Ape, which is optional and takes about a second to load. The
module `keys` reads an ``ape:`` key from its keystore without Ape, and loads Ape only if the key has no keystore. Each
signature is checked: the named account must have signed exactly the requested data. The recovery id of a signature is
computed here, because plugins disagree about it: some count from 0, some count from 27, and some return a constant.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn, cast

import ape
from ape.api.accounts import AccountAPI
from ape.api.transactions import TransactionAPI
from ape.types.signatures import TransactionSignature
from ape.utils.abi import CalldataRepr
from ape_ethereum.transactions import DynamicFeeTransaction, StaticFeeTransaction
from eth_account import Account
from eth_account.datastructures import SignedMessage, SignedTransaction
from eth_account.messages import SignableMessage
from eth_account.signers.base import BaseAccount
from eth_account.types import TransactionDictType
from eth_typing import ChecksumAddress, Hash32
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from blockota.errors import Action, RefusedError, UsageError, shortened
from blockota.ethereum import keccak

_REMEDY = "connect and unlock the device, open its Ethereum app, and approve the request there"
_WORD = 32
_FIRST_V, _FIRST_EIP155_V = 27, 35


class _PlainlyShown:
    """A transaction that plugins can print without a node. Ape's own class asks a node for the contract's ABI."""

    def to_string(self, calldata_repr: CalldataRepr | None = None) -> str:
        """Format the transaction, one field on each line."""
        del calldata_repr
        fields = cast("TransactionAPI", self).model_dump(mode="json", by_alias=True, exclude_none=True)
        return "\n".join(f"{name}: {value}" for name, value in fields.items())


class _DynamicFeeTransaction(_PlainlyShown, DynamicFeeTransaction):
    pass


class _StaticFeeTransaction(_PlainlyShown, StaticFeeTransaction):
    pass


@dataclass(frozen=True, eq=False)
class ApeAccount(BaseAccount):
    """An account of an Ape plugin.

    Attributes:
        alias: the account's name in Ape.
        account_address: the account's address according to the plugin; every signature is checked against it.
        signer: the plugin's account object.
        note: called with an instruction for the operator.
    """

    alias: str
    account_address: ChecksumAddress
    signer: AccountAPI
    note: Callable[[str], None]

    @property
    def address(self) -> ChecksumAddress:
        """The account's address."""
        return self.account_address

    def sign_message(self, signable_message: SignableMessage) -> SignedMessage:
        """Sign a message (EIP-191, which includes EIP-712).

        Raises:
            RefusedError: the operator or the device refused to sign, or the signature does not match the message.
        """
        given = self._asked(lambda: self.signer.sign_message(signable_message))
        r, s = self._numbers(given)
        digest = keccak(b"\x19" + b"".join(signable_message))
        for v in (_FIRST_V, _FIRST_V + 1):
            with suppress(Exception):  # eth-keys raises many kinds of error for an invalid signature
                if Account.recover_message(signable_message, vrs=(v, r, s)) == self.address:
                    return SignedMessage(HexBytes(digest), r, s, v, HexBytes(_word(r) + _word(s) + bytes([v])))
        raise self._unusable()

    def sign_transaction(self, transaction_dict: TransactionDictType) -> SignedTransaction:
        """Sign an EIP-1559 transaction, or a legacy transaction (EIP-155) if a gas price is given.

        Raises:
            RefusedError: the operator or the device refused to sign, or the signature does not match the transaction
                and its chain.
        """
        # The plugin gets its own copy, which it may change. Only `wanted` is returned, with the plugin's signature.
        wanted, copy = _transaction(transaction_dict), _transaction(transaction_dict)
        answer = self._asked(lambda: self.signer.sign_transaction(copy))
        r, s = self._numbers(getattr(answer, "signature", None))
        # v encodes the parity (EIP-1559), or the parity and the chain id (EIP-155).
        is_legacy = isinstance(wanted, StaticFeeTransaction)
        first = _FIRST_EIP155_V + 2 * (wanted.chain_id or 0) if is_legacy else 0
        for v in (first, first + 1):
            with suppress(Exception):  # from Ape for another account's signature, from eth-keys for an invalid one
                wanted.signature = TransactionSignature(v=v, r=_word(r), s=_word(s))
                raw = HexBytes(wanted.serialize_transaction())
                if Account.recover_transaction(raw) == self.address:
                    return SignedTransaction(raw, HexBytes(keccak(raw)), r, s, v)
        raise self._unusable()

    def unsafe_sign_hash(self, message_hash: Hash32) -> NoReturn:
        """Refuse to sign a bare hash, because the device cannot show the data behind the hash.

        Raises:
            RefusedError: always.
        """
        del message_hash
        why = "the device cannot show the data behind a hash"
        raise RefusedError(f"ape:{self.alias} does not sign a bare hash", why=why)

    def _asked(self, sign: Callable[[], Any]) -> Any:
        """Call the plugin. The plugin's output goes to stderr, because stdout is reserved for the command's result."""
        self.note(
            f"Waiting for ape:{self.alias} ({self.address}): check that the device shows the data of this command, and "
            "approve on the device."
        )

        try:
            with redirect_stdout(sys.stderr):
                answer = sign()
        except Exception as error:
            raise RefusedError(f"ape:{self.alias} did not sign", why=_cause(error), remedy=_REMEDY) from error

        if answer is None:
            why = "the request was refused on the device, or the device is locked or not connected"
            raise RefusedError(f"ape:{self.alias} did not sign", why=why, remedy=_REMEDY)
        return answer

    def _numbers(self, signature: Any) -> tuple[int, int]:
        try:
            return int.from_bytes(bytes(signature.r), "big"), int.from_bytes(bytes(signature.s), "big")
        except (AttributeError, TypeError, ValueError) as error:
            raise self._unusable() from error

    def _unusable(self) -> RefusedError:
        return RefusedError(
            f"the signature of ape:{self.alias} cannot be used",
            why=f"{self.address} did not sign the requested data; the device may have another account, "
            "or its plugin may have signed for another chain",
            remedy="connect the device with which the account was added, and update Ape's plugin",
        )


def open_ape_account(alias: str, *, note: Callable[[str], None]) -> ApeAccount:
    """Return the account of an Ape plugin by its alias. The device is not contacted yet.

    Args:
        alias: the account's name in Ape.
        note: called with an instruction for the operator while the account signs.

    Raises:
        UsageError: Ape has no account with this alias, or cannot read its accounts.
    """
    try:
        with redirect_stdout(sys.stderr):
            accounts = chain.from_iterable(container.accounts for container in ape.accounts.containers.values())
            found = next((account for account in accounts if account.alias == alias), None)
            address = None if found is None else to_checksum_address(found.address)
    except Exception as error:
        raise UsageError(
            "Ape's accounts cannot be read",
            why=_cause(error),
            remedy="list the accounts with Ape itself",
            action=Action.LIST_APE_ACCOUNTS,
        ) from error

    if found is None or address is None:
        raise UsageError(
            f"Ape has no account {alias}",
            why=f"Ape searched {shortened(ape.accounts.containers)}",
            remedy="add a hardware wallet with its Ape plugin (`ape ledger add` for ape-ledger), or list the "
            "accounts with Ape itself",
            action=Action.LIST_APE_ACCOUNTS,
        )
    return ApeAccount(alias, address, found, note)


def _transaction(fields: Mapping[str, Any]) -> TransactionAPI:
    kind = _StaticFeeTransaction if "gasPrice" in fields else _DynamicFeeTransaction
    made: TransactionAPI = kind.model_validate(dict(fields))
    return made


def _word(number: int) -> HexBytes:
    return HexBytes(number.to_bytes(_WORD, "big"))


def _cause(error: Exception) -> str:
    """Return the text of a plugin's error on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
