"""The MQTT face with mosquitto refuses bad input with a warning, and continues to serve other devices."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from blockota.errors import MessagingError
from blockota.formats.jws import base64url
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.messaging.topics import ThingEvent
from blockota.model.receipt import EntryKind, LogEntry
from tests.peers.mqtt.site import IDENTITY_KEY, Mosquitto, face, mosquitto
from tests.support.gateway import GatewayCore, gateway_core, known_device, release_facts, site_facts
from tests.support.mqtt import FakeThing
from tests.support.receipts import SigningDevice

SIGNER = SigningDevice()
Story = Callable[[Mosquitto, GatewayCore, FakeThing], Awaitable[None]]


@pytest.fixture(autouse=True)
def _identity_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IDENTITY_KEY.removeprefix("env:"), f"{7:064x}")


def play(folder: Path, story: Story) -> list[LogEntry]:
    """Run a test function with device 256, which has a key, and device 257. Returns the entries about device 256."""

    async def main() -> list[LogEntry]:
        log: list[bytes] = []
        devices = [known_device(256, key=PublicKey(KeyKind.P256, SIGNER.key)), known_device(257)]
        releases = release_facts(folder, "1.0.0"), release_facts(folder, "1.1.0")
        async with (
            mosquitto(folder / "broker", 256, 257) as broker,
            gateway_core(folder, site_facts(devices, *releases)) as gateway,
            face(gateway, broker, folder, log),
            broker.thing(257) as other,
        ):
            await story(broker, gateway, other)
            assert (await other.ask("jobs/get"))["topic"] == "accepted"
            await gateway.until(lambda: gateway.state.waiting() == 0)
        return [entry for entry in map(LogEntry.decode, log) if entry.device == 256]

    return asyncio.run(main())


def warnings(entries: list[LogEntry]) -> str:
    """Return the texts of the warnings."""
    return "\n".join(entry.source or "" for entry in entries if entry.kind is EntryKind.WARNING)


def text(value: str) -> bytes:
    """Encode a string as in MQTT 3.1.1, section 1.5.3."""
    return len(value.encode()).to_bytes(2) + value.encode()


async def is_closed_after(broker: Mosquitto, topic: str) -> bool:
    """Publish to a topic as device 256 with raw packets, which no client library would send.

    Return whether the broker then closes the connection.
    """
    context = ssl.create_default_context(cafile=str(broker.files.authority))
    reader, writer = await asyncio.open_connection("localhost", broker.port, ssl=context)
    try:
        connect = text("MQTT") + b"\x04\xc2\x00\x3c" + text("256") + text("256") + text(broker.passwords["256"])
        writer.write(b"\x10" + bytes((len(connect),)) + connect)
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        publish = text(topic) + b"{}"
        writer.write(b"\x30" + bytes((len(publish),)) + publish + b"\xc0\x00")  # and a ping
        return (await reader.read(2)) == b""
    except (ConnectionError, ssl.SSLError):
        return True
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


def test_topics_and_names_with_wildcards_are_refused(tmp_path: Path) -> None:
    """The broker closes a connection that publishes to a wildcard topic, and refuses user names with a wildcard."""

    async def story(broker: Mosquitto, _: GatewayCore, __: FakeThing) -> None:
        assert not await is_closed_after(broker, "$aws/things/256/jobs/get")
        for topic in ("$aws/things/+/jobs/get", "$aws/things/256/#", "blockota/v1/things/+/events"):
            assert await is_closed_after(broker, topic)
        for name in ("+", "#", "256/#"):
            broker.passwords[name] = broker.passwords["256"]
            with pytest.raises(MessagingError, match="refuses the connection"):
                async with broker.connect(name):
                    pass

    play(tmp_path, story)


def test_nonsense_and_a_flood_have_warnings(tmp_path: Path) -> None:
    """Repeated keys, truncated events and too many messages are refused, and the other device is still served."""

    async def story(broker: Mosquitto, _: GatewayCore, other: FakeThing) -> None:
        async with broker.thing(256) as device:
            twice = b'{"clientToken": "a", "clientToken": "b"}'
            assert (await device.ask_raw("jobs/get", twice))["topic"] == "rejected"
            half = ThingEvent(1, "smoke", 1).encode()[:-3]
            await device.connection.publish("blockota/v1/things/256/events", half)
            for _count in range(80):
                await device.connection.publish("$aws/things/256/jobs/get", b"")
            assert (await other.ask("jobs/get"))["topic"] == "accepted"

    found = warnings(play(tmp_path, story))
    for words in ("repeated", "an event is refused", "more than 60 messages in 10 seconds"):
        assert words in found


def test_a_replayed_report_is_refused(tmp_path: Path) -> None:
    """A signed statement counts once, and only if its nonce and its image match the report."""
    old, new = (release_facts(tmp_path, version).release.sha256 for version in ("1.0.0", "1.1.0"))

    async def story(broker: Mosquitto, gateway: GatewayCore, _: FakeThing) -> None:
        async with broker.thing(256) as device:

            async def report(image: bytes, statement: bytes) -> str:
                running = {"acme-thermo2": {"sha256": image.hex(), "receipt": base64url(statement)}}
                answer = await device.ask("shadow/update", state={"reported": {"firmware": running}})
                return str(answer["topic"])

            first = SIGNER.state(old, nonce=gateway.core.nonce(256))[1]
            assert await report(old, first) == "accepted"
            assert await report(old, first) == "accepted"  # repeated, because the answer was lost
            assert await report(new, first) == "rejected"
            assert await report(new, SIGNER.state(new, nonce=bytes(16))[1]) == "rejected"
            assert await report(new, SIGNER.state(old, nonce=gateway.core.nonce(256))[1]) == "rejected"

    entries = play(tmp_path, story)
    for words in ("is replayed: it is about another image", "another nonce", "signed another image"):
        assert words in warnings(entries)
    assert [entry.kind for entry in entries].count(EntryKind.INSTALL) == 1
