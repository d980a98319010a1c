"""The two chains of the city test: three Clique nodes on hosts of their own, and a local chain of the vendor."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from blockota.approval.registry_flags import MOST_ITEMS
from blockota.bindings.identities import enrolment_argument
from blockota.chain import Chain
from blockota.chain.local import find_anvil, free_port
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.keys import dev_account
from blockota.model.identity import Enrolment
from blockota.vendor.example import IDENTITIES, set_up
from scripts.install_geth import find
from tests.conftest import Cast, wait_for_chain
from tests.peers.city.members import Member, Networks
from tests.peers.clique.network import CHAIN_ID, CliqueNetwork, clique_network
from tests.support import forks
from tests.support.city import City
from tests.support.namespaces import Lan, NamespaceHost

KEYS = {"PAYER": 0, "OWNER_1": 1, "OWNER_2": 2, "REGISTRANT": 3}
ADMINISTRATOR = next(one.account for one in IDENTITIES if one.kind == "administrator")
"""The number of the development account that bans identities."""


@dataclass
class CityLedger:
    """The producer chain and the gateway chain, with the folder of the city's desk.

    Attributes:
        network: the nodes of the gateway chain.
        networks: both chains with their contracts.
        desk: the folder in which the owners of the Safe work.
    """

    network: CliqueNetwork
    networks: Networks
    desk: Path

    def desk_command(self, *words: str) -> str:
        """Run a command of BlockOTA at the desk, and return its output."""
        keys = {name: _hex_key(number) for name, number in {**KEYS, "ADMIN": ADMINISTRATOR or 0}.items()}
        done = forks.run(["-m", "blockota", *words], folder=self.desk, environment=keys)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def approve(self, file: str) -> None:
        """Sign a proposal as two owners of the Safe, and execute it."""
        for owner in ("OWNER_1", "OWNER_2"):
            self.desk_command("proposal", "sign", file, "--key", f"env:{owner}", "--yes")
        self.desk_command("proposal", "execute", file, "--key", "env:PAYER")

    def city(self) -> City:
        """Return the contracts of the city, so that its Safe can decide without proposal files."""
        chain = Chain(self.networks.city_urls[0], chain_id=CHAIN_ID)
        return City(chain, self.networks.city, Cast(*(dev_account(number) for number in range(7))))

    def enrol(self, members: Sequence[Member]) -> None:
        """Enrol the first members with the commands of docs/city.md, and all further members with one call of the Safe.

        Enrolling all members by commands would be slow.
        One proposal takes three seconds, and contains at most `MOST_ITEMS` identities.
        """
        listed = [_listed(member.enrolment) for member in members[:MOST_ITEMS]]
        (self.desk / "members.json").write_text(json.dumps({"identities": listed}))
        self.desk_command("identity", "enrol", "--list", "members.json", "-o", "enrol.json")
        self.approve("enrol.json")
        if rest := [enrolment_argument(member.enrolment) for member in members[MOST_ITEMS:]]:
            self.city().decide("identities", "enrolAll", rest)

    def ban(self, member: Member) -> int:
        """Ban a member as the administrator, and return the number of the block."""
        printed = self.desk_command(
            *("identity", "ban", str(member.uuid), "--cause", "stolen", "--key", "env:ADMIN", "--json")
        )
        return int(json.loads(printed)["block"])


@contextmanager
def city_ledger(
    folder: Path, network: Lan, hosts: Sequence[NamespaceHost], funded: Sequence[str]
) -> Iterator[CityLedger]:
    """Start both chains, and deploy the contracts with the identities of the example.

    Args:
        folder: the folder of the nodes and of the desk.
        network: the virtual network; this machine runs the vendor's chain at one of its addresses.
        hosts: the hosts of the three nodes.
        funded: the accounts of the members, which get ether.
    """
    program = find()
    assert program, "geth not found: build it with `make clique`"
    with ExitStack() as stack:
        vendor = stack.enter_context(vendor_chain(network.address))
        nodes = stack.enter_context(clique_network(program, folder / "ledger", hosts, funded=funded))
        made, city = set_up(vendor, Chain(nodes.sealers[0].url, chain_id=CHAIN_ID), dev_account(0))
        networks = Networks(made, city, vendor.url, [sealer.url for sealer in nodes.sealers])
        desk = folder / "desk"
        desk.mkdir()
        (desk / "blockota.toml").write_text(networks.settings())
        yield CityLedger(nodes, networks, desk)


@contextmanager
def vendor_chain(address: str) -> Iterator[Chain]:
    """Run the chain of the vendor at an address of this machine."""
    port = free_port()
    command = [str(find_anvil()), "--chain-id", str(LOCAL_CHAIN_ID), "--host", address, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield wait_for_chain(f"http://{address}:{port}")
        finally:
            process.terminate()


@dataclass
class BlockTimes:
    """The times, on the monotonic clock, at which the first node announced each block."""

    found: dict[int, float] = field(default_factory=dict)

    def note(self, connection: ClientConnection) -> None:
        """Record the blocks that a node announces until the connection ends."""
        with suppress(WebSocketException, OSError, EOFError):
            while True:
                message: Mapping[str, dict[str, dict[str, str]]] = json.loads(connection.recv())
                if "params" in message:
                    self.found.setdefault(int(message["params"]["result"]["number"], 16), time.monotonic())


@contextmanager
def watched_blocks(urls: Sequence[str]) -> Iterator[BlockTimes]:
    """Record the times at which the nodes announce blocks, while the `with` block runs."""
    times, threads = BlockTimes(), []
    with ExitStack() as stack:
        for url in urls:
            connection = stack.enter_context(connect(url.replace("http", "ws", 1)))
            connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
            threads.append(threading.Thread(target=times.note, args=(connection,)))
            threads[-1].start()
        yield times
    for thread in threads:
        thread.join()


def _hex_key(number: int) -> str:
    return "0x" + dev_account(number).key.hex().removeprefix("0x")


def _listed(one: Enrolment) -> dict[str, object]:
    """Return an enrolment in the form of ``blockota identity list --json``."""
    return {"uuid": str(one.uuid), "kind": str(one.kind), "virtualIp": str(one.virtual_ip), **one.keys.as_fields()}
