"""With --public, no page of the operations room shows serial numbers, accounts, or addresses of any kind."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.routing import Mount, Route

from blockota.bindings.block_ota import revoke_call
from blockota.bindings.replication import ReplicationContract, decision_call
from blockota.chain import Chain
from blockota.chain.local import free_port
from blockota.cli.room_commands import command_line
from blockota.connection import Connection
from blockota.keys import dev_account
from blockota.line_log import LineLog
from blockota.model.receipt import EntryKind, LogEntry
from blockota.model.release import Version
from blockota.operations.archive import RoomArchive
from blockota.operations.opening import RoomSetup
from blockota.operations.public_text import LEFT_OUT, without_addresses
from blockota.operations.room import Room
from blockota.operations.sign_in_client import sign_in
from blockota.operations.web.application import make_application
from blockota.vendor.example import PRODUCT
from blockota.vendor.propose import Reason, propose
from tests.conftest import Cast
from tests.support.city import GATEWAY, KINDS
from tests.support.operations_room import RoomScene, make_scene, running_room
from tests.support.waiting import eventually

ACCOUNT = dev_account(7).address
SHORT = "SN-4001 10.64.0.9 fe80::1"
"""A serial number and addresses in a text of at most 31 bytes, such as the reason of a ban."""
PLANTED = (
    f"SN-4001 of {ACCOUNT}, {ACCOUNT[2:]} at 10.64.0.9:80, [2001:db8::7]:80, ::ffff:192.0.2.3, http://secret-host/x"
)
SECRETS = re.compile(
    r"SN-400|secret-host|10\.64\.|192\.0\.2\.|2001:db8|fe80::|\b(?:\d{1,3}\.){3}\d{1,3}\b|0x[0-9a-f]{6}…"
    r"|(?<![0-9a-f])(?:0x)?(?:0{24})?[0-9a-f]{40}(?![0-9a-f])|ab0c0ffee0",
    re.IGNORECASE,
)
PREPARED = {"identity": str(GATEWAY.uuid), "reason": SHORT}


@dataclass
class PublicRoom:
    """A running operations room with --public, and one session in it."""

    url: str
    setup: RoomSetup
    cookie: str = ""

    def ask(self, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        """Send a request. Return the status of a response, and its headers and text without the room's own URL."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("GET" if form is None else "POST", path, None if form is None else urlencode(form), headers)
        answer = connection.getresponse()
        self.cookie = (answer.headers["Set-Cookie"] or self.cookie).partition(";")[0]
        # The stream of events never ends; its first event has all that an event can have.
        body = answer.readline() + answer.readline() + answer.readline() if path == "/live" else answer.read()
        connection.close()
        return answer.status, f"{answer.headers}\n{body.decode()}".replace(self.url, "")

    def get(self, path: str) -> str:
        """Return a page."""
        return self.ask(path)[1]

    def sign_in(self, number: int) -> None:
        """Open a session for a development account."""
        address = sign_in(self.url, dev_account(number), chain_id=self.setup.city.settings.chain_id)
        assert self.ask(urlsplit(address).path, {})[0] == 303


def plant(scene: RoomScene) -> None:
    """Write serial numbers, accounts and addresses into each text that a person or a service can set."""
    city, log = scene.city, scene.gateway
    now = city.chain.head().time
    for kind in (EntryKind.WARNING, EntryKind.EVENT, EntryKind.REFUSAL, EntryKind.POSTPONEMENT):
        log.state(kind, PLANTED, time=now, device=scene.numbers[0])
        log.state(kind, PLANTED, time=now)
    unique = LogEntry(
        kind=EntryKind.EVENT, time=now, device=scene.numbers[1], unique_id=bytes.fromhex("ab0c0ffee0"), source=PLANTED
    )
    log.append(unique)
    log.log.append([f"not an entry: {PLANTED}".encode()])
    log.publish()
    log.anchor()

    reason = SHORT.encode().ljust(32, b"\0")
    city.identities.ban(dev_account(KINDS["administrator"].account or 0), KINDS["technician"].uuid, reason=SHORT)
    city.decide("devices", "ban", scene.numbers[2], reason)
    city.decide_release(revoke_call(PRODUCT.name, Version.parse("1.0.0"), reason=PLANTED))
    replication = ReplicationContract(city.chain, city.deployment.replication or "")
    replication.propose(city.cast.broker, PRODUCT.name, version=Version.parse("1.1.0"), expires_at=now + 80_000)
    [agreement] = replication.agreements()
    why = Reason("a test", int(time.time()), 3600)
    city.execute(propose(city.block_ota, decision_call("accept", agreement), reason=why, target=replication.address))
    replication.announce(city.cast.broker, agreement, uri="http://127.0.0.1:1/secret-host")


