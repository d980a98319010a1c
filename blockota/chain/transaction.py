"""A signed transaction as a value, and the fees that it offers.

Sources: EIP-155 (the chain id in a signature), EIP-1559 (fees), EIP-2718 (typed transactions), Yellow Paper appendix B
(RLP). Amounts are in wei a unit of gas unless a name has gwei. eth-account and rlp are imported in the functions that
need them: commands that only read do without.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from blockota.errors import RefusedError
from blockota.ethereum import keccak, to_checksum_address

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

Item = bytes | list["Item"]
"""What RLP encodes: bytes, or a list of items."""
GWEI = 10**9
_EIP1559 = 2
_LEGACY_FIELDS, _EIP1559_FIELDS = 9, 12
_SIGNATURE_PARTS = 3
_EIP155 = 35
"""A legacy signature's v is this plus twice the chain id, plus 0 or 1."""
_RISE = (9, 8)
"""Nodes replace a pending transaction only with one that pays at least 10 % more (geth) or 12.5 % (others)."""

_LOW_BASE_FEE, _BASE_FEE_FACTOR = GWEI, 10
"""Without a limit of the user's, a base fee or gas price is paid up to the first, or this multiple of the usual one."""
_LOW_TIP, _TIP_FACTOR = 3 * GWEI, 2
"""The same for the tip."""
_WAIT_OR_PAY = "wait until fees fall, or set a higher max_fee_gwei in blockota.toml (or BLOCKOTA_MAX_FEE_GWEI)"


@dataclass(frozen=True)
class Fees:
    """The fees that a transaction offers for a unit of gas.

    Attributes:
        limit: the most in total; the gas price on a chain without EIP-1559.
        tip: the part of it that may go to the block's producer; None on a chain without EIP-1559.
    """

    limit: int
    tip: int | None

    @property
    def fields(self) -> dict[str, int]:
        """The fields of a transaction."""
        if self.tip is None:
            return {"gasPrice": self.limit}
        return {"maxFeePerGas": self.limit, "maxPriorityFeePerGas": self.tip}


