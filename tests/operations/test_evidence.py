"""Each count on a page links to all its evidence, and the evidence proves at least this count."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blockota.chain import Chain
from blockota.formats.notes import Note, NoteAlgorithm, NoteSignature, VerifierKey
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from blockota.operations.web import pages
from tests.conftest import Cast
from tests.support import forks
from tests.support.city import GATEWAY
from tests.support.operations_room import RoomScene, make_scene, running_room
from tests.support.waiting import DEADLINE, eventually

BURST = 250
"""The entries that the log has for one second: more than a page shows."""


@pytest.fixture(scope="module")
def scene(anvil: Chain, cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> RoomScene:
    """Return a city with an operations room, and many log entries within one second."""
    found = make_scene(anvil, cast, tmp_path_factory.mktemp("room"))
    now = int(time.time()) - 5000
    for one in range(BURST):
        found.gateway.state(EntryKind.EVENT, f"event {one} of the burst", time=now)
    found.gateway.publish()
    return found


@pytest.fixture(scope="module")
def url(scene: RoomScene) -> Iterator[str]:
    """Return the URL of the running operations room, after it has read the logs."""
    last = len(scene.gateway.log) - 1
    with running_room(scene.setup) as found:
        eventually(lambda: get(found, f"/entries/{GATEWAY.uuid}/{last}").ok, what="the last entry")
        yield found


def get(url: str, path: str) -> requests.Response:
    """Return an answer."""
    return requests.get(url + path, timeout=DEADLINE)


def test_the_whole_log_can_be_read_page_by_page(url: str) -> None:
    """Following the links to older pages shows each log line exactly once.

    One second of the log has more lines than a page.
    """
    path, found = "/log", list[str]()
    while path:
        text = get(url, path).text.partition("<main")[2]
        found += re.findall(r'class="proof" href="([^"]+)"', text)
        older = re.search(r'href="(\?[^"]+)" rel="next"', text)
        assert len(found) < 2000, "the pages repeat"
        path = f"/log{unescape(older[1])}" if older else ""
    lines = [json.loads(line) for line in get(url, "/log/export.jsonl").text.splitlines()]
    assert sorted(found) == sorted(line["evidence"] for line in lines)
    assert len(lines) > BURST


def test_a_long_export_names_its_continuation(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export is limited to a maximum number of lines.

    The `Link` header of the export has the URL of the next lines.
    """
    whole = get(url, "/log/export.csv").text.splitlines()[1:]
    monkeypatch.setattr(pages, "_EXPORTED", 90)
    path, found = "/log/export.csv", list[str]()
    while path:
        answer = get(url, path)
        lines = answer.text.splitlines()[1:]
        assert len(lines) <= 90
        found += lines
        path = answer.links.get("next", {}).get("url", "")
    assert found == whole


def test_a_claim_is_not_counted_as_an_installation(scene: RoomScene, url: str) -> None:
    """Devices that only claim the ordered release are counted separately as claims.

    Refusals are shown with their reasons.
    """
    number, release, now = scene.numbers[-1], scene.city.release_id("1.1.0"), int(time.time())
    image, gateway = bytes(range(32)), GATEWAY.uuid
    for entry in (
        LogEntry(EntryKind.REFUSAL, now, number, release=release, gateway=gateway, source="too warm", order=1),
        LogEntry(EntryKind.POSTPONEMENT, now, number, release=release, gateway=gateway, source="at night", order=1),
        LogEntry(EntryKind.CLAIMED, now, number, release, image, level=EvidenceLevel.B, gateway=gateway, order=1),
    ):
        scene.gateway.append(entry)
    scene.gateway.publish()
    eventually(lambda: "1 of them only by their own claim" in get(url, "/updates").text, what="the claim")
    text = get(url, "/updates").text
    assert "3 of 3 devices have it" in text
    assert "1 only claimed" in get(url, "/").text
    [link] = set(re.findall(r'href="(/updates/\d+)"', text))
    reasons = get(url, link).text
    assert "too warm" in reasons
    assert "at night" in reasons
    assert get(url, "/updates/999").status_code == 404


def test_the_offered_files_prove_the_entry_to_the_command(scene: RoomScene, url: str, tmp_path: Path) -> None:
    """The `blockota log verify` command on the page accepts the proof file and the trust file from the page."""
    link = f"/entries/{GATEWAY.uuid}/0"
    text = unescape(re.sub(r"<[^>]*>", "", get(url, link).text))
    assert "blockota log verify receipt-0.json --trust trust-0.toml" in text
    for name, file in (("receipt.json", "receipt-0.json"), ("trust.toml", "trust-0.toml")):
        answer = get(url, f"{link}/{name}")
        assert f'filename="{file}"' in answer.headers["Content-Disposition"]
        (tmp_path / file).write_bytes(answer.content)
    words = ["log", "verify", "receipt-0.json", "--trust", "trust-0.toml"]
    done = forks.run(["-m", "blockota", *words], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(scene.numbers[0]) in done.stdout
    assert "level A" in done.stdout
    assert get(url, f"{link}/other.txt").status_code == 404


def test_a_checkpoint_of_a_stranger_is_no_proof(scene: RoomScene, url: str) -> None:
    """The page refuses to make a proof if a foreign key signed the log's checkpoint."""
    path, link = scene.gateway.folder / "checkpoint", f"/entries/{GATEWAY.uuid}/0"
    true = path.read_bytes()
    stranger = Ed25519PrivateKey.generate()
    key = VerifierKey(scene.gateway.signer.key.name, NoteAlgorithm.ED25519, stranger.public_key().public_bytes_raw())
    text = Note.parse(true).text
    line = NoteSignature(key.name, key.key_id, stranger.sign(text.encode()))
    path.write_bytes(Note(text, (line,)).encode())
    try:
        assert "checkpoint is not signed with a log key that the registry has for this" in get(url, link).text
        assert get(url, f"{link}/receipt.json").status_code == 404
    finally:
        path.write_bytes(true)
    assert "signed a tree of" in get(url, link).text
