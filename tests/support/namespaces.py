"""Network namespaces as separate hosts on one bridge. They need CAP_NET_ADMIN."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

_NUMBERS = itertools.count(1)


def run(*command: str, given: str = "") -> str:
    """Run a program with the given input, and return its output. If the program fails, its error output is raised."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class NamespaceHost:
    """A host of a network.

    Attributes:
        namespace: the name of the host's network namespace.
        address: the host's IP address on the bridge.
    """

    namespace: str
    address: str

    @property
    def link_address(self) -> str:
        """The host's Ethernet address on the bridge, which contains the IP address."""
        return ":".join(f"{byte:02x}" for byte in (2, 0, *IPv4Address(self.address).packed))

    def command(self, *words: str) -> list[str]:
        """Return a command that runs in the namespace."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def run(self, *words: str) -> str:
        """Run a program in the namespace."""
        return run(*self.command(*words))


@dataclass
class Lan:
    """A bridge with hosts.

    This machine has the IP address `address` on the bridge.

    Attributes:
        name: the prefix of the names of interfaces and namespaces.
        network: the first three bytes of the IP addresses on the bridge.
        hosts: the hosts on the bridge.
    """

    name: str
    network: str
    hosts: list[NamespaceHost] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The address of this machine."""
        return f"{self.network}.1"

    def add(self) -> NamespaceHost:
        """Add a host."""
        number = len(self.hosts) + 2
        host = NamespaceHost(f"{self.name}n{number}", f"{self.network}.{number}")
        run("ip", "netns", "add", host.namespace)
        self.hosts.append(host)
        outside, inside = f"{self.name}v{number}", "eth0"
        peer = ("peer", "name", inside, "address", host.link_address, "netns", host.namespace)
        run("ip", "link", "add", outside, "type", "veth", *peer)
        run("ip", "link", "set", outside, "master", self.name, "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", inside)
        host.run("ip", "link", "set", inside, "up")
        host.run("ip", "link", "set", "lo", "up")
        return host

    def introduce(self) -> None:
        """Write the Ethernet addresses of all hosts into the neighbour table of each host.

        The kernel keeps at most 1,024 neighbours (gc_thresh3) in all namespaces together, and drops packets to further
        neighbours. Permanent entries do not count towards the limit of neighbours.
        """
        lines = [
            f"neighbour replace {one.address} lladdr {one.link_address} dev eth0 nud permanent\n" for one in self.hosts
        ]
        for host in self.hosts:
            run("ip", "-netns", host.namespace, "-batch", "-", given="".join(lines))

    def add_behind(self, router: NamespaceHost, addresses: tuple[str, str]) -> NamespaceHost:
        """Add a host that is connected only by a cable to another host.

        Args:
            router: the other host.
            addresses: the IP addresses of the other host and of the new host on the cable.
        """
        host = NamespaceHost(f"{self.name}n{len(self.hosts) + 2}", addresses[1])
        run("ip", "netns", "add", host.namespace)
        self.hosts.append(host)
        router.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        for end, interface, address in ((router, "eth1", addresses[0]), (host, "eth0", addresses[1])):
            end.run("ip", "address", "add", f"{address}/30", "dev", interface)
            end.run("ip", "link", "set", interface, "up")
        host.run("ip", "link", "set", "lo", "up")
        return host


@contextmanager
def lan() -> Iterator[Lan]:
    """Make a bridge, and at the end remove the bridge with its hosts."""
    number = next(_NUMBERS)
    # Workers of pytest-xdist are processes of one machine, so names and addresses contain the number of the process.
    unique = os.getpid() % 200 + 20
    found = Lan(f"bo{os.getpid() % 10_000}{number}", f"10.{unique}.{number}")
    run("ip", "link", "add", found.name, "type", "bridge")
    try:
        run("ip", "address", "add", f"{found.address}/24", "dev", found.name)
        run("ip", "link", "set", found.name, "up")
        yield found
    finally:
        for host in found.hosts:
            pids = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True, check=False)
            for pid in pids.stdout.split():
                subprocess.run(["kill", "-9", pid], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True, check=False)
        run("ip", "link", "del", found.name)
        # wireguard-go was killed, and leaves the sockets of its interfaces.
        for place in Path("/var/run/wireguard").glob(f"{found.name}*.sock"):
            place.unlink(missing_ok=True)
