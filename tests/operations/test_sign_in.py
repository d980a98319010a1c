"""Sign-in, sessions, and the actions of a signed-in person."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from blockota.chain.local import free_port
from blockota.connection import Connection
from blockota.errors import AccessRefusedError, BlockOTAError, RefusedError
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import LogSettings
from blockota.model.order import Group
from blockota.model.receipt import LogEntry
from blockota.operations import sign_in_client
from blockota.operations.archive import RoomArchive
from blockota.operations.sign_in import NONCE_TIME, SESSION_TIME, TICKET_TIME, SignIns, SignInText, sign_text
from blockota.operations.sign_in_client import sign_in
from tests.support.city import GATEWAY, KINDS
from tests.support.operations_room import RoomScene, running_room
from tests.support.waiting import eventually

OPERATOR, ADMINISTRATOR = (dev_account(KINDS[kind].account or 0) for kind in ("operator", "administrator"))
STRANGER = dev_account(9)
URL, NOW = "http://127.0.0.1:8480", 1_795_000_000


@pytest.fixture
def sign_ins(tmp_path: Path) -> Iterator[SignIns]:
    """Return the sign-ins of a room without a server."""
    with RoomArchive(tmp_path / "room.sqlite") as archive:
        yield SignIns(archive, URL, 1337)


class Client:
    """A client with a cookie."""

    def __init__(self, url: str) -> None:
        self.url, self.cookie = url, ""

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str]:
        """Send a request. Return status and text; a redirect is not followed."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named |= {"Cookie": self.cookie} if self.cookie else {}
        body = None
        if form is not None:
            body = urlencode(form)
            named["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        if found := answer.headers["Set-Cookie"]:
            assert "HttpOnly" in found
            assert "SameSite=strict" in found
            self.cookie = found.partition(";")[0]
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def get(self, path: str) -> str:
        """Return a page."""
        return self.ask("GET", path)[1]

    def post(self, path: str, **form: str) -> tuple[int, str]:
        """Send a form with the CSRF token of the session."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.get("/warnings"))
        return self.ask("POST", path, {"csrf": token[1] if token else "", **form})


def signed_in(scene: RoomScene, url: str, account: object) -> Client:
    """Return a client with a session of the account."""
    address = sign_in(url, account, chain_id=scene.city.chain.chain_id)  # type: ignore[arg-type]
    client = Client(url)
    assert client.ask("POST", urlsplit(address).path, {})[0] == 303
    return client


def test_a_text_is_accepted_once_and_within_five_minutes(sign_ins: SignIns) -> None:
    """A signed sign-in text returns one ticket.

    The same text is refused a second time, and a text is refused after five minutes.
    """
    text = sign_ins.challenge(OPERATOR.address, now=NOW)
    signature = sign_text(text, OPERATOR)
    sign_ins.accept(text, signature, now=NOW + NONCE_TIME - 1)
    assert sign_ins.give_ticket(text, signature, now=NOW)
    with pytest.raises(AccessRefusedError, match="used before"):
        sign_ins.give_ticket(text, signature, now=NOW + 1)
    late = sign_ins.challenge(OPERATOR.address, now=NOW)
    for now in (NOW + NONCE_TIME, NOW - NONCE_TIME):
        with pytest.raises(AccessRefusedError, match="over five minutes ago"):
            sign_ins.accept(late, sign_text(late, OPERATOR), now=now)


def test_no_text_is_accepted_after_a_restart(sign_ins: SignIns, tmp_path: Path) -> None:
    """A sign-in text is refused after a restart of the room, because the signature may be public in the room's log."""
    texts = [sign_ins.challenge(OPERATOR.address, now=NOW) for _ in range(2)]
    sign_ins.give_ticket(texts[0], sign_text(texts[0], OPERATOR), now=NOW)
    with RoomArchive(tmp_path / "room.sqlite") as archive:
        restarted = SignIns(archive, URL, 1337)
        for text in texts:
            with pytest.raises(AccessRefusedError, match="since its last start"):
                restarted.accept(text, sign_text(text, OPERATOR), now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://evil.example"},
        {"chain_id": 1},
        {"nonce": "0" * 64},
        {"nonce": "\n" * 64},
        {"issued_at": NOW + 1},
        {"account": STRANGER.address},
    ],
)
def test_a_changed_text_is_refused(sign_ins: SignIns, changes: dict[str, object]) -> None:
    """A sign-in text for another page, chain, nonce, time or account is refused, even if it is signed."""
    text = sign_ins.challenge(OPERATOR.address, now=NOW)
    other = replace(text, **changes)  # type: ignore[arg-type]
    with pytest.raises(AccessRefusedError, match="did not write"):
        sign_ins.accept(other, sign_text(other, STRANGER if other.account == STRANGER.address else OPERATOR), now=NOW)


