"""Control WireGuard and nftables on this host by wg(8), ip(8) and nft(8).

If the kernel does not support WireGuard, wireguard-go is used.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from blockota.errors import Action, UnreachableError, UsageError

_PROGRAMS = {"wg": "wireguard-tools", "ip": "iproute2", "nft": "nftables", "wireguard-go": "wireguard-go"}
"""The programs with their Debian packages."""
_TIMEOUT = 60
_MOST_REMOVED = 1000
"""The number of peers that one command removes. The arguments of a command have a limited size."""
_COLUMNS = 8
"""The columns of a peer in ``wg show INTERFACE dump``; the line of the interface has four."""


@dataclass(frozen=True)
class PeerState:
    """The state of a peer in WireGuard.

    Attributes:
        key: the public key of the peer in base64.
        endpoint: the source of the peer's packets, as ``HOST:PORT``; empty before the first packet.
        last_handshake: Unix time of the newest handshake; None before the first handshake.
        received: bytes received.
        sent: bytes sent.
    """

    key: str
    endpoint: str
    last_handshake: int | None
    received: int
    sent: int

    def as_fields(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return {
            "key": self.key,
            "endpoint": self.endpoint or None,
            "lastHandshake": self.last_handshake,
            "received": self.received,
            "sent": self.sent,
        }


class WireGuard:
    """A WireGuard interface of this host.

    Args:
        interface: the interface's name.
    """

    def __init__(self, interface: str) -> None:
        self.interface = interface

    def exists(self) -> bool:
        """Whether the interface exists."""
        try:
            return bool(socket.if_nametoindex(self.interface))
        except OSError:
            return False

    def open(self, address: IPv4Address) -> None:
        """Create the interface if it does not exist, without peers, and give it an address.

        Raises:
            UsageError: a program is missing, this user may not change the network, or the interface is of another kind.
        """
        # The rules of nftables would cut off a host whose settings name its network card.
        if self.exists() and not _succeeds("wg", "show", self.interface):
            raise UsageError(
                f"the interface {self.interface} cannot have tunnels",
                why="it exists, and is not an interface of WireGuard that this user may change",
                remedy="name another interface in [vpn], or run the command as root",
            )
        # A kernel without WireGuard refuses the type; wireguard-go then makes the same interface.
        if not self.exists() and not _succeeds("ip", "link", "add", self.interface, "type", "wireguard"):
            _run("wireguard-go", self.interface)
        _run("ip", "address", "replace", f"{address}/32", "dev", self.interface)
        _run("ip", "link", "set", self.interface, "up")

    def load_rules(self, rules: str) -> None:
        """Load rules of nftables."""
        _run("nft", "-f", "-", given=rules)

    def has_rules(self) -> bool:
        """Whether the rules of `blockota.identity.tunnels.render_rules` for this interface are loaded."""
        return _succeeds("nft", "list", "table", "inet", f"blockota_{self.interface}")

    def resolves(self, endpoint: str) -> bool:
        """Whether the host name of an endpoint, ``HOST:PORT``, can be resolved to an address."""
        host, _, port = endpoint.rpartition(":")
        try:
            return bool(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM))
        except (OSError, UnicodeError):
            return False

    def set_configuration(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Replace the private key and the peers of the interface. Then add the routes to the peers' addresses.

        The sessions of unchanged peers continue. For a moment, each peer has no address, and its packets are lost.

        Args:
            text: a configuration file of wg(8).
            addresses: the virtual IPs of the peers.
        """
        _run("wg", "syncconf", self.interface, "/dev/stdin", given=text)
        self._route(addresses)

    def add_peers(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Add peers, and replace existing peers with the same keys. All other peers stay unchanged.

        Args:
            text: the sections of the peers in a configuration file of wg(8).
            addresses: the virtual IPs of the peers.
        """
        _run("wg", "addconf", self.interface, "/dev/stdin", given=text)
        self._route(addresses)

    def remove_peers(self, keys: Sequence[str]) -> None:
        """Remove peers at once. All other peers stay unchanged."""
        for first in range(0, len(keys), _MOST_REMOVED):
            words = [word for key in keys[first : first + _MOST_REMOVED] for word in ("peer", key, "remove")]
            _run("wg", "set", self.interface, *words)

    def _route(self, addresses: Sequence[IPv4Address]) -> None:
        batch = "".join(f"route replace {address}/32 dev {self.interface}\n" for address in addresses)
        if batch:
            _run("ip", "-batch", "-", given=batch)

    def peers(self) -> list[PeerState]:
        """Return the state of the peers.

        Raises:
            UsageError: the interface does not exist, or a program is missing.
        """
        if not self.exists():
            raise UsageError(
                f"the interface {self.interface} does not exist",
                why="no tunnels have been opened since this host was started",
                remedy="open the tunnels",
                action=Action.OPEN_TUNNELS,
            )

        rows = [line.split("\t") for line in _run("wg", "show", self.interface, "dump").splitlines()]
        return [_peer_state(row) for row in rows if len(row) == _COLUMNS]


def _peer_state(row: list[str]) -> PeerState:
    """Read a peer from the columns of ``wg show INTERFACE dump`` (wg(8))."""
    key, _, endpoint, _, handshake, received, sent, _ = row
    return PeerState(key, "" if endpoint == "(none)" else endpoint, int(handshake) or None, int(received), int(sent))


def _program(name: str) -> str:
    if found := shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"):
        return found
    raise UsageError(f"{name} is missing", why="tunnels need it", remedy=f"install it: apt install {_PROGRAMS[name]}")


def _succeeds(name: str, *arguments: str) -> bool:
    return subprocess.run([_program(name), *arguments], capture_output=True, check=False).returncode == 0


def _run(name: str, *arguments: str, given: str = "") -> str:
    """Run a program and return its output.

    Raises:
        UsageError: the program is missing, or ends with an error.
    """
    try:
        done = subprocess.run(
            [_program(name), *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
            # By default, wg(8) repeats a failed resolution for minutes, in which no ban would be carried out.
            env={**os.environ, "WG_ENDPOINT_RESOLUTION_RETRIES": "0"},
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{name} does not end", why=f"it has been running for {_TIMEOUT} seconds") from error
    if done.returncode == 0:
        return done.stdout
    # The input has the private key, so it is never shown.
    why = next(iter(done.stderr.strip().splitlines()), f"it ended with status {done.returncode}")
    is_denied = "not permitted" in done.stderr.lower() or "permission denied" in done.stderr.lower()
    remedy = "run the command as root, or with the capability CAP_NET_ADMIN" if is_denied else ""
    raise UsageError(f"{name} {arguments[0]} failed", why=why, remedy=remedy)
