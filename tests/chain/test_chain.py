"""A chain behind an endpoint: responses of a real node, and of servers that are not nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from blockota.bindings.block_ota import BlockOTAContract
from blockota.chain import Chain
from blockota.chain.local import free_port
from blockota.errors import Action, ChainError, RefusedError, RevertedError, UsageError
from blockota.formats.abi import interface
from tests.conftest import Cast, Vendor
from tests.support.networks import rpc, stand_in
from tests.support.samples import SAFE
from tests.support.waiting import eventually

PAUSE = interface("BlockOTA").encode_call("pause")
CHAIN_ID_ANSWER = b'{"jsonrpc":"2.0","id":0,"result":"0x539"}'


@dataclass
class Answers:
    """The response of a server that is not a node: status and body, for every request."""

    status: int = 200
    body: bytes = CHAIN_ID_ANSWER

    def result(self, result: str) -> None:
        """Respond with a JSON-RPC result."""
        self.body = b'{"jsonrpc":"2.0","id":0,"result":' + result.encode() + b"}"


@pytest.fixture
def answers() -> Answers:
    """Responses that can be changed while they are served."""
    return Answers()


@pytest.fixture
def no_node(answers: Answers) -> Iterator[str]:
    """The URL of a server that is not a node."""
    with stand_in(lambda _: (answers.status, answers.body)) as url:
        yield url


def test_the_chain_id_is_compared(anvil: Chain) -> None:
    """A node of another chain is refused, with both chain ids and the remedy."""
    assert Chain(anvil.url).chain_id == 1337
    with pytest.raises(RefusedError, match=r"has chain id 1337, the settings have 1\. Correct the network's url"):
        Chain(anvil.url, chain_id=1)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ws://127.0.0.1:8545", "file:/etc/passwd", "HTTP://x"])
def test_an_address_of_another_kind_is_a_usage_error(url: str) -> None:
    """Only http and https are supported."""
    with pytest.raises(UsageError, match="must begin with http"):
        Chain(url)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:99999", "http://a b", "http://x.invalid"])
def test_an_unknown_host_is_reported(url: str) -> None:
    """An unknown host is a connection error."""
    with pytest.raises(ChainError, match=r"no chain answers at .*or start a local chain") as refused:
        Chain(url)
    assert refused.value.action is Action.START_LOCAL_CHAIN


def test_a_refused_connection_is_reported() -> None:
    """A refused connection is reported with the address and the way to start a chain."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ChainError, match=f"no chain answers at {url}: the connection was refused") as refused:
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
    """Any other response gives an error with the address and a remedy."""
    monkeypatch.setattr("blockota.chain.rpc.PAUSES", ())
    answers.status, answers.body = status, body
    with pytest.raises(ChainError, match=no_node) as refused:
        Chain(no_node)
    assert refused.value.why
    assert refused.value.remedy
    assert ".." not in str(refused.value)


@pytest.mark.parametrize("result", ["null", "5", '"0x"', '"zz"', "{}", "[]", '{"number":"0x1"}', '{"number":"zz"}'])
def test_a_malformed_block_is_reported(no_node: str, answers: Answers, result: str) -> None:
    """A malformed block is an error."""
    chain = Chain(no_node)
    answers.result(result)
    asks: tuple[Callable[[], object], ...] = (chain.head, lambda: chain.head(5))
    for ask in asks:
        with pytest.raises(ChainError, match=no_node):
            ask()


@pytest.mark.parametrize("result", ["null", '"zz"', "{}", "[]"])
def test_a_malformed_answer_is_reported(no_node: str, answers: Answers, result: str) -> None:
    """A malformed call result is an error."""
    chain = Chain(no_node)
    answers.result(result)
    asks: tuple[Callable[[], object], ...] = (lambda: chain.call(SAFE, b""), lambda: chain.has_code(SAFE))
    for ask in asks:
        with pytest.raises(ChainError, match=no_node):
            ask()


def test_a_missing_block_is_reported(anvil: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that a lagging node does not have in time is an error that allows a retry."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(ChainError, match=r"has no block \d+ yet, also after 8 s\. Wait and try again"):
        anvil.head(10**9)


def test_a_block_is_a_value(anvil: Chain) -> None:
    """A block has number, time and hash; the newest is requested without a number."""
    newest = anvil.head()
    assert anvil.head(newest.number) == newest
    assert (anvil.head(0).number, len(anvil.head(0).hash)) == (0, 32)


def test_a_contract_is_distinguished_from_an_account(vendor: Vendor, cast: Cast) -> None:
    """A contract has code, an account does not."""
    assert vendor.chain.has_code(vendor.safe)
    assert not vendor.chain.has_code(cast.mallory.address)


def test_a_refused_call_keeps_its_revert_data(vendor: Vendor, cast: Cast) -> None:
    """A reverted call or transaction carries the error's selector, and nothing is sent."""
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


def test_missing_funds_are_reported(anvil: Chain) -> None:
    """The error contains the node's message about missing funds."""
    with pytest.raises(ChainError, match=r"(?i)(refused|rejected).*(funds|gas)"):
        anvil.send(Account.create(), b"", to=SAFE)


def test_a_transaction_that_fails_in_its_block_is_reported(anvil: Chain, cast: Cast) -> None:
    """If another transaction was first, the error names the failed transaction."""
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
    """Pause a contract; return the result."""
    try:
        chain.send(account, PAUSE, to=to)
    except RevertedError as error:
        return str(error)
    return "done"


def wait_for_pending(chain: Chain, address: str, *, count: int) -> None:
    """Wait until an account has this number of pending transactions."""
    mined = int(rpc(chain, "eth_getTransactionCount", address, "latest"), 16)
    eventually(lambda: int(rpc(chain, "eth_getTransactionCount", address, "pending"), 16) >= mined + count)
