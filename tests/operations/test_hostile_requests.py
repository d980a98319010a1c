"""Malformed and hostile requests: each is answered with a page, and none stops the operations room."""

from __future__ import annotations

import re
import socket
import sqlite3
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from blockota.chain.local import free_port
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import LogSettings
from blockota.model.receipt import EntryKind, LogEntry
from blockota.operations.opening import ARCHIVE_NAME, RoomSetup
from blockota.operations.sign_in_client import sign_in
from tests.support.city import GATEWAY, KINDS
from tests.support.operations_room import RoomScene, running_room
from tests.support.waiting import DEADLINE, eventually

_BURST, _MOST = 260, 200
"""Requests for events at once, and the streams that the room serves."""
LONG, HUGE = "9" * 20, "9" * 5000
HASH = f"0x{'a' * 64}"


def another_room(scene: RoomScene, name: str) -> RoomSetup:
    """Return an operations room of the same city, with an archive, a log and an address of its own."""
    port, folder = free_port(), scene.folder / name
    settings = replace(scene.setup.settings, folder=folder, listen=("127.0.0.1", port), url=f"http://127.0.0.1:{port}")
    return replace(scene.setup, settings=settings, log=LogSettings(folder / "log", None, None, ()), account=None)


def operator_of(scene: RoomScene, url: str) -> requests.Session:
    """Return a client with a session of the operator."""
    client = requests.Session()
    address = sign_in(url, dev_account(KINDS["operator"].account or 0), chain_id=scene.city.chain.chain_id)
    assert client.post(url + urlsplit(address).path, timeout=DEADLINE).ok
    return client


def dismiss(client: requests.Session, url: str, why: str, named: list[str]) -> requests.Response:
    """Dismiss warnings with the CSRF token of the session."""
    token = re.search(r'name="csrf" value="([^"]+)"', client.get(f"{url}/warnings", timeout=DEADLINE).text)
    form = urlencode({"csrf": token[1] if token else "", "why": why, "warning": named}, doseq=True)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.post(f"{url}/warnings/dismiss", form, headers=kind, timeout=DEADLINE)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/warnings?q={LONG}", 200),
        (f"/warnings?log={'-' * 36}", 200),
        (f"/warnings?log={'a' * 36}", 200),
        (f"/log?before={LONG[:19]}", 200),
        (f"/log?before={HUGE}&page={HUGE}", 200),
        (f"/devices?page={LONG[:19]}", 200),
        (f"/devices/{LONG}", 404),
        (f"/devices/{HUGE}", 404),
        (f"/entries/{GATEWAY.uuid}/{LONG[:19]}", 404),
        (f"/entries/{GATEWAY.uuid}/{HUGE}", 404),
        (f"/entries/{GATEWAY.uuid}/{LONG}/receipt.json", 404),
        (f"/transactions/1337/{LONG[:18]}/{HASH}", 404),
        (f"/transactions/1337/{1 << 43}/{HASH}", 404),
        (f"/transactions/{LONG}/1/{HASH}", 404),
        ("/log/export.exe", 404),
        ("/log/export.a%0d%0aX-Own:%20b", 404),
        ("/log/export.%E2%98%83", 404),
        ("/log/export.%22;x", 404),
    ],
    ids=lambda value: str(value)[:60],
)
def test_any_number_or_name_in_an_address_gives_a_page(url: str, path: str, status: int) -> None:
    """Integers beyond SQLite's range, texts that are not a UUID, and unknown formats are answered with a page."""
    answer = requests.get(url + path, timeout=DEADLINE)
    assert answer.status_code == status
    assert "</main>" in answer.text
    assert "X-Own" not in answer.headers


def test_a_text_that_looks_like_an_identifier_stops_no_page(scene: RoomScene, url: str) -> None:
    """A page is shown even if a log text looks like an address (`0X…`) or a device number has 64 bits."""
    text, now = f"sent by 0X{'A' * 40}", int(time.time())
    scene.gateway.state(EntryKind.WARNING, text, time=now)
    scene.gateway.state(EntryKind.WARNING, "about a device beyond the registry", time=now, device=(1 << 64) - 1)
    number = scene.gateway.state(EntryKind.WARNING, "written after them", time=now)
    scene.gateway.publish()
    eventually(
        lambda: requests.get(f"{url}/entries/{GATEWAY.uuid}/{number}", timeout=DEADLINE).ok, what="the last entry"
    )
    for path in ("/", "/warnings", "/log", f"/ledger/{GATEWAY.uuid}"):
        answer = requests.get(url + path, timeout=DEADLINE)
        assert answer.status_code == 200, path
        assert "A" * 40 in answer.text, path
    assert "written after them" in requests.get(f"{url}/warnings", timeout=DEADLINE).text


