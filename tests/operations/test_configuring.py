"""An operator publishes a configuration on the page: first the proposal for the city's Safe, then the order."""

from __future__ import annotations

import json
import re
from html import unescape
from urllib.parse import urlsplit

import pytest
import requests

from blockota.approval.proposal import Proposal
from blockota.formats.cid import CID, RAW
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.model.receipt import LogEntry
from blockota.operations.configuring import MAX_IMAGE
from blockota.operations.sign_in_client import sign_in
from blockota.stores.store import open_store
from blockota.vendor.example import CONFIGURATION
from tests.support.city import KINDS, City
from tests.support.operations_room import RoomScene
from tests.support.waiting import DEADLINE, eventually

OPERATOR, ADMINISTRATOR = (dev_account(KINDS[kind].account or 0) for kind in ("operator", "administrator"))
IMAGE = b"interval = 60\n".ljust(64, b"\xff")
FORM = {"product": CONFIGURATION.name, "version": "1.0.0", "group": "berlin", "reason": "measure less often"}


def shown(answer: requests.Response) -> str:
    """Return the text of the main part of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text.partition("<main")[2])).split())


OK, FORBIDDEN, WRONG, REFUSED, ABSENT = 200, 403, 400, 409, 404


class Person:
    """A client with a session, which sends forms with files."""

    def __init__(self, city: City, url: str, account: object) -> None:
        self._url, self._client = url, requests.Session()
        address = sign_in(url, account, chain_id=city.chain.chain_id)  # type: ignore[arg-type]
        self._client.post(url + urlsplit(address).path, timeout=DEADLINE)
        found = re.search(r'name="csrf" value="([^"]+)"', self._client.get(f"{url}/prepare", timeout=DEADLINE).text)
        self.token = found[1] if found else ""

    def configure(self, image: bytes = IMAGE, form: dict[str, str] | None = None) -> requests.Response:
        """Send the configuration form; the values of `form` replace those of `FORM`."""
        return self.send({**FORM, "csrf": self.token, **(form or {})}, {"image": ("/home/me/berlin.bin", image)})

    def send(self, form: dict[str, str], files: object, **headers: str) -> requests.Response:
        """Send a form with files."""
        return self._client.post(
            f"{self._url}/prepare/configuration",
            data=form,
            files=files,  # type: ignore[arg-type]
            headers=headers,
            timeout=DEADLINE,
        )


@pytest.fixture(scope="module")
def operator(scene: RoomScene, url: str) -> Person:
    """Return a client with a session of the city's operator."""
    return Person(scene.city, url, OPERATOR)


def logged(scene: RoomScene, words: str) -> list[str]:
    """Return the entries of the operations room's log that contain the words."""
    log = TileLog(scene.folder / "room-log")
    texts = [LogEntry.decode(raw).source or "" for raw in log.published.entries(0, log.published.head().size)]
    return [text for text in texts if words in text]


