"""Two validators and two gateways of a city, each in its own network namespace.

Their tunnels come from the registry.
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

from blockota.bindings.identities import enrolment_argument
from blockota.chain import Chain
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
        uuid: the identity of the end.
        address: the virtual IP of the end.
        host: the host on which the end runs.
        folder: the folder with the settings and the key.
        interface: the name of the interface. wireguard-go needs a different name in each namespace.
        process: ``blockota vpn sync --watch``; None until it is started.
    """

    uuid: UUID
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
        """Whether another end answers a ping through the tunnel within a second."""
        command = self.host.command("ping", "-n", "-c", str(count), "-W", "1", other.address)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def comes_to_reach(self, other: End) -> None:
        """Wait until another end answers."""
        eventually(lambda: self.reaches(other), what=f"an answer of {other.address} at {self.address}")


@dataclass
class TunnelCity:
    """The ends, on the chain of a city."""

    city: City
    validators: list[End]
    gateways: list[End]

    @property
    def ends(self) -> list[End]:
        """All ends."""
        return self.validators + self.gateways


@pytest.fixture(scope="module")
def city(anvil: Chain, cast: Cast) -> City:
    """Return a new city."""
    return found_city(anvil, cast)


@pytest.fixture(scope="module")
def tunnels(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunnelCity]:
    """Enrol two validators and two gateways with tunnel keys, and start their tunnels."""
    with ExitStack() as stack:
        network = stack.enter_context(lan())
        node = Relay(urlsplit(city.chain.url).port or 0, host=network.address)
        stack.callback(node.cut)
        ends = []
        kinds = [IdentityKind.VALIDATOR] * 2 + [IdentityKind.GATEWAY] * 2
        for number, kind in enumerate(kinds, start=40):
            folder = tmp_path_factory.mktemp(f"end-{number}")
            enrolled = enrolment_of(number, kind)
            key = tunnel_key_of(create_key(folder / "vpn.key"))
            enrolled = replace(enrolled, keys=replace(enrolled.keys, tunnel_key=key))
            city.decide("identities", "enrol", enrolment_argument(enrolled))
            host = network.add()
            interface = f"{network.name}w{number}"
            ends.append(End(enrolled.uuid, str(enrolled.virtual_ip), host, folder, interface))
        for end in ends:
            write_settings(end, ends[:2], city, f"http://{network.address}:{node.port}")
            stack.callback(end.stop)
            end.start()
        yield TunnelCity(city, ends[:2], ends[2:])


def write_settings(end: End, listening: list[End], city: City, url: str) -> None:
    """Write the settings of an end. The validators listen, and the gateways connect to them."""
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
    if end in listening:
        lines.append(f"listen_port = {PORT}")
    else:
        lines.append("[vpn.endpoints]")
        lines += [f'{one.uuid} = "{one.host.address}:{PORT}"' for one in listening]
    (end.folder / "blockota.toml").write_text("\n".join(lines) + "\n")


def status_of(end: End) -> list[dict[str, object]]:
    """Return what ``blockota vpn status`` prints."""
    done = subprocess.run(end.blockota("vpn", "status", "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["tunnels"]
    return found
