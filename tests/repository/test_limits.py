"""A repository limits misbehaving clients, and stops in bounded time."""

from __future__ import annotations

import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from blockota.formats.cid import CHUNK_SIZE, CID, RAW
from blockota.repository.connection import MAX_HEADER_SIZE
from blockota.repository.tokens import new_token
from tests.support.car_samples import unpack_car
from tests.support.fetch_samples import SMALL, SMALL_ROOT
from tests.support.repository_process import LARGE, LARGE_ROOT, WAIT_SECONDS, Running, receive_all, running
from tests.support.waiting import eventually

RAW_PATH, CAR_PATH = f"/ipfs/{SMALL_ROOT}?format=raw", f"/ipfs/{LARGE_ROOT}?format=car&car-dups=y"
GET_CAR = f"GET {CAR_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
_, HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)
LAST = CID.of(RAW, LARGE[-CHUNK_SIZE:])


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Running]:
    """A running repository with three images."""
    with running(tmp_path) as found:
        yield found


def image_of(answer: bytes) -> bytes:
    """Return the image in a complete HTTP response that contains a CAR."""
    return b"".join(unpack_car([answer.partition(b"\r\n\r\n")[2]], LARGE_ROOT, size=len(LARGE)))


def drip(connection: socket.socket) -> bytes:
    """Send a header byte by byte until the connection ends, and return the response."""
    connection.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
    connection.settimeout(0.05)
    while True:
        try:
            return connection.recv(1 << 12)
        except TimeoutError:
            connection.sendall(b"a")
        except ConnectionError:
            return b""


