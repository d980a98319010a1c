"""Tests of JSON-RPC over HTTP: the forms of error responses, and URLs that contain secrets."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from urllib3 import exceptions

from blockota.chain import Chain, answered_within, rpc
from blockota.chain.rpc import RpcEndpoint, RpcError, data, quantity
from blockota.errors import ChainError, RevertedError
from tests.support.networks import stand_in
from tests.support.samples import SAFE

REVERT = bytes.fromhex("7978c5d4")


def answer_of(result: object = "0x539", **error: object) -> bytes:
    """Return a JSON-RPC response with a result or an error."""
    outcome: dict[str, object] = {"error": error} if error else {"result": result}
    return json.dumps({"jsonrpc": "2.0", "id": 1, **outcome}).encode()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 500, 503, 599])
def test_an_http_status_is_named_and_no_secret_is(status: int) -> None:
    """An error contains the HTTP status, but not the path or password of the node's URL; the path can be an API key."""
    with stand_in(lambda _: (status, answer_of())) as url:
        secret = url.replace("http://", "http://user:password@") + "/v2/apikey?token=secret"
        fault = "denies access" if status in {401, 403} else "does not answer"
        with pytest.raises(
            ChainError, match=f"the node at {url} {fault}: the response has the HTTP status {status}"
        ) as e:
            Chain(secret)
    chained: BaseException | None = e.value
    while chained:
        assert not any(word in str(chained) for word in ("apikey", "secret", "password"))
        chained = chained.__cause__


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/apikey", "http://u:apikey@x.invalid/", "http://apikey@[::1/apikey"]
)
def test_an_address_that_does_not_answer_keeps_its_secret(url: str) -> None:
    """An error about a node that is out of reach contains only scheme, host and port of the node's URL."""
    with pytest.raises(ChainError, match=r"the node at http://.* does not answer") as refused:
        Chain(url)
    assert "apikey" not in str(refused.value)
    assert "apikey" not in str(refused.value.__cause__).replace("[::1/apikey", "")


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "execution reverted", "data": "0x7978c5d4"},
        {"code": -32015, "message": "VM execution error.", "data": "Reverted 0x7978c5d4"},
        {"code": -32000, "message": "VM Exception: revert", "data": {"result": "0x7978c5d4"}},
        {"code": -32000, "message": "VM Exception: revert", "data": {"data": "0x7978c5d4"}},
    ],
    ids=["geth, anvil", "OpenEthereum", "ganache", "hardhat"],
)
def test_revert_data_is_found_where_each_node_puts_it(error: dict[str, Any]) -> None:
    """Revert data is found at each place of an error response where nodes return it."""
    answers = iter([answer_of(), answer_of(**error)])
    with stand_in(lambda _: (200, next(answers))) as url, pytest.raises(RevertedError) as refused:
        Chain(url).call(SAFE, b"")
    assert (refused.value.data, refused.value.message) == (REVERT, error["message"])


@pytest.mark.parametrize("given", [None, 5, "0x", "zz", "0xzz", [], {}, {"result": 5}])
def test_a_revert_without_readable_data_is_a_refusal(given: object) -> None:
    """An error "execution reverted" without readable revert data raises a RevertedError with the node's message."""
    answers = iter([answer_of(), answer_of(code=3, message="execution reverted: GS026", data=given)])
    with stand_in(lambda _: (200, next(answers))) as url, pytest.raises(RevertedError, match="GS026") as refused:
        Chain(url).call(SAFE, b"")
    assert refused.value.data == b""


def test_extra_data_of_a_consortium_block_is_ignored() -> None:
    """Unknown fields of a block are ignored, such as the longer extraData of proof-of-authority chains."""
    block = {"number": "0x5", "timestamp": "0x6", "hash": f"0x{'ab' * 32}", "extraData": f"0x{'00' * 97}"}
    answers = iter([answer_of(), answer_of(block)])
    with stand_in(lambda _: (200, next(answers))) as url:
        assert Chain(url).head().number == 5


