"""Read a chain from one node, and submit transactions to the node.

The shape of every JSON-RPC response is checked. JSON-RPC errors are translated: a contract's refusal becomes a
`RevertedError` with the revert data, and every other error becomes a `ChainError`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from statistics import median_low
from typing import Any

from blockota.chain.records import (
    ADDRESS_SIZE,
    HASH_SIZE,
    NUMBER_BITS,
    BlockHead,
    Log,
    Quote,
    Receipt,
    TransactionCall,
    read_log,
)
from blockota.chain.rpc import PAUSES, Question, RpcEndpoint, RpcError, data, fields, items, quantity, required
from blockota.chain.transaction import Fees, Market
from blockota.errors import ChainError, RefusedError, RevertedError
from blockota.ethereum import to_checksum_address

_TOO_MUCH = (200, 400, 413)
"""HTTP statuses with which nodes refuse a range of too many blocks; 200 accompanies a JSON-RPC error."""
_REJECTED = frozenset({-32000, -32003})
"""Error codes for a transaction that the node examined and rejected (EIP-1474)."""
_KNOWN_ALREADY = re.compile(r"already (known|imported)|alreadyknown|known transaction", re.IGNORECASE)
"""Error texts of geth, Nethermind, Besu and anvil for a transaction that the node already has."""
UNFUNDED = re.compile(r"insufficient ?(funds|balance)|enough funds|cost exceeds account balance", re.IGNORECASE)
"""Error texts of geth, anvil, ganache, Nethermind and Besu for a sender that cannot pay for its transaction."""
_REVERTED = re.compile(r"revert|invalid opcode: (INVALID|0xfe)|InvalidFEOpcode")
"""Error texts for a refusal by the contract. Contracts of old compilers refuse by INVALID (0xfe, EIP-141)."""
_UNSUPPORTED = re.compile(r"invalid opcode|NotActivated|OpcodeNotFound|BadInstruction", re.IGNORECASE)
"""Error texts of geth, Besu, ganache, anvil and Nethermind for an instruction that the chain's fork does not have."""
_DELEGATION = bytes.fromhex("ef0100")
"""The start of the code of an account that delegates to a contract (EIP-7702). The account can send transactions."""
_TIME_BITS = 40
"""The maximum number of bits of a block's time, which the contracts store as a uint40."""
_MARKET: tuple[Question, ...] = (
    ("eth_getBlockByNumber", ("latest", False)),
    ("eth_gasPrice", ()),
    ("eth_maxPriorityFeePerGas", ()),
)
_USUAL_BLOCKS = 20
"""The number of newest blocks whose median price counts as the usual price."""


