"""A validator keeps and forwards what it acknowledged, applies its rules, and refuses banned senders."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from blockota.bindings.identities import enrolment_argument
from blockota.chain import BlockHead, Chain
from blockota.chain.local import free_port
from blockota.formats.public_key import read_pem
from blockota.identity import receiving_service
from blockota.identity.request_outbox import RequestOutbox
from blockota.identity.validator_service import CLOUD_NAME
from blockota.ledger.fsck import check_log
from blockota.ledger.log import TileLog
from blockota.model.identity import Enrolment, IdentityKind, Keys
from blockota.model.request import SignedRequest, read_request
from tests.support.city import City
from tests.support.foreign_requests import ForeignSender, data
from tests.support.receivers import running_receiver
from tests.support.relay import relayed
from tests.support.validators import (
    CLOUD,
    VALIDATOR,
    ValidatorClient,
    running_validator,
    validator_process,
    write_validator,
)
from tests.support.waiting import DEADLINE, eventually

SENDER, ACTOR = ForeignSender("ES256", number=20), ForeignSender("ES256", number=21)
STORE = {"store": frozenset({IdentityKind.VALIDATOR})}
COMMAND = {"command": frozenset({IdentityKind.VALIDATOR})}
RULES = """
commands = ["fan"]

[[rule]]
name = "cool"
thing = 256
reading = "temperature"
comparison = ">"
limit = 30
target = "{actor}"
device = 512
command = "fan"
arguments = {{ on = true }}
pause = "1s"
"""


@pytest.fixture(scope="module", autouse=True)
def _enrolled(city: City) -> None:
    """Enrol a gateway that sends readings, and a gateway that receives commands."""
    for sender in (SENDER, ACTOR):
        enrolment = Enrolment(sender.uuid, IdentityKind.GATEWAY, Keys(read_pem(sender.pem.decode())))
        city.decide("identities", "enrol", enrolment_argument(enrolment))


@pytest.fixture
def port() -> int:
    """Return a port on which nothing listens yet."""
    return free_port()


def cloud_at(url: str) -> str:
    """Return the settings table of the cloud."""
    return f'[validator.cloud]\nidentity = "{CLOUD}"\nurl = "{url}"\n'


def add_tables(config: Path, text: str) -> None:
    """Add tables to the settings file."""
    config.write_text(f"{config.read_text()}\n{text}")


def test_a_killed_validator_loses_nothing_that_it_acknowledged(city: City, tmp_path: Path, port: int) -> None:
    """After SIGKILL, the outbox contains each acknowledged request unchanged.

    A repeated request is refused as SEEN.
    The cloud later receives all acknowledged requests, with the signatures of the gateway.
    """
    config = write_validator(city, tmp_path)
    add_tables(config, cloud_at(f"http://127.0.0.1:{port}"))
    acknowledged: list[bytes] = []
    for _ in range(3):
        with validator_process(config) as (process, run):
            client = run.client()
            for raw in acknowledged[-2:]:
                assert client.post(raw)["error"]["data"]["fault"] == "SEEN"
            for _ in range(5):
                raw = SENDER.request()
                assert client.post(raw)["result"] == {"readings": 1}
                acknowledged.append(raw)
            process.send_signal(signal.SIGKILL)
            process.wait(60)
    with RequestOutbox(tmp_path / "validator" / CLOUD_NAME, is_owner=False) as outbox:
        assert outbox.waiting() == len(acknowledged)

    with running_receiver(city, tmp_path, CLOUD, STORE, port=port) as cloud, validator_process(config):
        eventually(lambda: len(stored(cloud.kept)) >= len(acknowledged), what="the requests in the cloud")
    assert [raw.encode() for raw in stored(cloud.kept)] == acknowledged
    assert {request.sender for request in cloud.kept} == {VALIDATOR}


def test_a_validator_killed_at_work_has_all_that_it_acknowledged(city: City, tmp_path: Path, port: int) -> None:
    """After SIGKILL during the requests of four clients, the outbox has each acknowledged request.

    The outbox contains no forged request.
    """
    config = write_validator(city, tmp_path)
    add_tables(config, cloud_at(f"http://127.0.0.1:{port}"))
    acknowledged: list[bytes] = []
    forger = ForeignSender("ES256", SENDER.uuid, number=26)

    def send(client: ValidatorClient) -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                raw = SENDER.request()
                if "result" in client.post(raw):
                    acknowledged.append(raw)
                assert client.post(forger.request())["error"]["code"] == -32001

    for count in (20, 60):
        with validator_process(config) as (process, run):
            threads = [threading.Thread(target=send, args=(run.client(),)) for _ in range(4)]
            for thread in threads:
                thread.start()
            eventually(lambda count=count: len(acknowledged) >= count, what="requests")  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join()
            process.wait(60)
    kept: list[str] = []
    with running_receiver(city, tmp_path, CLOUD, STORE, port=port) as cloud, validator_process(config):
        eventually(lambda: set(acknowledged) <= {raw.encode() for raw in stored(cloud.kept)}, what="all requests")
        kept = stored(cloud.kept)
    senders = [read_request(raw.encode()) for raw in kept]
    assert len({request.name for request in senders}) == len(senders)
    key = read_pem(SENDER.pem.decode())
    assert all(request.is_signed_by(key) for request in senders)


def stored(requests: Iterable[SignedRequest]) -> list[str]:
    """Return the gateways' requests inside the requests of a validator."""
    return [text for request in list(requests) for text in request.data["requests"]]


