"""A signed transaction as a value, and the fees that it offers.

Sources: EIP-155 (the chain id in a signature), EIP-1559 (fees), EIP-2718 (typed transactions). Money is in wei
a unit of gas unless a name says gwei.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from eth_account import Account
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from blockota.chain.rlp import Item, decode, number
from blockota.errors import RefusedError
from blockota.ethereum import keccak, to_checksum_address

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

GWEI = 10**9
_EIP1559 = 2
_LEGACY_FIELDS, _EIP1559_FIELDS = 9, 12
_SIGNATURE_PARTS = 3
_EIP155 = 35
"""A legacy signature's v is this plus twice the chain id, plus 0 or 1."""
_RISE = (9, 8)
"""Nodes replace a pending transaction only by one that pays at least 10 % more (geth) or 12.5 % (others)."""


@dataclass(frozen=True)
class Fees:
    """What a transaction offers for a unit of gas.

    Attributes:
        limit: at most this much, all in all; the gas price on a chain without EIP-1559.
        tip: of it at most this for whoever makes the block; None on a chain without EIP-1559.
    """

    limit: int
    tip: int | None

    @property
    def fields(self) -> dict[str, int]:
        """As a transaction carries them."""
        if self.tip is None:
            return {"gasPrice": self.limit}
        return {"maxFeePerGas": self.limit, "maxPriorityFeePerGas": self.tip}


@dataclass(frozen=True)
class Market:
    """What a chain asks for a unit of gas at this moment.

    Attributes:
        base_fee: of the newest block; None on a chain without EIP-1559.
        tip: what is usual beside it; the gas price on a chain without EIP-1559.
    """

    base_fee: int | None
    tip: int

    @property
    def least(self) -> int:
        """Whoever offers less gets into no block."""
        return self.tip if self.base_fee is None else self.base_fee

    def offer(self, ceiling: int | None) -> Fees:
        """What to offer: enough for six full blocks in a row, and never more than the ceiling.

        Raises:
            RefusedError: the chain asks for more than the ceiling.
        """
        if ceiling is not None and self.least > ceiling:
            name = "gas price" if self.base_fee is None else "base fee"
            raise RefusedError(
                "the chain asks for more than you want to pay, nothing was sent",
                why=f"its {name} is {gwei(self.least)} gwei, your max_fee_gwei is {gwei(ceiling)}",
                remedy="wait until it falls, or raise max_fee_gwei in blockota.toml (or BLOCKOTA_MAX_FEE_GWEI)",
            )
        if self.base_fee is None:
            return Fees(self.tip, None)
        wanted = 2 * self.base_fee + self.tip
        limit = wanted if ceiling is None else min(wanted, ceiling)
        return Fees(limit, min(self.tip, limit))

    def outbid(self, before: Fees, *, ceiling: int | None) -> Fees:
        """What to offer in place of fees that were too low.

        Raises:
            RefusedError: the ceiling does not allow it.
        """
        now = self.offer(ceiling)
        limit = max(now.limit, _risen(before.limit))
        if ceiling is not None and limit > ceiling:
            raise RefusedError(
                "the fee cannot be raised under your ceiling, nothing was sent",
                why=f"{gwei(_risen(before.limit))} gwei are needed to replace an offer of {gwei(before.limit)}, "
                f"your max_fee_gwei is {gwei(ceiling)}",
                remedy="wait until fees fall, or raise max_fee_gwei in blockota.toml (or BLOCKOTA_MAX_FEE_GWEI)",
            )
        return Fees(limit, None if before.tip is None else min(limit, max(now.tip or 0, _risen(before.tip))))