def test_another_key_and_broken_signatures_are_refused(sign_ins: SignIns) -> None:
    """Malformed signatures, and signatures of another account, are refused.

    The sign-in text can then still be used.
    """
    text = sign_ins.challenge(OPERATOR.address, now=NOW)
    for wrong in (sign_text(text, STRANGER), b"", b"\0" * 65, b"\xff" * 65, b"x" * 64):
        with pytest.raises(AccessRefusedError, match="did not sign"):
            sign_ins.accept(text, wrong, now=NOW)
    sign_ins.accept(text, sign_text(text, OPERATOR), now=NOW)


def test_a_flood_of_texts_blocks_no_sign_in(sign_ins: SignIns, tmp_path: Path) -> None:
    """After 3,000 requests for sign-in texts, the archive is unchanged and earlier and new texts are accepted."""
    first = sign_ins.challenge(OPERATOR.address, now=NOW)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert len({sign_ins.challenge(OPERATOR.address, now=NOW).nonce for _ in range(3000)}) == 3000
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    for text in (first, sign_ins.challenge(OPERATOR.address, now=NOW)):
        sign_ins.accept(text, sign_text(text, OPERATOR), now=NOW)


def test_addresses_of_wallets(sign_ins: SignIns) -> None:
    """An address in lower case is accepted.

    A malformed address, or an address with a wrong checksum, is refused.
    """
    assert sign_ins.challenge(OPERATOR.address.lower(), now=NOW).account == OPERATOR.address
    for wrong in (OPERATOR.address.swapcase(), f"{OPERATOR.address}\n", "0x00", ""):
        with pytest.raises(AccessRefusedError, match="not the address"):
            sign_ins.challenge(wrong, now=NOW)


def test_tickets_and_sessions_end(sign_ins: SignIns) -> None:
    """A one-time address opens one session within two minutes.

    A session ends after its maximum time, or when the person signs out.
    """
    texts = [sign_ins.challenge(OPERATOR.address, now=NOW) for _ in range(2)]
    ticket, old = (sign_ins.give_ticket(text, b"signature", now=NOW) for text in texts)
    assert sign_ins.use_ticket(ticket, now=NOW + TICKET_TIME - 1)[0] == OPERATOR.address
    for used, now in ((ticket, NOW), (old, NOW + TICKET_TIME)):
        with pytest.raises(AccessRefusedError, match="one-time address"):
            sign_ins.use_ticket(used, now=now)
    secret = sign_ins.open_session(OPERATOR.address, number=3, now=NOW)
    assert sign_ins.session(secret, now=NOW + SESSION_TIME - 1)
    assert sign_ins.session(secret, now=NOW + SESSION_TIME) is None
    sign_ins.close_session(secret)
    assert sign_ins.session(secret, now=NOW) is None


