"""One JSON-RPC endpoint: what a chain says through it, and what it is handed.

web3's exceptions end here: a node that does not answer becomes a `ChainError`, a refusal of the contract a
`ContractRefusalError` that carries the revert data.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import requests.exceptions
from eth_typing import BlockNumber, HexStr
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BlockNotFound,
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import BlockIdentifier, FilterParams, LogReceipt, RPCEndpoint, RPCResponse, TxParams

from blockota.chain.transaction import Fees, Market
from blockota.errors import ChainError, RefusedError, RevertedError, UsageError
from blockota.strict_json import check_depth

_READ_TIMEOUT = 10.0
_TOO_MUCH = (None, 400, 413)
"""HTTP statuses of a refusal of too many blocks at once; None is one in JSON-RPC's own words."""
_REJECTED = frozenset({-32000, -32003})
"""Codes of a node that looked at a transaction and does not want it (EIP-1474)."""
_KNOWN_ALREADY = re.compile(r"already (known|imported)|alreadyknown|known transaction", re.IGNORECASE)
"""Words of geth, Nethermind, Besu and anvil for a transaction that they have."""
_NONSENSE = (TypeError, AttributeError, LookupError, RecursionError)
"""What web3 raises when it takes JSON of another shape for an answer."""


@dataclass(frozen=True)
class BlockHead:
    """A block's number, time (Unix seconds) and hash."""

    number: int
    time: int
    hash: bytes


@dataclass(frozen=True)
class Log:
    """One event as a transaction left it.

    Attributes:
        topics: the event's selector and its indexed arguments, 32 bytes each.
        data: the other arguments.
        block_number: the block that holds it.
        transaction: hash of the transaction that left it.
    """

    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    transaction: bytes


@dataclass(frozen=True)
class Receipt:
    """A transaction that is in a block.

    Attributes:
        transaction: its hash.
        block_number: the block that holds it.
        block_hash: which of the blocks of that number; a reorganisation puts another one there.
        gas_used: as the block charges it.
        contract: address of the contract it created, if any.
        logs: its events.
        succeeded: whether it was carried out; False where it was reverted.
    """

    transaction: bytes
    block_number: int
    block_hash: bytes
    gas_used: int
    contract: str | None
    logs: tuple[Log, ...]
    succeeded: bool = True


