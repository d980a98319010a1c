"""The gateway of a site updates a device, from the release at the vendor's Safe to the anchored receipt.

The numbers in comments are steps of two processes in section S3 of SYSTEMS.md: 2 (direct update) and 4 (indirect
update).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.cli.gateway import gateway_setup
from blockota.cli.session import Session
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.ledger.log import TileLog
from blockota.model.receipt import LogEntry
from blockota.vendor.files import read_proposal
from tests.conftest import IMAGES
from tests.stories.brokers import offer as offer_copy
from tests.stories.brokers import vendor_of
from tests.stories.conftest import PRODUCT, Workshop, execute_signed
from tests.stories.repositories import serving
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_devices import approve, done, public_key
from tests.stories.test_orders import CONFIGURATION, GATEWAY, GATEWAY_KEY, KEY, UPDATE, deployed, found_example
from tests.support.gateway_runs import FakeFace, running_gateway
from tests.support.receipts import SigningDevice
from tests.support.waiting import eventually

REGISTRANT = 7
REGISTRANT_KEY = ("--key", f"dev:{REGISTRANT}")
DEVICE = "acme/thermo2/SN-1"
NEW, OLD = IMAGES / "bluepill-1.1.0.bin", IMAGES / "bluepill-1.0.0.bin"


def found_site(workshop: Workshop) -> None:
    """Set up the example with a registrant, a model, and a device with a key."""
    found_example(workshop)
    approve(workshop, "device", "registrant", "admit", "acme", "--public-key", public_key(REGISTRANT))
    approve(workshop, "device", "site", "give", str(GATEWAY.uuid))
    done(workshop, "device", "spec", "add", "thermo2", *REGISTRANT_KEY)
    done(workshop, "device", "spec", "allow", "thermo2", "--product", PRODUCT, *REGISTRANT_KEY)
    city = deployed(workshop).registries["configurations"]
    words = ("device", "spec", "allow", "thermo2", "--product", CONFIGURATION.name, "--contract", city)
    done(workshop, *words, *REGISTRANT_KEY)
    Path("device.pem").write_text(PublicKey(KeyKind.P256, SigningDevice().key).pem)
    register = ("device", "register", DEVICE, "--site", str(GATEWAY.uuid), "--device-key", "device.pem")
    assert done(workshop, *register, *REGISTRANT_KEY)["number"] == 256
    for name, key in (("gateway", GATEWAY.key), ("gateway.log", GATEWAY.log_key)):
        write_key(Path(f"{name}.pem"), key)


def write_key(path: Path, key: Any) -> None:
    """Write a private key that only its owner can read."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


@pytest.fixture
def site(workshop: Workshop) -> Workshop:
    """Return a workshop with a site, and with the settings of its gateway."""
    workshop.after(found_site)
    init = ("gateway", "init", "--identity", str(GATEWAY.uuid), "--identity-key", "gateway.pem")
    done(workshop, *init, "--log-key", "gateway.log.pem", *GATEWAY_KEY, "--domain", "berlin.example")
    return workshop


@contextmanager
def running(*, policy: str, settings: str = "") -> Iterator[FakeFace]:
    """Run the gateway of this folder with an empty store; `settings` is inserted at the start of blockota.toml."""
    path = Path("blockota.toml")
    path.write_text(f'{settings}\n{path.read_text()}\n[gateway.groups.default]\npolicy = "{policy}"\n')
    with click.Context(click.Command("run")):  # names the command in the journal of transactions
        session = Session(None, None, store="file:site-store", as_json=False)
        setup = gateway_setup(session, None)
    quick = replace(setup, settings=replace(setup.settings, listen=None), log=replace(setup.log, period=1))
    with running_gateway(quick, []) as face:
        yield face


