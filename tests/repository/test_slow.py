"""A repository serves slow clients that make progress, and disconnects others, with bounded memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from blockota.repository.answers import HttpAnswer
from blockota.repository.connection import ConnectionLimits, HttpConnection
from tests.support.repository_process import LARGE_ROOT, Running, running
from tests.support.waiting import eventually

GET_CAR = f"GET /ipfs/{LARGE_ROOT}?format=car&car-dups=y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
TURNS = {"read": 0, "again": 1}
"""In the first turn blocks are read and verified; in the second they are sent from verified files."""


@pytest.fixture(scope="module", params=["http", "https"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running repository with three images, over HTTP and over HTTPS."""
    with running(tmp_path_factory.mktemp("repository"), tls=request.param == "https") as found:
        yield found


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock shows the time `now`, which the test sets."""

    now = 0.0

    def time(self) -> float:
        """Return the time that the test has set."""
        return self.now


async def read_slowly(size: int, *, in_each_span: int) -> int:
    """Serve a body to a client that reads a given number of bytes in each time span of the limits.

    Returns the number of bytes that the client received, including the head of the response.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    client, served = socket.socketpair()
    with client:
        client.settimeout(0)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        limits = ConnectionLimits(slowest=1000, stall_seconds=60)
        connection = HttpConnection(*await asyncio.open_connection(sock=served), limits)
        assert await connection.receive()

        async def parts() -> AsyncIterator[bytes]:
            yield bytes(size)

        answer = HttpAnswer(200, {"Content-Length": str(size)})
        sending = asyncio.create_task(connection.send(answer, parts(), is_last=True))
        received = 0
        while not sending.done():
            received += len(await loop.sock_recv(client, in_each_span))
            loop.now += limits.stall_seconds
            for _ in range(10):  # the connection notices the time and the free space, and sends more
                await asyncio.sleep(0)
        try:
            await sending
        finally:
            connection.abort()
        while part := await loop.sock_recv(client, size):
            received += len(part)
        return received


def test_who_takes_something_is_not_cut_off() -> None:
    """A slow client that reads in each time span receives the whole body."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        assert runner.run(read_slowly(4 << 20, in_each_span=1 << 18)) > 4 << 20
        with pytest.raises(TimeoutError, match=r"the client acknowledged .* bytes in 60 s"):
            runner.run(read_slowly(4 << 20, in_each_span=1))


@pytest.mark.parametrize("turn", TURNS)
def test_a_byte_now_and_then_is_not_enough(repository: Running, turn: str) -> None:
    """A client that reads only a hundred bytes per second is disconnected."""
    before = len(repository.lines)
    with repository.slow_reader(GET_CAR) as connection:
        eventually(lambda: take_two(connection) and len(repository.lines) > before)
    line = repository.line(before)
    assert (line["complete"], line["trouble"].startswith("TimeoutError")) == (False, True), turn


def take_two(connection: socket.socket) -> bool:
    """Receive two bytes; ignore a reset of the connection."""
    with suppress(ConnectionError):
        connection.recv(2)
    return True


@pytest.mark.parametrize("turn", TURNS)
def test_clients_that_do_not_read_cost_little_memory(repository: Running, turn: str) -> None:
    """Each of a hundred clients that do not read costs less than 512 KiB of memory."""
    assert repository.get("/health").ok
    before = repository.peak_memory
    slow = [repository.slow_reader(GET_CAR) for _ in range(100)]
    assert repository.get("/health").ok
    cost = (repository.peak_memory - before) / len(slow)
    assert cost < 512 << 10, (turn, cost)
    for connection in slow:
        connection.close()
