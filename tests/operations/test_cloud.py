"""The cloud stores the requests that validators send, checks their signatures again, and answers after the commit."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blockota.bindings.identities import enrolment_argument
from blockota.chain import Chain
from blockota.formats.public_key import read_pem
from blockota.identity.sending import Parcel, RequestSigner, read_reply
from blockota.model.identity import Enrolment, IdentityKind, Keys
from blockota.model.request import WINDOW
from blockota.operations import queries, sqlite
from blockota.operations.database import CloudDatabase
from tests.conftest import running_anvil
from tests.support.city import City
from tests.support.clouds import CLOUD, GATEWAY, VALIDATOR, CloudRun, running_cloud, signer_of, write_cloud
from tests.support.foreign_requests import ForeignSender
from tests.support.stored_readings import StoredReading, newest_readings
from tests.support.validators import HOST
from tests.support.waiting import eventually

BANNED, ROTATED = ForeignSender("ES256", number=21), ForeignSender("ES256", number=22)
OLD_KEY = 23
STRANGER = ForeignSender("ES256", number=24)
VALUE = {"thing": "256", "time": 1_800_000_000, "name": "temperature", "value": 21.5, "unit": "Cel"}


@pytest.fixture(scope="module")
def anvil() -> Iterator[Chain]:
    """Return a chain whose time starts one hour ago, so that no block's time is later than the present."""
    with running_anvil("--timestamp", str(int(time.time()) - 3600)) as chain:
        yield chain


@pytest.fixture(scope="module")
def run(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudRun]:
    """Enrol two more gateways, and run a cloud."""
    for sender in (BANNED, ForeignSender("ES256", ROTATED.uuid, OLD_KEY)):
        enrolment = Enrolment(sender.uuid, IdentityKind.GATEWAY, Keys(read_pem(sender.pem.decode())))
        city.decide("identities", "enrol", enrolment_argument(enrolment))
    key = read_pem(ROTATED.pem.decode())
    empty = "0x" + "00" * 20
    city.decide("identities", "rotate", ROTATED.uuid.bytes, empty, key.kind.value, key.data, bytes(32), bytes(32))
    city.decide("identities", "ban", BANNED.uuid.bytes, b"test".ljust(32, b"\0"))
    with running_cloud(city, write_cloud(city, tmp_path_factory.mktemp("cloud"))) as found:
        yield found


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RequestSigner]:
    """Return the signers of the example's identities."""
    folder = tmp_path_factory.mktemp("keys")
    return {kind: signer_of(kind, folder) for kind in ("validator", "gateway", "operator")}


@pytest.fixture
def submit(signers: dict[str, RequestSigner]) -> Callable[..., str]:
    """Return a function that makes a signed `submit` request of the gateway."""

    def make(value: float = 21.5, *, now: float | None = None, **changed: Any) -> str:
        fields = {"method": "submit", "data": {"readings": [VALUE | {"value": value}]}} | changed
        raw = signers["gateway"].request(
            Parcel(fields["method"], fields["data"]), receiver=VALIDATOR, now=int(time.time() if now is None else now)
        )
        return raw.decode()

    return make


def store(signer: RequestSigner, *texts: str, name: str = "", data: Any = None) -> bytes:
    """Return a `store` request of a validator."""
    found = {"requests": list(texts)} if data is None else data
    parcel = Parcel("store", found, name) if name else Parcel("store", found)
    return signer.request(parcel, receiver=CLOUD, now=int(time.time()))


def stored(run: CloudRun, thing: str = "256") -> list[StoredReading]:
    """Return the newest readings of a device in the database of a cloud."""
    with CloudDatabase.at("sqlite:///cloud.db", folder=run.folder) as database, database.reading() as connection:
        return newest_readings(connection, thing, limit=1000)


def raws(run: CloudRun) -> set[bytes]:
    """Return all requests in the database of a cloud."""
    with sqlite3.connect(run.folder / "cloud.db") as file:
        return {raw for (raw,) in file.execute("SELECT raw FROM request")}


def test_readings_are_kept_with_the_request_that_proves_them(
    run: CloudRun, signers: dict[str, RequestSigner], submit: Callable[..., str]
) -> None:
    """Each reading is in the database with its gateway, its validator, and the request with the gateway's signature."""
    texts = [submit(1.25), submit(2.5)]
    answer = run.post(store(signers["validator"], *texts))
    assert answer["result"] == {"stored": 2}
    assert {text.encode() for text in texts} <= raws(run)
    found = {one.reading.value: one for one in stored(run)}
    assert found[1.25].gateway == found[2.5].gateway == GATEWAY
    with CloudDatabase.at("sqlite:///cloud.db", folder=run.folder) as database, database.reading() as connection:
        evidence = queries.request(connection, found[2.5].request)
    assert evidence
    assert (evidence.raw, evidence.validator) == (texts[1].encode(), VALIDATOR)


