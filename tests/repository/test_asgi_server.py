"""The server for ASGI applications: bodies, streams, and the limits for clients."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send

from blockota.repository.asgi_server import Application, serve_application
from blockota.repository.connection import MAX_HEADER_SIZE, MAX_HEADERS
from blockota.repository.server import LOCAL_PROXIES, Listening
from tests.support.repository_process import receive_all
from tests.support.waiting import DEADLINE, eventually

LARGE = bytes(range(256)) * 2048
Connect = Callable[[], socket.socket]


def serve(
    app: Application,
    use: Callable[[Connect], None],
    *,
    clients: int = 64,
    proxies: tuple[IPv4Network | IPv6Network, ...] = (),
) -> None:
    """Serve an application while a client runs in a thread."""

    async def main() -> None:
        ready = asyncio.get_running_loop().create_future()
        place = Listening("127.0.0.1", 0, proxies=proxies, clients=clients, stop_seconds=0)
        task = asyncio.create_task(serve_application(app, place, on_ready=ready.set_result))
        address = ("127.0.0.1", urlsplit(await ready).port or 0)
        try:
            await asyncio.to_thread(use, lambda: socket.create_connection(address, timeout=DEADLINE))
        finally:
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(main())


def head(method: str, path: str, *headers: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def answer(send: Send, status: int, body: bytes) -> None:
    """Send a response whose length is known."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path and the body of the request; `/refused` refuses the request without reading the body."""
    if scope["path"] == "/refused":
        await answer(send, 413, b"too large")
        return
    body, is_more = bytearray(), True
    while is_more:
        message = await receive()
        body, is_more = body + message["body"], message["more_body"]
    await answer(send, 200, scope["path"].encode() + b" " + body)


def test_a_body_is_received() -> None:
    """A client with ``Expect: 100-continue`` may send its body, which arrives with a length or in chunks."""

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("POST", "/a", "Expect: 100-continue", f"Content-Length: {len(LARGE)}"))
            assert client.recv(1 << 12).startswith(b"HTTP/1.1 100 ")
            client.sendall(LARGE + head("POST", "/b", "Transfer-Encoding: chunked", "Connection: close"))
            client.sendall(b"5\r\nhello\r\n")
            client.sendall(b"6\r\n world\r\n0\r\n\r\n")
            answers = receive_all(client)
        assert b"\r\n\r\n/a " + LARGE + b"HTTP/1.1 200 " in answers
        assert answers.endswith(b"\r\n\r\n/b hello world")

    serve(echo, use)


def test_head_is_answered_without_a_body() -> None:
    """The response to HEAD has no body, and the next request on the connection is answered."""

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("HEAD", "/first") + head("GET", "/next", "Connection: close"))
            answers = receive_all(client)
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert b"/first" not in answers
        assert answers.endswith(b"\r\n\r\n/next ")

    serve(echo, use)


def test_an_unread_body_does_not_lose_the_response() -> None:
    """A client that sends its whole body before it reads still receives a refusal; then the connection is closed."""

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("POST", "/refused", f"Content-Length: {len(LARGE)}") + LARGE)
            response = receive_all(client)
        assert response.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nConnection: close\r\n" in response
        assert response.endswith(b"too large")

    serve(echo, use)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"X-{number}: 1" for number in range(MAX_HEADERS - 1)], b"200"),
        ([f"X-{number}: 1" for number in range(MAX_HEADERS)], b"400"),
        ([f"X: {'a' * MAX_HEADER_SIZE}"], b"400"),
        (["no header"], b"400"),
    ],
    ids=["most headers", "too many headers", "too large", "malformed"],
)
def test_headers_are_limited(headers: list[str], status: bytes) -> None:
    """The number and the size of headers are limited."""

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("GET", "/", *headers))
            assert client.recv(12) == b"HTTP/1.1 " + status

    serve(echo, use)


def test_connections_at_once_are_limited() -> None:
    """Beyond the limit of connections, requests are answered with status 503 until another connection ends."""

    def is_served(connect: Connect) -> bool:
        with connect() as client:
            client.sendall(head("GET", "/"))
            return client.recv(12) == b"HTTP/1.1 200"

    def use(connect: Connect) -> None:
        with connect() as first, connect() as second:
            for client in (first, second):
                client.sendall(head("GET", "/"))
                assert client.recv(12) == b"HTTP/1.1 200"
            with connect() as third:
                third.sendall(head("GET", "/"))
                assert receive_all(third).startswith(b"HTTP/1.1 503 ")
        eventually(lambda: is_served(connect), what="the end of the other connections")

    serve(echo, use, clients=2)


