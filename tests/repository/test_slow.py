"""A repository serves slow clients that make progress, and disconnects others, with bounded memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.car_samples import unpack_car
from tests.support.repository_process import LARGE, LARGE_ROOT, STALL_SECONDS, Running, receive_all, running
from tests.support.waiting import eventually

GET_CAR = f"GET /ipfs/{LARGE_ROOT}?format=car&car-dups=y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
TURNS = {"read": 0, "again": 1}
"""In the first turn blocks are read and verified; in the second they are sent from verified files."""


@pytest.fixture(scope="module", params=["http", "https"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running repository with three images, over HTTP and over HTTPS."""
    with running(tmp_path_factory.mktemp("repository"), tls=request.param == "https") as found:
        yield found


def take(connection: socket.socket, rate: int, *, seconds: float) -> bytes:
    """Receive at a rate in bytes per second for some seconds, or until the connection ends."""
    data, began = bytearray(), time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        part = connection.recv(max(rate // 20, 1)) if len(data) <= rate * elapsed else None
        if part == b"":
            break
        data += part or b""
        time.sleep(0.02)
    return bytes(data)


@pytest.mark.parametrize("turn", TURNS)
def test_who_takes_something_is_not_cut_off(repository: Running, turn: str) -> None:
    """A slow client that reads continuously receives the whole image."""
    before = len(repository.lines)
    with repository.slow_reader(GET_CAR) as connection:
        first = take(connection, 100_000, seconds=3 * STALL_SECONDS)
        answer = first + receive_all(connection)
    assert len(first) < len(LARGE) // 4, turn
    image = unpack_car([answer.partition(b"\r\n\r\n")[2]], LARGE_ROOT, size=len(LARGE))
    assert b"".join(image) == LARGE
    assert repository.line(before)["complete"] is True


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
