"""Tests of `Chain` with the responses of a real Ethereum node, and of servers that are not nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from eth_account.signers.local import LocalAccount

from blockota.bindings.block_ota import BlockOTAContract
from blockota.chain import Chain
from blockota.chain.local import free_port
from blockota.errors import ChainError, RefusedError, RevertedError, UsageError
from blockota.formats.abi import interface
from tests.conftest import Cast, Vendor
from tests.support.networks import rpc, stand_in
from tests.support.samples import SAFE
from tests.support.waiting import eventually

PAUSE = interface("BlockOTA").encode_call("pause")
CHAIN_ID_ANSWER = b'{"jsonrpc":"2.0","id":0,"result":"0x539"}'


@dataclass
class Answers:
    """The HTTP status and body of all responses of a server that is not a node."""

    status: int = 200
    body: bytes = CHAIN_ID_ANSWER

    def result(self, result: str) -> None:
        """Set the response to a JSON-RPC result."""
        self.body = b'{"jsonrpc":"2.0","id":0,"result":' + result.encode() + b"}"


@pytest.fixture
def answers() -> Answers:
    """The response of the server that is not a node; a test can change this response while the server runs."""
    return Answers()


@pytest.fixture
def no_node(answers: Answers) -> Iterator[str]:
    """Start a server that is not a node, and return its URL."""
    with stand_in(lambda _: (answers.status, answers.body)) as url:
        yield url


def test_the_chain_id_is_compared(anvil: Chain) -> None:
    """A node with another chain id is refused, and the error contains both chain ids and the remedy."""
    assert Chain(anvil.url).chain_id == 1337
    with pytest.raises(RefusedError, match=r"has chain id 1337, the settings have 1\. Correct the network's url"):
        Chain(anvil.url, chain_id=1)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ws://127.0.0.1:8545", "file:/etc/passwd", "HTTP://x"])
def test_an_address_of_another_kind_is_a_usage_error(url: str) -> None:
    """A node's URL that does not begin with http:// or https:// raises a UsageError."""
    with pytest.raises(UsageError, match="must begin with http"):
        Chain(url)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:99999", "http://a b", "http://x.invalid"])
def test_an_unknown_host_is_reported(url: str) -> None:
    """A node's URL with an unknown or malformed host raises a ChainError with a remedy."""
    with pytest.raises(ChainError, match=r"the node at .* does not answer: .*\. Check the connection to this host"):
        Chain(url)


def test_a_refused_connection_is_reported() -> None:
    """If the node refuses the connection, the error contains the node's URL, and the exit status is 5."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ChainError, match=f"the node at {url} does not answer: the connection was refused") as refused:
        Chain(url)
    assert refused.value.exit_status == 5


WRONG_ANSWERS = {
    "a page": (200, b"<html>hello</html>"),
    "nothing": (200, b""),
    "not found": (404, b"no"),
    "a failure": (500, b"no"),
    "a redirection to nowhere": (302, b""),
    "a list": (200, b"[]"),
    "an object": (200, b"{}"),
    "a number": (200, b"5"),
    "null": (200, b"null"),
    "no result": (200, b'{"jsonrpc":"2.0","id":0,"result":null}'),
    "no number": (200, b'{"jsonrpc":"2.0","id":0,"result":"zz"}'),
    "an empty list": (200, b'{"jsonrpc":"2.0","id":0,"result":[]}'),
    "an error of another kind": (200, b'{"jsonrpc":"2.0","id":0,"error":"no"}'),
    "an error without words": (200, b'{"jsonrpc":"2.0","id":0,"error":{"code":-32000}}'),
    "too many requests": (200, b'{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"limit exceeded"}}'),
    "no text": (200, b"\xff\xfe"),
    "a nest without end": (200, b"[" * 100_000),
}


@pytest.mark.parametrize(("status", "body"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_a_server_that_is_not_a_node_is_reported(
    no_node: str, answers: Answers, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    """A response without a valid chain id raises a ChainError with the server's URL and a remedy."""
    monkeypatch.setattr("blockota.chain.rpc.PAUSES", ())
    answers.status, answers.body = status, body
    with pytest.raises(ChainError, match=no_node) as refused:
        Chain(no_node)
    assert refused.value.why
    assert refused.value.remedy
    assert ".." not in str(refused.value)


