"""The LwM2M face serves Leshan's client library and libcoap's clients, over plain CoAP and over DTLS."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from blockota.gateway.faces.lwm2m import server
from blockota.gateway.faces.lwm2m.server import Lwm2mFace
from blockota.model.delivery import Stage
from tests.support import gateway
from tests.support.lwm2m_face import DeliveringCore, serving
from tests.support.thing_desks import NOW, ThingDesks

HERE = Path(__file__).parent
JARS = HERE.parent.parent.parent / ".build" / "leshan"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.3.0:copy-dependencies"
IMAGE = bytes(range(256)) * 256
KEY = b"sixteen byte key"
SECONDS = 60
Story = Callable[[DeliveringCore, Lwm2mFace, int], Awaitable[None]]


@pytest.fixture(scope="session")
def jars() -> str:
    """Return the class path of Leshan's client, whose files have the recorded digests."""
    lines = (HERE / "jars.sha256").read_text().splitlines()
    wanted = {name: digest for digest, name in map(str.split, lines)}
    if {path.name for path in JARS.glob("*.jar")} != set(wanted):
        subprocess.run(["mvn", "-q", "-B", COPY, f"-DoutputDirectory={JARS}"], cwd=HERE, check=True, timeout=300)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in JARS.glob("*.jar")}
    assert found == wanted
    return os.pathsep.join(str(JARS / name) for name in wanted)


def play(folder: Path, story: Story) -> None:
    """Run a test function with the face, and with a core for device 256."""

    async def main() -> None:
        (folder / "images").mkdir()
        core = DeliveringCore(folder / "images", IMAGE)
        core.plan()
        async with serving(core, folder) as (face, port):
            await story(core, face, port)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["pull", "push"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "dtls"])
def test_leshan_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jars: str, way: str, is_secure: bool) -> None:  # noqa: FBT001
    """A device on top of Leshan's client installs 64 KiB, and reports the new version after its restart."""
    monkeypatch.setattr(gateway, "SHARED_KEY", KEY)
    if not is_secure:
        monkeypatch.setattr(server, "find_spec", lambda _: None)

    async def story(core: DeliveringCore, _: Lwm2mFace, port: int) -> None:
        scheme, credentials = ("coaps", ["256", KEY.hex()]) if is_secure else ("coap", [])
        command = ["java", "-cp", jars, str(HERE / "Device.java"), f"{scheme}://127.0.0.1:{port + 1}", way]
        device = await asyncio.create_subprocess_exec(
            *command, *credentials, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            await core.until(lambda: core.delivery.running == core.new.image, seconds=SECONDS)
            assert device.stdout
            printed = await device.stdout.readline()
        finally:
            device.kill()
            await device.wait()
        assert printed.split() == [b"installed", hashlib.sha256(IMAGE).hexdigest().encode()]
        assert (core.delivery.stage, core.delivery.tries, core.warnings()) == (Stage.SETTLED, 0, [])
        assert core.entries == ["CLAIMED", "CLAIMED"]

    play(tmp_path, story)


@pytest.mark.parametrize("size", [1024, 256, 64])
@pytest.mark.parametrize("program", ["coap-client-notls", "coap-client-gnutls", "coap-client-openssl"])
def test_libcoap_fetches_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, size: int) -> None:
    """The clients of libcoap fetch an image in blocks of each size, plain and over DTLS."""
    monkeypatch.setattr(gateway, "SHARED_KEY", KEY)
    is_secure = program != "coap-client-notls"

    async def story(core: DeliveringCore, _: Lwm2mFace, port: int) -> None:
        path = f"127.0.0.1:{port + 1 if is_secure else port}/fw/{core.new.image.hex()}"
        credentials = ["-u", "256", "-k", KEY.decode()] if is_secure else []
        await run(program, *credentials, "-b", str(size), "-o", str(tmp_path / "fetched"), uri(path, is_secure))
        assert (tmp_path / "fetched").read_bytes() == IMAGE

    play(tmp_path, story)


@pytest.mark.parametrize("program", ["coap-client-gnutls", "coap-client-openssl"])
def test_libcoap_posts_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A libcoap client with a device's key posts readings over DTLS; accepted readings are in the outbox's file."""
    monkeypatch.setattr(gateway, "SHARED_KEY", KEY)
    (tmp_path / "images").mkdir()
    desks = ThingDesks(tmp_path)
    reading = json.dumps({"time": NOW, "name": "temperature", "value": 21.5, "unit": "Cel"})

    async def main() -> None:
        core = DeliveringCore(tmp_path / "images", IMAGE)
        async with serving(core, tmp_path, desks) as (_, port):
            target = uri(f"127.0.0.1:{port + 1}/readings", is_secure=True)
            for text in (reading, reading.replace("21.5", "NaN"), reading.replace("21.5", "22")):
                credentials = ["-u", "256", "-k", KEY.decode()]
                await run(program, "-B", "20", *credentials, "-m", "post", "-t", "50", "-e", text, target)
        assert [number for number, _ in core.warnings()] == [256]

    asyncio.run(main())
    assert desks.written() == [("temperature", 21.5), ("temperature", 22)]
    desks.close()


@pytest.mark.parametrize(
    ("identity", "key", "warning"),
    [
        ("257", KEY, (257, "the device claims to be device 256")),
        ("999", KEY, (None, "DTLS refused: device 999 is banned, unknown or has no key")),
        ("+", KEY, (None, "DTLS refused: the endpoint name '+' is not the number of a device")),
        ("256", b"another key", None),
    ],
)
def test_strangers_register_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str, key: bytes, warning: tuple[int | None, str] | None
) -> None:
    """A client without the key of the device that it claims to be cannot register."""
    monkeypatch.setattr(gateway, "SHARED_KEY", KEY)

    async def story(core: DeliveringCore, _: Lwm2mFace, port: int) -> None:
        target = uri(f"127.0.0.1:{port + 1}/rd?ep=256&lt=60&lwm2m=1.0", is_secure=True)
        await run("coap-client-openssl", "-B", "2", "-u", identity, "-k", key.decode(), "-m", "post", target)
        assert core.warnings()[:1] == ([warning] if warning else [])
        assert core.delivery.running is None

    play(tmp_path, story)


def uri(path: str, is_secure: bool) -> str:  # noqa: FBT001 - it chooses the scheme
    """Return a URI of CoAP."""
    return f"coap{'s' if is_secure else ''}://{path}"


async def run(*command: str) -> None:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    async with asyncio.timeout(SECONDS):
        assert await process.wait() == 0
