"""Signed transactions as values, and the fees that they offer.

Sources: EIP-155 (the chain id in a signature), EIP-1559 (fees), EIP-2718 (typed transactions), Yellow Paper appendix B
(RLP). Fees are in wei per unit of gas, unless a name contains gwei. The packages eth-account and rlp are imported in
functions, because commands that only read do not need them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any

from blockota.errors import Action, RefusedError
from blockota.ethereum import keccak, to_checksum_address

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

Item = bytes | list["Item"]
"""A value that RLP encodes: bytes, or a list of items."""
GWEI = 10**9
_EIP1559 = 2
_LEGACY_FIELDS, _EIP1559_FIELDS = 9, 12
_SIGNATURE_PARTS = 3
_EIP155 = 35
"""In a legacy signature, v is this number plus twice the chain id, plus 0 or 1."""
_RISE = (9, 8)
"""The factor of a raised fee. Nodes replace a transaction only if the new fee is 10 % (geth) or 12.5 % higher."""

_LOW_BASE_FEE, _BASE_FEE_FACTOR = GWEI, 10
"""Without max_fee_gwei, the highest base fee or gas price is the greater of two values: the first value (in wei), and
the second value times the usual price."""
_LOW_TIP, _TIP_FACTOR = 3 * GWEI, 2
"""Without max_fee_gwei, the highest tip is the greater of two values: the first value (in wei), and the second value
times the usual tip."""
_WAIT_OR_PAY = "wait until fees fall, or set a higher max_fee_gwei in blockota.toml (or BLOCKOTA_MAX_FEE_GWEI)"


@dataclass(frozen=True)
class Fees:
    """The fees that a transaction offers for a unit of gas.

    Attributes:
        limit: the maximum fee, including the tip; the gas price on a chain without EIP-1559.
        tip: the part of the limit that may go to the block's producer; None on a chain without EIP-1559.
    """

    limit: int
    tip: int | None

    @property
    def fields(self) -> dict[str, int]:
        """The fees as fields of a transaction."""
        if self.tip is None:
            return {"gasPrice": self.limit}
        return {"maxFeePerGas": self.limit, "maxPriorityFeePerGas": self.tip}


@dataclass(frozen=True)
class Market:
    """The price of a unit of gas at this moment.

    Attributes:
        base_fee: the newest block's base fee; None on a chain without EIP-1559.
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
        """The lowest fee with which a transaction can get into a block now."""
        return self.tip if self.base_fee is None else self.base_fee

    @property
    def is_ordinary(self) -> bool:
        """Whether the price is low enough to be accepted without a comparison with the usual price."""
        if self.base_fee is None:
            return self.tip <= _LOW_BASE_FEE
        return self.base_fee <= _LOW_BASE_FEE and self.tip <= _LOW_TIP

    def offer(self, ceiling: int | None) -> Fees:
        """Choose fees that suffice for six full blocks in a row, but never exceed the ceiling.

        Args:
            ceiling: the user's maximum fee for a unit of gas, including the tip. With None, the price is compared with
                the usual price, so that a node cannot demand an arbitrary fee.

        Raises:
            RefusedError: the price exceeds the ceiling, or, without a ceiling, is far above the usual price.
        """
        name = "gas price" if self.base_fee is None else "base fee"
        if ceiling is not None and self.least > ceiling:
            raise RefusedError(
                "the gas price exceeds your limit; nothing was sent",
                why=f"the chain's {name} is {gwei(self.least)} gwei, but your max_fee_gwei is {gwei(ceiling)}",
                remedy=_WAIT_OR_PAY,
            )
        if ceiling is None:
            self._require_usual(name)
        if self.base_fee is None:
            return Fees(self.tip, None)
        # A full block raises the base fee by an eighth, so twice the base fee suffices for six full blocks.
        wanted = 2 * self.base_fee + self.tip
        limit = wanted if ceiling is None else min(wanted, ceiling)
        return Fees(limit, min(self.tip, limit))

    def _require_usual(self, name: str) -> None:
        """Refuse a price far above the usual price, if the user set no limit."""
        asked = [(name, self.least, self.usual_price, max(_LOW_BASE_FEE, _BASE_FEE_FACTOR * self.usual_price))]
        if self.base_fee is not None:
            asked.append(("tip", self.tip, self.usual_tip, self._highest_tip))

        for what, price, usual, most in asked:
            if price > most:
                raise RefusedError(
                    "the gas price is unusually high; nothing was sent",
                    why=f"the {what} is {gwei(price)} gwei, the median of the last blocks is {gwei(usual)} gwei, and "
                    f"without max_fee_gwei at most {gwei(most)} gwei is paid",
                    remedy="compare with another node, and set max_fee_gwei in blockota.toml (or "
                    "BLOCKOTA_MAX_FEE_GWEI) if the price is right",
                )

    def outbid(self, before: Fees, *, ceiling: int | None) -> Fees:
        """Choose higher fees for a transaction whose fees were too low.

        Raises:
            RefusedError: the ceiling does not allow higher fees, or, without a ceiling, the tip is too high.
        """
        now = self.offer(ceiling)
        limit = max(now.limit, _risen(before.limit))
        if ceiling is not None and limit > ceiling:
            raise RefusedError(
                "the fee cannot be raised within your max_fee_gwei; nothing was sent",
                why=f"a fee of {gwei(_risen(before.limit))} gwei is needed to replace the fee of {gwei(before.limit)}, "
                f"your max_fee_gwei is {gwei(ceiling)}",
                remedy=_WAIT_OR_PAY,
            )

        tip = None if before.tip is None else min(limit, max(now.tip or 0, _risen(before.tip)))
        if ceiling is None and tip is not None and tip > self._highest_tip:
            raise RefusedError(
                "the tip cannot be raised further without max_fee_gwei; nothing was sent",
                why=f"a tip of {gwei(tip)} gwei is needed, and without max_fee_gwei the highest tip is "
                f"{gwei(self._highest_tip)} gwei",
                remedy=_WAIT_OR_PAY,
            )
        return Fees(limit, tip)

    @property
    def _highest_tip(self) -> int:
        return max(_LOW_TIP, _TIP_FACTOR * self.usual_tip)