class Node:
    """A node that answers at a URL.

    Args:
        url: the JSON-RPC endpoint, ``http://`` or ``https://``.
        chain_id: the number that it must say; None takes whatever it says.

    Raises:
        UsageError: the URL is none of those.
        ChainError: nobody answers there.
        RefusedError: it serves another chain.
    """

    def __init__(self, url: str, *, chain_id: int | None = None) -> None:
        """Connect, and compare the chain id."""
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no JSON-RPC address", why="it begins with http:// or https://")
        self.url = url
        # The path of a hosted node's address is often a secret key, which has no place in an error.
        scheme, _, rest = url.partition("://")
        self.place = f"{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2]}"
        self._web3 = Web3(_Provider(url, request_kwargs={"timeout": _READ_TIMEOUT}, exception_retry_configuration=None))
        # Consortium networks (proof of authority) put more into a block's extra data than web3 takes by itself.
        self._web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
        with self._translated():
            self.chain_id = int(self._web3.eth.chain_id)
        if chain_id not in (None, self.chain_id):
            raise RefusedError(
                "the node serves another chain",
                why=f"{self.place} says chain id {self.chain_id}, the settings say {chain_id}",
                remedy="correct the network's url or chain_id in blockota.toml",
            )

    def head(self, number: int | None = None) -> BlockHead:
        """The newest block, or the one of that number."""
        with self._translated():
            block = self._web3.eth.get_block("latest" if number is None else number)
            return BlockHead(block["number"], block["timestamp"], bytes(block["hash"]))

    def mine(self) -> None:
        """Have a development node make a block, whose time is now."""
        with self._translated():
            self._web3.provider.make_request(RPCEndpoint("evm_mine"), [])

    def call(self, to: str, data: bytes, *, sender: str | None = None, block: int | None = None) -> bytes:
        """Ask a contract without a transaction.

        Args:
            to: the contract's address.
            data: calldata.
            sender: the address that seems to ask.
            block: answer as of that block; None means the newest.

        Raises:
            RevertedError: the contract refused.
        """
        request: TxParams = {"to": Web3.to_checksum_address(to), "data": Web3.to_hex(data)}
        if sender:
            request["from"] = Web3.to_checksum_address(sender)
        with self._translated():
            return bytes(self._web3.eth.call(request, "latest" if block is None else block))

    def has_code(self, address: str) -> bool:
        """Whether a contract lies at an address."""
        with self._translated():
            return bool(self._web3.eth.get_code(Web3.to_checksum_address(address)))

    def logs(
        self, address: str, topics: Sequence[bytes | None], *, from_block: int = 0, to_block: int | None = None
    ) -> list[Log]:
        """Events of a contract, oldest first.

        Args:
            address: the contract.
            topics: what the topics must be, in their order; None stands for any. Fewer than the event has will do.
            from_block: the first block to search.
            to_block: the last block to search; None means the newest.

        Raises:
            ChainError: the node went away, or does not keep the events.
        """
        with self._translated():
            wanted: FilterParams = {
                "address": Web3.to_checksum_address(address),
                "topics": [None if topic is None else HexStr(Web3.to_hex(topic)) for topic in topics],
            }
            last = int(self._web3.eth.block_number) if to_block is None else to_block
            return [_log(log) for log in self._logs(wanted, from_block, last=last)]

    def _logs(self, wanted: FilterParams, first: int, *, last: int) -> list[LogReceipt]:
        """Ask for a range of blocks, in halves where the node says that it is too much: each sets another limit."""
        if first > last:
            return []
        span: FilterParams = {"fromBlock": BlockNumber(first), "toBlock": BlockNumber(last)}
        try:
            return self._web3.eth.get_logs({**wanted, **span})
        except (Web3RPCError, requests.exceptions.HTTPError) as error:
            status = error.response.status_code if isinstance(error, requests.exceptions.HTTPError) else None
            if first == last or status not in _TOO_MUCH:
                raise
        middle = (first + last) // 2
        return self._logs(wanted, first, last=middle) + self._logs(wanted, middle + 1, last=last)

    def market(self) -> Market:
        """What the chain asks for a unit of gas at this moment."""
        with self._translated():
            base_fee = self._web3.eth.get_block("latest").get("baseFeePerGas")
            if base_fee is None:
                return Market(None, int(self._web3.eth.gas_price))
            return Market(int(base_fee), int(self._web3.eth.max_priority_fee))

    def count(self, sender: str, *, block: int | None = None, with_pending: bool = False) -> int:
        """How many transactions of an account are in blocks, which is the nonce of its next one.

        Args:
            sender: the account.
            block: count up to that block; None means the newest.
            with_pending: count those that the node knows and no block has, too.
        """
        where: BlockIdentifier = "latest" if block is None else block
        with self._translated():
            address = Web3.to_checksum_address(sender)
            return int(self._web3.eth.get_transaction_count(address, "pending" if with_pending else where))

    def estimate(self, sender: str, data: bytes, *, to: str | None, fees: Fees) -> int:
        """How much gas a transaction would use.

        Raises:
            RevertedError: it would be refused.
            ChainError: the sender cannot pay for it, or the node went away.
        """
        request: dict[str, Any] = {"from": Web3.to_checksum_address(sender), "data": Web3.to_hex(data), **fees.fields}
        if to:
            request["to"] = Web3.to_checksum_address(to)
        with self._translated():
            return int(self._web3.eth.estimate_gas(cast("TxParams", request)))

    def submit(self, raw: bytes) -> str:
        """Hand a signed transaction to the node.

        Returns:
            Nothing where the node has it now (or had it already), else why it does not take it.

        Raises:
            ChainError: nobody knows whether the node took it.
        """
        with self._translated():
            try:
                self._web3.eth.send_raw_transaction(HexBytes(raw))
            except Web3RPCError as error:
                code, message, _ = _told(error)
                if _KNOWN_ALREADY.search(message):
                    return ""
                if code not in _REJECTED:
                    raise
                return message.rstrip(".") or "it does not say why"
        return ""

    def knows(self, transaction: bytes) -> bool:
        """Whether the node has a transaction, in a block or waiting for one."""
        with self._translated():
            try:
                self._web3.eth.get_transaction(HexBytes(transaction))
            except TransactionNotFound:
                return False
        return True

    def receipt(self, transaction: bytes) -> Receipt | None:
        """What became of a transaction in its block; None while no block has it."""
        with self._translated():
            try:
                found = self._web3.eth.get_transaction_receipt(HexBytes(transaction))
            except TransactionNotFound:
                return None
            if found.get("blockNumber") is None:
                return None
            logs = tuple(_log(log) for log in found["logs"])
            where = found["blockNumber"], bytes(found["blockHash"])
            used, created = found["gasUsed"], found["contractAddress"]
            return Receipt(transaction, *where, used, created, logs, succeeded=bool(found["status"]))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ContractLogicError as error:
            raise RevertedError(_revert_data(error.data), error.message or "") from error
        except requests.exceptions.RequestException as error:
            raise ChainError(
                f"no chain answers at {self.place}",
                why=_cause(error),
                remedy="start one with `blockota dev up`, or correct the network's url in blockota.toml",
            ) from error
        except (TransactionNotFound, BlockNotFound) as error:
            why = str(error).rstrip(".")
            raise ChainError(f"the chain at {self.place} lags", why=why, remedy="try again") from error
        except (Web3RPCError, Web3Exception, ValueError) as error:
            raise self._refusal(error) from error
        except _NONSENSE as error:
            raise ChainError(
                f"what answers at {self.place} is no node",
                why=f"its answer cannot be read ({error})",
                remedy="correct the network's url in blockota.toml",
            ) from error

    def _refusal(self, error: Exception) -> Exception:
        _, message, data = _told(error)
        if data or "revert" in message:
            return RevertedError(data, message)
        return ChainError(
            f"the node at {self.place} cannot do that",
            why=message.rstrip("."),
            remedy="correct the network's url in blockota.toml, or ask who runs the node",
        )


