"""A repository answers requests on one connection that are pipelined, split, or followed by other bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from blockota.repository.connection import MAX_HEADER_SIZE, MAX_HEADERS
from tests.support.fetch_samples import IMAGE, ROOT, SMALL, SMALL_ROOT
from tests.support.repository_process import LARGE_ROOT, Running, receive_all, running

RAW, CAR = f"/ipfs/{SMALL_ROOT}?format=raw", f"/ipfs/{ROOT}?format=car&car-dups=y"
LARGE_CAR = f"/ipfs/{LARGE_ROOT}?format=car&car-dups=y"
END = b"\r\n"


@pytest.fixture(scope="module", params=["http", "https"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running repository with three images, over HTTP and over HTTPS."""
    with running(tmp_path_factory.mktemp("repository"), tls=request.param == "https") as found:
        yield found


def get(path: str, *more: str, method: str = "GET") -> bytes:
    """Return the bytes of an HTTP request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more, "", ""]).encode()


CLOSE = get("/health", "Connection: close")


@pytest.mark.parametrize(
    "flood", [b"A: b\r\n" * 1000, b"a" * 6000, get("/health") * 200], ids=["lines", "value", "requests"]
)
def test_what_follows_a_request_is_not_read_while_it_is_answered(repository: Running, flood: bytes) -> None:
    """The repository's memory use does not grow if a client sends requests without end and reads no responses."""
    logged = len(repository.lines)
    assert repository.get(LARGE_CAR).ok  # loads the blocks into memory before the measurement
    with repository.slow_reader(get(LARGE_CAR)) as connection:
        before = repository.peak_memory
        connection.settimeout(3)
        with pytest.raises(OSError, match=r"timed out|reset|pipe|EOF"):
            connection.sendall(get("/health")[:-2] + b"X: " + flood * (43_000_000 // len(flood)))
        assert repository.peak_memory - before < 4 << 20
        assert repository.get(RAW).content == SMALL
    repository.line(logged + 2)  # the interrupted response is logged late, and the next test reads the log


def test_requests_that_come_together_are_answered_in_turn(repository: Running) -> None:
    """Pipelined requests are answered completely and in order."""
    before = len(repository.lines)
    for paths in ((CAR, CAR, CAR), (CAR, RAW, CAR), (RAW, CAR, "/health", RAW)):
        expected = [repository.get(path).content for path in paths if path != "/health"]
        answers = repository.say(b"".join(map(get, paths)) + CLOSE)
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == len(paths) + 1
        place = 0
        for content in expected:
            place = answers.index(content, place) + len(content)
    assert [line for line in repository.lines[before:] if "trouble" in line] == []


def test_requests_may_be_cut_anywhere(repository: Running) -> None:
    """A request may arrive in pieces of any size.

    Two requests are answered even if one received piece contains the end of the first and the start of the second.
    """
    words = get(RAW) + get(CAR) + CLOSE
    for size in (1, 7, len(get(RAW)) + 1):
        with repository.connect() as connection:
            for at in range(0, len(words), size):
                connection.sendall(words[at : at + size])
            answers = receive_all(connection)
        assert [SMALL in answers, answers.count(b"HTTP/1.1 200 OK\r\n")] == [True, 3]


def test_more_requests_than_a_client_has_reason_for_may_end_the_connection(repository: Running) -> None:
    """Of too many pipelined requests, the first are answered; the connection may end before the others."""
    answers = repository.say(get(RAW) * (4 * MAX_HEADER_SIZE // len(get(RAW))) + CLOSE)
    assert 0 < answers.count(SMALL) <= answers.count(b"HTTP/1.1 200 OK\r\n") <= answers.count(SMALL) + 1
    assert repository.get(RAW).content == SMALL


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 100000000", b"x" * 20_000_000),
        ("Content-Length: 5", b"hello" + get(RAW)),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 3_000_000),
        ("Transfer-Encoding: chunked", b"10000000\r\n" + b"x" * 20_000_000),
        ("Upgrade: h2c\r\nConnection: Upgrade", get(RAW) * 10_000),
    ],
    ids=["large", "small", "trailers", "chunk", "upgrade"],
)
def test_bytes_after_a_request_are_not_read(repository: Running, head: str, body: bytes) -> None:
    """The body of a GET request is not read, and the connection ends after the response."""
    before = repository.peak_memory
    with repository.connect() as connection:
        with suppress(OSError):  # the connection ends before all bytes are sent
            connection.sendall(get(RAW, head) + body)
        answer = receive_all(connection)
    assert answer.count(b"HTTP/1.1 200") <= 1
    assert repository.peak_memory - before < 4 << 20
    assert repository.get(RAW).content == SMALL


def test_a_body_is_announced_in_vain(repository: Running) -> None:
    """A PUT request with ``Expect: 100-continue`` is refused with status 405, without an interim response."""
    answer = repository.say(get(RAW, "Content-Length: 5", "Expect: 100-continue", method="PUT"))
    assert answer.startswith(b"HTTP/1.1 405")
    assert b"connection: close" in answer.lower()


def test_headers_have_a_greatest_number(repository: Running) -> None:
    """Up to a hundred header fields are accepted, and more are refused with status 400."""
    for count, status in ((MAX_HEADERS - 2, b"HTTP/1.1 200"), (MAX_HEADERS, b"HTTP/1.1 400")):
        answer = repository.say(get("/health", *["A: b"] * count, "Connection: close"))
        assert answer.startswith(status), (count, answer[:100])


def test_lines_before_a_request_are_passed_by(repository: Running) -> None:
    """Empty lines before a request are ignored (RFC 9112, section 2.2)."""
    assert SMALL in repository.say(END * 3 + get(RAW, "Connection: close"))
    assert len(IMAGE) < len(repository.say(get(CAR) + END + CLOSE))