def check_cost(gas: int, fees: Fees, *, most: int) -> None:
    """Check the maximum cost of a transaction.

    Args:
        gas: the units of gas that the transaction may use.
        fees: the fees for each unit.
        most: the user's limit, in wei.

    Raises:
        RefusedError: the transaction can cost more than the limit.
    """
    cost = gas * fees.limit
    if cost > most:
        raise RefusedError(
            "the transaction can cost more than your limit; nothing was sent",
            why=f"{gas:,} units of gas at up to {gwei(fees.limit)} gwei can cost {coins(cost)} of the chain's "
            f"coin, and max_cost is {coins(most)}",
            remedy="wait until fees fall, or set a higher max_cost in blockota.toml (or BLOCKOTA_MAX_COST)",
        )


def cannot_pay(account: str, balance: int, *, gas: int = 0, fees: Fees | None = None, answer: str = "") -> RefusedError:
    """Return the error for an account that has too little of the chain's coin.

    Args:
        account: the account that pays.
        balance: the account's balance, in wei.
        gas: the units of gas that the transaction may use.
        fees: the fees for each unit of gas; None if the low balance is known only from the node's answer.
        answer: the node's answer, shown if `fees` is None.
    """
    # The balance is rounded down and the cost up, so that they never look equal.
    has = coins(balance, rounding=ROUND_FLOOR)
    needs, remedy = f"the node answers: {answer.rstrip('.')}", "send coin to this account, or pay from another account"
    if fees:
        cost = gas * fees.limit
        needs = f"{gas:,} units of gas at up to {gwei(fees.limit)} gwei can cost {coins(cost, rounding=ROUND_CEILING)}"
        lack = coins(cost - balance, rounding=ROUND_CEILING)
        remedy = f"send at least {lack} to this account, or pay from another"

    return RefusedError(
        f"the account {account} cannot pay for the transaction; nothing was sent",
        why=f"it has {has} of the chain's coin, and {needs}",
        remedy=remedy,
        action=Action.USE_KEY,
    )