def test_the_text_is_that_of_eip_4361() -> None:
    """The sign-in text has the lines of EIP-4361 in the specified order."""
    text = str(SignInText("https://operations.example", OPERATOR.address, 1337, "ab" * 32, NOW))
    assert text.split("\n") == [
        "https://operations.example wants you to sign in with your Ethereum account:",
        OPERATOR.address,
        "",
        "Sign in to the operations room. This signature sends no transaction and costs no gas.",
        "",
        "URI: https://operations.example/sign-in",
        "Version: 1",
        "Chain ID: 1337",
        f"Nonce: {'ab' * 32}",
        "Issued At: 2026-11-18T11:06:40Z",
        "Expiration Time: 2026-11-18T11:11:40Z",
    ]


def test_a_flood_of_texts_at_the_room(scene: RoomScene, url: str) -> None:
    """After 1,500 requests for sign-in texts, the operator can still sign in.

    Malformed answers are refused with a reason.
    """
    connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
    for _ in range(1500):
        connection.request("POST", "/sign-in/text", json.dumps({"account": OPERATOR.address}))
        answer = connection.getresponse()
        assert answer.status == 200
        values = json.loads(answer.read())
    assert "Sign out" in signed_in(scene, url, OPERATOR).get("/")

    for wrong in ({}, {**values, "issuedAt": "1"}, {**values, "issuedAt": 10**30}, {**values, "nonce": 1}, values):
        connection.request("POST", "/sign-in/answer", json.dumps({"signature": "0x00", **wrong}))
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status in (400, 403), text
        assert "sign-in" in json.loads(text)["what"]
    for body in ("", "[]", "{", "\xff", '{"account":' + "[" * 9999, '{"account": 1.5}'):
        connection.request("POST", "/sign-in/answer", body.encode("latin-1"))
        answer = connection.getresponse()
        assert answer.status == 400
        assert json.loads(answer.read())["what"] == "the request cannot be read"
    connection.close()


def test_the_command_signs_nothing_for_another_room(scene: RoomScene, url: str) -> None:
    """The command refuses to sign a text for another page or chain, and reports a room out of reach."""
    with pytest.raises(RefusedError, match="another page, account or chain"):
        sign_in(url, OPERATOR, chain_id=scene.city.chain.chain_id + 1)
    with pytest.raises(RefusedError, match=rf"opened at {urlsplit(url).netloc}, and the request names another host"):
        sign_in(url.replace("127.0.0.1", "localhost"), OPERATOR, chain_id=scene.city.chain.chain_id)
    with pytest.raises(BlockOTAError, match="out of reach"):
        sign_in("http://127.0.0.1:1", OPERATOR, chain_id=1337)


@pytest.mark.parametrize("ticket", ["", "a\x1b]0;owned\x07", "../../x", "a\nb", "a" * 101])
def test_the_command_prints_no_strange_address(monkeypatch: pytest.MonkeyPatch, ticket: str) -> None:
    """The command refuses a one-time address that is not a path of the page, or that has control characters."""
    asked: dict[str, object] = {"nonce": "a" * 64, "issuedAt": int(time.time())}
    answers: Iterator[dict[str, object]] = iter([asked, {"address": f"{URL}/sign-in/{ticket}"}])

    def answer(place: str, *_: object) -> dict[str, object]:
        found = next(answers)
        if "nonce" in found:
            found["text"] = str(SignInText(place, OPERATOR.address, 1337, "a" * 64, int(str(found["issuedAt"]))))
        return found

    monkeypatch.setattr(sign_in_client, "_post", answer)
    with pytest.raises(RefusedError, match="one-time address belongs to another page"):
        sign_in(URL, OPERATOR, chain_id=1337)