class Node:
    """A node behind a JSON-RPC endpoint.

    Args:
        url: the endpoint, ``http://`` or ``https://``.
        chain_id: the chain id that the node must have; None accepts any chain.

    Attributes:
        place: scheme, host and port of the endpoint, without secrets.

    Raises:
        UsageError: the URL is neither ``http://`` nor ``https://``.
        ChainError: the node is out of reach.
        RefusedError: the node serves another chain.
    """

    def __init__(self, url: str, *, chain_id: int | None = None) -> None:
        self.url = url
        self._endpoint = RpcEndpoint(url)
        self.place = self._endpoint.place
        with self._translated():
            self.chain_id = quantity(self._endpoint.request("eth_chainId"))

        if chain_id not in (None, self.chain_id):
            raise RefusedError(
                "the node serves another chain",
                why=f"{self.place} has chain id {self.chain_id}, the settings have {chain_id}",
                remedy="correct the network's url or chain_id in blockota.toml",
            )

    def close(self) -> None:
        """Close the connections to the node; a later request opens new ones."""
        self._endpoint.close()

    def head(self, number: int | None = None) -> BlockHead:
        """Return the newest block, or the block with a given number.

        Raises:
            ChainError: the node is out of reach, or does not have the block.
        """
        with self._translated():
            block = self._block(number)
            return BlockHead(
                quantity(block["number"], bits=NUMBER_BITS),
                quantity(block["timestamp"], bits=_TIME_BITS),
                data(block["hash"], size=HASH_SIZE),
            )

    def heads(self, confirmations: int) -> tuple[BlockHead, BlockHead]:
        """Return the newest block and the newest confirmed block, which is followed by `confirmations` blocks.

        Raises:
            ChainError: the node is out of reach.
        """
        newest = self.head()
        return newest, self.head(newest.last_confirmed(confirmations)) if confirmations else newest

    def has_block(self, number: int, block_hash: bytes) -> bool:
        """Whether the block with a given number has a given hash; False after a reorganisation replaced the block."""
        return self.head(number).hash == block_hash

    def check_unchanged(self, block: BlockHead) -> None:
        """Verify that a block is still on the chain, after contracts were read at its number.

        A contract call names its block only by number, and after a reorganisation a different block has this number.

        Raises:
            ChainError: the node is out of reach, or the block was replaced. The values that were read at the block's
                number must not be used.
        """
        if not self.has_block(block.number, block.hash):
            raise reorganised()

    def mine(self) -> None:
        """Make a development node produce a block with the current time."""
        with self._translated():
            self._endpoint.request("evm_mine")

    def call(self, to: str, calldata: bytes, *, sender: str | None = None, block: int | None = None) -> bytes:
        """Call a contract without a transaction.

        Args:
            to: the contract's address.
            calldata: the function's selector and arguments.
            sender: the address that the contract sees as the caller.
            block: the block at which the call is made; None means the newest block.

        Raises:
            RevertedError: the contract refused the call.
        """
        request = {"to": to_checksum_address(to), "data": f"0x{calldata.hex()}"}
        if sender:
            request["from"] = to_checksum_address(sender)
        with self._translated():
            return data(self._endpoint.request("eth_call", request, _tag(block)))

    def call_many(self, questions: Sequence[tuple[str, bytes]], *, block: int | None = None) -> list[bytes]:
        """Make several contract calls at one block, in few requests.

        Args:
            questions: the address and calldata of each call.
            block: the block at which the calls are made; None means the newest block.

        Raises:
            RevertedError: a contract refused a call.
        """
        calls = [_call(to, calldata, block) for to, calldata in questions]
        with self._translated():
            return [data(answer) for answer in self._endpoint.request_many(calls)]

    def try_calls(self, questions: Sequence[tuple[str, bytes]], *, block: int | None = None) -> list[bytes | None]:
        """Make several contract calls like `call_many`; the result of a call that the node refuses is None."""
        calls = [_call(to, calldata, block) for to, calldata in questions]
        with self._translated():
            answers = self._endpoint.request_each(calls)
            return [None if isinstance(answer, RpcError) else data(answer) for answer in answers]

    def has_code(self, address: str) -> bool:
        """Whether an address has contract code."""
        with self._translated():
            return bool(data(self._endpoint.request("eth_getCode", to_checksum_address(address), _tag(None))))

    def find_contracts(self, addresses: Sequence[str], *, block: int | None = None) -> tuple[str, ...]:
        """Return the addresses that have a contract's code. An account with a delegation (EIP-7702) is omitted."""
        questions = [_code(address, block) for address in addresses]
        with self._translated():
            codes = self._endpoint.request_many(questions)
            return tuple(address for address, code in zip(addresses, codes, strict=True) if _is_contract(data(code)))

    def logs(
        self,
        address: str | Sequence[str],
        topics: Sequence[bytes | None],
        *,
        from_block: int = 0,
        to_block: int | None = None,
        in_parts: bool = True,
    ) -> list[Log]:
        """Return events of one or several contracts, oldest first.

        Args:
            address: the contract or contracts.
            topics: the values of the first topics; None stands for any value.
            from_block: the first block to search.
            to_block: the last block to search; None means the newest block.
            in_parts: whether to split a range of blocks if the node refuses it as too large. A split range can take
                long.

        Raises:
            ChainError: the node is out of reach, or no longer has the events of these blocks.
        """
        addresses = to_checksum_address(address) if isinstance(address, str) else [*map(to_checksum_address, address)]
        wanted = {
            "address": addresses,
            "topics": [None if topic is None else f"0x{topic.hex()}" for topic in topics],
        }
        with self._translated():
            last = quantity(self._endpoint.request("eth_blockNumber")) if to_block is None else to_block
            return [read_log(log) for log in self._logs(wanted, from_block, last=last, in_parts=in_parts)]

    def _logs(self, wanted: Mapping[str, Any], first: int, *, last: int, in_parts: bool = True) -> list[Any]:
        """Request the events of a range of blocks; with `in_parts`, halve a range that is too large for the node."""
        if first > last:
            return []
        try:
            return items(
                self._endpoint.request("eth_getLogs", {**wanted, "fromBlock": hex(first), "toBlock": hex(last)})
            )
        except RpcError as error:
            if first == last or error.status not in _TOO_MUCH or not in_parts:
                raise

        middle = (first + last) // 2
        return self._logs(wanted, first, last=middle) + self._logs(wanted, middle + 1, last=last)

    def market(self) -> Market:
        """Read the current gas price, and also the median price of the last blocks if the current price is not low."""
        with self._translated():
            return self._market(*self._endpoint.request_each(_MARKET))

    def quote(self, senders: Sequence[str], calldata: bytes, *, to: str) -> Quote:
        """Read the current price of a transaction and the balance of each possible sender, in few requests.

        Args:
            senders: the accounts that may send the transaction; the gas is estimated for the first account.
            calldata: the calldata.
            to: the contract's address.

        Raises:
            RevertedError: the transaction would revert.
        """
        balances, codes = [_balance(one) for one in senders], [_code(one, None) for one in senders]
        questions = [*_MARKET, _estimate(senders[0], calldata, to=to), *balances, *codes]
        with self._translated():
            block, gas_price, tip, gas, *found = self._endpoint.request_each(questions)
            accounts = zip(senders, found[: len(senders)], found[len(senders) :], strict=True)
            return Quote(
                quantity(required(gas)),
                self._market(block, gas_price, tip),
                {one: quantity(required(has)) for one, has, code in accounts if not _is_contract(data(required(code)))},
            )

    def _market(self, block: Any, gas_price: Any, tip: Any) -> Market:
        """Return the gas price from the node's answers to the requests in `_MARKET`.

        A chain without EIP-1559 may refuse some of these requests.
        """
        base_fee = fields(required(block)).get("baseFeePerGas")
        if base_fee is None:  # a chain without EIP-1559
            price = Market(None, quantity(required(gas_price)))
            return price if price.is_ordinary else replace(price, usual_price=self._usual_gas_price())
        market = Market(quantity(base_fee), quantity(required(tip)))
        if market.is_ordinary:
            return market
        history = fields(self._endpoint.request("eth_feeHistory", hex(_USUAL_BLOCKS), "latest", [50]))
        # The history has one more base fee than blocks: the last base fee is that of the next block.
        bases = [quantity(fee) for fee in items(history["baseFeePerGas"])[:-1]]
        tips = [quantity(items(one)[0]) for one in items(history.get("reward") or [])]
        return replace(market, usual_price=median_low(bases), usual_tip=median_low(tips) if tips else 0)

    def count(self, sender: str, *, block: int | None = None, with_pending: bool = False) -> int:
        """Count an account's transactions that are in blocks. The count is the nonce of the account's next transaction.

        Args:
            sender: the account.
            block: the last block whose transactions are counted; None means the newest block.
            with_pending: whether to include the node's pending transactions.
        """
        tag = "pending" if with_pending else _tag(block)
        with self._translated():
            return quantity(self._endpoint.request("eth_getTransactionCount", to_checksum_address(sender), tag))

    def balance(self, account: str) -> int:
        """Return the balance of an account, in wei."""
        method, parameters = _balance(account)
        with self._translated():
            return quantity(self._endpoint.request(method, *parameters))

    def estimate(self, sender: str, calldata: bytes, *, to: str | None, fees: Fees | None = None) -> int:
        """Estimate the gas that a transaction would use.

        Args:
            sender: the account that signs and pays.
            calldata: the calldata, or the creation bytecode.
            to: the contract's address; None creates a contract.
            fees: the offered fees, which can change the gas that is used. If fees are given, most nodes refuse to
                estimate a transaction that the sender cannot pay. With None, the sender's balance does not matter.

        Raises:
            RevertedError: the transaction would revert.
            ChainError: the sender cannot pay the fees, or the node is out of reach.
        """
        method, parameters = _estimate(sender, calldata, to=to, fees=fees)
        with self._translated():
            return quantity(self._endpoint.request(method, *parameters))

    def submit(self, raw: bytes) -> str:
        """Submit a signed transaction to the node.

        Returns:
            The reason why the node rejected the transaction; empty if the node has the transaction.

        Raises:
            ChainError: it is unknown whether the node has the transaction.
        """
        with self._translated():
            try:
                self._endpoint.request("eth_sendRawTransaction", f"0x{raw.hex()}")
            except RpcError as error:
                if _KNOWN_ALREADY.search(error.message):
                    return ""
                if error.code not in _REJECTED and not UNFUNDED.search(error.message):
                    raise
                return error.message.rstrip(".")
        return ""

    def knows(self, transaction: bytes) -> bool:
        """Whether the node has a transaction, either in a block or pending."""
        with self._translated():
            found = self._endpoint.request("eth_getTransactionByHash", f"0x{transaction.hex()}")
            return found is not None and bool(fields(found))

    def receipt(self, transaction: bytes) -> Receipt | None:
        """Return the receipt of a transaction; None while the transaction is not in a block."""
        with self._translated():
            answer = self._endpoint.request("eth_getTransactionReceipt", f"0x{transaction.hex()}")
            if answer is None or fields(answer).get("blockNumber") is None:
                return None

            created = answer.get("contractAddress")
            return Receipt(
                transaction,
                quantity(answer["blockNumber"]),
                data(answer["blockHash"], size=HASH_SIZE),
                quantity(answer["gasUsed"]),
                to_checksum_address(data(created, size=ADDRESS_SIZE)) if created else None,
                tuple(read_log(log) for log in items(answer["logs"])),
                succeeded=bool(quantity(answer["status"])),
            )

    def transaction(self, transaction: bytes) -> TransactionCall | None:
        """Return a transaction; None if the node does not have the transaction."""
        with self._translated():
            answer = self._endpoint.request("eth_getTransactionByHash", f"0x{transaction.hex()}")
            if answer is None:
                return None
            sender, called = fields(answer)["from"], answer.get("to")
            return TransactionCall(
                to_checksum_address(data(sender, size=ADDRESS_SIZE)),
                to_checksum_address(data(called, size=ADDRESS_SIZE)) if called else None,
                data(answer["input"]),
            )

    def find_transaction(self, sender: str, nonce: int) -> tuple[bytes, int] | None:
        """Find the transaction of an account with a given nonce in the chain's blocks.

        Returns:
            The transaction's hash and block number; None if the transaction is not in a block yet, or if the node no
            longer has the state of old blocks.
        """
        with self._translated():
            try:
                number = self._block_with_nonce(sender, nonce)
            except RpcError as error:
                if error.status != HTTPStatus.OK:
                    raise
                return None  # a node without the old state answers with a JSON-RPC error, not an HTTP error

            block = self._block(number, with_transactions=True) if number else {"transactions": []}
            for transaction in map(fields, items(block["transactions"])):
                found = (
                    to_checksum_address(data(transaction["from"], size=ADDRESS_SIZE)),
                    quantity(transaction["nonce"]),
                )
                if number and found == (sender, nonce):
                    return data(transaction["hash"], size=HASH_SIZE), number
        return None

    def _usual_gas_price(self) -> int:
        """Return the median gas price of the transactions in the last blocks; 0 if these blocks are empty."""
        newest = quantity(self._endpoint.request("eth_blockNumber"))
        prices = []
        for number in range(max(newest - _USUAL_BLOCKS + 1, 0), newest + 1):
            block = self._block(number, with_transactions=True)
            prices += [quantity(fields(one)["gasPrice"]) for one in items(block["transactions"])]
        return median_low(prices) if prices else 0

    def _block_with_nonce(self, sender: str, nonce: int) -> int | None:
        """Find the block with the transaction of a given nonce; None if the nonce is not used yet."""

        def has_it(number: int) -> bool:
            return quantity(self._endpoint.request("eth_getTransactionCount", sender, _tag(number))) > nonce

        # (1) Go back from the newest block in steps that double, since most searched transactions are recent.
        low = high = quantity(self._endpoint.request("eth_blockNumber"))
        step = 1
        while low > 0 and has_it(low):
            low, high, step = max(low - step, 0), low, 2 * step
        if low == high:
            return None
        # (2) Halve the range: the nonce is used at block `high`, and not used at block `low`.
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if has_it(middle) else (middle, high)
        return high

    def _block(self, number: int | None, *, with_transactions: bool = False) -> Mapping[str, Any]:
        return fields(self._endpoint.request_block(number, with_transactions=with_transactions))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate JSON-RPC errors and malformed responses into BlockOTA errors while the ``with`` block runs."""
        try:
            yield
        except RpcError as error:
            if error.is_temporary:
                raise ChainError(
                    f"the node at {self.place} cannot answer now",
                    why=f"{error.message.rstrip('.')}, also after retries for {sum(PAUSES):.0f} s",
                    remedy="wait and try again, or use another node",
                ) from error
            if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise ChainError(
                    f"the node at {self.place} denies access",
                    why=error.message,
                    remedy="check the key in the network's url in blockota.toml, or ask the node's operator",
                ) from error
            if error.status != HTTPStatus.OK:
                raise self._endpoint.unreachable(error.message) from error

            if error.data or _REVERTED.search(error.message):
                raise RevertedError(error.data, error.message) from error
            if _UNSUPPORTED.search(error.message):
                raise ChainError(
                    "the chain cannot run this contract",
                    why="the contract's code has an instruction that the chain does not support "
                    f"({error.message.rstrip('.')})",
                    remedy="compile the contract for the chain's EVM version (BlockOTA's contracts are compiled for "
                    "paris), or ask the chain's operator for a newer fork, such as shanghai for PUSH0",
                ) from error
            raise ChainError(
                f"the node at {self.place} refused the request",
                why=error.message.rstrip("."),
                remedy="correct the network's url in blockota.toml, or ask the node's operator",
            ) from error
        except (ValueError, TypeError, LookupError) as error:
            raise self._endpoint.unreadable(error) from error


def reorganised() -> ChainError:
    """Return the error for values that were read while a reorganisation replaced their block."""
    return ChainError("the chain was reorganised while it was read", remedy="try again")


def _tag(block: int | None) -> str:
    return "latest" if block is None else hex(block)


def _call(to: str, calldata: bytes, block: int | None) -> Question:
    return "eth_call", ({"to": to_checksum_address(to), "data": f"0x{calldata.hex()}"}, _tag(block))


def _balance(account: str) -> Question:
    return "eth_getBalance", (to_checksum_address(account), _tag(None))


def _code(address: str, block: int | None) -> Question:
    return "eth_getCode", (to_checksum_address(address), _tag(block))


def _estimate(sender: str, calldata: bytes, *, to: str | None, fees: Fees | None = None) -> Question:
    request = {"from": to_checksum_address(sender), "data": f"0x{calldata.hex()}"}
    if fees:
        request |= {name: hex(amount) for name, amount in fees.fields.items()}
    if to:
        request["to"] = to_checksum_address(to)
    return "eth_estimateGas", (request, _tag(None))


def _is_contract(code: bytes) -> bool:
    return bool(code) and not code.startswith(_DELEGATION)
