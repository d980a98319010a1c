"""The links of numbers lead to all that proves them, and a number does not count more than its evidence proves."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from html import unescape

import pytest
import requests

from blockota.chain import Chain
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from blockota.operations.web import pages
from tests.conftest import Cast
from tests.support.city import GATEWAY
from tests.support.operations_room import RoomScene, make_scene, running_room
from tests.support.waiting import DEADLINE, eventually

BURST = 250
"""The entries that the log has for one second: more than a page shows."""


@pytest.fixture(scope="module")
def scene(anvil: Chain, cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> RoomScene:
    """A city with an operations room, and a burst of entries."""
    found = make_scene(anvil, cast, tmp_path_factory.mktemp("room"))
    now = int(time.time()) - 5000
    for one in range(BURST):
        found.gateway.state(EntryKind.EVENT, f"event {one} of the burst", time=now)
    found.gateway.publish()
    return found


@pytest.fixture(scope="module")
def url(scene: RoomScene) -> Iterator[str]:
    """The URL of the running room, which has read the logs."""
    last = len(scene.gateway.log) - 1
    with running_room(scene.setup) as found:
        eventually(lambda: get(found, f"/entries/{GATEWAY.uuid}/{last}").ok, what="the last entry")
        yield found


def get(url: str, path: str) -> requests.Response:
    """Return an answer."""
    return requests.get(url + path, timeout=DEADLINE)


def test_the_whole_log_can_be_read_page_by_page(url: str) -> None:
    """The links to older lines reach each line once, also if a second has more lines than a page."""
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
    """An export has a limit, and a header of the answer names the address of the next lines."""
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
    """Devices that only claim the ordered release are named, and the number of refusals leads to their reasons."""
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