def entries_with(workshop: Workshop, order: int | None) -> list[dict[str, Any]]:
    """Wait until the log has entries of the device for an order, and return these entries."""
    log = TileLog(Path("gateway/log"))
    eventually(
        lambda: any(LogEntry.decode(raw).order == order for raw in log.entries()), what=f"an entry with order {order}"
    )
    history: list[dict[str, Any]] = done(workshop, "gateway", "device", "256")["history"]
    return [one for one in history if one["order"] == order]


def test_orders_are_carried_out_and_anchored(site: Workshop) -> None:
    """In process 2, an order brings the image from the vendor's repository to the device.

    The receipts name the orders.
    """
    device = SigningDevice()
    with vendor_of(site) as url, running(policy="ordered", settings=f'vendor_sources = ["{url}"]') as face:
        # (1) The gateway's node has a new version. (2) The gateway compares it with its devices.
        site.publish("1.1.0", NEW)
        number = done(site, *UPDATE, "1.1.0", *KEY)["number"]

        # (3) The requirements are met. (4, 5) The vendor's repository sends the image. (6) It goes to the device.
        offer = face.await_offer(256, "1.1.0")
        assert (offer.order, offer.path.read_bytes()) == (number, NEW.read_bytes())
        eventually(lambda: 256 in face.changed, what="the face to be told")
        face.report(256, device, NEW.read_bytes())
        [installed] = entries_with(site, number)
        assert (installed["kind"], installed["level"], installed["source"]) == ("install", "A", url)
        assert face.offer(256) is None
        refused(site.run("gateway", "retry", "256"), REFUSED, "device 256 has no failed or postponed try", "is settled")

        # A configuration of the city comes back in the same way.
        Path("berlin.bin").write_bytes(b"interval = 60\n".ljust(64, b"\xff"))
        words = ["order", "configure", "berlin.bin", "--group", "berlin", "--product", CONFIGURATION.name]
        words += ["--version", "1.0.0", *KEY]
        assert site.run(*words, "-o", "cfg.json", "--store", "file:site-store").status == 0
        execute_signed(read_proposal(Path("cfg.json")), site.chain, cast=site.cast)
        number = done(site, *words)["number"]
        offer = face.await_offer(256, "1.0.0", CONFIGURATION.name)
        assert offer.is_configuration
        face.report(256, device, offer.path.read_bytes(), CONFIGURATION.name)
        [configured] = entries_with(site, number)
        assert (configured["kind"], configured["product"]) == ("configuration", CONFIGURATION.name)

        # The receipt is anchored, and anyone can check it.
        size = configured["index"] + 1
        ledger = UpdateLedgerContract(site.chain, deployed(site).registries["ledger"])

        def is_anchored() -> bool:
            found = ledger.log(GATEWAY.uuid)
            return found is not None and found.size >= size

        eventually(is_anchored, what="an anchor")
        done(site, "ledger", "installed", "256", "--product", PRODUCT, "--version", "1.1.0")
    receipt = ("log", "receipt", str(installed["index"]), "--chain", "-o", "receipt.json")
    assert site.run(*receipt).status == 0
    key = done(site, "log", "key")["key"]
    pem = PublicKey(KeyKind.P256, device.key).pem
    Path("trust.toml").write_text(f'[trust]\nlogs = ["{key}"]\n[trust.devices]\n256 = """\n{pem}"""\n')
    verified = site.run("log", "verify", "receipt.json", "--trust", "trust.toml", "--chain")
    assert verified.status == 0, verified.err
    assert "level A" in verified.out


def test_a_device_pulls_from_a_broker(site: Workshop) -> None:
    """In process 4, a device requests and gets the newest release, from a broker's copy.

    The receipt names the broker.
    """
    device, broker = SigningDevice(), site.cast.broker.address
    offer_copy(site)
    with serving(site.folder, "--as", "broker", "--broker", broker) as served, running(policy="auto") as face:
        done(site, "replica", "announce", "1", served.url, "--key", "dev:4")
        # (1) The device asks. (2, 3) The gateway's node finds the newest release, and who serves it.
        # (4, 5) The broker sends the image. (6) The gateway checks it, and the device gets it.
        offer = face.await_offer(256, "1.0.0")
        assert (offer.order, offer.path.read_bytes()) == (None, OLD.read_bytes())
        face.report(256, device, OLD.read_bytes())
        [installed] = entries_with(site, None)
        assert (installed["kind"], installed["source"]) == ("install", served.url)