@pytest.mark.parametrize("result", ["null", "5", '"0x"', '"zz"', "{}", "[]", '{"number":"0x1"}', '{"number":"zz"}'])
def test_a_malformed_block_is_reported(no_node: str, answers: Answers, result: str) -> None:
    """A malformed block in a node's response raises a ChainError."""
    chain = Chain(no_node)
    answers.result(result)
    asks: tuple[Callable[[], object], ...] = (chain.head, lambda: chain.head(5))
    for ask in asks:
        with pytest.raises(ChainError, match=no_node):
            ask()


@pytest.mark.parametrize("result", ["null", '"zz"', "{}", "[]"])
def test_a_malformed_answer_is_reported(no_node: str, answers: Answers, result: str) -> None:
    """A malformed result of `eth_call` or `eth_getCode` raises a ChainError."""
    chain = Chain(no_node)
    answers.result(result)
    asks: tuple[Callable[[], object], ...] = (lambda: chain.call(SAFE, b""), lambda: chain.has_code(SAFE))
    for ask in asks:
        with pytest.raises(ChainError, match=no_node):
            ask()


def test_a_missing_block_is_reported(anvil: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a block that the node still lacks after the last retry advises to wait and try again."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(
        ChainError, match=r"does not have block \d+ yet, also after retries for 8 s\. Wait and try again"
    ):
        anvil.head(10**9)


def test_a_block_is_a_value(anvil: Chain) -> None:
    """`head` without a number returns the newest block, and `head(n)` returns block n with a hash of 32 bytes."""
    newest = anvil.head()
    assert anvil.head(newest.number) == newest
    assert (anvil.head(0).number, len(anvil.head(0).hash)) == (0, 32)


def test_a_contract_is_distinguished_from_an_account(vendor: Vendor, cast: Cast) -> None:
    """`has_code` is true for a contract, and false for an account without code."""
    assert vendor.chain.has_code(vendor.safe)
    assert not vendor.chain.has_code(cast.mallory.address)


def test_a_refused_call_keeps_its_revert_data(vendor: Vendor, cast: Cast) -> None:
    """A call or transaction that would revert raises an error with the revert data, and no transaction is sent."""
    before = rpc(vendor.chain, "eth_getTransactionCount", cast.mallory.address, "latest")
    asks: tuple[Callable[[], object], ...] = (
        lambda: vendor.chain.call(vendor.contract.address, PAUSE, sender=cast.mallory.address),
        lambda: vendor.chain.send(cast.mallory, PAUSE, to=vendor.contract.address),
    )
    for ask in asks:
        with pytest.raises(RevertedError) as refused:
            ask()
        assert refused.value.data[:4].hex() == "7978c5d4"
    assert rpc(vendor.chain, "eth_getTransactionCount", cast.mallory.address, "latest") == before


def test_a_transaction_that_fails_in_its_block_is_reported(anvil: Chain, cast: Cast) -> None:
    """A transaction that reverts in its block raises an error with the transaction's hash and the block number."""
    contract, _ = BlockOTAContract.deploy(anvil, cast.broker, owner=cast.broker.address)
    rpc(anvil, "evm_setAutomine", False)  # noqa: FBT003 - the node's own parameter
    with ThreadPoolExecutor() as pool:
        sent = [pool.submit(send_and_wait, anvil, cast.broker, to=contract.address)]
        wait_for_pending(anvil, cast.broker.address, count=1)
        sent.append(pool.submit(send_and_wait, anvil, cast.broker, to=contract.address))
        wait_for_pending(anvil, cast.broker.address, count=2)
        rpc(anvil, "evm_setAutomine", True)  # noqa: FBT003 - the same
        rpc(anvil, "evm_mine")
    assert sent[0].result() == "done"
    assert re.match(r"the contract refused: the transaction 0x[0-9a-f]{64} was reverted in block \d+", sent[1].result())


def send_and_wait(chain: Chain, account: LocalAccount, *, to: str) -> str:
    """Send a transaction that pauses a contract; return the message of the error, or "done"."""
    try:
        chain.send(account, PAUSE, to=to)
    except RevertedError as error:
        return str(error)
    return "done"


def wait_for_pending(chain: Chain, address: str, *, count: int) -> None:
    """Wait until an account has the given number of pending transactions."""
    mined = int(rpc(chain, "eth_getTransactionCount", address, "latest"), 16)
    eventually(lambda: int(rpc(chain, "eth_getTransactionCount", address, "pending"), 16) >= mined + count)