def test_headers_are_not_waited_for_for_ever(repository: Running) -> None:
    """A client that does not complete a request in time is disconnected, even after an earlier complete request."""
    with repository.connect() as silent, repository.connect() as second:
        second.sendall(f"HEAD {RAW_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert second.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert receive_all(silent) == b""
        assert drip(second) == b""
    assert repository.get(RAW_PATH).content == SMALL


def test_headers_have_a_greatest_size(repository: Running) -> None:
    """A request with too large headers gets status 400, or its connection is closed."""
    for huge in (b"X-Big: " + b"a" * (1 << 20), b"A: b\r\n" * 100_000):
        answer = repository.say(b"GET /health HTTP/1.1\r\nHost: x\r\n" + huge + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400") or answer == b"", answer[:80]
    fits = {"X-Large": "a" * (MAX_HEADER_SIZE // 2)}
    assert repository.get(RAW_PATH, headers=fits).status_code == 200


@pytest.mark.parametrize(
    "words", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 9000], ids=range(4)
)
def test_invalid_http_ends_the_connection(repository: Running, words: bytes) -> None:
    """Bytes that are not HTTP are answered with status 400 or nothing, and other clients are still served."""
    answer = repository.say(words)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
    assert repository.get(RAW_PATH).content == SMALL


def test_who_does_not_read_is_cut_off(repository: Running) -> None:
    """A client that does not read is disconnected, and the access log records the transfer as incomplete."""
    for turn in range(2):  # the first time blocks are verified, the second time they are read from verified files
        with repository.slow_reader(GET_CAR) as connection:
            line = repository.line(2 * turn)
            assert (line["complete"], line["trouble"].startswith("TimeoutError")) == (False, True)
            assert len(receive_all(connection)) < len(LARGE)
        assert repository.get(CAR_PATH).ok


def test_slow_readers_do_not_hold_up_others(tmp_path: Path) -> None:
    """Other clients are served while fifty clients do not read their responses."""
    with running(tmp_path, stall_seconds=WAIT_SECONDS) as repository:
        slow = [repository.slow_reader(GET_CAR) for _ in range(50)]
        assert repository.get(RAW_PATH).content == SMALL
        assert not any("status" in line for line in repository.lines[1:])
        assert image_of(b"H" + receive_all(slow[7])) == LARGE
        for connection in slow:
            connection.close()


def test_too_many_clients_are_asked_to_come_later(tmp_path: Path) -> None:
    """Above the limit of clients a request is answered with status 503, until clients disconnect."""
    with running(tmp_path, clients=3, stall_seconds=WAIT_SECONDS) as repository:
        waiting = [repository.slow_reader(GET_CAR) for _ in range(3)]
        refused = repository.get(RAW_PATH)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert repository.get("/health").status_code == 200
        for connection in waiting:
            connection.close()
        eventually(lambda: repository.get(RAW_PATH).content == SMALL)


@pytest.mark.parametrize(
    ("open_files", "connections", "is_reported"),
    [((100, HARD_LIMIT), 4 * 30 + 64, False), ((160, 160), 80, True)],
    ids=["soft", "hard"],
)
def test_connections_end_before_open_files_do(
    tmp_path: Path, open_files: tuple[int, int], connections: int, *, is_reported: bool
) -> None:
    """The system's limit of open files also limits the connections: further clients receive status 503."""
    with running(tmp_path, clients=30, header_seconds=60, open_files=open_files) as repository:
        idle = [repository.connect() for _ in range(connections - 2)]
        assert repository.get(RAW_PATH).content == SMALL
        idle += [repository.connect() for _ in range(4)]
        assert repository.get(RAW_PATH).status_code == 503
        for connection in idle:
            connection.close()
        troubles = [line["trouble"] for line in repository.lines if line.get("part") == "connections"]
    assert troubles == (["the system allows 160 open files: at most 80 connections are served"] if is_reported else [])


def test_no_more_open_files_is_a_line_of_the_log(tmp_path: Path) -> None:
    """The server continues after clients without TLS used up all open files; the access log records the event."""
    with running(tmp_path, tls=True, clients=30, open_files=(160, 160)) as repository:
        idle = [socket.create_connection(("127.0.0.1", repository.port)) for _ in range(300)]
        eventually(lambda: any(line.get("part") == "server" for line in repository.lines))
        for connection in idle:
            connection.close()
        assert repository.get(RAW_PATH).content == SMALL
        assert [line["part"] for line in repository.lines if "event" in line] == ["connections", "server"]


def test_a_stop_lets_transfers_finish(tmp_path: Path) -> None:
    """After SIGTERM current transfers are completed and new connections refused, and the exit status is 0."""
    with running(tmp_path, stall_seconds=WAIT_SECONDS, stop_seconds=WAIT_SECONDS) as repository:
        with repository.slow_reader(GET_CAR) as connection:
            repository.process.send_signal(signal.SIGTERM)
            eventually(lambda: is_closed(repository))
            assert image_of(b"H" + receive_all(connection)) == LARGE
        assert repository.process.wait(WAIT_SECONDS) == 0
        assert {line["complete"] for line in repository.lines if line["path"] != "/health"} == {True}


def is_closed(repository: Running) -> bool:
    """Return whether the repository refuses connections."""
    try:
        repository.get("/health")
    except requests.ConnectionError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_stop_does_not_wait_for_ever(tmp_path: Path, number: int) -> None:
    """The repository stops even if a client does not read its response."""
    with running(tmp_path, stop_seconds=1) as repository, repository.slow_reader(GET_CAR) as connection:
        connection.recv(1 << 12)
        repository.process.send_signal(number)
        assert repository.process.wait(WAIT_SECONDS) == 0


def test_a_corrupt_block_is_not_sent(repository: Running) -> None:
    """For a corrupt block, the client gets an error without the reason; the access log contains the reason."""
    name = str(LAST)
    path = repository.store.folder / "blocks" / name[-3:-1] / name
    path.write_bytes(b"x" + path.read_bytes()[1:])
    answer = repository.get(f"/ipfs/{LAST}?format=raw")
    assert (answer.status_code, "another source" in answer.text, str(repository.store.folder) in answer.text) == (
        500,
        True,
        False,
    )
    assert "corrupt" in repository.line(0)["trouble"]
    with pytest.raises(requests.RequestException):
        repository.get(CAR_PATH)
    assert "corrupt" in repository.line(1)["trouble"]
    path.unlink()
    assert repository.get(f"/ipfs/{LAST}?format=raw").status_code == 500
    assert repository.get(RAW_PATH).content == SMALL


def test_tokens_open_the_door(tmp_path: Path) -> None:
    """Only clients with a valid token are served, and the access log contains the token's name, not the token."""
    token, line = new_token("plant-7")
    (tmp_path / "tokens").write_text(f"# gateways\n\n{new_token('other')[1]}\n{line}\n")
    with running(tmp_path, tokens=str(tmp_path / "tokens")) as repository:
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {token}"}, {"Authorization": token}):
            answer = repository.get(RAW_PATH, headers=wrong)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="repository"')
        answer = repository.get(RAW_PATH, headers={"Authorization": f"Bearer {token}"})
        assert (answer.content, answer.headers["Cache-Control"].split(",")[0]) == (SMALL, "private")
        assert repository.line(4)["holder"] == "plant-7"
        assert token not in repository.log.read_text()
        health = repository.get("/health").json()
        assert (health["status"], health["tokens"], health["tokensTrouble"]) == ("ok", 2, "")


def test_a_token_that_was_taken_back_ends_whatever_is_wrong_with_the_file(tmp_path: Path) -> None:
    """After a token was revoked, it is refused even if another line of the token file is invalid."""
    token, line = new_token("plant-7")
    mine, file = {"Authorization": f"Bearer {token}"}, tmp_path / "tokens"
    file.write_text(line)
    with running(tmp_path, tokens=str(file), refresh=0.2) as repository:

        def events() -> list[dict[str, Any]]:
            return [line for line in repository.lines if "event" in line]

        assert repository.get(RAW_PATH, headers=mine).content == SMALL
        file.write_text("# plant-7 was stolen\nplant-8 thetoken\n")
        await_status(repository, mine, 401)
        health = repository.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "closed")
        assert health.json()["tokensTrouble"] == "line 2 is not NAME SHA256"
        assert str(tmp_path) not in health.text
        file.write_text(new_token("plant-8")[1])
        trouble, recovery = eventually(lambda: events()[1:] and events()[:2], what="the line about the recovery")
        await_status(repository, mine, 401)
        file.unlink()
        file.write_text(line)
        await_status(repository, mine, 200)
    assert (trouble["event"], trouble["part"]) == ("trouble", "tokens")
    assert (recovery["event"], recovery["part"]) == ("recovered", "tokens")
    assert f"{file} cannot be used" in trouble["trouble"]


def await_status(repository: Running, headers: dict[str, str], status: int) -> None:
    """Wait until a request for a block is answered with the given status."""
    eventually(lambda: repository.get(RAW_PATH, headers=headers).status_code == status)


def test_tls_with_certificate_files(tmp_path: Path) -> None:
    """Clients that trust the certificate are served over TLS; other clients refuse the connection."""
    with running(tmp_path, tls=True) as repository:
        assert repository.url.startswith("https://")
        for _ in range(2):
            answer = repository.get(CAR_PATH)
            assert image_of(b"\r\n\r\n" + answer.content) == LARGE
        with pytest.raises(requests.exceptions.SSLError):
            repository.get(RAW_PATH, verify=True)


def test_only_a_named_proxy_is_believed(tmp_path: Path) -> None:
    """X-Forwarded-For is used only if the request comes from a configured proxy."""
    headers = {"X-Forwarded-For": "203.0.113.9"}
    for proxies, client in (((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.9"), (("192.0.2.1",), "127.0.0.1")):
        folder = tmp_path / client / str(len(proxies))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "access.jsonl").unlink(missing_ok=True)
        with running(folder, proxies=proxies) as repository:
            assert repository.get(RAW_PATH, headers=headers).ok
            assert repository.line(0)["client"] == client


def test_behind_a_proxy_the_client_is_its_last_peer(tmp_path: Path) -> None:
    """Behind proxies, the client's address is the last one in X-Forwarded-For that is not a configured proxy."""
    headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9, 127.0.0.1", "X-Forwarded-Proto": "https"}
    with running(tmp_path, proxies=("127.0.0.1",)) as repository:
        for number in range(2):
            answer = repository.get(CAR_PATH, headers=headers | {"X-Forwarded-Host": "elsewhere"})
            assert image_of(b"\r\n\r\n" + answer.content) == LARGE
            assert "elsewhere" not in str(answer.headers)
            assert repository.line(number)["client"] == "203.0.113.9"


def test_a_line_of_the_log_is_a_line(repository: Running) -> None:
    """Each request is logged as one JSON object, whatever the client sends."""
    repository.get(RAW_PATH, headers={"User-Agent": 'x"}, {"status": 200', "Range": "bytes=0-9"})
    line = repository.line(0)
    assert (line["status"], line["bytes"], line["range"], line["complete"]) == (206, 10, "bytes=0-9", True)
    repository.get("/ipfs/%0a%22%7d?format=raw")
    assert repository.line(1)["path"] == '/ipfs/\n"}'
    for method in ("GET", "GET", "HEAD"):
        repository.get(CAR_PATH, method=method)
    assert [repository.line(number)["bytes"] > len(LARGE) for number in (2, 3, 4)] == [True, True, False]