def test_a_configuration_is_proposed_and_then_ordered(scene: RoomScene, operator: Person) -> None:
    """The form first returns a proposal for the Safe.

    After the proposal is executed, the form returns an order that the operator signs.
    """
    city, configurations = scene.city, scene.city.deployment.registries["configurations"]
    answer = operator.configure()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json"), answer.text
    assert 'filename="acme-thermo2-cfg-1.0.0.json"' in answer.headers["Content-Disposition"]
    proposal = Proposal.from_json(answer.content)
    assert (proposal.to.lower(), proposal.reason) == (configurations.lower(), FORM["reason"])
    store = open_store(scene.setup.vendors[0].settings.store)
    assert b"".join(store.open(CID.of(RAW, IMAGE))) == IMAGE
    [text] = eventually(lambda: logged(scene, "proposal of a configuration"), what="the entry")
    assert f"safeTxHash 0x{proposal.safe_tx_hash.hex()}" in text

    city.execute(proposal)
    answer = operator.configure()
    found = re.search(r'data-transaction="([^"]+)"', answer.text)
    assert found, answer.text
    call = json.loads(unescape(found[1]))
    city.chain.send(OPERATOR, bytes.fromhex(call["data"][2:]), to=call["to"])
    order = city.orders.orders()[-1]
    assert (order.group, order.release.product, str(order.release.version)) == ("berlin", CONFIGURATION.name, "1.0.0")
    assert order.release.contract.lower() == configurations.lower()
    assert logged(scene, "configuration prepared")

    other = operator.configure(b"interval = 10\n".ljust(64, b"\xff"))
    assert (other.status_code, "is another configuration" in shown(other)) == (REFUSED, True)


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"group": "nowhere"}, REFUSED, "The group 'nowhere' is not defined"),
        ({"product": "acme-pump-cfg"}, REFUSED, "acme-pump-cfg is not paired with an OEM"),
        ({"product": ""}, WRONG, "The field product is needed"),
        ({"version": "one"}, WRONG, "is not a version"),
        ({"reason": ""}, WRONG, "The field reason is needed"),
        ({"deadline": "yesterday"}, WRONG, "is not a time"),
        ({"csrf": "x"}, FORBIDDEN, "Its token is not that of your session"),
    ],
)
def test_a_wrong_form_is_refused(operator: Person, form: dict[str, str], status: int, words: str) -> None:
    """Each wrong value of the form is refused with an error of its own."""
    answer = operator.configure(form={"version": "2.0.0", **form})
    assert (answer.status_code, words in shown(answer)) == (status, True), shown(answer)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "0 bytes"),
        (bytes(MAX_IMAGE + 1), "accepts 1 to 1,048,576"),
        (bytes(MAX_IMAGE + (1 << 17)), "The file is too large"),
        (
            b"<!DOCTYPE html><title>Sign in</title>".ljust(64),
            "berlin.bin cannot be used, the file is not a firmware image",
        ),
        (bytes(5000), "region"),
    ],
    ids=["empty", "large", "huge", "a web page", "larger than its region"],
)
def test_a_wrong_file_is_refused(operator: Person, image: bytes, words: str) -> None:
    """The error states why the file cannot be used, and contains no path of the server."""
    answer = operator.configure(image, {"version": "2.0.0"})
    assert answer.status_code in (WRONG, REFUSED)
    assert words in shown(answer)
    assert "/tmp" not in answer.text  # noqa: S108 - the text of an answer


@pytest.mark.parametrize("name", ["..", ".", "../..", "a/..", "\\..", "...", "\0", "%2e%2e"])
def test_any_name_of_a_file_is_safe(operator: Person, name: str) -> None:
    """An uploaded file whose name contains path parts, such as `../..`, is accepted, but the name is ignored."""
    answer = operator.send({**FORM, "version": "9.0.0", "csrf": operator.token}, {"image": (name, IMAGE[::-1])})
    assert answer.status_code == OK, shown(answer)


def test_a_body_that_is_no_form_is_refused(operator: Person, url: str) -> None:
    """A form without a file, with two files, of another content type, cut off, or with 50 more fields is refused."""
    fields = {**FORM, "csrf": operator.token}
    two = [("image", ("a", b"1")), ("image", ("b", b"2"))]
    flood = {**fields, **{f"f{number}": "" for number in range(50)}}
    for form, files, words in (
        (fields, None, "content type is not multipart/form-data"),
        (fields, two, "2 files instead of one"),
        (flood, {"image": ("a", IMAGE)}, "more than 20 fields"),
    ):
        answer = operator.send(form, files)
        assert (answer.status_code, words in shown(answer)) == (WRONG, True), shown(answer)
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = operator._client.post(  # noqa: SLF001 - the client of this test
            f"{url}/prepare/configuration", data=b"--x\r\nnonsense", headers={"Content-Type": kind}, timeout=DEADLINE
        )
        assert (answer.status_code, "cannot be read" in shown(answer)) == (WRONG, True), shown(answer)


def test_only_an_operator_of_this_page_sends_a_file(scene: RoomScene, url: str, operator: Person) -> None:
    """Requests without a session, from another site, or of an administrator are refused."""
    answer = requests.post(f"{url}/prepare/configuration", files={"image": ("a", IMAGE)}, timeout=DEADLINE)
    assert (answer.status_code, "You are not signed in" in shown(answer)) == (FORBIDDEN, True)
    answer = operator.send({**FORM, "csrf": operator.token}, {"image": ("a", IMAGE)}, **{"Sec-Fetch-Site": "same-site"})
    assert (answer.status_code, "Another site made it" in shown(answer)) == (FORBIDDEN, True)
    answer = Person(scene.city, url, ADMINISTRATOR).configure(form={"version": "3.0.0"})
    assert (answer.status_code, "An operator may do this" in shown(answer)) == (FORBIDDEN, True)