@pytest.fixture(scope="module")
def scene(anvil: Chain, cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> RoomScene:
    """Return a city with planted secrets, and a room with --public whose other sources are out of reach."""
    found = make_scene(anvil, cast, tmp_path_factory.mktemp("room"), is_public=True)
    plant(found)
    logs = {
        **found.setup.settings.logs,
        KINDS["validator"].uuid: "http://[::1]:1",
        KINDS["operator"].uuid: str(found.folder / "secret-host" / "log"),
    }
    settings = replace(
        found.setup.settings, logs=logs, tunnels="secret-host0", database=f"sqlite:///{found.folder}/secret-host/x.db"
    )
    [vendor] = found.setup.vendors
    gone = Connection(replace(vendor.settings, url="http://secret-host.invalid:1", chain_id=5))
    return replace(found, setup=replace(found.setup, settings=settings, vendors=[vendor, gone]))


@pytest.fixture(scope="module")
def room(scene: RoomScene) -> Iterator[PublicRoom]:
    """Return the running room, after it has read all sources and reported those out of reach."""
    with running_room(scene.setup) as url:
        found = PublicRoom(url, scene.setup)

        def is_read() -> bool:
            overview, network = found.get("/"), found.get("/network") + found.get("/requests")
            return (
                "4 followed" in overview
                and "Producer chain 5</b> cannot be read" in overview
                and network.count("cannot be read now") >= 4
                and "does not serve" in found.get("/replicas")
                and found.get("/warnings").count(f"/devices/{scene.numbers[0]}") == 2
            )

        eventually(is_read, what="the readings")
        yield found


def paths_by_route(scene: RoomScene, room: PublicRoom) -> dict[str, list[str]]:
    """Return the paths to request, by route."""
    entries = range(len(scene.gateway.log))
    text = "".join(room.get(path) for path in ("/updates", "/network", "/replicas", "/log", "/ledger"))
    return {
        "/": ["/"],
        "/warnings": ["/warnings", "/warnings?status=all", "/warnings?status=dismissed", "/warnings?q=4001"],
        "/warnings/dismiss": ["/warnings/dismiss"],
        "/devices": ["/devices", "/devices?status=banned"],
        "/devices/{number:number}": [f"/devices/{one}" for one in scene.numbers],
        "/updates": ["/updates"],
        "/updates/{number:number}": ["/updates/1"],
        "/requests": ["/requests"],
        "/requests/{keeper:uuid}": [f"/requests/{GATEWAY.uuid}"],
        "/requests/{keeper:uuid}/{number:number}": [f"/requests/{GATEWAY.uuid}/1"],
        "/replicas": ["/replicas"],
        "/network": ["/network"],
        "/ledger": ["/ledger"],
        "/ledger/{keeper:uuid}": [f"/ledger/{one}" for one in scene.setup.settings.logs],
        "/entries/{keeper:uuid}/{number:number}": [f"/entries/{GATEWAY.uuid}/{one}" for one in entries],
        "/entries/{keeper:uuid}/{number:number}/{file}": [
            f"/entries/{GATEWAY.uuid}/0/{name}" for name in ("receipt.json", "trust.toml", "x")
        ],
        "/transactions/{chain:number}/{block:number}/{hash}": sorted(
            set(re.findall(r'href="(/transactions/[^"]+)"', text))
        ),
        "/log": ["/log", "/log?kind=chain", "/log?kind=log", "/log?before=1795000000&skip=1"],
        "/log/export.{form}": ["/log/export.csv", "/log/export.jsonl"],
        "/sign-in": ["/sign-in"],
        "/sign-in/text": ["/sign-in/text"],
        "/sign-in/answer": ["/sign-in/answer"],
        "/sign-in/{ticket}": ["/sign-in/x"],
        "/sign-out": ["/sign-out"],
        "/live": ["/live"],
        "/prepare": ["/prepare"],
        "/prepare/{what}": ["/prepare/ban", "/prepare/order"],
        "/health": ["/health"],
        "/metrics": ["/metrics"],
        "/favicon.ico": ["/favicon.ico"],
        "/static": ["/static/room.js", "/static/room.css"],
    }


def test_no_route_of_a_public_room_has_a_planted_secret(scene: RoomScene, room: PublicRoom) -> None:
    """Without a session, no response of a route contains a planted serial number, account or address."""
    paths = paths_by_route(scene, room)
    with RoomArchive(scene.folder / "other.sqlite") as archive:
        parts = Room(
            scene.setup.settings, archive, city=scene.setup.city, vendors=scene.setup.vendors, lines=LineLog(print)
        )
        routes = make_application(parts, command_line, room_log=None, sign_ins=None, is_public=True)[0].routes
        assert {one.path for one in routes if isinstance(one, Route | Mount)} == set(paths), "a route is not tested"
    assert len(paths["/transactions/{chain:number}/{block:number}/{hash}"]) > 10
    for path in (one for some in paths.values() for one in some):
        answers = [room.get(path)]
        answers += [room.ask(path, {})[1]] if path != "/live" else []
        for text in answers:
            assert not (found := SECRETS.search(text)), f"{path}: {text[max(found.start() - 200, 0) :][:300]}"
    assert room.ask(f"/entries/{GATEWAY.uuid}/0/receipt.json")[0] == 404


def test_the_planted_texts_are_there_in_a_room_that_is_not_public(scene: RoomScene) -> None:
    """Without --public, the pages contain the planted secrets.

    The search can therefore find a secret that a page contains.
    """
    port = free_port()
    settings = replace(
        scene.setup.settings, folder=scene.folder / "full", listen=("127.0.0.1", port), url=f"http://127.0.0.1:{port}"
    )
    with running_room(replace(scene.setup, settings=settings, is_public=False)) as url:
        full = PublicRoom(url, scene.setup)
        eventually(lambda: "SN-4001 of" in full.get("/warnings"), what="the warnings")
        eventually(lambda: "secret-host" in full.get("/replicas"), what="the replicas")
        eventually(lambda: "secret-host" in full.get("/"), what="the trouble")
        for path, secret in (
            (f"/devices/{scene.numbers[0]}", "SN-4001"),
            ("/network", ACCOUNT[:8]),
            ("/network", SHORT),
            ("/log/export.csv", PLANTED[:60]),
            (f"/entries/{GATEWAY.uuid}/0", "secret-host"),
        ):
            assert secret in full.get(path), path


def test_the_session_of_a_public_room_shows_no_secret(scene: RoomScene, room: PublicRoom) -> None:
    """Even with a session, no page of a public room contains a secret.

    The cases include the reason of a dismissal, and error messages.
    """
    signed = PublicRoom(room.url, room.setup)
    signed.sign_in(KINDS["administrator"].account or 0)
    page = signed.get("/warnings")
    [csrf, *_], [warning, *_] = (re.findall(rf'name="{name}" value="([^"]+)"', page) for name in ("csrf", "warning"))
    assert signed.ask("/warnings/dismiss", {"csrf": csrf, "why": PLANTED, "warning": warning})[0] == 303
    assert signed.ask("/prepare/ban", {"csrf": csrf, **PREPARED, "reason": PLANTED})[0] == 400
    assert signed.ask("/prepare/ban", {"csrf": csrf, **PREPARED})[0] == 200
    paths = paths_by_route(scene, signed)
    for path in (one for some in paths.values() for one in some):
        text = signed.get(path)
        assert not (found := SECRETS.search(text)), f"{path}: {text[max(found.start() - 200, 0) :][:300]}"
    assert "dismissed" in signed.get("/warnings?status=dismissed")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at fe80::1: refused", "at *: refused"),
        ("node:fe80::1.", "node:*."),
        ("[2001:db8::1]:8470, ::1 and 2001:DB8:0:0:0:0:0:9", "[*]:8470, * and *"),
        ("::ffff:10.0.0.1 or 10.0.0.1:80: gone", "* or *:80: gone"),
        (f"by {ACCOUNT}, {ACCOUNT[2:].lower()} or 0x{'0' * 24}{ACCOUNT[2:]}", "by *, * or *"),
        ("https://[::1]/a?b is gone", "* is gone"),
        ("2026-11-29T12:01:45Z, 12:01:45, 1.2.3, std::dead, a: b, ::", None),
        (f"0x{'ab' * 32} and {GATEWAY.uuid}", None),
    ],
)
def test_addresses_are_found_by_their_form(text: str, shown: str | None) -> None:
    """Addresses of networks, accounts and services are removed from a text.

    Times, versions, hashes and UUIDs remain.
    """
    assert without_addresses(text) == (text if shown is None else shown.replace("*", LEFT_OUT))