def test_a_broken_cloud_gets_each_request_when_it_works_again(city: City, tmp_path: Path) -> None:
    """While the cloud fails or is out of reach, requests are accepted, and delivered afterwards."""
    with (
        running_receiver(city, tmp_path, CLOUD, STORE) as cloud,
        relayed(urlsplit(cloud.url).port or 0) as relay,
    ):
        config = write_validator(city, tmp_path)
        add_tables(config, cloud_at(f"http://127.0.0.1:{relay.port}"))
        with running_validator(city, config) as run:
            client = run.client()
            sent = []
            for step in ("works", "fails", "is cut", "works"):
                cloud.is_broken = step == "fails"
                if step == "is cut":
                    relay.cut()
                sent.append(SENDER.request())
                assert "result" in client.post(sent[-1])
                if step == "is cut":
                    eventually(lambda: any("does not answer" in line for line in run.lines), what="a failure")
                    relay.restore()
            eventually(lambda: len(stored(cloud.kept)) >= len(sent), what="all requests in the cloud")
    assert [raw.encode() for raw in stored(cloud.kept)] == sent


def test_requests_for_a_former_cloud_are_reported(city: City, tmp_path: Path) -> None:
    """If the settings name a new cloud, the validator reports the requests that wait for the former cloud.

    Requests that wait for the former cloud are kept.
    """
    config = write_validator(city, tmp_path)
    with RequestOutbox(tmp_path / "validator" / CLOUD_NAME) as outbox:
        outbox.put(CLOUD, "store", ["text"], member="requests")
    with running_validator(city, config) as run:
        assert any(f"1 requests wait for the identity {CLOUD}" in line for line in run.lines)
    with RequestOutbox(tmp_path / "validator" / CLOUD_NAME, is_owner=False) as outbox:
        assert outbox.waiting() == 1


def test_a_hot_sensor_switches_an_actuator_behind_another_gateway(city: City, tmp_path: Path) -> None:
    """A rule's command is a request signed by the validator, and the other gateway verifies it.

    The validator sends the command once each time the value rises above the limit.
    """
    with running_receiver(city, tmp_path, ACTOR.uuid, COMMAND) as gateway:
        config = write_validator(city, tmp_path, rules=RULES.format(actor=ACTOR.uuid))
        add_tables(config, f'[validator.gateways]\n{ACTOR.uuid} = "{gateway.url}"\n')
        with running_validator(city, config) as run:
            client, now = run.client(), time.time()
            for seconds, value in ((0, 29), (1, 31), (2, 32), (3, 29), (4, 33)):
                assert "result" in client.post(SENDER.request(data=data(value, at=now + seconds)))
            eventually(lambda: len(gateway.kept) >= 2, what="two commands")
    first, second = gateway.kept
    assert (first.sender, first.receiver, first.method) == (VALIDATOR, ACTOR.uuid, "command")
    assert {name: first.data[name] for name in ("thing", "name", "arguments")} == {
        "thing": "512",
        "name": "fan",
        "arguments": {"on": True},
    }
    assert first.data["id"] != second.data["id"]


def test_a_banned_target_gets_no_command(city: City, tmp_path: Path) -> None:
    """A command to a banned gateway is not sent, and the reason is logged. The readings are accepted."""
    banned = ForeignSender("ES256", number=22)
    enrolment = Enrolment(banned.uuid, IdentityKind.GATEWAY, Keys(read_pem(banned.pem.decode())))
    city.decide("identities", "enrol", enrolment_argument(enrolment))
    city.decide("identities", "ban", banned.uuid.bytes, b"test".ljust(32, b"\0"))
    with running_receiver(city, tmp_path, banned.uuid, COMMAND) as gateway:
        config = write_validator(city, tmp_path, rules=RULES.format(actor=banned.uuid))
        add_tables(config, f'[validator.gateways]\n{banned.uuid} = "{gateway.url}"\n')
        with running_validator(city, config) as run:
            assert "result" in run.client().post(SENDER.request(data=data(31)))
            eventually(lambda: any("is banned" in line for line in run.lines), what="the refusal")
    assert gateway.kept == []


