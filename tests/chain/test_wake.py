"""Tests of waiting for a block: by notifications of the node, or by pauses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from blockota.chain import Chain
from blockota.chain.wake import BlockSignal
from blockota.shutdown import Stop
from tests.support.networks import rpc, stand_in

LONG, SHORT = 600.0, 0.01
SUBSCRIBED = json.dumps({"jsonrpc": "2.0", "id": 1, "result": "0x1"})


@contextmanager
def websocket_node(answer: Callable[[ServerConnection], None]) -> Iterator[str]:
    """Run a WebSocket server that answers each connection with a function; yield its URL with the scheme http."""
    with serve_websocket(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def test_a_real_node_wakes_the_waiting_thread(anvil: Chain) -> None:
    """A new block of anvil ends a wait of up to ten minutes."""
    signal, is_over = BlockSignal(anvil.url, pause=LONG), threading.Event()

    def mine() -> None:
        while not is_over.wait(SHORT):  # a block before the subscription is not announced
            rpc(anvil, "evm_mine")

    miner = threading.Thread(target=mine)
    miner.start()
    try:
        assert signal.wait(Stop())
    finally:
        is_over.set()
        miner.join()
        signal.close()


def test_announced_blocks_end_one_wait() -> None:
    """If several blocks were announced before a wait, only this wait ends immediately, and the next wait lasts."""

    def answer(connection: ServerConnection) -> None:
        connection.recv()
        for message in (SUBSCRIBED, "block 1", "block 2", "block 3"):
            connection.send(message)
        connection.ping().wait()  # the client has received them
        are_sent.set()
        is_over.wait()

    are_sent, is_over = threading.Event(), threading.Event()
    with websocket_node(answer) as url:
        signal = BlockSignal(url, pause=LONG)
        assert signal.wait(Stop())
        are_sent.wait()
        stop = Stop()
        threading.Thread(target=stop.ask).start()
        while not stop.is_asked:
            signal.wait(stop)
        is_over.set()
        signal.close()


def test_a_node_without_websockets_is_polled() -> None:
    """After the node has refused a WebSocket, each wait lasts for the pause, without another attempt to connect."""
    requests = list[bytes]()
    with stand_in(lambda body: requests.append(body) or (404, b"")) as url:  # type: ignore[func-returns-value]
        signal = BlockSignal(url, pause=SHORT)
        assert not any(signal.wait(Stop()) for _ in range(3))


def test_a_lost_connection_is_opened_again() -> None:
    """If the node closes the connection during a wait, this wait lasts for the pause; a later wait connects again."""
    connections = list[ServerConnection]()

    def answer(connection: ServerConnection) -> None:
        connections.append(connection)
        connection.recv()
        connection.send(SUBSCRIBED)

    with websocket_node(answer) as url:
        signal = BlockSignal(url, pause=SHORT)
        assert not any(signal.wait(Stop()) for _ in range(13))
    assert len(connections) == 2


@pytest.mark.parametrize("answer", ['{"error": {"code": -32601}}', "[]", "no JSON", "1"])
def test_a_node_that_refuses_the_subscription_is_polled(answer: str) -> None:
    """A node with WebSockets but without subscriptions is polled."""

    def refuse(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(answer)

    with websocket_node(refuse) as url:
        assert not BlockSignal(url, pause=SHORT).wait(Stop())


def test_a_stop_ends_the_wait() -> None:
    """A stop request ends a wait immediately, even if the node's URL is unusable."""
    stop = Stop()
    threading.Timer(SHORT, stop.ask).start()
    assert not BlockSignal("ws://", pause=LONG).wait(stop)