def test_a_repeated_request_is_stored_once(
    run: CloudRun, signers: dict[str, RequestSigner], submit: Callable[..., str]
) -> None:
    """A repeated `store` request is refused as `SEEN`.

    A new `store` request does not store a stored reading again.
    """
    text = submit(77.0)
    request = store(signers["validator"], text, name="once")
    assert run.post(request)["result"] == {"stored": 1}
    assert run.post(request)["error"]["data"]["fault"] == "SEEN"
    assert run.post(store(signers["validator"], text, text))["result"] == {"stored": 2}
    assert sum(one.reading.value == 77.0 for one in stored(run)) == 1


def test_a_request_that_is_signed_again_is_stored_once(run: CloudRun, signers: dict[str, RequestSigner]) -> None:
    """A `submit` request that a gateway signs again at a later time is stored once.

    A request with another name or another value is stored separately.
    """

    def signed(name: str, value: float, now: int) -> str:
        parcel = Parcel("submit", {"readings": [VALUE | {"thing": "777", "value": value}]}, name)
        return signers["gateway"].request(parcel, receiver=VALIDATOR, now=now).decode()

    now = int(time.time())
    for texts in ([signed("a", 1, now - 1), signed("a", 1, now)], [signed("a", 1, now - 2)]):
        answer = run.post(store(signers["validator"], *texts))
        assert answer["result"] == {"stored": len(texts)}
    assert [one.reading.value for one in stored(run, "777")] == [1]
    run.post(store(signers["validator"], signed("b", 1, now), signed("a", 2, now)))
    assert sorted(float(one.reading.value) for one in stored(run, "777")) == [1, 1, 2]


def test_an_earlier_key_of_a_gateway_is_accepted(run: CloudRun, signers: dict[str, RequestSigner]) -> None:
    """Requests that a gateway signed before and after its key was rotated are stored."""
    data = {"readings": [VALUE | {"thing": "rotated"}]}
    for number in (OLD_KEY, ROTATED.number):
        text = ForeignSender("ES256", ROTATED.uuid, number).request(data=data, aud=str(VALIDATOR)).decode()
        assert run.post(store(signers["validator"], text))["result"] == {"stored": 1}
    assert len(stored(run, "rotated")) == 2


OLD = 301
"""Seconds after which an unknown sender is refused for good."""
Bad = Callable[[Callable[..., str], dict[str, RequestSigner]], str]
BAD: dict[str, tuple[Bad, str]] = {
    "not JSON": (lambda _, __: "{", "valid JSON"),
    "a surrogate": (lambda _, __: "\ud800", "its bytes are not text"),
    "a command": (lambda submit, _: submit(method="command"), "its method is 'command'"),
    "no readings": (lambda submit, _: submit(data={"other": 1}), "the data are not"),
    "a bad reading": (
        lambda submit, _: submit(data={"readings": [VALUE | {"value": None}]}),
        "the reading's value is not",
    ),
    "a zero byte": (
        lambda submit, _: submit(data={"readings": [VALUE | {"name": "a\0"}]}),
        "the reading's name is not a text",
    ),
    "in the future": (lambda submit, _: submit(now=time.time() + 2 * WINDOW), "seconds in the future"),
    "a time out of range": (lambda submit, _: submit(now=-(10**30)), "before 1970"),
    "a forged one": (
        lambda submit, _: submit(now=time.time() - OLD).replace('"}}', "A")[:-9] + 'AAAAAAAA"}}',
        "not signed by a key",
    ),
    "a stranger": (lambda _, __: STRANGER.request(iat=int(time.time()) - OLD).decode(), "not an enrolled gateway"),
    "of a validator": (
        lambda _, signers: (
            signers["validator"]
            .request(Parcel("submit", {"readings": [VALUE]}), receiver=VALIDATOR, now=int(time.time()))
            .decode()
        ),
        "not an enrolled gateway",
    ),
    "for another validator": (
        lambda _, signers: (
            signers["gateway"]
            .request(Parcel("submit", {"readings": [VALUE]}), receiver=CLOUD, now=int(time.time()))
            .decode()
        ),
        "not to the validator that hands it on",
    ),
    "after a ban": (
        lambda _, __: BANNED.request(iat=int(time.time()) + WINDOW, data={"readings": [VALUE]}).decode(),
        "was banned",
    ),
}