def test_an_operator_looks_after_a_device(site: Workshop) -> None:
    """While the gateway runs, commands show devices, and retry and pause deliveries. Each error names the next step."""
    refused(site.run("gateway", "status"), REFUSED, "has no state yet", "`blockota gateway run`")
    refused(site.run("gateway", "init"), USAGE, "already")
    with running(policy="ordered") as face:
        eventually(lambda: face.knows(256), what="the device")
        face.report(256, SigningDevice(), OLD.read_bytes())
        assert done(site, "gateway", "status")["running"]
        [listed] = done(site, "gateway", "devices")["devices"]
        assert (listed["device"], listed["stage"], listed["target"]) == (256, "settled", None)
        entries_with(site, None)
        shown = site.run("gateway", "device", "256").out
        assert all(word in shown for word in (f"{PRODUCT} 1.0.0", "nothing", "install A"))
        refused(
            site.run("gateway", "device", "257"),
            REFUSED,
            "device 257 is unknown to this gateway",
            "`blockota device list`",
        )
        refused(site.run("gateway", "device", "x"), USAGE, "'x' is not a valid number")
        refused(
            site.run("gateway", "retry", "256"), REFUSED, "nothing is to be installed", "`blockota gateway device 256`"
        )
        refused(site.run("gateway", "pause", "pumps"), USAGE, "is neither a group nor", "default")
        assert done(site, "gateway", "pause", "default") == {
            "subject": "default",
            "paused": True,
            "next": "Next: `blockota gateway pause default --resume` ends the pause",
        }
        assert done(site, "gateway", "status")["paused"] == ["default"]
        secrets = {done(site, "gateway", "device", "256", "--token", face)["secret"] for face in ("ddi", "lwm2m")}
        assert len(secrets) == 2
        issued = site.run("gateway", "device", "256", "--token", "mqtt")
        assert "cannot use the mqtt credential yet: the settings have no table [gateway.mqtt]" in issued.err
        assert done(site, "gateway", "device", "256", "--revoke") == {"device": 256}
        resumed = site.run("gateway", "pause", "default", "--resume")
        assert "group default is offered releases again, within two seconds" in resumed.out
        refused(site.run("gateway", "pause", "0256"), USAGE, "'0256' is neither a group nor the number")
        eventually(Path("gateway/readings.json").exists, what="the last readings")
    assert not done(site, "gateway", "status")["running"]

    # A gateway that does not run still knows the names of its devices.
    [listed] = done(site, "gateway", "devices")["devices"]
    assert listed["why"] == "the gateway does not run"
    assert DEVICE in site.run("gateway", "devices").out
    assert DEVICE in site.run("gateway", "device", "256").out
    assert "once the gateway runs" in site.run("gateway", "pause", "256").out
    for words in (("device", "300", "--token", "ddi"), ("pause", "300")):
        warned = site.run("gateway", *words)
        assert (warned.status, "Device 300 is not of this site" in warned.err) == (0, True)


def test_a_gateway_that_cannot_listen_does_not_report_that_it_runs(site: Workshop) -> None:
    """If the gateway cannot listen, the error names the address, and the settings file in which to change it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Path("blockota.toml").open("a") as settings:
            settings.write(f'\n[gateway.ddi]\nlisten = "127.0.0.1:{port}"\n')
        outcome = site.run("gateway", "run")
    refused(outcome, USAGE, f"cannot listen on 127.0.0.1 port {port}: Address already in use", "in the settings file")
    assert "runs with" not in outcome.out