class Stream:
    """An application whose response to `/stream` ends when `finish` is called or the client disconnects."""

    def __init__(self) -> None:
        self._finished, self._returned = asyncio.Event(), asyncio.Event()
        self.left: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `/stream` with the stream, and other paths like `echo`."""
        if scope["path"] != "/stream":
            await echo(scope, receive, send)
            return
        self._loop = asyncio.get_running_loop()
        await receive()  # the end of the request
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begin", "more_body": True})
        leaving = asyncio.ensure_future(receive())
        finished = asyncio.create_task(self._finished.wait())
        await asyncio.wait([leaving, finished], return_when=asyncio.FIRST_COMPLETED)
        finished.cancel()
        if leaving.done():
            self.left.append(leaving.result()["type"])
        await send({"type": "http.response.body", "body": b"end"})
        await self._returned.wait()
        for _ in range(10):  # meanwhile, the server reads what the client sent
            await asyncio.sleep(0)

    def finish(self) -> None:
        """End the response. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._finished.set)

    def leave(self) -> None:
        """Return from the application. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._returned.set)


@pytest.mark.parametrize("last", [b"begin", b"0\r\n\r\n"], ids=["before its end", "before the application returns"])
def test_a_request_during_a_response_is_answered_after_it(last: bytes) -> None:
    """If a request arrives before the application has returned, its answer comes next."""
    app = Stream()

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("GET", "/stream"))
            received = b""
            while last not in received:
                received += client.recv(1 << 12)
                if b"begin" in received and last != b"begin":
                    app.finish()
            client.sendall(head("GET", "/next", "Connection: close"))
            app.finish()
            app.leave()
            assert receive_all(client).endswith(b"\r\n\r\n/next ")

    serve(app, use)
    assert not app.left


def test_an_application_learns_that_its_client_left(caplog: pytest.LogCaptureFixture) -> None:
    """When the client closes the connection, `receive` returns; later parts of the response are ignored."""
    app = Stream()

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("GET", "/stream"))
            assert client.recv(12) == b"HTTP/1.1 200"
            client.shutdown(socket.SHUT_WR)
            receive_all(client)
            app.leave()

    with caplog.at_level(logging.ERROR):
        serve(app, use)
    assert app.left == ["http.disconnect"]
    assert not caplog.records


def test_a_client_that_floods_a_stream_and_leaves_is_noticed() -> None:
    """`receive` returns after a lost client, although the client had sent more than the server reads beforehand."""
    left = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await receive()  # the end of the request
        await send({"type": "http.response.start", "status": 200, "headers": []})
        leaving = asyncio.ensure_future(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
            await asyncio.sleep(0.001)
        left.set()

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("GET", "/stream"))
            assert client.recv(12) == b"HTTP/1.1 200"
            client.sendall(bytes(2 * MAX_HEADER_SIZE))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
        assert left.wait(DEADLINE)

    serve(app, use)


def test_the_head_of_a_stream_is_sent_for_head() -> None:
    """A HEAD request for a stream is answered with the head of the response before the stream ends."""
    app = Stream()

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("HEAD", "/stream"))
            assert client.recv(12) == b"HTTP/1.1 200"
            app.finish()
            app.leave()

    serve(app, use)


@pytest.mark.parametrize(("proxies", "expected"), [(LOCAL_PROXIES, b"https 203.0.113.7"), ((), b"http 127.0.0.1")])
def test_only_a_trusted_proxy_states_the_scheme_and_the_client(
    proxies: tuple[IPv4Network | IPv6Network, ...], expected: bytes
) -> None:
    """The headers of a proxy on this machine count if proxies on this machine are trusted, and otherwise not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await answer(send, 200, f"{scope['scheme']} {scope['client'][0]}".encode())

    def use(connect: Connect) -> None:
        with connect() as client:
            forwarded = ("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "Connection: close")
            client.sendall(head("GET", "/", *forwarded))
            assert receive_all(client).endswith(b"\r\n\r\n" + expected)

    serve(app, use, proxies=proxies)


def test_a_failure_ends_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the application is logged without traceback and URL paths, and the server goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fails":
            raise ZeroDivisionError("https://node.example/v3/key")
        await echo(scope, receive, send)

    def use(connect: Connect) -> None:
        with connect() as client:
            client.sendall(head("GET", "/fails"))
            assert client.recv(1) == b""
        with connect() as client:
            client.sendall(head("GET", "/"))
            assert client.recv(12) == b"HTTP/1.1 200"

    serve(app, use)
    (record,) = caplog.records
    assert "ZeroDivisionError" in record.getMessage()
    assert (record.exc_info, "key" in record.getMessage()) == (None, False)
