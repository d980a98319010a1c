"""`gateway run` with mosquitto, a validator and a sensor with AWS's MQTT client, while the gateway is killed."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blockota.chain.local import free_port
from blockota.gateway.access import OUTBOX_NAME
from blockota.identity.sending import Parcel, RequestLine, open_signer
from scripts.peers import PACKAGES, find_program
from tests.stories.conftest import Workshop
from tests.stories.test_devices import done
from tests.stories.test_gateway import found_site
from tests.stories.test_gateway_process import GatewayProcess
from tests.stories.test_orders import GATEWAY, GATEWAY_KEY, deployed
from tests.support.city import City
from tests.support.validators import VALIDATOR, ValidatorRun, running_validator, write_validator
from tests.support.waiting import eventually

BURST, BURSTS = 40, 6
FILES = Path("gateway/mqtt")


@contextmanager
def broker(port: int) -> Iterator[None]:
    """Run mosquitto with the files that `gateway init` wrote."""
    settings = FILES / "mosquitto.conf"
    settings.write_text(settings.read_text().replace("8883", str(port)))

    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    with subprocess.Popen([find_program("mosquitto"), "-c", str(settings)], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(listens, what="mosquitto")
            yield
        finally:
            process.kill()


def write_settings(workshop: Workshop, broker_port: int, command_port: int, validator: ValidatorRun) -> None:
    """Set up the gateway with a broker and a validator."""
    path = workshop.folder / "blockota.toml"
    text = path.read_text().replace("localhost:8883", f"localhost:{broker_port}")
    text = text.replace('listen = "127.0.0.1:8091"\n', "")
    path.write_text(f"""{text}
[gateway.access]
listen = "127.0.0.1:{command_port}"
authority = "{validator.folder}/validator/authority.pem"
max_age = "30d"

[gateway.access.validators]
"{VALIDATOR}" = "{validator.url}"

[gateway.access.commands]
thermo2 = ["fan"]
""")


@pytest.fixture
def gateway(workshop: Workshop) -> Workshop:
    """Return a workshop with a gateway and the files of its broker."""
    workshop.after(found_site)
    init = ("gateway", "init", "--identity", str(GATEWAY.uuid), "--identity-key", "gateway.pem", "--mqtt", "localhost")
    done(workshop, *init, "--log-key", "gateway.log.pem", *GATEWAY_KEY, "--domain", "berlin.example")
    return workshop


def test_no_confirmed_reading_is_lost(gateway: Workshop, tmp_path: Path) -> None:
    """The gateway is killed while it writes a burst.

    All readings of the burst still reach the validator, and a command is answered.
    """
    city = City(gateway.chain, deployed(gateway), gateway.cast)
    ports = free_port(), free_port()
    folder = tmp_path / "validator"
    folder.mkdir()
    config = write_validator(city, folder)
    with ExitStack() as stack:
        validator = stack.enter_context(running_validator(city, config))
        write_settings(gateway, *ports, validator)
        stack.enter_context(broker(ports[0]))
        process = GatewayProcess(gateway.folder, stack)
        process.start()
        password = done(gateway, "gateway", "device", "256", "--token", "mqtt")["secret"]
        eventually(lambda: done(gateway, "gateway", "devices")["devices"], what="the device")

        sensor = stack.enter_context(started_sensor(ports[0], password))
        assert sensor.stdout
        assert sensor.stdin
        outbox = gateway.folder / "gateway" / OUTBOX_NAME
        for burst in range(BURSTS):
            before = written(outbox)
            sensor.stdin.write("\n")
            sensor.stdin.flush()
            # The first reading of the burst is on the disk, and the gateway has received others of them.
            while written(outbox) == before:
                assert sensor.poll() is None
            process.kill()
            assert sensor.stdout.readline() == f"confirmed {burst}\n"

        client = validator.client()
        found = eventually(
            lambda: values(client.get("/readings/256/temperature")[1]) == set(range(BURST * BURSTS)),
            what="all readings",
        )
        assert found
        send_command(folder / "key.pem", ports[1])
        assert sensor.stdout.readline() == 'command fan {"speed": 3}\n'
        assert eventually(lambda: client.get("/readings/256/command:c-1")[1].get("readings"), what="the outcome")
        client.close()
        assert sensor.wait(60) == 0
        eventually(lambda: done(gateway, "gateway", "status")["submissions"]["waiting"] == 0, what="an empty outbox")


def written(outbox: Path) -> int:
    """Return the number of readings written to the outbox's file since its creation."""
    with closing(sqlite3.connect(outbox, isolation_level=None)) as database:
        row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'item'").fetchone()
        return int(row[0]) if row else 0


def values(page: dict[str, list[dict[str, float]]]) -> set[float]:
    """Return the values of the readings on a page. A reading may come twice."""
    return {one["value"] for one in page.get("readings", [])}


@contextmanager
def started_sensor(port: int, password: str) -> Iterator[subprocess.Popen[str]]:
    """Run the sensor of `aws_sensor.py`."""
    arguments = ["localhost", str(port), "256", password, str(FILES / "authority.pem"), str(BURSTS)]
    program = [str(PACKAGES / "python"), str(Path(__file__).with_name("aws_sensor.py")), *arguments]
    environment = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def send_command(key: Path, port: int) -> None:
    """Send a command to the device twice with the same id, as the validator does.

    Each command is repeated until the gateway has read its devices from the chain.
    """
    signer = open_signer(VALIDATOR, f"file:{key}", environment={})
    line = RequestLine(f"http://127.0.0.1:{port}")
    data = {"thing": 256, "id": "c-1", "name": "fan", "arguments": {"speed": 3}, "deadline": int(time.time()) + 60}

    def answered() -> Mapping[str, Any]:
        raw = signer.request(Parcel("command", data), receiver=UUID(str(GATEWAY.uuid)), now=int(time.time()))
        return line.send(raw).result or {}

    for _ in range(2):
        assert eventually(answered, what="the state of the command")["id"] == "c-1"
    line.close()
