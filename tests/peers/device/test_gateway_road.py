"""A release of the vendor's Safe reaches a board in QEMU through the SMP face, and its receipt is anchored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from blockota.bindings.block_ota import pair_call
from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.ledger.log import TileLog
from blockota.model.boot_event import BootEvent, BootEventKind
from blockota.model.receipt import EntryKind, LogEntry
from blockota.model.release import Product, Region
from scripts.build_device import IMAGES, ImageSignature
from tests.stories.conftest import Workshop
from tests.stories.test_devices import done
from tests.stories.test_gateway import REGISTRANT_KEY, found_site, site
from tests.stories.test_gateway_process import GatewayProcess
from tests.stories.test_orders import GATEWAY, GATEWAY_KEY, deployed
from tests.stories.test_release_desk import decide, ok
from tests.support.qemu import QemuBoard
from tests.support.qemu_images import NEW, OLD, SLOT_0, SLOT_1, SLOT_SIZE, agent, digest_of, flash_with
from tests.support.waiting import eventually

__all__ = ["found_site", "site"]
SENSOR = Product("acme-sensor", "acme", 0, Region(SLOT_0, SLOT_SIZE), minimum_version=None, paired=True)
DEVICE = 257


@pytest.fixture
def sensors(site: Workshop) -> Workshop:
    """Return a site with a sensor, whose image 1.0.0 the vendor has published."""
    site.decide(pair_call(SENSOR))
    key = load_pem_private_key((IMAGES / "test-only-key.pem").read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    Path("sensor.pem").write_bytes(pem)
    with Path("blockota.toml").open("a") as settings:
        settings.write(f'\n[image_keys]\n{SENSOR.name} = "sensor.pem"\n')
    done(site, "device", "spec", "add", "sensor1", *REGISTRANT_KEY)
    done(site, "device", "spec", "allow", "sensor1", "--product", SENSOR.name, *REGISTRANT_KEY)
    register = ("device", "register", "acme/sensor1/SN-2", "--site", str(GATEWAY.uuid), *REGISTRANT_KEY)
    assert done(site, *register)["number"] == DEVICE
    publish(site, "1.0.0", OLD)
    return site


def publish(workshop: Workshop, version: str, image: bytes, *options: str) -> None:
    """Publish an image with the vendor's commands: propose, sign twice, execute."""
    Path(f"sensor-{version}.bin").write_bytes(image)
    words = ("--product", SENSOR.name, "--version", version, "--container", "mcuboot", "-o", f"sensor-{version}.json")
    ok(workshop.run("release", "publish", f"sensor-{version}.bin", *words, *options))
    ok(decide(workshop, f"sensor-{version}.json", "dev:1", "dev:2"))


@contextmanager
def served(workshop: Workshop, board: QemuBoard) -> Iterator[GatewayProcess]:
    """Run ``blockota gateway run`` with the face SMP at the port of the board."""
    path = workshop.folder / "blockota.toml"
    text = path.read_text().replace('listen = "127.0.0.1:8091"\n', "")
    group = '[gateway.groups.default]\npolicy = "auto"\n'
    smp = f'[gateway.smp]\ntrial = "1s"\npoll = "1s"\n[gateway.smp.devices]\n{DEVICE} = "{board.port}"\n'
    path.write_text(f"{text}\n{group}{smp}")
    with ExitStack() as stack:
        gateway = GatewayProcess(workshop.folder, stack)
        gateway.start()
        yield gateway


def logged(workshop: Workshop, condition: Callable[[LogEntry], bool]) -> tuple[int, LogEntry]:
    """Wait for a log entry of the sensor that meets a condition; return its index and the entry."""
    log = TileLog(workshop.folder / "gateway" / "log")

    def found() -> tuple[int, LogEntry] | None:
        entries = enumerate(LogEntry.decode(raw) for raw in log.entries())
        return next((one for one in entries if one[1].device == DEVICE and condition(one[1])), None)

    entry = eventually(found, what="an entry of the log")
    assert entry
    return entry


def test_a_release_reaches_the_board_and_its_receipt_the_chain(sensors: Workshop, tmp_path: Path) -> None:
    """The board is updated from 1.0.0 to the published 1.1.0, confirmed, and its receipt is anchored."""
    folder = tmp_path / "board"
    folder.mkdir()
    with QemuBoard(folder, flash_with(OLD)) as board, served(sensors, board):
        publish(sensors, "1.1.0", NEW)
        digest = hashlib.sha256(NEW).digest()
        index, entry = logged(sensors, lambda one: one.image == digest)
        confirmed = BootEvent(2, BootEventKind.CONFIRMED, 0, digest_of(NEW)).text
        _, event = logged(sensors, lambda one: one.kind is EntryKind.EVENT and one.source == confirmed)
        flash = board.cut()
    # The service anchors after twice `anchor_minutes`, which is longer than a test waits.
    ok(sensors.run("log", "checkpoint"))
    ok(sensors.run("log", "anchor", "--all", *GATEWAY_KEY))
    anchored = UpdateLedgerContract(sensors.chain, deployed(sensors).registries["ledger"]).log(GATEWAY.uuid)
    assert anchored
    assert anchored.size > index
    assert entry.kind in (EntryKind.INSTALL, EntryKind.CLAIMED)
    assert event.counter
    assert (flash[SLOT_0:].startswith(NEW), flash[SLOT_1:].startswith(OLD)) == (True, True)


def test_a_published_delta_reaches_the_board(sensors: Workshop, tmp_path: Path) -> None:
    """The gateway sends the release's delta, so the board receives a fraction of the image's bytes."""
    folder = tmp_path / "board"
    folder.mkdir()
    with QemuBoard(folder, flash_with(OLD)) as board, served(sensors, board):
        publish(sensors, "1.1.0", NEW, "--delta-from", "1.0.0")
        digest = hashlib.sha256(NEW).digest()
        logged(sensors, lambda one: one.image == digest)
        sent, flash = board.sent, board.cut()
    assert (flash[SLOT_0:].startswith(NEW), flash[SLOT_1:].startswith(OLD)) == (True, True)
    assert sent < len(NEW)


def test_a_release_that_crashes_is_rolled_back_and_recorded(sensors: Workshop, tmp_path: Path) -> None:
    """If the new release crashes, the board rolls back to 1.0.0, and the gateway records the failure."""
    folder = tmp_path / "board"
    folder.mkdir()
    crashing = agent(folder, ImageSignature(version="1.1.0"), "AGENT_CRASHES")
    with QemuBoard(folder, flash_with(OLD)) as board, served(sensors, board):
        publish(sensors, "1.1.0", crashing)
        _, entry = logged(sensors, lambda one: "the device rolled back" in (one.source or ""))
        logged(sensors, lambda one: "the board started, after a rollback" in (one.source or ""))
        flash = board.cut()
    assert flash[SLOT_0:].startswith(OLD)
    assert entry.kind in (EntryKind.EVENT, EntryKind.WARNING, EntryKind.REFUSAL), entry
