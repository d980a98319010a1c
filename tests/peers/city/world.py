"""The city: its hosts, ledger and members, and the processes that run on them.

All processes, hosts and namespaces end with the `with` block.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blockota.model.identity import IdentityKind
from tests.peers.city.ledger import CityLedger, city_ledger
from tests.peers.city.members import Member, new_members, tunnel_settings
from tests.peers.city.storage import CloudStorage
from tests.peers.postgresql.cluster import postgres_pair
from tests.support import forks
from tests.support.namespaces import Lan, lan
from tests.support.waiting import DEADLINE

Report = Callable[[str], None]
"""Shows one line."""


@dataclass
class World:
    """The city.

    Attributes:
        folder: the folder of all members, nodes and programs.
        network: the network of the hosts.
        ledger: the chains.
        storage: the cloud's database.
        members: the cloud, the validators and the gateways.
        stack: ends the processes.
        tunnels: the processes of ``blockota vpn sync --watch``, by the number of the member.
        figures: the measured figures, by name.
    """

    folder: Path
    network: Lan
    ledger: CityLedger
    storage: CloudStorage
    members: list[Member]
    stack: ExitStack
    tunnels: dict[int, forks.Process] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def cloud(self) -> Member:
        """The cloud."""
        return self.members[0]

    def of(self, kind: IdentityKind) -> list[Member]:
        """Return the members of a kind."""
        return [one for one in self.members if one.kind is kind]

    @property
    def validators(self) -> list[Member]:
        """The validators."""
        return self.of(IdentityKind.VALIDATOR)

    @property
    def gateways(self) -> list[Member]:
        """The gateways with sensors."""
        return self.of(IdentityKind.GATEWAY)[:-2]

    @property
    def captured(self) -> Member:
        """The gateway with the actuator.

        An attacker takes control of this gateway, which is banned while all services run.
        """
        return self.members[-2]

    @property
    def sites(self) -> list[Member]:
        """The gateways with a device."""
        return [*self.gateways, self.captured]

    @property
    def stolen(self) -> Member:
        """The gateway that is stolen. The stolen gateway is banned before the services start."""
        return self.members[-1]

    def open_tunnels(self) -> None:
        """Start ``blockota vpn sync --watch`` on each host, and wait until all interfaces have their peers."""
        for member in self.members:
            others = [one for one in self.members if one is not member]
            settings = self.ledger.networks.settings(member.number) + tunnel_settings(member, others)
            (member.folder / "blockota.toml").write_text(settings)
            self.tunnels[member.number] = self.stack.enter_context(member.run("vpn", "sync", "--watch", "--json"))
        for process in self.tunnels.values():
            read_object(process)


def read_object(process: forks.Process) -> None:
    """Read the JSON object that a program prints when it is ready."""
    for line in process.stdout:
        if line == "}\n":
            return
    raise AssertionError(process.errors)


class PhaseClock:
    """Prints the phases of the city test with their durations.

    Args:
        report: shows a line.
    """

    def __init__(self, report: Report) -> None:
        self._report, self._began = report, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def __call__(self, text: str) -> None:
        """Show what was reached."""
        self._report(f"{self.seconds:6.1f} s  {text}")


@contextmanager
def city(folder: Path, size: int, clock: PhaseClock) -> Iterator[World]:
    """Make the hosts, the ledger, the cloud's database, and the members of a city with enrolled identities.

    Args:
        folder: an empty folder.
        size: the number of gateways, and of validators.
        clock: shows the phases.
    """
    with ExitStack() as stack:
        network = stack.enter_context(lan())
        nodes, servers = [network.add() for _ in range(3)], [network.add() for _ in range(2)]
        members = new_members((network.add() for _ in range(3 + 2 * size)), size, folder)
        network.introduce()
        clock(f"{len(network.hosts)} hosts with network namespaces of their own")
        databases = stack.enter_context(ExitStack())
        background = stack.enter_context(ThreadPoolExecutor(1))
        started = background.submit(databases.enter_context, postgres_pair(servers))
        funded = [member.account.address for member in members]
        ledger = stack.enter_context(city_ledger(folder, network, nodes, funded))
        clock("a ledger of 3 Clique nodes with the city's contracts, and the vendor's chain")
        ledger.enrol(members)
        clock(f"{len(members)} identities enrolled by the city's Safe")
        storage = databases.enter_context(closing(CloudStorage(started.result())))
        clock("the cloud's database: PostgreSQL with a synchronous standby on another host")
        # The processes end before the ledger does.
        with ExitStack() as processes:
            yield World(folder, network, ledger, storage, members, processes)


def end_all(processes: Sequence[forks.Process]) -> list[str]:
    """Send processes the signal to end, and return the remaining output of each."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    outputs = []
    for process in processes:
        out, errors = process.communicate(DEADLINE)
        assert process.returncode == 0, f"{process.returncode} {errors}"
        outputs.append(out)
    return outputs
