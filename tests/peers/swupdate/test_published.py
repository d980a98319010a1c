"""Debian's SWUpdate installs a release that the Safe's owners signed; its receipt is anchored on the chain."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from blockota.bindings.block_ota import pair_call
from blockota.chain.local import free_port
from blockota.ledger.log import TileLog
from blockota.model.release import Product, Region
from tests.peers.swupdate.device import PAYLOAD, Device, make_signer, make_swu
from tests.stories.conftest import Workshop
from tests.stories.test_devices import done
from tests.stories.test_gateway import REGISTRANT_KEY, site
from tests.stories.test_gateway_process import GatewayProcess
from tests.stories.test_orders import GATEWAY, GATEWAY_KEY
from tests.stories.test_release_desk import ok, sign
from tests.support.tls import CERTIFICATE, PRIVATE_KEY
from tests.support.waiting import eventually

__all__ = ["site"]
HUB = Product("acme-hub", "acme", 0, Region(0, 1 << 26), minimum_version=None, paired=True)
NUMBER = 257
"""The number of the hub: the site has another device already."""
_FACE = """
[gateway.ddi]
listen = "127.0.0.1:{port}"
certificate = "{certificate}"
key = "{key}"
poll = "00:00:01"
"""


def make_device(folder: Path) -> Device:
    """Return a device whose server is chosen later."""
    folder.mkdir()
    make_signer(folder)
    return Device(folder, "", "", number=NUMBER)


def publish(site: Workshop, image: Path, version: str) -> None:
    """Publish a .swu: a proposal, two signatures of owners, and a transaction of the Safe."""
    file = f"hub-{version}.json"
    words = ("--product", HUB.name, "--version", version, "--container", "swu", "-o", file)
    ok(site.run("release", "publish", str(image), *words))
    for owner in ("dev:1", "dev:2"):
        ok(sign(site, file, owner))
    ok(site.run("proposal", "execute", file, "--key", "dev:0"))


def add_face(folder: Path) -> int:
    """Add the face DDI with HTTPS to the settings, and return its port."""
    path, port = folder / "blockota.toml", free_port()
    text = path.read_text().replace('listen = "127.0.0.1:8091"\n', "")
    path.write_text(text + _FACE.format(port=port, certificate=CERTIFICATE, key=PRIVATE_KEY))
    return port


def stage(site: Workshop) -> str:
    """Return the stage of the device's delivery in the gateway's state."""
    outcome = site.run("gateway", "device", str(NUMBER), "--json")
    return str(outcome.json["deliveries"][0]["stage"]) if outcome.status == 0 else ""


def check_receipt(site: Workshop) -> str:
    """Anchor the log, check the first receipt against the chain as a third party does, and return the result."""
    ok(site.run("log", "checkpoint"))
    ok(site.run("log", "anchor", "--all", *GATEWAY_KEY))
    ok(site.run("log", "receipt", "0", "--chain", "-o", "receipt.json"))
    Path("trust.toml").write_text(f'[trust]\nlogs = ["{done(site, "log", "key")["key"]}"]\n')
    return ok(site.run("log", "verify", "receipt.json", "--trust", "trust.toml", "--chain")).out


def test_a_published_swu_is_installed_and_its_receipt_is_anchored(site: Workshop) -> None:
    """If the gateway restarts while the device restarts, the receipt still names the published file."""
    site.decide(pair_call(HUB))
    done(site, "device", "spec", "add", "hub", *REGISTRANT_KEY)
    done(site, "device", "spec", "allow", "hub", "--product", HUB.name, *REGISTRANT_KEY)
    register = ("device", "register", "acme/hub/SN-1", "--site", str(GATEWAY.uuid), *REGISTRANT_KEY)
    assert done(site, *register)["number"] == NUMBER
    device = make_device(site.folder / "device")
    image = site.folder / "hub.swu"
    image.write_bytes(make_swu(device.folder, PAYLOAD, version="1.1.0", path=device.installed))
    publish(site, image, "1.1.0")

    device.server = f"https://127.0.0.1:{add_face(site.folder)}"
    with ExitStack() as stack:
        gateway = GatewayProcess(site.folder, stack)
        gateway.start()
        device.token = done(site, "gateway", "device", str(NUMBER), "--token", "ddi")["secret"]
        eventually(lambda: stage(site) == "offered", what="the offer")

        # A device that does not trust the gateway's certificate installs nothing.
        with device.running():
            eventually(lambda: "certificate" in device.log, what="the refusal of the certificate")
        assert not device.installed.exists()

        device.authority = CERTIFICATE
        with device.running():
            eventually(lambda: "Update successful, executing post-update" in device.log, what=device.log[-4000:])
        assert device.installed.read_bytes() == PAYLOAD
        assert not len(TileLog(site.folder / "gateway" / "log"))

        gateway.kill()
        with device.running("-c", "2"):  # as the device starts after the restart
            eventually(lambda: len(TileLog(site.folder / "gateway" / "log")), what="the receipt")
        [entry] = done(site, "gateway", "device", str(NUMBER))["history"]
        assert (entry["kind"], entry["product"], entry["version"]) == ("claimed", HUB.name, "1.1.0")
        assert "level B" in check_receipt(site)