@dataclass(frozen=True)
class SignedTransaction:
    """A signed transaction. Anyone who has the signed bytes can submit them, but a chain accepts them only once.

    Attributes:
        raw: the encoding that nodes accept; empty before the transaction is signed.
        chain_id: the id of the only chain that accepts the transaction.
        nonce: the transaction's number among those of the sender; a chain accepts each number once.
        gas: the units of gas that the transaction may use.
        fees: the fees for each unit.
        to: the contract's address; None creates a contract.
        data: the calldata, or the creation bytecode.
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
            ValueError: the bytes are not a signed transaction of a kind that BlockOTA sends.
        """
        if raw[:1] == bytes([_EIP1559]):
            # EIP-1559: chain id, nonce, tip, limit, gas, to, value, data, access list, y parity, r, s.
            fields = _fields(raw[1:], count=_EIP1559_FIELDS)
            if fields[8] != [] or number(fields[9]) > 1:
                raise ValueError("the transaction has an access list, or its signature is not valid")
            fees, gas = Fees(limit=number(fields[3]), tip=number(fields[2])), number(fields[4])
            to, data = _target(fields[5], value=fields[6]), _data(fields[7])
            return cls(raw, number(fields[0]), number(fields[1]), gas=gas, fees=fees, to=to, data=data)

        # EIP-155: nonce, gas price, gas, to, value, data, v, r, s.
        fields = _fields(raw, count=_LEGACY_FIELDS)
        chain_id = (number(fields[6]) - _EIP155) // 2
        if chain_id < 1:
            raise ValueError("the transaction's signature has no chain id (EIP-155)")
        fees, gas = Fees(number(fields[1]), None), number(fields[2])
        to, data = _target(fields[3], value=fields[4]), _data(fields[5])
        return cls(raw, chain_id, number(fields[0]), gas=gas, fees=fees, to=to, data=data)

    @property
    def hash(self) -> bytes:
        """The transaction's hash, which identifies the transaction on the chain."""
        return keccak(self.raw)

    @property
    def max_cost(self) -> int:
        """The maximum cost of the transaction, in wei."""
        return self.gas * self.fees.limit

    @functools.cached_property
    def sender(self) -> str:
        """The account that signed the transaction.

        Raises:
            ValueError: the signature is not valid.
        """
        from eth_account import Account
        from eth_keys.exceptions import BadSignature
        from eth_utils.exceptions import ValidationError

        try:
            return str(Account.recover_transaction(self.raw))
        except (BadSignature, ValidationError, TypeError) as error:
            raise ValueError("the transaction's signature is not valid") from error

    def offering(self, fees: Fees) -> SignedTransaction:
        """Return an unsigned copy of the transaction with other fees."""
        return replace(self, raw=b"", fees=fees)

    def signed_by(self, account: BaseAccount) -> SignedTransaction:
        """Sign the transaction with an account, and check that the account signed this transaction.

        Raises:
            RefusedError: the account signed a different transaction.
        """
        to = to_checksum_address(self.to) if self.to else None
        fields: dict[str, Any] = {"from": account.address, "value": 0, "data": f"0x{self.data.hex()}", "gas": self.gas}
        fields |= {"nonce": self.nonce, "chainId": self.chain_id, **self.fees.fields}
        if to:
            fields["to"] = to
        signed = bytes(account.sign_transaction(fields).raw_transaction)

        # A wallet or plugin behind the account may have changed the transaction: only the requested one is sent.
        try:
            found = SignedTransaction.decode(signed)
            is_same = replace(found, raw=b"") == replace(self, raw=b"", to=to)
            if is_same and found.sender == account.address:
                return found
        except ValueError:
            pass
        raise RefusedError(
            "the key did not sign the requested transaction; nothing was sent",
            why=f"the signed transaction differs from the requested transaction, or {account.address} did not sign it",
            remedy="check the wallet or plugin that has the key",
        )


def gwei(amount: int) -> str:
    """Format an amount of wei in gwei, with six significant digits."""
    return f"{Decimal(f'{Decimal(amount) / GWEI:.6g}').normalize():f}"


def coins(amount: int, *, rounding: str = ROUND_HALF_EVEN) -> str:
    """Format an amount of wei in the chain's coin, with four significant digits."""
    shown = Context(prec=4, rounding=rounding).create_decimal(amount) / 10**18
    return f"{shown.normalize():f}"


def _risen(amount: int) -> int:
    numerator, denominator = _RISE
    return -(-amount * numerator // denominator)


def _fields(encoded: bytes, *, count: int) -> list[Item]:
    fields = decode_rlp(encoded)
    if isinstance(fields, bytes) or len(fields) != count:
        raise ValueError("the bytes are not a transaction of a kind that BlockOTA sends")
    for part in fields[-_SIGNATURE_PARTS:]:
        number(part)
    return fields


def decode_rlp(encoded: bytes) -> Item:
    """Decode an item from canonical RLP.

    Raises:
        ValueError: the bytes are not the canonical RLP of one item.
    """
    import rlp
    from rlp.exceptions import DecodingError

    try:
        decoded: Item = rlp.decode(encoded)
    except (DecodingError, RecursionError) as error:
        raise ValueError(f"the bytes are not canonical RLP ({error})") from error
    return decoded


def number(item: Item) -> int:
    """Decode the number of an item. A number must not have leading zeros (Yellow Paper, appendix B).

    Raises:
        ValueError: the item is a list, or begins with a zero byte.
    """
    if isinstance(item, list) or item[:1] == b"\0":
        raise ValueError("a number is expected")
    return int.from_bytes(item)


def _target(address: Item, *, value: Item) -> str | None:
    if isinstance(address, list) or len(address) not in (0, 20) or number(value):
        raise ValueError("the transaction's target is not an address, or the transaction transfers value")
    return to_checksum_address(address) if address else None


def _data(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    raise ValueError("the transaction's calldata is a list")
