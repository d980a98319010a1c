"""The validator verifies the gateway's readings, and the gateway verifies the validator's commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blockota.bindings.identities import enrolment_argument
from blockota.chain.local import free_port
from blockota.errors import UsageError
from blockota.formats.public_key import read_pem
from blockota.gateway.access import OUTBOX_NAME
from blockota.gateway.access_settings import AccessSettings
from blockota.identity.request_outbox import RequestOutbox
from blockota.model.command import CommandAnswer, CommandState
from blockota.model.identity import Enrolment, IdentityKind, Keys
from blockota.model.receipt import LogEntry
from blockota.model.warning import RequestWarning
from blockota.settings_table import SettingsTable
from tests.support.city import City
from tests.support.foreign_requests import ForeignSender, claims, envelope
from tests.support.gateway_access import AccessRun, running_access
from tests.support.validators import (
    SENDER,
    VALIDATOR,
    ValidatorClient,
    running_validator,
    write_validator,
)
from tests.support.waiting import eventually

COMMANDER, BANNED = ForeignSender("ES256", number=1), ForeignSender("ES256", number=2)
OTHERS: dict[IdentityKind, ForeignSender] = {
    kind: ForeignSender("ES256", number=3 + number)
    for number, kind in enumerate(kind for kind in IdentityKind if kind is not IdentityKind.VALIDATOR)
}
RULES = """
commands = ["fan"]

