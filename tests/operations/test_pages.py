"""The pages of the operations room, read by an HTTP client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from blockota.ledger.trust import TrustedKeys
from blockota.ledger.verify import verify_proof
from blockota.model.proof_file import ProofFile
from blockota.model.receipt import EntryKind
from blockota.model.warning import RequestWarning
from tests.support.city import GATEWAY
from tests.support.operations_room import RoomScene, running_room
from tests.support.waiting import eventually

PAGES = ("/", "/warnings", "/devices", "/updates", "/ledger", "/log")


@pytest.fixture(scope="module")
def url(scene: RoomScene) -> Iterator[str]:
    """Return the URL of the running operations room, after it has read the gateway's log."""
    with running_room(scene.setup) as found:
        await_log(found)
        yield found


def get(url: str, path: str, **headers: str) -> str:
    """Return the text of a page."""
    with urlopen(Request(url + path, headers=headers), timeout=20) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode())


def await_log(url: str) -> None:
    """Wait until the operations room has read the gateway's log and its own log."""
    eventually(lambda: "Logs</dt><dd>2 followed" in get(url, "/"), what="the logs")


def status_of(url: str, path: str, *, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Return the status and the text of a response, also of an error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(url + path, data=data, headers=named), timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_the_overview_counts_devices_by_release(scene: RoomScene, url: str) -> None:
    """The overview shows the devices by release, the order's progress and the open warnings."""
    text = get(url, "/")
    done = len(scene.numbers) * 2 // 3
    assert f"<b>{len(scene.numbers)}</b><span>devices registered" in text
    assert f"{done} of {len(scene.numbers)} devices" in text
    assert "open warnings" in text


@pytest.mark.parametrize("path", PAGES)
def test_every_page_tells_how_old_it_is(url: str, path: str) -> None:
    """Each page shows the block of each chain and the age of its readings, and has a strict Content-Security-Policy."""
    with urlopen(url + path, timeout=20) as answer:  # noqa: S310
        text, headers = answer.read().decode(), answer.headers
    assert re.search(r"Gateway chain</dt><dd>block [\d,]+, read <time", text)
    assert "Logs</dt><dd>2 followed, read <time" in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["Cache-Control"] == "no-store"
    assert "<script>document" not in text
    assert "\u202e" not in text
    assert not re.search(r"(?:src|href)=\"https?:", text)


def test_a_number_leads_to_a_proof_that_others_can_check(scene: RoomScene, url: str) -> None:
    """A device's page links to the proof file of its receipt, which verifies with the keys of log and device."""
    number = scene.numbers[0]
    page = get(url, f"/devices/{number}")
    [link] = set(re.findall(rf'href="(/entries/{GATEWAY.uuid}/\d+)">entry', page.partition("Status history")[0]))
    shown = get(url, link)
    assert "is anchored in block" in shown
    assert "the device signed the SHA-256 of the image with its own key" in shown

    file = ProofFile.from_json(get(url, f"{link}/receipt.json").encode())
    key = scene.gateway.devices[number].key
    found = verify_proof(file, TrustedKeys((scene.gateway.signer.key,), devices={number: key}))
    assert found.evidence.is_signed
    assert found.entry.device == number


def test_a_release_names_the_owners_who_signed_it(scene: RoomScene, url: str) -> None:
    """The evidence of a release is its transaction, with the two owners who signed the transaction."""
    [link] = re.findall(r'href="(/transactions/[^"]+)">who signed it', get(url, "/updates").partition("1.0.0")[2])[:1]
    text = get(url, link)
    assert {scene.city.cast.owner_a.address, scene.city.cast.owner_b.address} <= set(re.findall(r"0x\w{40}\b", text))


def test_devices_are_found_by_their_serial(scene: RoomScene, url: str) -> None:
    """The search finds a device by a part of its serial number, and filters by release."""
    assert '<p class="fine">1 device<' in get(url, "/devices?q=sn-4001")
    newest = len(scene.numbers) * 2 // 3
    assert f'<p class="fine">{newest} devices' in get(url, "/devices?product=acme-thermo2&version=1.1.0")
    assert "No device matches" in get(url, "/devices?q=nothing")
    assert 'page=1">page 1</a>' in get(url, "/devices?page=99")


def test_a_new_entry_reaches_the_pages(scene: RoomScene, url: str) -> None:
    """An entry that the gateway publishes appears on the device's page without a restart of the room."""
    scene.gateway.state(EntryKind.EVENT, "door opened (severity 5)", time=1_900_000_000, device=scene.numbers[1])
    scene.gateway.publish()
    eventually(lambda: "door opened" in get(url, f"/devices/{scene.numbers[1]}"), what="the new entry")


def test_the_log_is_exported(url: str) -> None:
    """The log is exported as CSV and as JSON lines, with one row for each entry."""
    lines = [json.loads(line) for line in get(url, "/log/export.jsonl").splitlines()]
    assert {line["source"] for line in lines} == {"chain", "log"}
    assert all(line["evidence"].startswith(("/transactions/", "/entries/")) for line in lines)
    head, *rows = get(url, "/log/export.csv").splitlines()
    assert head == "time,source,kind,subject,text,evidence"
    assert len(rows) == len(lines)


def test_wrong_paths_and_hosts_are_refused(url: str) -> None:
    """An unknown page, device, entry or host is refused with a reason and without a traceback."""
    for path in ("/nothing", "/devices/999999", f"/entries/{GATEWAY.uuid}/999999", "/transactions/1/2/0x00"):
        status, text = status_of(url, path)
        assert status == 404
        assert "is not here" in text
        assert "Traceback" not in text
    assert status_of(url, "/", host="evil.example")[0] == 421


def test_a_refused_request_is_shown_in_words(scene: RoomScene, url: str) -> None:
    """A warning about requests is shown with its reason, count, identity and address, and never as JSON text."""
    proven = RequestWarning("5f2c", "10.64.0.9", GATEWAY.uuid, is_proven=True, code=-32002, reason="Gateway is banned")
    claimed = replace(proven, address="2001:db8::7", is_proven=False, detail="no such key", count=17)
    for number, warning in enumerate((proven, claimed)):
        scene.gateway.state(EntryKind.WARNING, warning.text, time=1_795_000_000 + number)
    scene.gateway.publish()
    eventually(lambda: "2001:db8::7" in get(url, "/warnings"), what="the warnings")

    row = get(url, "/warnings").partition("2001:db8::7")[2].partition("</tr>")[0]
    assert "Gateway is banned: no such key" in row
    assert "17 requests" in row
    for path in ("/warnings", "/log", f"/ledger/{GATEWAY.uuid}"):
        text = get(url, path)
        assert "standing" not in text, path
        assert "claimed" in text, path
    assert f"17 requests of claimed {GATEWAY.uuid} from 2001:db8::7" in get(url, "/log/export.csv")


def test_identities_are_shown_short(url: str) -> None:
    """A page shows the kind and a short form of an identity.

    The whole UUID is in the HTML title and in links.
    """
    for path in ("/", "/log", "/ledger", "/network", f"/ledger/{GATEWAY.uuid}"):
        text = get(url, path)
        shown = re.sub(r"<[^>]*>", "", text.partition("<main")[2])
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-", shown), path
    assert f'<span class="kind">gateway</span> <code title="{GATEWAY.uuid}">' in get(url, "/log")