@dataclass(frozen=True)
class Market:
    """The price of a unit of gas at this moment.

    Attributes:
        base_fee: the newest block's; None on a chain without EIP-1559.
        tip: the tip that the node suggests; the gas price on a chain without EIP-1559.
        usual_price: the median base fee, or gas price, of the last blocks.
        usual_tip: the median tip that transactions of the last blocks paid.
    """

    base_fee: int | None
    tip: int
    usual_price: int = 0
    usual_tip: int = 0

    @property
    def least(self) -> int:
        """The lowest offer that gets into a block."""
        return self.tip if self.base_fee is None else self.base_fee

    @property
    def is_ordinary(self) -> bool:
        """Whether the price is so low that it need not be compared with the usual one."""
        if self.base_fee is None:
            return self.tip <= _LOW_BASE_FEE
        return self.base_fee <= _LOW_BASE_FEE and self.tip <= _LOW_TIP

    def offer(self, ceiling: int | None) -> Fees:
        """The fees to offer: enough for six full blocks in a row, and never more than the ceiling.

        Args:
            ceiling: the user's limit in total; None compares the price with the usual one, so that a node cannot ask
                for any amount.

        Raises:
            RefusedError: the chain asks for more than the ceiling, or than ten times the usual price.
        """
        name = "gas price" if self.base_fee is None else "base fee"
        if ceiling is not None and self.least > ceiling:
            raise RefusedError(
                "the chain asks for more than you want to pay, nothing was sent",
                why=f"its {name} is {gwei(self.least)} gwei, your max_fee_gwei is {gwei(ceiling)}",
                remedy=_WAIT_OR_PAY,
            )
        if ceiling is None:
            self._require_usual(name)
        if self.base_fee is None:
            return Fees(self.tip, None)
        # A full block raises the base fee by an eighth, so twice the base fee lasts for six of them.
        wanted = 2 * self.base_fee + self.tip
        limit = wanted if ceiling is None else min(wanted, ceiling)
        return Fees(limit, min(self.tip, limit))

    def _require_usual(self, name: str) -> None:
        """Refuse a price that the last blocks did not have, without a limit of the user's."""
        asked = [(name, self.least, self.usual_price, max(_LOW_BASE_FEE, _BASE_FEE_FACTOR * self.usual_price))]
        if self.base_fee is not None:
            asked.append(("tip", self.tip, self.usual_tip, self._highest_tip))
        for what, price, usual, most in asked:
            if price > most:
                raise RefusedError(
                    "the chain asks for an unusual price, nothing was sent",
                    why=f"its {what} is {gwei(price)} gwei, the median of the last blocks is {gwei(usual)}, and "
                    f"without max_fee_gwei at most {gwei(most)} are paid",
                    remedy="compare with another node, and set max_fee_gwei in blockota.toml (or "
                    "BLOCKOTA_MAX_FEE_GWEI) if the price is right",
                )

    def outbid(self, before: Fees, *, ceiling: int | None) -> Fees:
        """The fees to offer in place of those that were too low.

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
                remedy=_WAIT_OR_PAY,
            )
        tip = None if before.tip is None else min(limit, max(now.tip or 0, _risen(before.tip)))
        if ceiling is None and tip is not None and tip > self._highest_tip:
            raise RefusedError(
                "the tip cannot be raised further without a limit of yours, nothing was sent",
                why=f"{gwei(tip)} gwei are needed, and without max_fee_gwei at most {gwei(self._highest_tip)} are paid",
                remedy=_WAIT_OR_PAY,
            )
        return Fees(limit, tip)

    @property
    def _highest_tip(self) -> int:
        return max(_LOW_TIP, _TIP_FACTOR * self.usual_tip)


def check_cost(gas: int, fees: Fees, *, most: int) -> None:
    """Check what a transaction can cost at most.

    Args:
        gas: units of gas that it may use.
        fees: the offer for each.
        most: the user's limit, in wei.

    Raises:
        RefusedError: it can cost more.
    """
    cost = gas * fees.limit
    if cost > most:
        raise RefusedError(
            "the transaction can cost more than you want to pay, nothing was sent",
            why=f"{gas:,} units of gas at up to {gwei(fees.limit)} gwei are {coins(cost)} of the chain's coin, and "
            f"max_cost is {coins(most)}",
            remedy="wait until fees fall, or set a higher max_cost in blockota.toml (or BLOCKOTA_MAX_COST)",
        )


@dataclass(frozen=True)
class SignedTransaction:
    """A signed transaction. Anyone who has it can submit it, but a chain accepts it only once.

    Attributes:
        raw: the encoding that nodes accept; empty before it is signed.
        chain_id: the only chain that accepts it.
        nonce: its number among the sender's; a chain accepts each number once.
        gas: units of gas that it may use.
        fees: the offer for each unit.
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
        """Decode a transaction.

        Raises:
            ValueError: the bytes are not a signed transaction of one of the two kinds that we send.
        """
        if raw[:1] == bytes([_EIP1559]):
            # EIP-1559: chain id, nonce, tip, limit, gas, to, value, data, access list, y parity, r, s.
            fields = _fields(raw[1:], count=_EIP1559_FIELDS)
            if fields[8] != [] or number(fields[9]) > 1:
                raise ValueError("it has an access list, or its signature is not valid")
            fees, gas = Fees(limit=number(fields[3]), tip=number(fields[2])), number(fields[4])
            to, data = _target(fields[5], value=fields[6]), _data(fields[7])
            return cls(raw, number(fields[0]), number(fields[1]), gas=gas, fees=fees, to=to, data=data)

        # EIP-155: nonce, gas price, gas, to, value, data, v, r, s.
        fields = _fields(raw, count=_LEGACY_FIELDS)
        chain_id = (number(fields[6]) - _EIP155) // 2
        if chain_id < 1:
            raise ValueError("it was not signed for one chain (EIP-155)")
        fees, gas = Fees(number(fields[1]), None), number(fields[2])
        to, data = _target(fields[3], value=fields[4]), _data(fields[5])
        return cls(raw, chain_id, number(fields[0]), gas=gas, fees=fees, to=to, data=data)

    @property
    def hash(self) -> bytes:
        """The transaction's hash, which names it on the chain."""
        return keccak(self.raw)

    @functools.cached_property
    def sender(self) -> str:
        """The account that signed it.

        Raises:
            ValueError: the signature is not valid.
        """
        from eth_account import Account
        from eth_keys.exceptions import BadSignature
        from eth_utils.exceptions import ValidationError

        try:
            return str(Account.recover_transaction(self.raw))
        except (BadSignature, ValidationError, TypeError) as error:
            raise ValueError("its signature is not valid") from error

    def offering(self, fees: Fees) -> SignedTransaction:
        """The same with other fees, to be signed again."""
        return replace(self, raw=b"", fees=fees)

    def signed_by(self, account: BaseAccount) -> SignedTransaction:
        """Sign it with an account, and check what the account signed.

        Raises:
            RefusedError: the account signed something else.
        """
        to = to_checksum_address(self.to) if self.to else None
        fields: dict[str, Any] = {"from": account.address, "value": 0, "data": f"0x{self.data.hex()}", "gas": self.gas}
        fields |= {"nonce": self.nonce, "chainId": self.chain_id, **self.fees.fields}
        if to:
            fields["to"] = to
        signed = bytes(account.sign_transaction(fields).raw_transaction)

        # A wallet or plugin behind the account may have changed the transaction: only what was asked for is sent.
        try:
            found = SignedTransaction.decode(signed)
            is_same = replace(found, raw=b"") == replace(self, raw=b"", to=to)
            if is_same and found.sender == account.address:
                return found
        except ValueError:
            pass
        raise RefusedError(
            "the key signed another transaction than it was asked to, nothing was sent",
            why=f"what {account.address} signed has another content or another signer",
            remedy="check the wallet or plugin that has the key",
        )


