"""The answers of a node (blocks, events, receipts and quotes), and the decoder of events."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

from blockota.chain.rpc import data, fields, items, quantity
from blockota.chain.transaction import Market
from blockota.ethereum import to_checksum_address

HASH_SIZE, ADDRESS_SIZE = 32, 20
NUMBER_BITS, INDEX_BITS = 43, 20
"""The maximum number of bits of a block's number, and of an event's index in its block. Both numbers together fit into
an integer of SQLite."""


@dataclass(frozen=True)
class BlockHead:
    """A block's number, time (Unix seconds) and hash."""

    number: int
    time: int
    hash: bytes

    def last_confirmed(self, confirmations: int) -> int:
        """Return the number of the newest confirmed block if `self` is the newest block of the chain."""
        return max(self.number - confirmations, 0)


class Log(NamedTuple):
    """One event of a transaction.

    Making a named tuple is three times as fast as making a frozen dataclass, and a chain has many events.

    Attributes:
        topics: the event's selector and its indexed arguments, 32 bytes each.
        data: the event's other arguments, ABI-encoded.
        transaction: hash of the transaction.
        address: the contract.
        log_index: the event's position among all events of its block.
        block_hash: the block's hash; after a reorganisation, a block with another hash has the same number.
    """

    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    transaction: bytes
    address: str
    log_index: int
    block_hash: bytes

    @property
    def position(self) -> int:
        """The event's position in the chain: the block's number, followed by `INDEX_BITS` bits of the event's index."""
        return self.block_number << INDEX_BITS | self.log_index


@dataclass(frozen=True)
class Receipt:
    """The receipt of a transaction in a block.

    Attributes:
        block_hash: the hash of the block; after a reorganisation, a block with another hash has the same number.
        contract: the address of the created contract; None if the transaction created none.
        succeeded: whether the transaction succeeded; False means that it was reverted.
    """

    transaction: bytes
    block_number: int
    block_hash: bytes
    gas_used: int
    contract: str | None
    logs: tuple[Log, ...]
    succeeded: bool = True


@dataclass(frozen=True)
class TransactionCall:
    """A transaction as its sender signed it.

    Attributes:
        sender: the account that sent the transaction.
        to: the called contract; None if the transaction creates a contract.
        data: the calldata.
    """

    sender: str
    to: str | None
    data: bytes


@dataclass(frozen=True)
class Quote:
    """The current price of a transaction, and the balances of the accounts that may send it.

    Attributes:
        gas: the estimated units of gas.
        market: the price of a unit of gas.
        balances: the balance of each account, in wei. Contracts are omitted, because a contract cannot send a
            transaction.
    """

    gas: int
    market: Market
    balances: dict[str, int]


def read_log(answer: Any) -> Log:
    """Decode an event of a JSON-RPC response.

    Raises:
        ValueError, TypeError, LookupError: the response does not have the form of an event.
    """
    log = fields(answer)
    return Log(
        tuple([_word(topic) for topic in items(log["topics"])]),
        data(log["data"]),
        _number(log["blockNumber"], NUMBER_BITS),
        _word(log["transactionHash"]),
        _address(log["address"]),
        _number(log["logIndex"], INDEX_BITS),
        _word(log["blockHash"]),
    )


# The events of one answer have few different contracts, blocks, transactions and first topics.
@functools.lru_cache(maxsize=4096)
def _word(value: str) -> bytes:
    return data(value, size=HASH_SIZE)


@functools.lru_cache(maxsize=4096)
def _number(value: str, bits: int) -> int:
    return quantity(value, bits=bits)


@functools.lru_cache(maxsize=64)
def _address(value: str) -> str:
    return to_checksum_address(data(value, size=ADDRESS_SIZE))
