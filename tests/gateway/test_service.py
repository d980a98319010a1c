"""The gateway survives failures of its chain, loses nothing, and stops quickly."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.connection import Connection
from blockota.errors import RefusedError, UsageError
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.monitoring import ask_plans
from blockota.gateway.opening import GatewaySetup, run_gateway
from blockota.gateway.settings import GatewaySettings
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.ledger.log_anchor import LogAnchor
from blockota.ledger.recording import LogParts
from blockota.line_log import LineLog
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from blockota.settings_table import SettingsTable
from blockota.shutdown import Stop
from tests.support.city import GATEWAY, City, settings_of
from tests.support.gateway_runs import FakeFace, running_gateway
from tests.support.lwm2m_face import free_ports
from tests.support.receipts import SigningDevice
from tests.support.relay import Relay, relayed
from tests.support.samples import code
from tests.support.scraping import scrape
from tests.support.waiting import eventually


@dataclass
class Site:
    """A gateway whose chain is behind a relay that can be cut.

    Attributes:
        city: the city.
        relay: the relay.
        folder: the folder of the gateway.
        lines: the log lines that the gateway wrote.
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
        log, account = TileLog(self.folder / "log"), dev_account(GATEWAY.account or 0)

        def open_anchor() -> LogAnchor:
            contracts = connection.open(UpdateLedgerContract), connection.open(IdentitiesContract)
            return LogAnchor(log.published, account, *contracts, folder=self.folder)

        parts = LogParts(log, NoteSigner(key, GATEWAY.log_key.sign), (), open_anchor, settings.anchor_seconds)
        return GatewaySetup(settings, parts, connection, {"local": connection})

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of the gateway's state pages."""
        host, _, port = self.urls[-1].removeprefix("http://").partition(":")
        return host, int(port)

    def get(self, path: str) -> bytes:
        """Return the gateway's response at a path."""
        with urllib.request.urlopen(f"{self.urls[-1]}{path}") as answer:  # noqa: S310 - of this machine
            return bytes(answer.read())

    def health(self) -> dict[str, Any]:
        """Return the gateway's state as JSON fields."""
        found: dict[str, Any] = json.loads(self.get("/health"))
        return found

    def metric(self, name: str) -> float:
        """Return a metric of the gateway, or 0 if it is missing."""
        return scrape(self.urls[-1]).get(f"blockota_gateway_{name}", 0)

    def entries(self) -> list[LogEntry]:
        """Return the entries of the log."""
        return [LogEntry.decode(raw) for raw in TileLog(self.folder / "log").entries()]

    def anchored(self) -> int:
        """Return the size of the log that is anchored on the chain."""
        record = self.city.ledger.log(GATEWAY.uuid)
        return record.size if record else 0


@pytest.fixture
def site(city: City, tmp_path: Path) -> Iterator[Site]:
    """Return a gateway that does not run yet."""
    with relayed(int(city.chain.url.rpartition(":")[2])) as relay:
        yield Site(city, relay, tmp_path / "gateway")


def test_a_gateway_serves_and_anchors_through_outages(city: City, site: Site) -> None:
    """After a start without a chain, an outage or a restart, the gateway still delivers, logs and anchors."""
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
        assert site.metric("components offered") == 1

        # (2) The chain is away again: the device is served, and its receipt is logged, but not anchored.
        site.relay.cut()
        face.report(number, device, image)
        eventually(site.entries, what="an entry")
        assert eventually(lambda: site.health()["status"] == "degraded")
        eventually(lambda: site.metric("troubles") > 0, what="the metric of the trouble")
        eventually(lambda: site.metric("appended_entries_total install") == 1, what="the metric of the entry")
        eventually(lambda: site.metric("unanchored_age_seconds") > 0, what="the age of the entry")

    # (3) After a restart it knows the device although the chain is still away. When the chain is back, the log is
    # anchored with the installation, and nothing is logged twice.
    with site.running() as face:
        eventually(lambda: face.knows(number), what="the device")
        site.relay.restore()
        eventually(lambda: site.anchored() == 1, what="an anchor")
        eventually(lambda: site.metric("anchored_entries") == 1, what="the anchored entry")
        eventually(lambda: site.metric("unanchored_age_seconds") == 0, what="the end of the wait")
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
    """A running gateway's state file is locked against a second process."""
    with site.running(), pytest.raises(RefusedError, match="another process runs a gateway"):
        run_gateway(site.setup, LineLog(lambda _: None), Stop(), on_ready=lambda _: None)