def test_a_user_name_and_password_are_sent() -> None:
    """User name and password of a node's URL are decoded and sent as HTTP basic authentication."""
    seen: list[bytes] = []
    with listener(
        seen, b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n" + b'{"jsonrpc":"2.0","id":1,"result":"0x539"} '
    ) as port:
        assert Chain(f"http://user:pass%3Aword@127.0.0.1:{port}/").chain_id == 1337
    assert b"authorization: basic dxnlcjpwyxnzondvcmq=" in seen[0].lower()


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to a node use the proxy of the variable `http_proxy`, except for hosts in `no_proxy`."""
    with stand_in(lambda _: (200, answer_of())) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        assert Chain("http://node.invalid/").chain_id == 1337
        monkeypatch.setenv("no_proxy", "node.invalid")
        with pytest.raises(ChainError, match="the host name cannot be resolved"):
            Chain("http://node.invalid/")


def test_a_node_that_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a node that does not respond in time contains the time limit."""
    monkeypatch.setattr(rpc, "_TIMEOUT", 0.2)
    with listener([], b"") as port, pytest.raises(ChainError, match=r"no answer within 10 s"):
        Chain(f"http://127.0.0.1:{port}")


def test_a_caller_can_limit_the_time_of_all_requests() -> None:
    """`answered_within` limits the time of all requests within its `with` block, but not of later requests."""
    with listener([], b"") as port:
        with answered_within(0.1), pytest.raises(ChainError, match="no answer in time"):
            Chain(f"http://127.0.0.1:{port}")
        with answered_within(-1), pytest.raises(ChainError, match="no answer in time"):
            Chain(f"http://127.0.0.1:{port}")
    with pytest.raises(ChainError, match="refused"):
        Chain("http://127.0.0.1:1")


def test_a_number_without_end_is_refused_in_our_words() -> None:
    """The error for a number of 10,000 digits contains this length, and omits Python's advice to raise the limit."""
    body = b'{"jsonrpc": "2.0", "id": 1, "result": ' + b"9" * 10_000 + b"}"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with listener([], answer) as port, pytest.raises(ChainError, match=r"a number has 10,000 digits") as caught:
        Chain(f"http://127.0.0.1:{port}")
    assert "sys." not in str(caught.value)


