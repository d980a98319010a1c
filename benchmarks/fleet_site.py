"""A site for the fleet benchmarks: a city on a local chain, devices, and the process ``blockota gateway run``.

The vendor's Safe publishes the releases, as in all benchmarks of a fleet. The node itself signs the transactions that
register devices, without a journal or a gas estimate. A thousand usual registrations would take minutes.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.actors import AnvilNode
from benchmarks.chains import local_chain
from blockota.formats.abi import interface
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.founding import NewGateway, found_gateway
from blockota.gateway.opening import STATE_NAME
from blockota.gateway.state import GatewayState
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.messaging.mosquitto import BrokerFiles, write_broker_files
from blockota.model.device import registration_of
from blockota.model.receipt import LogEntry
from blockota.stores.local import LocalStore
from blockota.vendor.example import write_keys
from scripts.peers import find_program
from tests.conftest import Cast
from tests.support.city import GATEWAY, MODEL, REGISTRANT, City, found_city
from tests.support.receipts import SigningDevice
from tests.support.tls import CERTIFICATE, PRIVATE_KEY

BLOCK = 256
"""The first number of a device, and the devices of a block of numbers."""
_SECRET = 0xF1EE7
_SENDER = 9
"""The development account that sends the registrations."""
_START = 120
_PROGRAM = """
import sys
sys.modules["DTLSSocket"] = None
from blockota.cli.main import main
main()
"""
"""``blockota`` without the optional package for DTLS: the devices of the fleet speak plain CoAP."""
_GROUP = """
[gateway.groups.default]
policy = "auto"
offers_after_rollback = true
pauses = [{pauses}]
transfer_time = "{timeout}s"
trial_time = "{timeout}s"
"""


@dataclass(frozen=True)
class SiteSettings:
    """How the gateway of a site runs.

    Attributes:
        faces: the faces.
        tries: the number of times that a failed delivery is retried, one second after each failure.
        timeout: the seconds without progress after which a try has failed.
        blocks: the number of blocks of 256 device numbers.
        tables: further TOML tables for the settings file.
    """

    faces: Sequence[str] = ("mqtt", "ddi", "lwm2m")
    tries: int = 20
    timeout: int = 60
    blocks: int = 4
    tables: str = ""


@dataclass
class FleetSite:
    """A site.

    Attributes:
        folder: the folder of the site, with the settings of the gateway.
        city: the city.
        settings: how the gateway runs.
        ports: the TCP or UDP port of each face.
        passwords: the devices' passwords for the message broker.
        gateway: the process of the gateway.
        starts: the number of times that the gateway was started.
    """

    folder: Path
    city: City
    settings: SiteSettings
    ports: Mapping[str, int]
    passwords: dict[int, str] = field(default_factory=dict)
    gateway: subprocess.Popen[str] | None = None
    starts: int = 0
    _broker: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the gateway."""
        return self.gateway.pid if self.gateway else 0

    def health(self) -> dict[str, Any]:
        """Return the status that the gateway reports; empty if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['state']}/health", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return {}

    @property
    def authority(self) -> Path:
        """The CA certificate of the message broker."""
        return self.broker_files.authority

    @property
    def broker_files(self) -> BrokerFiles:
        """The files of the message broker."""
        return BrokerFiles(self.folder / "gateway" / "mqtt")

    @property
    def identity_key(self) -> bytes:
        """The public key of the gateway, x and y."""
        point = GATEWAY.key.public_key().public_numbers()
        return point.x.to_bytes(32) + point.y.to_bytes(32)

    def register(self, count: int, *, first: int) -> dict[int, SigningDevice]:
        """Register devices with keys of their own, and return their signers by number.

        Args:
            count: the number of devices.
            first: the number of the first device.
        """
        node, registrant, sender = AnvilNode(self.city.chain), dev_account(REGISTRANT), dev_account(_SENDER).address
        found = {number: SigningDevice(_SECRET + number) for number in range(first, first + count)}
        for number, device in found.items():
            serial = f"F{number}"
            registration = registration_of(
                *([f"acme/{MODEL}/{serial}"],),
                nonce=serial.encode(),
                data="",
                site=GATEWAY.uuid,
                key=PublicKey(KeyKind.P256, device.key),
            )
            signed = registrant.sign_message(self.city.devices.signable(registration))
            call = interface("DeviceRegistry").encode_call(
                "register", registration.as_argument(), bytes(signed.signature)
            )
            node.send(sender, call, self.city.devices.address)
        return found

    def register_batch(self, count: int) -> None:
        """Register devices without keys in one transaction."""
        names = [f"acme/{MODEL}/B{number}" for number in range(count)]
        self.city.devices.register_batch(dev_account(REGISTRANT), names, site=GATEWAY.uuid)

    def issue(self, face: str, numbers: Sequence[int]) -> dict[int, str]:
        """Issue credentials to devices for a face; the gateway must not be running."""
        if face == "mqtt":
            return {int(name): one for name, one in self.broker_files.issue(numbers).items()}
        with GatewayState(self.folder / "gateway" / STATE_NAME) as state:
            return {number: state.issue_token(face, [number]) for number in numbers}

    def publish(self, version: str, image: bytes) -> float:
        """Let the vendor's Safe publish a release; return the time at which its block was confirmed."""
        self.city.publish(version, image, LocalStore(self.folder / "store"))
        return time.monotonic()

    def start(self) -> None:
        """Start the gateway, and wait until it serves."""
        words = ["-c", _PROGRAM, "gateway", "run", "--json", "--events", f"events-{self.starts}.jsonl"]
        self.starts += 1
        with (self.folder / "errors.txt").open("ab") as errors:
            self.gateway = subprocess.Popen(
                [sys.executable, *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        text = ""
        for line in self.gateway.stdout or ():
            text += line
            if line == "}\n":
                break
        if '"faces"' not in text:
            raise RuntimeError(f"the gateway did not start: {text}{(self.folder / 'errors.txt').read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the gateway by a signal."""
        if self.gateway:
            self.gateway.send_signal(number)
            self.gateway.wait(_START)
            self.gateway = None

    def entries(self, first: int = 0) -> list[LogEntry]:
        """Return the log's entries from an index on."""
        return [LogEntry.decode(raw) for raw in TileLog(self.folder / "gateway" / "log").entries(first)]

    def start_broker(self) -> None:
        """Start mosquitto."""
        command = [find_program("mosquitto"), "-c", str(self.broker_files.folder / "mosquitto.conf")]
        self._broker = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(0.5)

    def close(self) -> None:
        """End all processes."""
        self.stop()
        if self._broker:
            self._broker.terminate()
            self._broker.wait()


@contextmanager
def fleet_site(folder: Path, settings: SiteSettings) -> Iterator[FleetSite]:
    """Found a city, and set up the gateway of a site without starting it."""
    with ExitStack() as stack:
        chain = stack.enter_context(local_chain())
        city = found_city(chain, Cast(*(dev_account(number) for number in range(7))))
        city.decide("devices", "giveBlocks", GATEWAY.uuid.bytes, settings.blocks)
        city.deployment.write(folder)
        site = FleetSite(folder, city, settings, _ports(["state", *settings.faces]))
        stack.callback(site.close)
        _write_settings(site)
        yield site


def _write_settings(site: FleetSite) -> None:
    """Write the settings with `gateway init`, as an operator does, and add tables for the faces."""
    folder, ports = site.folder, site.ports
    write_keys(folder)
    path = folder / "blockota.toml"
    path.write_text(f'store = "file:store"\n[networks.local]\nurl = "{site.city.chain.url}"\n')
    new = NewGateway(
        GATEWAY.uuid,
        "fleet.example",
        key=f"dev:{GATEWAY.account}",
        identity_key=folder / "gateway.pem",
        log_key=folder / "gateway.log.pem",
        listen=f"127.0.0.1:{ports['state']}",
    )
    found_gateway(path, new)
    text = path.read_text()
    pauses = ", ".join(['"1s"'] * site.settings.tries)
    text += _GROUP.format(pauses=pauses, timeout=site.settings.timeout)
    if "ddi" in ports:
        tls = f'certificate = "{CERTIFICATE}"\nkey = "{PRIVATE_KEY}"'
        text += f'\n[gateway.ddi]\nlisten = "127.0.0.1:{ports["ddi"]}"\n{tls}\n'
    if "lwm2m" in ports:
        text += f'\n[gateway.lwm2m]\nlisten = "127.0.0.1:{ports["lwm2m"]}"\nblock = 1024\n'
    if "mqtt" in ports:
        write_broker_files(folder / "gateway" / "mqtt", (), hosts=["localhost"], port=ports["mqtt"])
        images = f"https://127.0.0.1:{ports['ddi']}/images/"
        text += f'\n[gateway.mqtt]\nbroker = "localhost:{ports["mqtt"]}"\nimages = "{images}"\n'
    path.write_text(text + site.settings.tables)


def _ports(names: Sequence[str]) -> dict[str, int]:
    """Return a port for each name.

    Each returned port is free, as is the next port. All ports lie below the operating system's range for client ports.
    """
    found: dict[str, int] = {}
    for place in random.SystemRandom().sample(range(10_000, 32_000, 2), 11_000):
        with ExitStack() as stack:
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    for port in (place, place + 1):
                        stack.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", port))
            except OSError:
                continue
        found[names[len(found)]] = place
        if len(found) == len(names):
            break
    return found


def wait_until(is_true: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until a condition that depends on another process is true."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.05)
