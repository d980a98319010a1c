"""The pages of the operations room are tested in Debian's Chromium."""

from __future__ import annotations

import re

import pytest

from blockota.keys import dev_account
from blockota.model.receipt import EntryKind
from blockota.operations.sign_in_client import sign_in
from blockota.operations.web import live
from tests.support.browser import Browser
from tests.support.city import GATEWAY, KINDS, OPERATOR
from tests.support.operations_room import SCRIPT, RoomScene
from tests.support.waiting import eventually

WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
SERIOUS = {"serious", "critical"}
MAX_WEIGHT = 150_000
"""Bytes of a page with its style, script and chart."""


def paths_of(scene: RoomScene) -> list[str]:
    """Return the paths of all kinds of pages."""
    log, device = f"/ledger/{GATEWAY.uuid}", f"/devices/{scene.numbers[0]}"
    fixed = ["/", "/warnings", "/devices", "/updates", "/requests", "/replicas", "/ledger", "/network", "/log"]
    return [*fixed, device, log, f"/entries/{GATEWAY.uuid}/0", "/sign-in", "/nothing"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_accessible_and_fits(
    scene: RoomScene, url: str, browser: Browser, width: int, scheme: str
) -> None:
    """No page has a serious finding of axe-core, is wider than the window, or sends a request to another host."""
    browser.open(width, scheme)
    for path in paths_of(scene):
        browser.goto(url + path)
        assert not [one for one in browser.axe() if one[0] in SERIOUS], path
        assert browser.ask("overflow") <= 0, path
        assert browser.ask("weight") <= MAX_WEIGHT, path
    requests, _ = browser.ask("seen")
    assert {one.split("/")[2] for one in requests if not one.startswith("data:")} == {url.removeprefix("http://")}


@pytest.mark.parametrize("kind", ["operator", "administrator"])
def test_the_forms_of_a_signed_in_person_are_accessible_and_fit(
    scene: RoomScene, url: str, browser: Browser, kind: str
) -> None:
    """The forms, and the transaction that a form prepares, meet the same accessibility rules as the other pages."""
    account = dev_account(KINDS[kind].account or 0)
    for width, scheme in zip(WIDTHS, SCHEMES, strict=True):
        browser.open(width, scheme)
        browser.goto(sign_in(url, account, chain_id=scene.city.chain.chain_id))
        browser.ask("click", "main button")
        for path in ("/", "/prepare", "/warnings", "/network", "/updates/1"):
            browser.goto(url + path)
            assert not [one for one in browser.axe() if one[0] in SERIOUS], path
            assert browser.ask("overflow") <= 0, path
        browser.goto(f"{url}/prepare")
        if kind == "operator":
            browser.ask("fill", "form[action='/prepare/group'] input[name=name]", "all-of-them")
            browser.ask("click", "form[action='/prepare/group'] button")
        else:
            browser.ask("fill", "input[name=reason]", "stolen")
            browser.ask("select", "select[name=identity]", str(KINDS["technician"].uuid))
            browser.ask("click", "form[action='/prepare/ban'] button.main")
        assert "Ready to sign" in browser.text()
        assert not [one for one in browser.axe() if one[0] in SERIOUS]
        assert browser.ask("overflow") <= 0
        browser.goto(f"{url}/network")
        browser.ask("click", "text=enrolment >> nth=0")
        assert "transaction" in browser.text("h1").lower()
        assert not [one for one in browser.axe() if one[0] in SERIOUS]
        assert browser.ask("overflow") <= 0


def test_pages_are_complete_without_javascript(scene: RoomScene, url: str, browser: Browser) -> None:
    """Without JavaScript, the pages have the same content, and their filters and links work."""
    browser.open(has_script=False)
    browser.goto(f"{url}/devices")
    browser.ask("fill", "input[name=q]", "SN-4002")
    browser.ask("click", ".filters button")
    assert "1 device" in browser.text("#devices")
    browser.ask("click", f"text={scene.numbers[1]}")
    assert "Record in the registry" in browser.text()
    browser.ask("click", "#runs .proof")
    assert "What proves it" in browser.text()


def test_a_new_event_appears_on_an_open_page(scene: RoomScene, url: str, browser: Browser) -> None:
    """An open page shows a new event of the chain without a reload; the benchmarks measure the delay."""
    browser.open()
    browser.goto(f"{url}/log?kind=chain")
    eventually(lambda: "anchored" in browser.text("#lines"), what="the lines")
    scene.gateway.state(EntryKind.EVENT, "a live event", time=1_900_000_100, device=scene.numbers[0])
    scene.gateway.publish()
    scene.gateway.anchor()
    size = len(scene.gateway.log)
    assert browser.ask("wait_text", "#lines", f"anchored at {size} entries") > 0


def test_a_page_that_was_refused_the_events_gets_them_later(
    scene: RoomScene, url: str, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser that was rejected because of too many viewers reconnects and then shows the missed events."""
    monkeypatch.setattr(live, "_MAX_VIEWERS", 0)
    browser.open()
    browser.goto(f"{url}/log?kind=log")
    eventually(lambda: "503" in _faults(browser), what="the refusal")
    scene.gateway.state(EntryKind.EVENT, "an event without a viewer", time=1_900_000_150, device=scene.numbers[0])
    scene.gateway.publish()
    monkeypatch.undo()
    assert browser.ask("wait_text", "#lines", "an event without a viewer") > 0


def test_a_slow_click_on_a_live_list_arrives(scene: RoomScene, url: str, browser: Browser) -> None:
    """If a list changes between the press and the release of the mouse button, the pressed link is opened."""

    def updates() -> int:
        browser.ask("title")  # the driver learns of requests while it carries out a command
        return int(browser.ask("seen")[0].count(f"{url}/log?kind=log"))

    browser.open()
    browser.goto(f"{url}/log?kind=log")
    browser.ask("hold", "#lines .proof >> nth=0")
    before = updates()
    scene.gateway.state(EntryKind.EVENT, "an event during a click", time=1_900_000_200, device=scene.numbers[0])
    scene.gateway.publish()
    eventually(lambda: updates() > before, what="the update of the page")
    browser.ask("release", "**/entries/**")


def test_an_operator_signs_in_and_dismisses_warnings(scene: RoomScene, url: str, browser: Browser) -> None:
    """A sign-in URL works once.

    A dismissed warning shows the operator and the reason of the dismissal.
    """
    browser.open()
    address = sign_in(url, dev_account(OPERATOR.account or 0), chain_id=scene.city.chain.chain_id)
    browser.goto(address)
    browser.ask("click", "main button")
    assert "Operator" in browser.text("header")

    browser.goto(f"{url}/warnings")
    browser.ask("click", "#select-all")
    assert browser.ask("count", "input[name=warning]:checked") == browser.ask("count", "input[name=warning]") > 1
    browser.ask("click", "#select-all")
    assert browser.ask("count", "input[name=warning]:checked") == 0
    browser.ask("click", "tbody tr:first-child input[type=checkbox]")
    browser.ask("fill", "input[name=why]", f"a test {SCRIPT}")
    browser.ask("click", ".actions button")
    browser.goto(f"{url}/warnings?status=dismissed")
    text = browser.text("#warnings")
    operator = f"operator {str(OPERATOR.uuid)[:8]}…{str(OPERATOR.uuid)[-4:]}"
    assert f"{operator}: a test {SCRIPT}" in text
    assert browser.ask("title").startswith("Warnings")

    room = KINDS["cloud"].uuid
    eventually(lambda: f"dismissal by {operator}" in _text(browser, f"{url}/ledger/{room}"), what="entry")
    assert "signature" not in _text(browser, f"{url}/ledger/{room}")
    browser.goto(address)
    browser.ask("click", "main button")
    assert "used before" in browser.text()


def test_scripts_in_texts_do_not_run(scene: RoomScene, url: str, browser: Browser) -> None:
    """Scripts and direction marks in texts of entries and in the query are shown as plain text."""
    browser.open()
    turned = "%3Cscript%3Edocument.title%3D%27owned%27%3C%2Fscript%3E%E2%80%AEx"
    for path in (f"/devices/{scene.numbers[0]}", "/warnings", f"/devices?q={turned}", f"/warnings?q={turned}"):
        browser.goto(url + path)
        assert "owned" not in browser.ask("title")
        assert "\u202e" not in browser.ask("html")
    browser.goto(f"{url}/devices/{scene.numbers[0]}")
    assert SCRIPT in browser.text("#history")


def test_the_keyboard_alone_reaches_everything(url: str, browser: Browser) -> None:
    """The first press of Tab reaches a link that skips the navigation; each page can be opened with keys only."""
    browser.open()
    browser.goto(url)
    browser.ask("press", "Tab")
    assert browser.ask("focused") == "Skip to the content"
    seen = []
    for _ in range(14):
        browser.ask("press", "Tab")
        seen.append(browser.ask("focused"))
    assert {"Overview", "Warnings", "Devices", "Updates", "Ledger", "Log"} <= set(seen)
    while browser.ask("focused") != "Devices":
        browser.ask("press", "Shift+Tab")
    browser.ask("press", "Enter")
    eventually(lambda: browser.ask("title").startswith("Devices"), what="the page of devices")


def _faults(browser: Browser) -> str:
    browser.ask("title")  # the driver learns of errors while it carries out a command
    return " ".join(browser.ask("seen")[1])


def _text(browser: Browser, url: str) -> str:
    browser.goto(url)
    return re.sub(r"\s+", " ", browser.text())