def test_a_ban_counts_at_the_next_block(city: City, tmp_path: Path) -> None:
    """A gateway is refused from the block of its ban on, and accepted again after the ban is lifted."""
    sender = ForeignSender("ES256", number=23)
    enrolment = Enrolment(sender.uuid, IdentityKind.GATEWAY, Keys(read_pem(sender.pem.decode())))
    city.decide("identities", "enrol", enrolment_argument(enrolment))
    with running_validator(city, write_validator(city, tmp_path)) as run:
        client = run.client()
        assert "result" in client.post(sender.request())
        city.decide("identities", "ban", sender.uuid.bytes, b"test".ljust(32, b"\0"))
        eventually(lambda: client.post(sender.request()).get("error", {}).get("code") == -32002, what="the ban")
        assert client.post(sender.request())["error"]["code"] == -32002
        city.decide("identities", "unban", sender.uuid.bytes)
        eventually(lambda: "result" in client.post(sender.request()), what="the end of the ban")


@pytest.mark.parametrize(
    ("identity", "why"),
    [(SENDER.uuid, "it is enrolled as gateway, and this service needs a validator"), (UUID(int=9), "not enrolled")],
)
def test_a_validator_reports_what_is_wrong_with_its_own_record(
    city: City, tmp_path: Path, identity: UUID, why: str
) -> None:
    """A validator reports if its identity is not enrolled, or is not a validator.

    Receivers would refuse the requests of this identity.
    """
    config = write_validator(city, tmp_path)
    config.write_text(config.read_text().replace(f'identity = "{VALIDATOR}"', f'identity = "{identity}"'))
    with running_validator(city, config) as run:
        assert any('"part": "identity"' in line and why in line for line in run.lines)


def test_a_validator_that_is_ready_has_read_the_registry(
    city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request after the start is accepted, even if the node is slow."""

    def slow_head(chain: Chain, number: int | None = None) -> BlockHead:
        threading.Event().wait(0.5)  # stands for the way to the node
        return head(chain, number)

    head = Chain.head
    monkeypatch.setattr(Chain, "head", slow_head)
    monkeypatch.setattr(receiving_service, "TIMEOUT", DEADLINE)
    with running_validator(city, write_validator(city, tmp_path)) as run:
        assert "result" in run.client().post(SENDER.request())


def test_a_flood_of_forged_requests_does_not_fill_the_log(city: City, tmp_path: Path) -> None:
    """A flood of 300 forged requests causes at most 60 log entries, and a valid request is still accepted."""
    with running_validator(city, write_validator(city, tmp_path)) as run:
        client = run.client()
        forger = ForeignSender("ES256", number=24)
        for number in range(300):
            name = UUID(int=number, version=4)
            assert client.post(ForeignSender("ES256", name, forger.number).request())["error"]["code"] == -32004
        assert "result" in client.post(SENDER.request())
        log = TileLog(tmp_path / "validator" / "log")
        eventually(lambda: len(log), what="an entry")
        assert len(log) <= 60


def test_a_validator_that_stops_waits_for_no_client(city: City, tmp_path: Path) -> None:
    """SIGTERM ends the process, even while a client stays connected.

    Before SIGTERM, the health and metrics pages show the right counts. After SIGTERM, the log is valid.
    """
    config = write_validator(city, tmp_path)
    listen = free_port()
    config.write_text(config.read_text().replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{listen}"'))
    with validator_process(config) as (process, run):
        client = run.client()
        assert "result" in client.post(SENDER.request())
        assert client.post(ForeignSender("ES256", number=25).request())["error"]["code"] == -32004
        log = TileLog(tmp_path / "validator" / "log")
        eventually(lambda: log.published.head().size, what="a checkpoint")
        health, metrics = page(listen, "/health"), page(listen, "/metrics").decode()
        fields = json.loads(health)
        assert (fields["accepted"], fields["refused"], fields["readings"]) == (1, {"UNKNOWN_IDENTITY": 1}, 1)
        assert "blockota_validator_accepted_requests_total 1.0\n" in metrics
        assert page(listen, "/checkpoint").startswith(b"test/validator/")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    assert check_log(log.published)


def page(port: int, path: str) -> bytes:
    """Return the body of a page of the validator."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


def test_readings_are_answered_from_memory(city: City, tmp_path: Path) -> None:
    """A query returns the newest readings of a device first, each with the gateway that sent the reading."""
    with running_validator(city, write_validator(city, tmp_path)) as run:
        client: ValidatorClient = run.client()
        for value in (1, 2, 3):
            client.post(SENDER.request(data=data(value, at=time.time() - 10 + value)))
        client.post(SENDER.request(data=data(7, name="humidity")))
        status, found = client.get("/readings/256/temperature?limit=2")
        assert (status, [one["value"] for one in found["readings"]]) == (200, [3, 2])
        assert found["readings"][0]["gateway"] == str(SENDER.uuid)
        assert len(client.get("/readings/256")[1]["readings"]) == 4
        series = client.get("/readings")[1]["series"]
        assert series == [{"thing": "256", "name": name} for name in ("humidity", "temperature")]
        assert client.get("/readings/unknown")[1] == {"readings": []}