[[rule]]
name = "cool"
thing = 256
reading = "temperature"
comparison = ">"
limit = 30
target = "{gateway}"
device = 257
command = "fan"
arguments = {{ speed = 3 }}
"""


@pytest.fixture(scope="module")
def run(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessRun]:
    """Run a gateway without a validator, and enrol senders of each kind."""
    for sender in (COMMANDER, BANNED):
        enrol(city, sender, IdentityKind.VALIDATOR)
    for kind, sender in OTHERS.items():
        enrol(city, sender, kind)
    city.decide("identities", "ban", BANNED.uuid.bytes, b"test".ljust(32, b"\0"))
    with running_access(city, tmp_path_factory.mktemp("gateway"), {}) as found:
        yield found


def enrol(city: City, sender: ForeignSender, kind: IdentityKind) -> None:
    """Enrol a sender."""
    enrolment = Enrolment(sender.uuid, kind, Keys(read_pem(sender.pem.decode())), None)
    city.decide("identities", "enrol", enrolment_argument(enrolment))


def command(sender: ForeignSender, number: int, *, claimed: dict[str, Any] | None = None, **changed: Any) -> bytes:
    """Return a signed `command` request, with changed members of its data."""
    fields = {"thing": 256, "id": f"c-{number}", "name": "fan", "arguments": {}, "deadline": int(time.time()) + 60}
    document = claims(aud=str(SENDER), method="command", data=fields | changed) | (claimed or {})
    return envelope(sender.token(json.dumps(document).encode()), "command")


def asked(run: AccessRun, raw: bytes) -> dict[str, Any]:
    """Send a request, and return the response."""
    client = ValidatorClient(run.url, Path())
    try:
        return client.post(raw)
    finally:
        client.close()


def reading(value: float, *, name: str = "temperature") -> bytes:
    """Return an MQTT payload of a device with a sensor reading."""
    return json.dumps({"time": time.time(), "name": name, "value": value, "unit": "Cel"}).encode()


def test_a_hot_sensor_switches_a_fan(city: City, tmp_path: Path) -> None:
    """A validator's rule reacts to a reading, and commands another device.

    The outcome of the command returns to the validator.
    """
    gateway = tmp_path / "gateway"
    gateway.mkdir()
    port = free_port()
    more = f'[validator.gateways]\n"{SENDER}" = "http://127.0.0.1:{port}"\n'
    folder = tmp_path / "validator"
    folder.mkdir()
    config = write_validator(city, folder, rules=RULES.format(gateway=SENDER))
    config.write_text(f"{config.read_text()}\n{more}")
    with (
        running_validator(city, config) as validator,
        running_access(
            city, gateway, {VALIDATOR: validator.url}, authority=folder / "validator" / "authority.pem", port=port
        ) as run,
    ):
        run.call(run.access.readings.receive(256, reading(21)))
        run.call(run.access.readings.receive(256, reading(31)))
        [sent] = eventually(run.commands.waiting, what="the command of the rule") or []
        assert (sent.thing, sent.name, sent.arguments) == (257, "fan", {"speed": 3})
        assert run.commands.claim(sent)
        run.commands.answered(257, CommandAnswer(sent.id, CommandState.DONE))

        client = validator.client()
        path = f"/readings/257/command:{sent.id}"
        found = eventually(lambda: client.get(path)[1].get("readings"), what="the outcome")
        assert found
        assert found[0]["value"] == "done"
        assert {one["value"] for one in client.get("/readings/256/temperature")[1]["readings"]} == {21, 31}
        client.close()
        eventually(lambda: run.access.status().waiting == 0, what="an empty outbox")


def test_a_validator_commands_once(run: AccessRun) -> None:
    """A command is answered with its state, even if a new request repeats the command.

    A replayed request is refused.
    """
    deadline = int(time.time()) + 60
    first = command(COMMANDER, 1, deadline=deadline)
    assert asked(run, first)["result"] == {"id": "c-1", "state": "waiting"}
    assert asked(run, first)["error"]["code"] == -32003
    assert asked(run, command(COMMANDER, 1, deadline=deadline))["result"]["state"] == "waiting"
    [waiting] = [one for one in run.commands.waiting() if one.id == "c-1"]
    assert run.commands.claim(waiting)
    assert asked(run, command(COMMANDER, 1, deadline=deadline))["result"] == {"id": "c-1", "state": "sent"}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_identities_may_not_command(run: AccessRun, kind: IdentityKind) -> None:
    """A command signed by an identity that is not a validator is not sent.

    The identity's signature proves the logged warning.
    """
    answer = asked(run, command(OTHERS[kind], 20))
    assert answer["error"]["code"] == -32005
    assert not [one for one in run.commands.waiting() if one.id == "c-20"]
    assert warning(run, answer["error"]["data"]["warning"]).is_proven


def warning(run: AccessRun, identifier: str) -> RequestWarning:
    """Return the logged warning with an id."""
    assert run.access.warnings
    entries = [LogEntry.decode(raw) for _, raw in run.access.warnings.outbox()]
    found = (RequestWarning.parse(one.source or "") for one in entries)
    return next(one for one in found if one and one.id == identifier)


@pytest.mark.parametrize(
    ("sender", "changed", "code"),
    [
        (BANNED, {}, -32002),
        (ForeignSender("ES256", number=90), {}, -32004),
        (ForeignSender("ES256", COMMANDER.uuid, 91), {}, -32001),
        (COMMANDER, {"claimed": {"aud": str(VALIDATOR)}}, -32003),
        (COMMANDER, {"claimed": {"iat": int(time.time()) - 3600}}, -32003),
        (COMMANDER, {"claimed": {"method": "submit"}}, -32602),
        (COMMANDER, {"thing": 999}, -32000),
        (COMMANDER, {"name": "erase"}, -32000),
        (COMMANDER, {"deadline": 1_000_000_000}, -32000),
        (COMMANDER, {"deadline": 1 << 39}, -32000),
        (COMMANDER, {"more": 1}, -32000),
    ],
)
def test_bad_commands_are_refused(run: AccessRun, sender: ForeignSender, changed: dict[str, Any], code: int) -> None:
    """Each bad command is refused with its code and a warning, and is not stored."""
    before = run.commands.count_open()
    answer = asked(run, command(sender, 30, **changed))
    assert answer["error"]["code"] == code
    found = warning(run, answer["error"]["data"]["warning"])
    assert found.is_proven == (code in {-32000, -32002})
    assert run.commands.count_open() == before


def test_readings_for_a_former_validator_are_reported(city: City, tmp_path: Path) -> None:
    """If the settings lack a validator, the readings that wait for this validator are kept and reported."""
    with RequestOutbox(tmp_path / OUTBOX_NAME) as outbox:
        outbox.put(UUID(int=99, version=4), "submit", [{}], member="readings")
    with running_access(city, tmp_path, {}) as run:
        assert any("1 readings wait for a validator" in line for line in run.lines)


def test_settings() -> None:
    """Each wrong setting is named."""

    def read(**values: Any) -> AccessSettings:
        return AccessSettings.read(SettingsTable("gateway.access", values, Path("/etc")))

    found = read(
        validators={str(VALIDATOR): "https://10.64.0.1:8470"},
        authority="city.pem",
        listen="10.64.0.20:8471",
        commands={"thermo2": ["fan"]},
        max_age="90s",
    )
    assert found == AccessSettings(
        {VALIDATOR: "https://10.64.0.1:8470"},
        Path("/etc/city.pem"),
        ("10.64.0.20", 8471),
        {"thermo2": ("fan",)},
        90,
    )
    for values, why in (
        ({"validators": {"x": "https://a"}}, "is not a UUID"),
        ({"validators": {str(VALIDATOR): ""}}, "empty"),
        ({"commands": {"thermo2": ["fan"]}}, "without listen"),
        ({"listen": "127.0.0.1:1", "commands": {"thermo2": "fan"}}, "list of texts"),
        ({"validator": {}}, "known settings"),
    ):
        with pytest.raises(UsageError) as caught:
            read(**values)
        assert why in caught.value.why