@dataclass(frozen=True)
class SignedTransaction:
    """A transaction that anybody can put on the chain, once.

    Attributes:
        raw: as nodes take it.
        chain_id: the one chain that accepts it.
        nonce: its number among its sender's; a chain takes each number once.
        gas: units that it may use.
        fees: what it offers for each.
        to: the contract; None creates one.
        data: calldata, or creation bytecode.
    """

    raw: bytes
    chain_id: int
    nonce: int
    gas: int
    fees: Fees
    to: str | None
    data: bytes

    @classmethod
    def decode(cls, raw: bytes) -> SignedTransaction:
        """Read the bytes.

        Raises:
            ValueError: they are none of the two kinds that we send.
        """
        if raw[:1] == bytes([_EIP1559]):
            return cls._typed(raw, _fields(raw[1:], count=_EIP1559_FIELDS))
        return cls._legacy(raw, _fields(raw, count=_LEGACY_FIELDS))

    @property
    def hash(self) -> bytes:
        """Its name on the chain."""
        return keccak(self.raw)

    @functools.cached_property
    def sender(self) -> str:
        """Who signed it.

        Raises:
            ValueError: nobody, its signature is none.
        """
        try:
            return str(Account.recover_transaction(self.raw))
        except (BadSignature, ValidationError, TypeError) as error:
            raise ValueError("its signature is none") from error

    def offering(self, fees: Fees) -> SignedTransaction:
        """The same with another offer, to be signed again."""
        return replace(self, raw=b"", fees=fees)

    def signed_by(self, account: BaseAccount) -> SignedTransaction:
        """Have an account sign it.

        Raises:
            RefusedError: the account signed something else.
        """
        to = to_checksum_address(self.to) if self.to else None
        fields: dict[str, Any] = {"from": account.address, "value": 0, "data": f"0x{self.data.hex()}", "gas": self.gas}
        fields |= {"nonce": self.nonce, "chainId": self.chain_id, **self.fees.fields}
        if to:
            fields["to"] = to
        signed = bytes(account.sign_transaction(fields).raw_transaction)
        try:
            found = SignedTransaction.decode(signed)
            is_same = replace(found, raw=b"") == replace(self, raw=b"", to=to)
            is_theirs = found.sender == account.address
        except ValueError:
            is_same = is_theirs = False
        if is_same and is_theirs:
            return found
        raise RefusedError(
            "the key signed another transaction than it was asked to, nothing was sent",
            why=f"what came back for {account.address} does not say the same",
            remedy="look at the wallet or plugin that holds the key",
        )

    @classmethod
    def _typed(cls, raw: bytes, fields: list[Item]) -> SignedTransaction:
        if fields[8] != [] or number(fields[9]) > 1:
            raise ValueError("it has an access list, or its signature is none")
        fees = Fees(limit=number(fields[3]), tip=number(fields[2]))
        to, data = _target(fields[5], value=fields[6]), _data(fields[7])
        return cls(raw, number(fields[0]), number(fields[1]), gas=number(fields[4]), fees=fees, to=to, data=data)

    @classmethod
    def _legacy(cls, raw: bytes, fields: list[Item]) -> SignedTransaction:
        chain_id = (number(fields[6]) - _EIP155) // 2
        if chain_id < 1:
            raise ValueError("it was not signed for one chain (EIP-155)")
        fees, gas = Fees(number(fields[1]), None), number(fields[2])
        to, data = _target(fields[3], value=fields[4]), _data(fields[5])
        return cls(raw, chain_id, number(fields[0]), gas=gas, fees=fees, to=to, data=data)


def gwei(amount: int) -> str:
    """An amount of wei in gwei, with six digits that count."""
    return f"{Decimal(f'{Decimal(amount) / GWEI:.6g}').normalize():f}"


def _risen(amount: int) -> int:
    numerator, denominator = _RISE
    return -(-amount * numerator // denominator)


def _fields(encoded: bytes, *, count: int) -> list[Item]:
    fields = decode(encoded)
    if isinstance(fields, bytes) or len(fields) != count:
        raise ValueError("it is no transaction of a kind that we send")
    for part in fields[-_SIGNATURE_PARTS:]:
        number(part)
    return fields


def _target(address: Item, *, value: Item) -> str | None:
    if isinstance(address, list) or len(address) not in (0, 20) or number(value):
        raise ValueError("its target is no address, or it carries money")
    return str(to_checksum_address(address)) if address else None


def _data(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    raise ValueError("its calldata is a list")