class _Provider(HTTPProvider):
    """web3's, which reads no answer that is nested beyond reason."""

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> RPCResponse:
        """Read an answer; a ValueError where it cannot be one."""
        check_depth(raw_response.decode(errors="replace"))
        return HTTPProvider.decode_rpc_response(raw_response)


def _log(log: LogReceipt) -> Log:
    topics = tuple(bytes(topic) for topic in log["topics"])
    return Log(topics, bytes(log["data"]), log["blockNumber"], bytes(log["transactionHash"]))


def _told(error: Exception) -> tuple[int | None, str, bytes]:
    """An error in JSON-RPC's words: code, message and revert data."""
    response = getattr(error, "rpc_response", None)
    detail = response.get("error") if isinstance(response, dict) else None
    if not isinstance(detail, dict):
        return None, str(error), b""
    return detail.get("code"), str(detail.get("message", error)), _revert_data(detail.get("data"))


def _revert_data(data: Any) -> bytes:
    """Revert data as nodes give it: hex text (geth, anvil), or an object with a ``result`` (ganache)."""
    if isinstance(data, dict):
        data = data.get("result") or data.get("data")
    if isinstance(data, str) and data.startswith("0x"):
        with contextlib.suppress(ValueError):
            return bytes.fromhex(data[2:])
    return b""


def _cause(error: Exception) -> str:
    if isinstance(error, requests.exceptions.Timeout):
        return f"nothing came back in {_READ_TIMEOUT:.0f} s"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "the connection was refused or lost"
    return str(error)
