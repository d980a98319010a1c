"""A chain behind an endpoint: what a real node answers, and what answers that is no node."""

from __future__ import annotations

import re
import time
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
from tests.conftest import Cast, Vendor, rpc
from tests.support.networks import stand_in
from tests.support.samples import SAFE

PAUSE = interface("BlockOTA").encode_call("pause")
CHAIN_ID_ANSWER = b'{"jsonrpc":"2.0","id":0,"result":"0x539"}'


@dataclass
class Answers:
    """What a server that is no node answers: status and body, to every request."""

    status: int = 200
    body: bytes = CHAIN_ID_ANSWER

    def result(self, result: str) -> None:
        """Answer with a result, as a node does."""
        self.body = b'{"jsonrpc":"2.0","id":0,"result":' + result.encode() + b"}"


@pytest.fixture
def answers() -> Answers:
    """Answers that can be changed while they are served."""
    return Answers()


@pytest.fixture
def no_node(answers: Answers) -> Iterator[str]:
    """Address of a server that is no node."""
    with stand_in(lambda _: (answers.status, answers.body)) as url:
        yield url


def test_the_chain_id_is_compared(anvil: Chain) -> None:
    """A node of another chain is refused, with both numbers and the remedy."""
    assert Chain(anvil.url).chain_id == 1337
    with pytest.raises(RefusedError, match=r"has chain id 1337, the settings have 1\. Correct the network's url"):
        Chain(anvil.url, chain_id=1)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ws://127.0.0.1:8545", "file:/etc/passwd", "HTTP://x"])
def test_an_address_of_another_kind_is_a_usage_error(url: str) -> None:
    """Only http and https are spoken."""
    with pytest.raises(UsageError, match="begins with http"):
        Chain(url)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:99999", "http://a b", "http://x.invalid"])
def test_an_address_that_leads_nowhere_is_told(url: str) -> None:
    """A host that is none is a chain out of reach."""
    with pytest.raises(ChainError, match=r"no chain answers at .*or start a local chain") as refused:
        Chain(url)
    assert refused.value.action is Action.START_LOCAL_CHAIN


def test_nobody_at_the_port_is_told() -> None:
    """The sentence names the address and how to start a chain; the exit status is that of things out of reach."""
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
def test_what_is_no_node_is_told(no_node: str, answers: Answers, status: int, body: bytes) -> None:
    """Whatever an endpoint answers, the sentence names its address and a remedy."""
    answers.status, answers.body = status, body
    with pytest.raises(ChainError, match=no_node) as refused:
        Chain(no_node)
    assert refused.value.why
    assert refused.value.remedy
    assert ".." not in str(refused.value)


@pytest.mark.parametrize("result", ["null", "5", '"0x"', '"zz"', "{}", "[]", '{"number":"0x1"}', '{"number":"zz"}'])
def test_a_block_of_another_shape_is_told(no_node: str, answers: Answers, result: str) -> None:
    """A node that answers nonsense later on is told as well."""
    chain = Chain(no_node)
    answers.result(result)
    asks: tuple[Callable[[], object], ...] = (chain.head, lambda: chain.head(5))
    for ask in asks:
        with pytest.raises(ChainError, match=no_node):
            ask()


@pytest.mark.parametrize("result", ["null", '"zz"', "{}", "[]"])
def test_an_answer_of_another_shape_is_told(no_node: str, answers: Answers, result: str) -> None:
    """So is one to a call."""
    chain = Chain(no_node)
    answers.result(result)
    asks: tuple[Callable[[], object], ...] = (lambda: chain.call(SAFE, b""), lambda: chain.has_code(SAFE))
    for ask in asks:
        with pytest.raises(ChainError, match=no_node):
            ask()


def test_a_block_that_is_not_there_yet_is_told(anvil: Chain) -> None:
    """A node that lags is told to be asked again."""
    with pytest.raises(ChainError, match=r"lags: .*Try again"):
        anvil.head(10**9)


def test_a_block_is_a_value(anvil: Chain) -> None:
    """Number, time and hash; the newest without a number."""
    newest = anvil.head()
    assert anvil.head(newest.number) == newest
    assert (anvil.head(0).number, len(anvil.head(0).hash)) == (0, 32)


def test_code_is_told_from_an_account(vendor: Vendor, cast: Cast) -> None:
    """A contract has code, an account has none."""
    assert vendor.chain.has_code(vendor.safe)
    assert not vendor.chain.has_code(cast.mallory.address)


def test_a_refused_call_keeps_its_revert_data(vendor: Vendor, cast: Cast) -> None:
    """A call and a transaction that the contract refuses carry the error's selector, and nothing is sent."""
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


def test_an_account_without_money_is_told(anvil: Chain) -> None:
    """The node's own words say that the funds are missing."""
    with pytest.raises(ChainError, match=r"(?i)(refused|rejected).*(funds|gas)"):
        anvil.send(Account.create(), b"", to=SAFE)


def test_a_transaction_that_fails_in_its_block_is_told(anvil: Chain, cast: Cast) -> None:
    """Where another one got into the block first, the sentence names the transaction that came too late."""
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
    """Pause a contract; what came of it."""
    try:
        chain.send(account, PAUSE, to=to)
    except RevertedError as error:
        return str(error)
    return "done"


def wait_for_pending(chain: Chain, address: str, *, count: int) -> None:
    """Wait until so many transactions of an account wait for a block."""
    mined = int(rpc(chain, "eth_getTransactionCount", address, "latest"), 16)
    while int(rpc(chain, "eth_getTransactionCount", address, "pending"), 16) < mined + count:
        time.sleep(0.01)
