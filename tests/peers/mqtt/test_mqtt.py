"""The MQTT face with mosquitto, and with AWS's SDK as the device."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import MessagingError, RefusedError
from blockota.formats import cbor
from blockota.gateway.faces.mqtt_documents import DOCUMENT_KIND
from blockota.identity.identity_key import open_identity_key
from blockota.messaging.topics import ThingEvent, notify_next, site_events
from blockota.model.delivery import Stage
from blockota.model.receipt import EntryKind, LogEntry
from scripts.peers import PACKAGES
from tests.peers.mqtt.site import IDENTITY_KEY, Mosquitto, face, mosquitto
from tests.support.gateway import (
    COMPONENT,
    GatewayCore,
    gateway_core,
    known_device,
    release_facts,
    site_facts,
)
from tests.support.receipts import GATEWAY
from tests.support.tokens import verify_token

CONFIGURATION = replace(COMPONENT, product="acme-thermo2-cfg")
TOPIC = site_events(GATEWAY)
DAY = 86_400


@pytest.fixture(autouse=True)
def _identity_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IDENTITY_KEY.removeprefix("env:"), f"{7:064x}")


def facts(folder: Path, *versions: str, configurations: tuple[str, ...] = ()) -> Any:
    """Return the facts of a site with two devices."""
    releases = [release_facts(folder, version) for version in versions]
    releases += [release_facts(folder, version, component=CONFIGURATION) for version in configurations]
    return site_facts([known_device(256), known_device(257)], *releases)


def kinds(log: list[bytes], device: int = 256) -> list[EntryKind]:
    """Return the kinds of the entries about a device."""
    return [entry.kind for entry in map(LogEntry.decode, log) if entry.device == device]


async def run_aws_thing(broker: Mosquitto, number: int) -> dict[str, Any]:
    """Run the device of `aws_thing.py`."""
    arguments = ["localhost", broker.port, number, broker.passwords[str(number)], broker.files.authority]
    process = await asyncio.create_subprocess_exec(
        str(PACKAGES / "python"),
        str(Path(__file__).with_name("aws_thing.py")),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    out, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_sdk_of_aws_takes_a_job_and_a_configuration(tmp_path: Path) -> None:
    """AWS's unchanged SDK executes a job, reports success, and receives and confirms a configuration."""

    async def main() -> None:
        log: list[bytes] = []
        async with (
            mosquitto(tmp_path / "broker", 256) as broker,
            gateway_core(tmp_path, facts(tmp_path, "1.1.0", configurations=("3.0.0",))) as gateway,
            face(gateway, broker, tmp_path, log),
        ):
            job = str(gateway.core.offers(256)[0].job)
            found = await run_aws_thing(broker, 256)
            assert (found["told"], found["job"], found["inProgress"]) == (job, job, [job])
            assert (found["status"], found["refusal"], found["version"]) == ("IN_PROGRESS", "ResourceNotFound", 1)
            key = open_identity_key(IDENTITY_KEY, environment=os.environ)
            for document in (found["document"], found["configuration"]):
                claims = verify_token(document.pop("jws"), kind=DOCUMENT_KIND, key=key.public_key)
                assert {name: claims[name] for name in document} == document
            assert found["configuration"]["content"] == "image of acme-thermo2-cfg 3.0.0"
            assert gateway.core.state(256).stage is Stage.SETTLED
            assert gateway.core.offers(256) == []
            await gateway.until(lambda: EntryKind.CONFIGURATION in kinds(log))
        assert set(kinds(log)) == {EntryKind.CLAIMED, EntryKind.CONFIGURATION}

    asyncio.run(main())


def test_the_broker_keeps_devices_apart(tmp_path: Path) -> None:
    """A device cannot sign in, receive notices or report results as another device."""

    async def main() -> None:
        log: list[bytes] = []
        async with (
            mosquitto(tmp_path / "broker", 256, 257) as broker,
            gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway,
            face(gateway, broker, tmp_path, log),
            broker.thing(256) as device,
        ):
            for topic in ("#", "$aws/things/#", notify_next(257), "$aws/things/+/jobs/#", TOPIC):
                await device.connection.subscribe(topic)
            job = gateway.core.offers(257)[0].job
            await device.connection.publish(f"$aws/things/257/jobs/{job}/update", b'{"status": "FAILED"}')
            topics = []

            def seen(message: Any) -> bool:
                topics.append(message.topic)
                return bool(message.topic.endswith("jobs/get/accepted"))

            await device.connection.publish("$aws/things/256/jobs/get", b"")
            await device.next(seen)
            assert not [topic for topic in topics if not topic.startswith("$aws/things/256/")]
            assert gateway.core.state(257).stage is Stage.OFFERED
            for name, password in ((257, "wrong"), ("", "")):
                broker.passwords["257"] = password
                with pytest.raises(MessagingError, match="refuses the connection"):
                    async with broker.connect(name):
                        pass

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["pattern read $aws/things/#", "pattern write $aws/things/#", "anonymous"])
def test_a_broker_with_a_hole_is_not_used(tmp_path: Path, fault: str) -> None:
    """The face refuses a broker that does not restrict the topics of devices, or does not require a password."""

    async def main() -> None:
        broker = Mosquitto(tmp_path / "broker", [256])
        if fault == "anonymous":
            settings = (broker.files.folder / "mosquitto.conf").read_text().replace("anonymous false", "anonymous true")
            broker.files.write("mosquitto.conf", settings.replace("clientid true", "clientid false"))
        else:
            broker.files.write("rules", (broker.files.folder / "rules").read_text() + fault + "\n")
        await broker.start()
        try:
            async with gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway:
                with pytest.raises(RefusedError, match="does not isolate the devices"):
                    async with face(gateway, broker, tmp_path, []):
                        pass
        finally:
            broker.kill()

    asyncio.run(main())