def with_faces(site: Site, faces: Mapping[str, Mapping[str, object]]) -> GatewaySetup:
    """Return the gateway with the given faces."""
    site.folder.mkdir(exist_ok=True)
    tables = {name: SettingsTable(f"gateway.{name}", dict(table), site.folder) for name, table in faces.items()}
    return replace(site.setup, settings=replace(site.setup.settings, faces=tables))


def taken(kind: socket.SocketKind, port: int) -> socket.socket:
    """Bind a socket to a port, and return the socket."""
    found = socket.socket(type=kind)
    found.bind(("127.0.0.1", port))
    if kind is socket.SOCK_STREAM:
        found.listen()
    return found


def is_free(kind: socket.SocketKind, port: int) -> bool:
    """Return whether a port is free."""
    try:
        taken(kind, port).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "offset"),
    [
        pytest.param(socket.SOCK_STREAM, 0, id="ddi"),
        pytest.param(socket.SOCK_DGRAM, 0, id="lwm2m images"),
        pytest.param(socket.SOCK_DGRAM, 1, id="lwm2m devices"),
        pytest.param(socket.SOCK_STREAM, 1, id="state"),
    ],
)
def test_a_gateway_that_cannot_listen_ends_before_it_is_ready(site: Site, kind: socket.SocketKind, offset: int) -> None:
    """If an address is in use, the error names the address.

    A gateway that cannot listen is not reported as running, and closes its other addresses.
    """
    port = free_ports()
    ready: list[str] = []
    setup = with_faces(site, {name: {"listen": f"127.0.0.1:{port}"} for name in ("ddi", "lwm2m")})
    setup = replace(setup, settings=replace(setup.settings, listen=("127.0.0.1", port + 1)))
    with taken(kind, port + offset), pytest.raises(UsageError) as caught:
        run_gateway(setup, LineLog(site.lines.append), Stop(), on_ready=ready.append)
    assert f"cannot listen on 127.0.0.1 port {port + offset}" in str(caught.value)
    assert "Address already in use" in str(caught.value)
    assert "choose another address" in str(caught.value)
    assert not ready
    # A connection of another test may use a number for a moment.
    for one in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for number in (port, port + 1):
            eventually(partial(is_free, one, number), what=f"port {number}")


def test_faces_that_listen_nowhere_do_not_delay_the_start(site: Site) -> None:
    """A serial port without a board, and a broker out of reach, do not prevent the gateway's start."""
    files = site.folder / "mqtt"
    files.mkdir(parents=True)
    for name in ("gateway", "0"):
        (files / f"{name}.secret").write_text("secret\n")
    faces: dict[str, dict[str, object]] = {
        "smp": {"devices": {"256": str(site.folder / "none")}},
        "an3155": {"devices": {"257": str(site.folder / "none")}},
        "mqtt": {"images": "https://gateway.example/images/", "broker": "127.0.0.1:1"},
    }
    stop = Stop()
    ready: list[str] = []

    def end(url: str) -> None:
        ready.append(url)
        stop.ask()

    run_gateway(with_faces(site, faces), LineLog(site.lines.append), stop, on_ready=end)
    assert len(ready) == 1


def test_a_broker_without_its_files_is_reported_at_the_start(site: Site) -> None:
    """If the gateway's broker passwords are missing, the gateway does not start."""
    setup = with_faces(site, {"mqtt": {"images": "https://gateway.example/images/"}})
    ready: list[str] = []
    with pytest.raises(UsageError, match="the password of gateway at the message broker cannot be read"):
        run_gateway(setup, LineLog(site.lines.append), Stop(), on_ready=ready.append)
    assert not ready