def test_a_dismissal_needs_token_site_role_and_reason(scene: RoomScene, url: str) -> None:
    """A dismissal is refused without a valid session and token, from another site, or with an empty reason."""
    client, path = signed_in(scene, url, OPERATOR), "/warnings/dismiss"
    named = re.findall(r'name="warning" value="([^"]+)"', client.get("/warnings"))
    token = re.search(r'name="csrf" value="([^"]+)"', client.get("/warnings"))
    assert named
    assert token
    form = {"csrf": token[1], "why": "a test", "warning": named[0]}
    for status, changed, headers in (
        (403, {**form, "csrf": "forged"}, {}),
        (403, form, {"Sec_Fetch_Site": "cross-site"}),
        (403, form, {"Origin": "http://evil.example"}),
        (400, {**form, "why": " "}, {}),
        (400, {**form, "warning": "../../etc"}, {}),
    ):
        assert client.ask("POST", path, changed, **headers)[0] == status
    assert Client(url).ask("POST", path, form)[0] == 403
    assert client.get("/warnings").count('name="warning"') == len(named)

    assert client.ask("POST", path, form)[0] == 303
    assert client.get("/warnings").count('name="warning"') == len(named) - 1


def test_an_account_without_a_role_leaves_no_entry(scene: RoomScene, url: str) -> None:
    """An account that is not an Operator or Administrator cannot sign in, and adds no entry to the room's log."""
    before = len(TileLog(scene.folder / "room-log"))
    for account in (STRANGER, dev_account(1), dev_account(KINDS["technician"].account or 0)):
        with pytest.raises(RefusedError, match="does not list your account as an Operator or Administrator"):
            signed_in(scene, url, account)
    assert len(TileLog(scene.folder / "room-log")) == before


def test_a_dismissal_is_an_entry_of_the_log_of_the_room(scene: RoomScene, url: str) -> None:
    """Sign-in and dismissal are log entries; the dismissal names the sign-in entry, which has the signed text."""
    client = signed_in(scene, url, ADMINISTRATOR)
    named = re.findall(r'name="warning" value="([^"]+)"', client.get("/warnings"))
    assert client.post("/warnings/dismiss", why="two at once", warning=named[-1])[0] == 303
    entries = [LogEntry.decode(raw) for raw in TileLog(scene.folder / "room-log").entries()]
    number, text = next(
        (int(m[1]), one.source) for one in entries if (m := re.search(r"session of entry (\d+): two", one.source or ""))
    )
    assert "two at once" in (text or "")
    signed = entries[number].source or ""
    assert ADMINISTRATOR.address in signed
    assert "wants you to sign in" in signed


def test_a_prepared_order_is_sent_by_the_key_of_the_operator(scene: RoomScene, url: str) -> None:
    """The room prepares the transactions of a group and an order.

    After the operator's key signs both transactions, the page shows the new order.
    """
    client = signed_in(scene, url, OPERATOR)
    for path, form in (
        ("/prepare/group", {"name": "all-thermo2", "place": "thermo2"}),
        ("/prepare/order", {"release": "1337 acme acme-thermo2 1.1.0", "group": "all-thermo2"}),
    ):
        status, text = client.post(path, **form)
        assert status == 200, text
        found = re.search(r'data-transaction="([^"]+)"', text)
        assert found
        call = json.loads(found[1].replace("&#34;", '"'))
        assert call["chainId"] == scene.city.chain.chain_id
        scene.city.chain.send(OPERATOR, bytes.fromhex(call["data"][2:]), to=call["to"])
    eventually(lambda: "all-thermo2" in client.get("/updates"), what="the new order")