def test_a_record_that_the_cloud_does_not_have_yet_is_waited_for(
    run: CloudRun, city: City, signers: dict[str, RequestSigner], submit: Callable[..., str]
) -> None:
    """The cloud does not store a request of a gateway whose enrolment the cloud has not read yet.

    After the enrolment, the cloud stores the request when the validator repeats it.
    """
    sender, good = ForeignSender("ES256", number=58), submit(1003.0)
    text = sender.request(data={"readings": [VALUE | {"thing": "new"}]}).decode()
    request = store(signers["validator"], text, good, name="early")
    reply = read_reply(json.dumps(run.post(request)).encode())
    assert (reply.code, reply.is_final, reply.warning) == (-32603, False, "")
    assert "is not an enrolled gateway" in reply.detail
    assert good.encode() in raws(run)
    enrolment = Enrolment(sender.uuid, IdentityKind.GATEWAY, Keys(read_pem(sender.pem.decode())))
    city.decide("identities", "enrol", enrolment_argument(enrolment))
    eventually(lambda: run.post(request).get("result") == {"stored": 2}, what="the enrolment")
    assert len(stored(run, "new")) == 1


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_and_its_neighbours_are_stored(
    run: CloudRun, signers: dict[str, RequestSigner], submit: Callable[..., str], name: str
) -> None:
    """If one of three requests is invalid, the cloud stores the other two requests.

    The invalid request causes a warning about the validator.
    """
    make, why = BAD[name]
    bad, good = make(submit, signers), [submit(1000.0), submit(1001.0)]
    answer = run.post(store(signers["validator"], good[0], bad, good[1]))
    assert answer["error"]["code"] == -32000
    assert "1 of 3 requests, request 1: " in answer["error"]["data"]["detail"]
    assert why in answer["error"]["data"]["detail"]
    found = raws(run)
    assert {one.encode() for one in good} <= found
    assert bad.encode(errors="surrogatepass") not in found

    def proven() -> bool:
        return any(one.node == VALIDATOR and one.is_proven and one.code == -32000 for one in run.warnings())

    eventually(proven, what="the warning")


@pytest.mark.parametrize(
    "data", [{}, {"requests": []}, {"requests": {}}, {"requests": [1]}, {"requests": ["{}"], "more": 1}]
)
def test_data_without_requests_are_refused(run: CloudRun, signers: dict[str, RequestSigner], data: Any) -> None:
    """A `store` request without requests is refused."""
    answer = run.post(store(signers["validator"], data=data))
    assert answer["error"]["code"] == -32000


@pytest.mark.parametrize("kind", ["gateway", "operator"])
def test_only_validators_may_store(
    run: CloudRun, signers: dict[str, RequestSigner], submit: Callable[..., str], kind: str
) -> None:
    """Identities that are not validators cannot write into the database."""
    text = submit()
    assert run.post(store(signers[kind], text))["error"]["code"] == -32005
    assert text.encode() not in raws(run)


def test_a_locked_database_is_a_failure_that_passes(
    run: CloudRun, signers: dict[str, RequestSigner], submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database cannot be written, the cloud answers FAILED; the repeated request is stored afterwards."""
    monkeypatch.setattr(sqlite, "LOCKED_SECONDS", 0.05)
    text = submit(55.5)
    request = store(signers["validator"], text, name="locked")
    other = sqlite3.connect(run.folder / "cloud.db", isolation_level=None, timeout=60)
    other.execute("BEGIN IMMEDIATE")
    error = run.post(request)["error"]
    assert (error["code"], error["data"]["fault"]) == (-32603, "FAILED")
    assert "warning" not in error["data"]
    assert any('"part": "database"' in line and "locked" in line for line in run.lines)
    other.execute("COMMIT")
    other.close()
    assert run.post(request)["result"] == {"stored": 1}
    assert json.loads(run.lines[-1])["event"] != "trouble"


def test_a_store_request_can_be_larger_than_others(
    run: CloudRun, signers: dict[str, RequestSigner], submit: Callable[..., str]
) -> None:
    """Three `submit` requests of over 50 kB each are stored from one `store` request."""
    values = [VALUE | {"value": number, "name": "n" * 40} for number in range(350)]
    text = submit(data={"readings": values})
    assert 50_000 < len(text) < 1 << 16
    answer = run.post(store(signers["validator"], text, text, text))
    assert answer.get("result") == {"stored": 3}, answer
    assert HOST in run.url
