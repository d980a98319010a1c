"""Two validators, two gateways and an operations room of a city, each in its own network namespace.

The tunnels are configured from the identity registry.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blockota.bindings.identities import enrolment_argument
from blockota.chain import Chain
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.identity.tunnel_keys import create_key
from blockota.model.identity import IdentityKind, tunnel_key_of
from tests.conftest import ROOT, Cast
from tests.support.city import City, found_city
from tests.support.identities import enrolment_of
from tests.support.namespaces import NamespaceHost, lan
from tests.support.relay import Relay
from tests.support.waiting import eventually

PORT, METRICS = 51820, 9483


@dataclass
class End:
    """One end of the tunnels.

    Attributes:
        uuid: the identity's UUID.
        kind: its kind.
        address: the virtual IP of the tunnel end.
        host: the host on which the tunnel end runs.
        folder: the folder with the settings and the key.
        interface: the name of the interface. wireguard-go needs a different name in each namespace.
        process: ``blockota vpn sync --watch``; None until it is started.
    """

    uuid: UUID
    kind: IdentityKind
    address: str
    host: NamespaceHost
    folder: Path
    interface: str
    process: subprocess.Popen[str] | None = None

    def blockota(self, *words: str) -> list[str]:
        """Return a command of this end."""
        config = str(self.folder / "blockota.toml")
        return self.host.command(sys.executable, "-m", "blockota", *words, "--config", config)

    def start(self) -> None:
        """Follow the registry, and wait until the tunnels are open."""
        output = (self.folder / "notes.txt").open("w")
        command = self.blockota("vpn", "sync", "--watch", "--metrics", f"127.0.0.1:{METRICS}", "--json")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True, cwd=ROOT)
        assert self.process.stdout
        for line in self.process.stdout:
            if line == "}\n":
                return
        raise AssertionError((self.folder / "notes.txt").read_text())

    def stop(self) -> None:
        """Stop following the registry."""
        if self.process:
            self.process.terminate()
            self.process.communicate(timeout=60)
            self.process = None

    def reaches(self, other: End, *, count: int = 1) -> bool:
        """Whether another tunnel end answers a ping through the tunnel within a second."""
        command = self.host.command("ping", "-n", "-c", str(count), "-W", "1", other.address)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def comes_to_reach(self, other: End) -> None:
        """Wait until another tunnel end answers a ping."""
        eventually(lambda: self.reaches(other), what=f"an answer of {other.address} at {self.address}")


@dataclass
class TunnelCity:
    """The tunnel ends of a city, and the city's chain.

    Attributes:
        city: the city.
        validators: two tunnel ends that accept connections.
        gateways: two tunnel ends that open connections.
        room: the operations room, which accepts connections.
        node: the URL of the chain's node for the tunnel ends.
    """

    city: City
    validators: list[End]
    gateways: list[End]
    room: End
    node: str


@pytest.fixture(scope="module")
def city(anvil: Chain, cast: Cast) -> City:
    """Return a new city."""
    return found_city(anvil, cast)


@pytest.fixture(scope="module")
def tunnels(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunnelCity]:
    """Enrol two validators, two gateways and a cloud with tunnel keys, and start their tunnels."""
    with ExitStack() as stack:
        network = stack.enter_context(lan())
        node = Relay(urlsplit(city.chain.url).port or 0, host=network.address)
        stack.callback(node.cut)
        ends = []
        kinds = [IdentityKind.VALIDATOR] * 2 + [IdentityKind.GATEWAY] * 2 + [IdentityKind.CLOUD]
        for number, kind in enumerate(kinds, start=40):
            folder = tmp_path_factory.mktemp(f"end-{number}")
            enrolled = enrolment_of(number, kind)
            key = tunnel_key_of(create_key(folder / "vpn.key"))
            log_key = log_signer(enrolled.uuid).key.key
            enrolled = replace(enrolled, keys=replace(enrolled.keys, tunnel_key=key, log_key=log_key))
            city.decide("identities", "enrol", enrolment_argument(enrolled))
            host = network.add()
            interface = f"{network.name}w{number}"
            ends.append(End(enrolled.uuid, kind, str(enrolled.virtual_ip), host, folder, interface))
        url, validators, room = f"http://{network.address}:{node.port}", ends[:2], ends[4]
        for end in ends:
            connects_to = [] if end in validators else validators if end is room else [*validators, room]
            write_settings(end, connects_to, city, url)
            stack.callback(end.stop)
            end.start()
        yield TunnelCity(city, validators, ends[2:4], room, url)


def log_signer(uuid: UUID) -> NoteSigner:
    """Return the log key of a tunnel end."""
    private = Ed25519PrivateKey.from_private_bytes(uuid.bytes * 2)
    key = VerifierKey(f"city.example/{uuid.hex}", NoteAlgorithm.ED25519, private.public_key().public_bytes_raw())
    return NoteSigner(key, private.sign)


def write_settings(end: End, others: list[End], city: City, url: str) -> None:
    """Write the settings of a tunnel end, which connects to some other tunnel ends. The gateways do not listen."""
    lines = [
        'network = "city"',
        "[networks.city]",
        f'url = "{url}"',
        f"chain_id = {city.chain.chain_id}",
        f'identities = "{city.identities.address}"',
        f"first_block = {city.deployment.block_number}",
        "[vpn]",
        f'identity = "{end.uuid}"',
        'key = "vpn.key"',
        f'interface = "{end.interface}"',
    ]
    if end.kind is not IdentityKind.GATEWAY:
        lines.append(f"listen_port = {PORT}")
    lines.append("[vpn.endpoints]")
    lines += [f'{one.uuid} = "{one.host.address}:{PORT}"' for one in others]
    (end.folder / "blockota.toml").write_text("\n".join(lines) + "\n")


def status_of(end: End) -> list[dict[str, object]]:
    """Return what ``blockota vpn status`` prints."""
    done = subprocess.run(end.blockota("vpn", "status", "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["tunnels"]
    return found