def test_a_release_of_the_second_producer_chain_is_ordered(scene: RoomScene) -> None:
    """While the first of two producer chains is out of reach, a release of the second chain can be ordered.

    The page also shows the command for the order.
    """
    scene.city.orders.define_group(OPERATOR, Group.of_site("second", GATEWAY.uuid))
    port, [vendor] = free_port(), scene.setup.vendors
    gone = Connection(replace(vendor.settings, network="gone", url="http://127.0.0.1:1", chain_id=5))
    settings = replace(
        scene.setup.settings, folder=scene.folder / "two", listen=("127.0.0.1", port), url=f"http://127.0.0.1:{port}"
    )
    log = LogSettings(scene.folder / "other-log", None, None, ())
    setup = replace(scene.setup, settings=settings, vendors=[gone, vendor], log=log, account=None)
    with running_room(setup) as two:
        read = r"Producer chain 5</b> cannot be read[\s\S]*who signed it[\s\S]*Gateway chain</dt><dd>block"
        eventually(lambda: re.search(read, Client(two).get("/updates")), what="the readings")
        client = signed_in(scene, two, OPERATOR)
        offered = re.findall(r'<option value="(\d+ [^"]+)">([^<]+)<', client.get("/prepare"))
        assert ("1337 acme acme-thermo2 1.1.0", "acme-thermo2 1.1.0 (acme)") in offered
        form = {"release": "1337 acme acme-thermo2 1.1.0", "group": "second", "deadline": "2033-05-18T03:33"}
        status, text = client.post("/prepare/order", **form)
        assert status == 200, text
        assert "BLOCKOTA_PRODUCER_NETWORK=local blockota order update --producer acme --group second" in text
        assert "--deadline 2033-05-18T03:33+00:00 --key URI" in text
        form["release"] = "5 acme acme-thermo2 1.1.0"
        status, text = client.post("/prepare/order", **form)
        assert (status, "does not answer" in text or "out of reach" in text) == (503, True), text


def test_nothing_is_prepared_that_the_contract_refuses(scene: RoomScene, url: str) -> None:
    """Wrong releases, groups, times and roles are refused without a traceback."""
    operator, administrator = signed_in(scene, url, OPERATOR), signed_in(scene, url, ADMINISTRATOR)
    order = {"release": "1337 acme acme-thermo2 1.1.0", "group": "berlin"}
    wrong = (
        {**order, "release": "1337 acme acme-thermo2 9.9.9"},
        {**order, "release": "1337 nobody x 1.0.0"},
        {**order, "release": "1337 acme"},
        {**order, "release": "acme acme-thermo2 1.1.0"},
        {**order, "release": "5 acme acme-thermo2 1.1.0"},
        {**order, "group": "nowhere"},
        {**order, "deadline": "yesterday"},
        {**order, "deadline": "2001-01-01T00:00"},
    )
    for form in wrong:
        status, text = operator.post("/prepare/order", **form)
        assert status in (400, 409), text
        assert "Traceback" not in text
    assert administrator.post("/prepare/order", **order)[0] == 403
    ban = {"identity": str(GATEWAY.uuid), "reason": "stolen"}
    assert operator.post("/prepare/ban", **ban)[0] == 403
    status, text = administrator.post("/prepare/ban", identity=str(KINDS["administrator"].uuid), reason="wrong")
    assert status == 409
    status, text = administrator.post("/prepare/ban-proposal", **ban)
    assert status == 200
    assert json.loads(text)["reason"] == "stolen"


def test_a_banned_operator_is_out_at_the_next_block(scene: RoomScene, url: str) -> None:
    """From the block of the ban on, the session of a banned operator can read but not change anything."""
    client, administrator = signed_in(scene, url, OPERATOR), signed_in(scene, url, ADMINISTRATOR)
    status, text = administrator.post("/prepare/ban", identity=str(KINDS["operator"].uuid), reason="left")
    assert status == 200
    found = re.search(r'data-transaction="([^"]+)"', text)
    assert found
    call = json.loads(found[1].replace("&#34;", '"'))
    scene.city.chain.send(ADMINISTRATOR, bytes.fromhex(call["data"][2:]), to=call["to"])
    shown = client.get("/warnings")
    assert "Your identity is banned" in shown
    with pytest.raises(RefusedError, match="your identity is banned"):
        signed_in(scene, url, OPERATOR)
    assert "You can read, but change nothing" in shown
    assert client.post("/prepare/group", name="x", place="thermo2")[0] == 403
    assert client.post("/sign-out")[0] == 303
    assert "Sign in" in client.get("/")
