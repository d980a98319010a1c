"""The gateway runs through failures of its chain, loses nothing, and ends at once."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from blockota.connection import Connection
from blockota.errors import RefusedError
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.lines import LineLog
from blockota.gateway.monitoring import ask_plans
from blockota.gateway.opening import GatewaySetup, run_gateway
from blockota.gateway.settings import GatewaySettings
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.ledger.log_settings import LogSettings
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from blockota.shutdown import Stop
from tests.support.city import GATEWAY, City, settings_of
from tests.support.gateway_runs import FakeFace, running_gateway
from tests.support.receipts import SigningDevice
from tests.support.relay import Relay, relayed
from tests.support.samples import code
from tests.support.waiting import eventually


@dataclass
class Site:
    """A gateway whose chain is behind a relay.

    Attributes:
        city: the city.
        relay: the relay.
        folder: the folder of the gateway.
        lines: the lines that it wrote.
    """

    city: City
    relay: Relay
    folder: Path
    lines: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def running(self) -> AbstractContextManager[FakeFace]:
        """Run the gateway."""
        return running_gateway(self.setup, self.lines, on_ready=self.urls.append)

    @property
    def setup(self) -> GatewaySetup:
        """The gateway's settings and keys."""
        name = f"city.example/gateway/{GATEWAY.uuid.hex}"
        key = VerifierKey(name, NoteAlgorithm.ED25519, GATEWAY.log_key.public_key().public_bytes_raw())
        settings = GatewaySettings(GATEWAY.uuid, self.folder, listen=("127.0.0.1", 0), anchor_seconds=1)
        connection = Connection(settings_of(self.city, self.folder, url=f"http://127.0.0.1:{self.relay.port}"))
        return GatewaySetup(
            settings,
            LogSettings(self.folder / "log", name, None, ()),
            NoteSigner(key, GATEWAY.log_key.sign),
            connection,
            {"local": connection},
            dev_account(GATEWAY.account or 0),
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the gateway's state."""
        host, _, port = self.urls[-1].removeprefix("http://").partition(":")
        return host, int(port)

    def get(self, path: str) -> bytes:
        """Return what the gateway serves at a path."""
        with urllib.request.urlopen(f"{self.urls[-1]}{path}") as answer:  # noqa: S310 - of this machine
            return bytes(answer.read())

    def health(self) -> dict[str, Any]:
        """Return the gateway's description of its state."""
        found: dict[str, Any] = json.loads(self.get("/health"))
        return found

    def entries(self) -> list[LogEntry]:
        """Return the entries of the log."""
        return [LogEntry.decode(raw) for raw in TileLog(self.folder / "log").entries()]

    def anchored(self) -> int:
        """Return the anchored size on the chain."""
        record = self.city.ledger.log(GATEWAY.uuid)
        return record.size if record else 0


@pytest.fixture
def site(city: City, tmp_path: Path) -> Iterator[Site]:
    """Return a gateway that does not run yet."""
    with relayed(int(city.chain.url.rpartition(":")[2])) as relay:
        yield Site(city, relay, tmp_path / "gateway")


def test_a_gateway_serves_and_anchors_through_outages(city: City, site: Site) -> None:
    """Started without a chain, cut off and restarted, the gateway delivers, logs and anchors as soon as it can."""
    device = SigningDevice()
    number = city.register("SN-7", PublicKey(KeyKind.P256, device.key))
    image = code(900)
    store = site.setup.site.store
    city.publish("1.0.0", image, store)

    # (1) It starts while the chain is out of reach, and offers the release once the chain is there.
    site.relay.cut()
    with site.running() as face:
        assert site.health()["status"] == "starting"
        site.relay.restore()
        offer = face.await_offer(number, "1.0.0")
        assert offer.path.read_bytes() == image

        plan = ask_plans(site.address)[number]
        assert (plan.name, plan.group, plan.why) == (
            "acme/thermo2/SN-7",
            "default",
            "the newest release that may be installed",
        )
        assert 'blockota_gateway_components{stage="offered"} 1' in site.get("/metrics").decode()

        # (2) The chain is away again: the device is served, and its receipt is logged, but not anchored.
        site.relay.cut()
        face.report(number, device, image)
        eventually(site.entries, what="an entry")
        assert eventually(lambda: site.health()["status"] == "degraded")

    # (3) After a restart it knows the device although the chain is still away. When the chain is back, the log is
    # anchored with the installation, and nothing is logged twice.
    with site.running() as face:
        eventually(lambda: face.knows(number), what="the device")
        site.relay.restore()
        eventually(lambda: site.anchored() == 1, what="an anchor")
        face.report(number, device, image)
    [entry] = site.entries()
    assert (entry.kind, entry.device, str(entry.release), entry.level) == (
        EntryKind.INSTALL,
        number,
        "acme-thermo2 1.0.0",
        EvidenceLevel.A,
    )
    assert entry.gateway == GATEWAY.uuid
    assert city.ledger.installed(city.release_id("1.0.0"), [number]) == {number: True}


def test_a_second_process_with_one_state_is_refused(site: Site) -> None:
    """The state of a gateway is locked while it runs."""
    with site.running(), pytest.raises(RefusedError, match="another gateway runs"):
        run_gateway(site.setup, LineLog(lambda _: None), Stop(), on_ready=lambda _: None)