def test_a_dismissal_names_all_warnings_in_the_log(scene: RoomScene, url: str) -> None:
    """The log entries of a dismissal name each warning, even if the reason has 500 characters.

    A refused dismissal has no log entry.
    """
    numbers = [scene.gateway.state(EntryKind.WARNING, f"warning {one}", time=int(time.time())) for one in range(60)]
    scene.gateway.publish()
    named = [f"{GATEWAY.uuid}/{one}" for one in numbers]
    eventually(lambda: f"{named[-1]}" in requests.get(f"{url}/warnings", timeout=DEADLINE).text, what="the warnings")
    client, why = operator_of(scene, url), "\N{LADY BEETLE}" * 500
    assert dismiss(client, url, why, named).status_code == 200

    def names() -> list[str]:
        texts = [LogEntry.decode(raw).source or "" for raw in TileLog(scene.folder / "room-log").entries()]
        return [name for text in texts for name in re.findall(r"[0-9a-f]{32}/\d+", text)]

    recorded = names()
    assert set(recorded) == {f"{GATEWAY.uuid.hex}/{one}" for one in numbers}
    for again in (named[:1], [f"{GATEWAY.uuid}/{LONG[:18]}"], [f"{GATEWAY.uuid}/{LONG[:19]}"]):
        assert dismiss(client, url, "again", again).status_code == 400
    assert dismiss(client, url, "\N{RIGHT-TO-LEFT OVERRIDE}" * 500, named[:1]).status_code == 400
    assert names() == recorded


def test_a_damaged_archive_is_a_sentence_for_signed_in_persons_too(scene: RoomScene) -> None:
    """If the table of sessions was deleted, a request with a session cookie gets status 503 and a reason."""
    setup = another_room(scene, "gone")
    with running_room(setup) as url:
        eventually(lambda: "2 followed" in requests.get(url, timeout=DEADLINE).text, what="the logs")
        other = sqlite3.connect(setup.settings.folder / ARCHIVE_NAME)
        other.execute("DROP TABLE session")
        other.close()
        answer = requests.get(url, cookies={"operations": "guessed"}, timeout=DEADLINE)
        assert answer.status_code == 503
        assert f"{ARCHIVE_NAME} cannot be read or written" in answer.text
        assert "No such table: session" in answer.text


def test_a_deleted_archive_takes_no_dismissal(scene: RoomScene) -> None:
    """After its archive is deleted, the room still shows what it read, and refuses a dismissal with the reason."""
    setup = another_room(scene, "deleted")
    with running_room(setup) as url:
        eventually(lambda: "2 followed" in requests.get(url, timeout=DEADLINE).text, what="the logs")
        client = operator_of(scene, url)
        number = scene.gateway.state(EntryKind.WARNING, "one to dismiss", time=int(time.time()))
        scene.gateway.publish()
        name = f"{GATEWAY.uuid}/{number}"
        eventually(lambda: name in client.get(f"{url}/warnings", timeout=DEADLINE).text, what="the warning")
        for file in setup.settings.folder.glob(f"{ARCHIVE_NAME}*"):
            file.rename(file.with_name(f"gone-{file.name}"))
        logged = len(TileLog(setup.settings.folder / "log"))
        answer = dismiss(client, url, "lost", [name])
        assert answer.status_code == 503
        assert "deleted or replaced while the room used it" in answer.text
        assert len(TileLog(setup.settings.folder / "log")) == logged
        page = requests.get(f"{url}/warnings", timeout=DEADLINE)
        assert page.ok
        assert "one to dismiss" in page.text
        assert "Archive</b> cannot be written now" in page.text
        assert requests.get(f"{url}/health", timeout=DEADLINE).text == "degraded\n"


def test_silent_connections_block_no_viewer(scene: RoomScene) -> None:
    """Clients that send nothing or half a request are disconnected.

    The event stream of a viewer stays open.
    """
    setup = replace(another_room(scene, "besieged"), stall_seconds=0.2)
    with running_room(setup) as url:
        place = urlsplit(url)
        address = (place.hostname or "", place.port or 0)
        with (
            socket.create_connection(address, timeout=DEADLINE) as silent,
            socket.create_connection(address, timeout=DEADLINE) as slow,
            socket.create_connection(address, timeout=DEADLINE) as body,
            requests.get(f"{url}/live", stream=True, timeout=DEADLINE) as viewer,
        ):
            slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
            body.sendall(
                f"POST /sign-in/text HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 90\r\n\r\n{{".encode()
            )
            for one in (silent, slow, body):
                assert _is_ended(one)
            events = viewer.iter_lines()
            assert next(line for line in events if line.startswith(b"event")) == b"event: hello"
            scene.gateway.state(EntryKind.EVENT, "door closed", time=int(time.time()))
            scene.gateway.publish()
            assert next(line for line in events if line.startswith(b"event")) == b"event: changed"


def test_a_flood_of_viewers_is_limited(url: str) -> None:
    """If too many viewers request `/live`, the requests above the limit are refused.

    Other pages are still served.
    """
    place = urlsplit(url)
    request = f"GET /live HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    with ExitStack() as stack:
        address = (place.hostname or "", place.port or 0)
        viewers = [stack.enter_context(socket.create_connection(address, timeout=DEADLINE)) for _ in range(_BURST)]
        for one in viewers:
            one.sendall(request)
        answers = Counter(one.recv(12) for one in viewers)
        assert answers == {b"HTTP/1.1 200": _MOST, b"HTTP/1.1 503": _BURST - _MOST}
        assert requests.get(url, timeout=DEADLINE).ok
    eventually(
        lambda: "viewers 0.0" in requests.get(f"{url}/metrics", timeout=DEADLINE).text, what="the end of streams"
    )


def _is_ended(connection: socket.socket) -> bool:
    """Read until the server closes the connection. Raises `TimeoutError` if the server does not close it."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True