def gwei(amount: int) -> str:
    """An amount of wei in gwei, with six significant digits."""
    return f"{Decimal(f'{Decimal(amount) / GWEI:.6g}').normalize():f}"


def coins(amount: int) -> str:
    """An amount of wei in the chain's coin, with four significant digits."""
    return f"{Decimal(f'{Decimal(amount) / 10**18:.4g}').normalize():f}"


def _risen(amount: int) -> int:
    numerator, denominator = _RISE
    return -(-amount * numerator // denominator)


def _fields(encoded: bytes, *, count: int) -> list[Item]:
    fields = decode_rlp(encoded)
    if isinstance(fields, bytes) or len(fields) != count:
        raise ValueError("it is not a transaction of a kind that we send")
    for part in fields[-_SIGNATURE_PARTS:]:
        number(part)
    return fields


def decode_rlp(encoded: bytes) -> Item:
    """The item that bytes encode in RLP, in the one canonical way.

    Raises:
        ValueError: they do not encode one, or in another way.
    """
    import rlp
    from rlp.exceptions import DecodingError

    try:
        decoded: Item = rlp.decode(encoded)
    except (DecodingError, RecursionError) as error:
        raise ValueError(f"it is not canonical RLP ({error})") from error
    return decoded


def number(item: Item) -> int:
    """The number of an item; it has no leading zero (Yellow Paper, appendix B).

    Raises:
        ValueError: the item is a list, or begins with a zero.
    """
    if isinstance(item, list) or item[:1] == b"\0":
        raise ValueError("a number is expected")
    return int.from_bytes(item)


def _target(address: Item, *, value: Item) -> str | None:
    if isinstance(address, list) or len(address) not in (0, 20) or number(value):
        raise ValueError("its target is not an address, or it transfers money")
    return to_checksum_address(address) if address else None


def _data(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    raise ValueError("its calldata is a list")