@pytest.mark.parametrize(("limit", "words"), [("_WHOLE_TIMEOUT", "-1 s"), ("_MAX_RESPONSE", "-1 bytes")])
def test_a_response_that_does_not_end_is_cut(limit: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that exceeds the limit of time or size is not read to its end."""
    monkeypatch.setattr(rpc, limit, -1)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{"
    with listener([], answer) as port, pytest.raises(ChainError, match=rf"the response did not end within {words}"):
        Chain(f"http://127.0.0.1:{port}")


@contextmanager
def listener(seen: list[bytes], answer: bytes) -> Iterator[int]:
    """Start a server that records one request and sends one response, or no response; yield its port."""
    done = Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                seen.append(connection.recv(65536))
                if answer:
                    connection.sendall(answer)
                done.wait(30)

        thread = Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        done.set()
        thread.join()


FAILURES = {
    exceptions.ConnectTimeoutError(None, "", "url"): "no answer within 10 s",
    exceptions.ReadTimeoutError(None, "", "url"): "no answer within 10 s",  # type: ignore[arg-type]  # no pool is needed
    exceptions.NewConnectionError(None, "url"): "refused or lost",  # type: ignore[arg-type]  # the same
    exceptions.ProtocolError("url"): "refused or lost",
    exceptions.IncompleteRead(1, 2): "refused or lost",
    exceptions.SSLError("url"): "TLS",
    exceptions.ProxyError("url", OSError()): "proxy",
    exceptions.LocationParseError("url"): "the address is not valid",
    exceptions.DecodeError("url"): "compression",
    exceptions.ResponseError("url"): "redirects",
    UnicodeError("url"): "the address is not valid",
}


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_failures_of_the_http_client_have_their_own_words(error: Exception) -> None:
    """Each exception of the HTTP client is reported with the error text for its cause."""
    words = next(words for kind, words in rpc._FAILURES if isinstance(error, kind))  # noqa: SLF001 - a table
    assert FAILURES[error] in words


@pytest.mark.parametrize("value", [None, 5, "", "0x", "5", "0xg", "-0x1", "0x-1", "0x 1", "0x1_0", []])
def test_what_is_not_a_number_is_refused(value: object) -> None:
    """A malformed hexadecimal number is refused, even if Python's `int` accepts it."""
    with pytest.raises(ValueError, match="is not a number"):
        quantity(value)


def test_a_number_that_no_chain_has_is_refused() -> None:
    """The error for a number of more than 256 bits contains its size, even if Python refuses to print the number."""
    assert quantity("0x" + "f" * 64) == 2**256 - 1
    for digits in (65, 20_000):
        with pytest.raises(ValueError, match=f"a number of {4 * digits} bits is given where at most 256"):
            quantity("0x" + "f" * digits)


@pytest.mark.parametrize("value", [None, 5, "", "00", "0x0", "0xzz", "0x00 00", []])
def test_what_is_not_bytes_is_refused(value: object) -> None:
    """Bytes that are not encoded as 0x and an even number of hexadecimal digits are refused."""
    with pytest.raises(ValueError, match=r"\w"):
        data(value)


def test_bytes_of_another_number_are_refused() -> None:
    """Bytes of an unexpected length are refused."""
    assert data("0x00ff") == b"\x00\xff"
    with pytest.raises(ValueError, match="2 bytes are given where 32 are expected"):
        data("0x00ff", size=32)


TEMPORARY = {
    "too many requests": (429, b"slow down"),
    "a limit": (200, answer_of(code=-32005, message="daily request count exceeded")),
    "a lagging node": (200, answer_of(code=-32000, message="header not found")),
    "a lagging node's events": (200, answer_of(code=-32602, message="block range extends beyond current head block")),
}


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_failure_for_a_moment_is_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After temporary failures, the request is repeated with growing pauses until a valid response arrives."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    answers = iter([TEMPORARY[name]] * 3 + [(200, answer_of())])
    with stand_in(lambda _: next(answers)) as url:
        assert Chain(url).chain_id == 1337
    assert pauses == list(rpc.PAUSES[:3])


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_failure_that_lasts_is_reported_as_such(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all retries fail, the error contains the node's reason and the duration of the retries."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    reasons = "429|daily request count|header not found|beyond current head"
    expected = rf"cannot answer now: .*({reasons}).*, also after retries for 8 s\. Wait"
    with stand_in(lambda _: TEMPORARY[name]) as url, pytest.raises(ChainError, match=expected):
        Chain(url)


def test_a_block_that_a_lagging_node_does_not_have_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a lagging node lacks a block, the request is repeated until the node has the block or the retries end."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    block = {"number": "0x9", "timestamp": "0x1", "hash": "0x" + "11" * 32}
    answers = iter([None, None, block] + [None] * 6)
    with stand_in(lambda body: (200, answer_of(next(answers) if b"getBlock" in body else "0x539"))) as url:
        chain = Chain(url)
        assert chain.head(9).number == 9
        assert pauses == list(rpc.PAUSES[:2])
        with pytest.raises(
            ChainError, match=r"cannot answer now: .*the node does not have block 10 yet, also after retries for 8 s"
        ):
            chain.head(10)


@pytest.mark.parametrize("field", ["number", "timestamp"])
def test_a_block_beyond_all_chains_is_refused(field: str) -> None:
    """A block whose number or timestamp has 64 bits is refused."""
    block = {"number": "0x9", "timestamp": "0x1", "hash": "0x" + "11" * 32, field: "0x" + "f" * 16}
    answer = stand_in(lambda body: (200, answer_of(block if b"getBlock" in body else "0x539")))
    with answer as url, pytest.raises(ChainError, match=r"is not a node: .*a number of 64 bits"):
        Chain(url).head()


def test_a_search_in_too_many_blocks_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the code -32005 means that the block range is too large, not a rate limit, the request is not repeated."""
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    refusal = answer_of(code=-32005, message="query returned more than 10000 results")
    with stand_in(lambda _: (200, refusal)) as url, pytest.raises(RpcError, match="10000 results"):
        RpcEndpoint(url).request("eth_getLogs")


def batch_node(answer: Callable[[list[Any]], object], seen: list[int]) -> Callable[[bytes], tuple[int, bytes]]:
    """Return a fake node that returns the parameter of a single request, and lets `answer` respond to a batch."""

    def reply(body: bytes) -> tuple[int, bytes]:
        request = json.loads(body)
        seen.append(len(request) if isinstance(request, list) else 1)
        found = answer(request) if isinstance(request, list) else single(request)
        return 200, json.dumps(found).encode()

    return reply


def single(request: dict[str, Any]) -> dict[str, Any]:
    """Return a response whose result is the request's first parameter."""
    return {"jsonrpc": "2.0", "id": request["id"], "result": request["params"][0]}


def test_many_calls_are_sent_in_few_requests() -> None:
    """For 120 calls, three batches are sent; responses in another order are assigned to the calls by their id."""
    seen: list[int] = []
    with stand_in(batch_node(lambda batch: [single(one) for one in reversed(batch)], seen)) as url:
        assert RpcEndpoint(url).request_many([("eth_call", (number,)) for number in range(120)]) == list(range(120))
    assert seen == [50, 50, 20]


def test_a_node_that_takes_no_batches_is_asked_one_by_one() -> None:
    """After a node has refused one batch, all calls are sent as single requests."""
    seen: list[int] = []
    refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batches are not supported"}}
    with stand_in(batch_node(lambda _: refusal, seen)) as url:
        endpoint = RpcEndpoint(url)
        for _ in range(2):
            assert endpoint.request_many([("eth_call", (number,)) for number in range(3)]) == [0, 1, 2]
    assert seen == [3, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "spoil", [lambda batch: batch[1:], lambda batch: [*batch[:-1], batch[0]]], ids=["one less", "twice"]
)
def test_a_batch_with_other_answers_is_refused(spoil: Callable[[list[Any]], list[Any]]) -> None:
    """The response to a batch is refused if a call's response is missing or occurs twice."""
    node = batch_node(lambda batch: [single(one) for one in spoil(batch)], [])
    with stand_in(node) as url, pytest.raises(ChainError, match="the responses of a batch do not match its requests"):
        RpcEndpoint(url).request_many([("eth_call", (number,)) for number in range(3)])


@pytest.mark.parametrize("takes_batches", [True, False])
def test_a_refused_call_leaves_the_others_of_its_batch(*, takes_batches: bool) -> None:
    """Refused calls have errors in place of results; if the caller requires all results, the first error is raised."""
    questions = [("eth_call", (1,)), ("eth_newer", ("lacks",)), ("eth_call", (3,))]

    def reply(body: bytes) -> tuple[int, bytes]:
        request = json.loads(body)
        if isinstance(request, list):
            return 200, json.dumps([refuse(one) for one in request] if takes_batches else {"error": {}}).encode()
        return 200, json.dumps(refuse(request)).encode()

    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_call":
            return single(request)
        return {"id": request["id"], "error": {"code": -32601, "message": "method not found"}}

    with stand_in(reply) as url:
        first, error, third = RpcEndpoint(url).request_each(questions)
        assert (first, error.code, third) == (1, -32601, 3)
        with pytest.raises(RpcError, match="method not found"):
            RpcEndpoint(url).request_many(questions)


def test_an_error_keeps_its_code() -> None:
    """An RpcError has the code of the JSON-RPC error, or None if the code is not a number."""
    answers = iter([answer_of(code=-32010, message="limit"), answer_of(code="x", message="")])
    with stand_in(lambda _: (200, next(answers))) as url:
        for code, message in ((-32010, "limit"), (None, "the node gives no reason")):
            with pytest.raises(RpcError, match=message) as refused:
                RpcEndpoint(url).request("eth_chainId")
            assert refused.value.code == code


@pytest.mark.parametrize(
    "message",
    [
        "invalid opcode: PUSH0",
        "invalid opcode: opcode 0x5f not defined",
        "Invalid opcode: 0x5f",
        "VM Exception while processing transaction: invalid opcode",
        "EVM error NotActivated",
        "EVM error OpcodeNotFound",
        "BadInstruction",
    ],
)
def test_an_unsupported_instruction_is_not_called_a_wrong_url(message: str) -> None:
    """An unsupported opcode raises an error about the chain's EVM version, with the node's message."""
    answers = iter([answer_of(), answer_of(code=-32000, message=message)])
    with stand_in(lambda _: (200, next(answers))) as url, pytest.raises(ChainError) as refused:
        Chain(url).call(SAFE, b"")
    assert "the chain cannot run this contract" in str(refused.value)
    assert message in refused.value.why
    assert "blockota.toml" not in str(refused.value)


@pytest.mark.parametrize("message", ["invalid opcode: INVALID", "EVM error InvalidFEOpcode"])
def test_the_instruction_invalid_is_a_refusal_by_the_contract(message: str) -> None:
    """The opcode INVALID counts as a revert, because contracts of old compilers refuse a call with this opcode."""
    answers = iter([answer_of(), answer_of(code=-32000, message=message)])
    with stand_in(lambda _: (200, next(answers))) as url, pytest.raises(RevertedError, match="the contract refused"):
        Chain(url).call(SAFE, b"")
