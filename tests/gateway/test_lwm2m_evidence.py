"""The evidence of an LwM2M device with object 26241, with a real core and real sockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiocoap import POST
from aiocoap.numbers.codes import CHANGED, CREATED, TOO_MANY_REQUESTS

from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.faces.lwm2m import server
from blockota.messaging.topics import ThingEvent
from blockota.model.delivery import Stage
from blockota.model.evidence import judge
from blockota.model.receipt import RUNS, EntryKind, EvidenceLevel, LogEntry
from tests.support.gateway import GatewayCore, appending, gateway_core, known_device, release_facts, site_facts
from tests.support.lwm2m_device import LINKS, Lwm2mDevice
from tests.support.lwm2m_face import serving
from tests.support.receipts import SigningDevice

OLD, NEW = b"image of acme-thermo2 1.0.0", b"image of acme-thermo2 1.1.0"
Story = Callable[[GatewayCore, Lwm2mDevice, SigningDevice], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], list[LogEntry]]:
    """Return a function that runs a test coroutine with a device that has a key, and returns the log entries."""
    monkeypatch.setattr(server, "find_spec", lambda _: None)

    def run(story: Story) -> list[LogEntry]:
        async def main() -> list[LogEntry]:
            signer = SigningDevice()
            devices = [known_device(256, key=PublicKey(KeyKind.P256, signer.key)), known_device(257)]
            facts = site_facts(devices, release_facts(tmp_path, "1.0.0"), release_facts(tmp_path, "1.1.0"))
            async with (
                gateway_core(tmp_path, facts) as gateway,
                serving(gateway.core, tmp_path) as (face, port),
                Lwm2mDevice.started(port + 1) as device,
            ):
                gateway.core.add_face(face)
                device.image = OLD
                device.sign = lambda image, nonce: signer.state(image, nonce=nonce)[1]
                await story(gateway, device, signer)
                return gateway.entries()

        return asyncio.run(main())

    return run


Play = Callable[[Story], list[LogEntry]]


def sha256(image: bytes) -> bytes:
    """Return the SHA-256 of an image."""
    return hashlib.sha256(image).digest()


def proven(entries: list[LogEntry]) -> list[LogEntry]:
    """Return the entries about running images."""
    return [entry for entry in entries if entry.kind.names_running_image]


async def update(gateway: GatewayCore, device: Lwm2mDevice) -> None:
    """Let the device install the new release, up to its restart."""
    await device.register()
    await device.executed.wait()
    await gateway.until(lambda: gateway.core.state(256).stage is Stage.TRIAL)


async def settled(gateway: GatewayCore) -> None:
    """Let the face work until the device is known to run the new release, and both reports are logged."""
    await gateway.until(lambda: gateway.core.state(256).stage is Stage.SETTLED)
    await gateway.until(lambda: len(proven(gateway.entries())) == 2)
    assert gateway.core.state(256).running == sha256(NEW)


async def warned(gateway: GatewayCore, words: str) -> None:
    """Let the face work until a warning about the device contains the given words."""
    await gateway.until(lambda: any(number == 256 and words in text for number, text in gateway.warnings()))


def test_a_device_that_signs_proves_its_installation(play: Play) -> None:
    """A device with object 26241 gets receipts of level A, signed over the gateway's nonces.

    Each nonce is used once.
    """
    key = b""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, signer: SigningDevice) -> None:
        nonlocal key
        key = signer.key
        await update(gateway, device)
        await device.reboot()
        await settled(gateway)

    entries = play(story)
    assert [(one.kind, one.level, one.image) for one in entries] == [
        (EntryKind.INSTALL, EvidenceLevel.A, sha256(image)) for image in (OLD, NEW)
    ]
    assert [judge(one, key).is_signed for one in entries] == [True, True]
    assert entries[0].counter is not None
    assert entries[1].counter is not None
    assert entries[0].counter < entries[1].counter


def test_a_device_that_ends_its_update_without_a_word_is_not_rolled_back(play: Play) -> None:
    """The face reads the version together with the update state.

    An update that ends before the device registers again is logged as an installation.
    """

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: SigningDevice) -> None:
        await update(gateway, device)
        device.end_update()
        await settled(gateway)

    assert [entry.kind for entry in proven(play(story))] == [EntryKind.INSTALL, EntryKind.INSTALL]


def test_a_signed_event_is_logged_with_its_signature(play: Play) -> None:
    """A signed event over the socket has level A, an unsigned event level B, and a forged event is refused."""
    key = b""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, signer: SigningDevice) -> None:
        nonlocal key
        key = signer.key
        await device.register()
        async with appending(gateway):
            smoke = ThingEvent(1, "smoke", 1, body="in the hall")
            forged = replace(smoke, seq=2, signature=signer.event(smoke).signature)
            for event, code in (
                (signer.event(smoke), CHANGED),
                (forged, TOO_MANY_REQUESTS),
                (replace(smoke, seq=3), CHANGED),
            ):
                assert (await device.request(POST, "events", event.encode())).code is code
            await warned(gateway, "the signature of the event does not belong to the device's key on record")
        signed, unsigned = [entry for entry in gateway.appended() if entry.kind is EntryKind.EVENT]
        assert judge(signed, key).is_signed
        assert (signed.source, unsigned.level) == ("smoke: in the hall (severity 1)", EvidenceLevel.B)

    play(story)


def test_a_replayed_report_is_refused(play: Play) -> None:
    """A replayed statement is refused if it names another image or another nonce."""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, signer: SigningDevice) -> None:
        made: list[bytes] = []

        def sign(image: bytes, nonce: bytes) -> bytes:
            made.append(signer.state(image, nonce=nonce)[1])
            return made[0]

        device.sign = sign
        await update(gateway, device)
        await device.reboot()
        await warned(gateway, "the statement is replayed: it is about another image than the device reports")
        assert gateway.core.state(256).running == sha256(OLD)

        device.sign = lambda image, _: signer.state(image, nonce=bytes(16))[1]
        await device.update()
        await warned(gateway, "the statement contains another nonce than the gateway's")
        device.sign = lambda image, nonce: SigningDevice(secret=99).state(image, nonce=nonce)[1]
        await device.update()
        await warned(gateway, "the signature of the statement does not belong to the device's key on record")
        device.sign = lambda image, nonce: signer.sign(image + nonce, RUNS)
        await device.update()
        await warned(gateway, "the device's statement cannot be read")
        assert gateway.core.state(256).running == sha256(OLD)
        assert (await device.register(257, links=LINKS)).code is CREATED

    assert [entry.kind for entry in play(story)].count(EntryKind.INSTALL) == 1


def test_a_device_with_a_key_that_does_not_sign_makes_a_claim(play: Play) -> None:
    """A report without a statement is not a receipt, even if the device has a key."""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: SigningDevice) -> None:
        device.sign = None
        await update(gateway, device)
        await device.reboot()
        await settled(gateway)

    found = [(entry.kind, entry.level) for entry in play(story)]
    assert found == [(EntryKind.CLAIMED, EvidenceLevel.B)] * 2


def test_a_restart_during_a_reading_makes_no_warning(play: Play) -> None:
    """If the device restarts between the reads of its version and its hash, the face repeats both reads."""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, signer: SigningDevice) -> None:
        def sign(_: bytes, nonce: bytes) -> bytes:
            device.end_update()  # it restarts after its version was read, and before its hash is
            assert device.image
            return signer.state(sha256(device.image), nonce=nonce)[1]

        await device.register()
        await device.executed.wait()
        device.sign = sign
        await device.update()
        await settled(gateway)

    assert EntryKind.WARNING not in {entry.kind for entry in play(story)}


def test_a_device_that_lies_about_its_version_is_refused(play: Play) -> None:
    """A reported version that does not match the image is refused with a warning, and no running image is logged."""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: SigningDevice) -> None:
        device.version = "1.1.0"
        await device.register()
        await warned(gateway, "the device states the version 1.1.0, and reports the image of 1.0.0")
        assert gateway.core.state(256).running is None

    assert [entry.kind for entry in play(story)] == [EntryKind.WARNING]


def test_a_success_without_the_image_is_not_believed(play: Play) -> None:
    """A device that reports the update result "success" but still runs the old image counts as rolled back."""

    async def story(gateway: GatewayCore, device: Lwm2mDevice, _: SigningDevice) -> None:
        await update(gateway, device)
        device.state, device.result = 0, 1
        await device.register()
        await gateway.until(lambda: gateway.core.state(256).stage is Stage.STOPPED)
        await gateway.has_entries(2)

    entries = play(story)
    assert [entry.kind for entry in entries] == [EntryKind.INSTALL, EntryKind.EVENT]
    assert entries[1].source == "the device rolled back"


def test_two_gateways_that_serve_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second gateway refuses a statement that was made for the first gateway.

    The second gateway then makes the device download the image again.
    """
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    signer = SigningDevice()
    folders = [tmp_path / name for name in ("first", "second")]

    async def main() -> None:
        for folder in folders:
            folder.mkdir()
        known = known_device(256, key=PublicKey(KeyKind.P256, signer.key))
        facts = [site_facts([known], *(release_facts(one, v) for v in ("1.0.0", "1.1.0"))) for one in folders]
        async with (
            gateway_core(folders[0], facts[0]) as first,
            gateway_core(folders[1], facts[1]) as second,
            serving(first.core, folders[0]) as (_, port),
            serving(second.core, folders[1]) as (_, other_port),
            Lwm2mDevice.started(port + 1) as device,
        ):
            device.image, made = OLD, list[bytes]()

            def sign(image: bytes, nonce: bytes) -> bytes:
                made.append(signer.state(image, nonce=nonce)[1])
                return made[-1]

            device.sign = sign
            device.stalls = True
            await device.register()
            await first.until(lambda: proven(first.entries()))
            await first.until(lambda: first.core.state(256).stage is Stage.TRANSFER)

            device.server = f"coap://127.0.0.1:{other_port + 1}"
            device.sign = lambda *_: made[0]
            await device.register()
            await warned(second, "the statement contains another nonce than the gateway's")
            assert proven(second.entries()) == []
            device.sign, device.stalls = sign, False
            await device.update()  # the download that the first gateway began is dropped, and begun anew
            await device.executed.wait()
            await second.until(lambda: len(proven(second.entries())) == 1)
            assert device.uri.startswith(f"coap://127.0.0.1:{other_port}/")
            assert first.core.state(256).stage is Stage.TRANSFER

    async def limited() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(limited())
