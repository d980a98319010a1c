"""`gateway run` with mosquitto: a device uses its issued password, and a hardware token signs the device's job."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockota.chain.local import free_port
from blockota.errors import MessagingError
from blockota.gateway.faces.mqtt_documents import DOCUMENT_KIND
from blockota.ledger.log import TileLog
from blockota.messaging.accounts import BrokerAccount
from blockota.messaging.client import connected
from blockota.model.receipt import LogEntry
from scripts.peers import find_program
from tests.peers.softhsm.test_softhsm import MODULE, OFFICER, PIN, softhsm
from tests.stories.conftest import Workshop
from tests.stories.test_devices import done
from tests.stories.test_gateway import OLD, found_site
from tests.stories.test_gateway_process import GatewayProcess
from tests.stories.test_orders import GATEWAY, GATEWAY_KEY
from tests.support.mqtt import FakeThing
from tests.support.tokens import verify_token
from tests.support.waiting import eventually

FILES = Path("gateway/mqtt")
KEY_URI = f"pkcs11:token=site;object=identity?module-path={MODULE}&pin-source=env:SITE_PIN"


@dataclass
class SiteBroker:
    """The broker of a site, as a device reaches it.

    Attributes:
        port: its port on this machine.
    """

    port: int

    @asynccontextmanager
    async def thing(self, number: int, password: str) -> AsyncIterator[FakeThing]:
        """Connect a device that waits for its jobs."""
        account = BrokerAccount("localhost", self.port, str(number), password, FILES / "authority.pem")
        async with connected(account) as connection:
            await connection.subscribe(f"$aws/things/{number}/jobs/#")
            yield FakeThing(connection, number)

    def refuses(self, number: int, password: str) -> bool:
        """Whether the broker refuses a device."""

        async def connect() -> None:
            async with self.thing(number, password):
                pass

        try:
            asyncio.run(connect())
        except MessagingError as error:
            return "refuses the connection" in str(error)
        return False


@pytest.fixture
def site(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Return a workshop with a site whose identity key is in SoftHSM, and with the files of its broker."""
    workshop.after(found_site)
    tokens = workshop.folder / "tokens"
    tokens.mkdir()
    (workshop.folder / "softhsm").write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(workshop.folder / "softhsm"))
    monkeypatch.setenv("SITE_PIN", PIN)
    softhsm("--init-token", "--free", "--label", "site", "--pin", PIN, "--so-pin", OFFICER)
    softhsm("--import", "gateway.pem", "--token", "site", "--label", "identity", "--id", "a1", "--pin", PIN)
    init = ("gateway", "init", "--identity", str(GATEWAY.uuid), "--identity-key", "gateway.pem", "--mqtt", "localhost")
    done(workshop, *init, "--log-key", "gateway.log.pem", *GATEWAY_KEY, "--domain", "berlin.example")
    Path("gateway.pem").unlink()  # the private key is in the token only
    return workshop


@contextmanager
def broker() -> Iterator[SiteBroker]:
    """Run mosquitto with the files that `gateway init` wrote, on a free port."""
    port = free_port()
    settings, own = FILES / "mosquitto.conf", Path("blockota.toml")
    settings.write_text(settings.read_text().replace("8883", str(port)))
    text = own.read_text().replace("localhost:8883", f"localhost:{port}").replace('listen = "127.0.0.1:8091"\n', "")
    lines = [f'identity_key = "{KEY_URI}"' if one.startswith("identity_key") else one for one in text.splitlines()]
    own.write_text("\n".join(lines) + "\n")

    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    with subprocess.Popen([find_program("mosquitto"), "-c", str(settings)], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(listens, what="mosquitto")
            yield SiteBroker(port)
        finally:
            process.kill()


async def take_job(site: SiteBroker, password: str, image: bytes) -> None:
    """Get the job of device 256, verify its signature, and report the image."""
    async with site.thing(256, password) as device:
        execution: dict[str, dict[str, str]] = {}
        async with asyncio.timeout(120):
            while not execution:
                execution = (await device.ask("jobs/start-next")).get("execution") or {}
        document = dict(execution["jobDocument"])
        key = GATEWAY.key.public_key().public_numbers()
        claims = verify_token(document.pop("jws"), kind=DOCUMENT_KIND, key=key.x.to_bytes(32) + key.y.to_bytes(32))
        assert {name: claims[name] for name in document} == document
        digest = hashlib.sha256(image).hexdigest()
        assert (document["version"], document["sha256"]) == ("1.0.0", digest)
        told = {"status": "SUCCEEDED", "statusDetails": {"sha256": digest}}
        assert (await device.ask(f"jobs/{execution['jobId']}/update", **told))["topic"] == "accepted"


def test_a_device_signs_in_with_the_password_that_was_issued(site: Workshop) -> None:
    """The newest password of a device works immediately.

    Older, wrong and revoked passwords are refused.
    """
    with broker() as reached, ExitStack() as stack:
        gateway = GatewayProcess(site.folder, stack)
        gateway.start()
        first, second = (done(site, "gateway", "device", "256", "--token", "mqtt")["secret"] for _ in range(2))
        eventually(lambda: reached.refuses(256, first), what="the refusal of the older password")
        eventually(lambda: done(site, "gateway", "devices")["devices"], what="the device, as the gateway knows it")
        asyncio.run(take_job(reached, second, OLD.read_bytes()))
        log = TileLog(site.folder / "gateway" / "log")
        eventually(lambda: len(log), what="an entry")
        entry = next(LogEntry.decode(raw) for raw in log.entries())
        assert (entry.device, str(entry.release)) == (256, "acme-thermo2 1.0.0")

        assert reached.refuses(256, "wrong")
        assert reached.refuses(257, second)
        assert not reached.refuses(256, second)
        done(site, "gateway", "device", "256", "--revoke")
        eventually(lambda: reached.refuses(256, second), what="the refusal of the revoked password")
