"""A validator receives requests through mosquitto, with the same checks as over HTTPS."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blockota.bindings.identities import enrolment_argument
from blockota.chain.local import free_port
from blockota.formats.public_key import read_pem
from blockota.messaging.accounts import BrokerAccount
from blockota.messaging.client import connected
from blockota.messaging.request_topics import answer_topic, request_topic
from blockota.model.identity import Enrolment, IdentityKind, Keys
from tests.gateway.conftest import city
from tests.support.city import City
from tests.support.foreign_requests import ForeignSender
from tests.support.validators import VALIDATOR, ValidatorRun, running_validator, write_validator
from tests.support.waiting import DEADLINE, eventually

__all__ = ["city"]
SENDER, BANNED = ForeignSender("ES256", number=50), ForeignSender("RS256", number=51)


@contextmanager
def open_broker(folder: Path, port: int) -> Iterator[None]:
    """Run mosquitto without accounts, on loopback."""
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_requests_are_judged_and_answered_over_mqtt(city: City, tmp_path: Path, *, is_restarted: bool) -> None:
    """Each sender receives its answer at its own topic, even after the broker was killed and started again."""
    for sender in (SENDER, BANNED):
        if city.identities.identity(sender.uuid) is None:
            enrolment = Enrolment(sender.uuid, IdentityKind.GATEWAY, Keys(read_pem(sender.pem.decode())))
            city.decide("identities", "enrol", enrolment_argument(enrolment))
    if not city.identities.known_identity(BANNED.uuid).banned:
        city.decide("identities", "ban", BANNED.uuid.bytes, b"test".ljust(32, b"\0"))
    port = free_port()
    config = write_validator(city, tmp_path)
    config.write_text(f'{config.read_text()}\n[validator.mqtt]\nbroker = "127.0.0.1:{port}"\n')
    with running_validator(city, config) as run:
        if is_restarted:
            with open_broker(tmp_path, port):
                await_connection(run, 1)
            eventually(lambda: any("out of reach" in line for line in run.lines), what="the loss of the broker")
        with open_broker(tmp_path, port):
            await_connection(run, 2 if is_restarted else 1)
            raw = SENDER.request()
            assert asyncio.run(asked(port, SENDER, raw))["result"] == {"readings": 1}
            assert asyncio.run(asked(port, SENDER, raw))["error"]["code"] == -32003
            error = asyncio.run(asked(port, BANNED, BANNED.request()))["error"]
            assert error["code"] == -32002
            warning = run.await_warning(error["data"]["warning"])
            assert (warning.address, warning.node, warning.is_proven) == ("mqtt", BANNED.uuid, True)
            client = run.client()
            assert client.get("/readings/256")[1]["readings"][0]["gateway"] == str(SENDER.uuid)


def await_connection(run: ValidatorRun, count: int) -> None:
    """Wait until the validator has connected to the broker this number of times."""
    eventually(lambda: sum('"connected"' in line for line in run.lines) >= count, what="the broker's connection")


async def asked(port: int, sender: ForeignSender, raw: bytes) -> dict[str, Any]:
    """Publish a request, and return the answer."""
    async with asyncio.timeout(DEADLINE), connected(BrokerAccount("127.0.0.1", port)) as connection:
        await connection.subscribe(answer_topic(VALIDATOR, sender.uuid))
        await connection.publish(request_topic(VALIDATOR), raw)
        async for message in connection.messages():
            fields: dict[str, Any] = json.loads(message.payload)
            return fields
    raise AssertionError("the connection ended")