def test_a_killed_broker_and_gateway_and_an_absent_device(tmp_path: Path) -> None:
    """The broker is killed, the gateway restarts, and a device returns after a day.

    After that, the device still finds its job.
    """

    async def main() -> None:
        log: list[bytes] = []
        async with mosquitto(tmp_path / "broker", 256) as broker:
            async with (
                gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway,
                face(gateway, broker, tmp_path, log) as lines,
            ):
                broker.kill()  # before it wrote anything to its disk
                await broker.start()
                await lines.has("connected", 2)
                async with broker.thing(256) as device:
                    await device.next(lambda one: one.topic == notify_next(256) and b"jobDocument" in one.payload)
            async with (
                gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway,
                face(gateway, broker, tmp_path, log),
            ):
                await gateway.clock.advance(gateway.core, DAY)
                async with broker.thing(256) as device:
                    await finish(device, gateway)
        assert EntryKind.CLAIMED in kinds(log)

    async def finish(device: Any, gateway: GatewayCore) -> None:
        notice = await device.next(lambda one: one.topic == notify_next(256))
        assert notice.is_retained
        execution = (await device.ask("jobs/start-next"))["execution"]
        details = {"sha256": execution["jobDocument"]["sha256"]}
        end = f"jobs/{execution['jobId']}/update"
        assert (await device.ask(end, status="SUCCEEDED", statusDetails=details))["topic"] == "accepted"
        assert gateway.core.state(256).stage is Stage.SETTLED
        await asyncio.sleep(0.1)

    asyncio.run(main())


def test_a_management_system_that_was_away_misses_no_entry(tmp_path: Path) -> None:
    """A management system is offline for an hour, and the gateway restarts in this time.

    The management system then receives all entries in order.
    """

    async def main() -> None:
        log: list[bytes] = []
        async with mosquitto(tmp_path / "broker", 256) as broker:
            async with broker.connect("cms", is_persistent=True) as away:
                assert await away.subscribe(TOPIC)
            for part in (0, 1):
                async with (
                    gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway,
                    face(gateway, broker, tmp_path, log),
                    broker.thing(256) as device,
                ):
                    for seq in range(5 * part, 5 * part + 5):
                        event = ThingEvent(seq, "alarm", 2, body=f"number {seq}")
                        await device.connection.publish("blockota/v1/things/256/events", event.encode())
                        answer = await device.next(lambda one: one.topic.endswith("events/ack"))
                        assert cbor.decode(answer.payload)[0] == seq
                    await gateway.clock.advance(gateway.core, 1800)
                    await device.ask("jobs/get")
            found: dict[int, bytes] = {}
            async with (
                gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway,
                face(gateway, broker, tmp_path, log),
                broker.connect("cms", is_persistent=True) as back,
            ):
                async with asyncio.timeout(60):
                    async for message in back.messages():
                        index, entry = cbor.decode(message.payload)
                        assert index <= len(found)
                        found[index] = entry
                        if len(found) >= len(log):
                            break
            assert list(found.values()) == log[: len(found)]
            assert kinds(log).count(EntryKind.EVENT) >= 10

    asyncio.run(main())


def test_a_huge_message_ends_the_connection_of_its_sender_alone(tmp_path: Path) -> None:
    """The broker closes the connection of a device that sends 1 MiB. Other devices are still served."""

    async def main() -> None:
        async with (
            mosquitto(tmp_path / "broker", 256, 257) as broker,
            gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway,
            face(gateway, broker, tmp_path, []),
            broker.thing(257) as other,
        ):
            with pytest.raises(MessagingError):
                async with broker.thing(256) as device:
                    await device.ask_raw("jobs/get", bytes(1 << 20))
            assert (await other.ask("jobs/get"))["topic"] == "accepted"

    asyncio.run(main())


def test_a_banned_device_loses_its_session(tmp_path: Path) -> None:
    """The gateway removes the password of a banned device, and the broker ends its session."""

    async def main() -> None:
        async with (
            mosquitto(tmp_path / "broker", 256) as broker,
            gateway_core(tmp_path, facts(tmp_path, "1.1.0")) as gateway,
            face(gateway, broker, tmp_path, []),
        ):
            known = facts(tmp_path, "1.1.0")
            banned = {**known.devices, 256: known_device(256, is_banned=True)}

            async def be_banned() -> None:
                async with broker.thing(256) as device:
                    await device.ask("jobs/get")
                    await gateway.core.update(replace(known, devices=banned), {})
                    await device.next(lambda _: False)

            with pytest.raises(MessagingError):
                await be_banned()
            with pytest.raises(MessagingError, match="refuses"):
                async with broker.connect(256):
                    pass

    asyncio.run(main())
