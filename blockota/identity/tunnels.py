"""Derives the peers of an identity from the registry, and renders the configuration of WireGuard and nftables. Pure.

Every identity has a direct tunnel to each identity with which it may communicate; there is no hub. An identity has
tunnels only if the registry has its tunnel key and virtual IP, and if it is neither banned nor retired. The same
records always produce the same output.

WireGuard accepts a packet from a peer only if the packet's source is the peer's virtual IP. The source address of a
packet inside a tunnel therefore identifies the sender. The rules of nftables allow only the ports of `Ports`, each for
the kinds of identities that need it. Clouds may read the logs of gateways and validators, because the operations room
is an identity of the kind Cloud.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from uuid import UUID

from blockota.model.identity import Identity, IdentityKind

_VALIDATORS = frozenset({IdentityKind.VALIDATOR, IdentityKind.FOG})
_CLOUDS = frozenset({IdentityKind.CLOUD})
_PARTNERS: Mapping[IdentityKind, frozenset[IdentityKind]] = {
    IdentityKind.GATEWAY: _VALIDATORS | _CLOUDS,
    IdentityKind.CLOUD: _VALIDATORS | {IdentityKind.GATEWAY},
    **dict.fromkeys(_VALIDATORS, frozenset({IdentityKind.GATEWAY, IdentityKind.CLOUD})),
}
"""The kinds with which a kind has tunnels. Two gateways never have one."""
KEEPALIVE = 15
"""Seconds after which an idle tunnel sends a packet, so that the translation of addresses on the way stays open."""


@dataclass(frozen=True)
class Ports:
    """The TCP ports that are reachable through the tunnels.

    Attributes:
        requests: port at which a validator or the cloud receives requests.
        commands: port at which a gateway receives commands.
        logs: port at which a gateway or a validator serves its log.
    """

    requests: int = 8470
    commands: int = 8471
    logs: int = 8472

    def of(self, kind: IdentityKind) -> tuple[tuple[int, frozenset[IdentityKind]], ...]:
        """Return the ports that an identity of a kind opens, each with the kinds that may connect to it."""
        if kind is IdentityKind.GATEWAY:
            return (self.commands, _VALIDATORS), (self.logs, _CLOUDS)
        if kind is IdentityKind.CLOUD:
            return ((self.requests, _VALIDATORS),)
        return ((self.requests, _PARTNERS[kind]), (self.logs, _CLOUDS)) if kind in _VALIDATORS else ()


@dataclass(frozen=True)
class Peer:
    """The other end of a tunnel.

    Attributes:
        uuid: the identity.
        kind: its kind.
        address: its virtual IP.
        key: the X25519 key of the peer, 32 bytes.
        endpoint: ``HOST:PORT`` at which the peer listens; empty if the peer opens the connection.
    """

    uuid: UUID
    kind: IdentityKind
    address: IPv4Address
    key: bytes
    endpoint: str = ""

    @property
    def encoded_key(self) -> str:
        """The key in base64, as in WireGuard's files."""
        return base64.b64encode(self.key).decode()

    def as_fields(self) -> dict[str, str]:
        """Return the peer as a JSON object."""
        return {
            "uuid": str(self.uuid),
            "kind": str(self.kind),
            "virtualIp": str(self.address),
            "endpoint": self.endpoint,
        }


def find_peers(identities: Iterable[Identity], own: Identity, endpoints: Mapping[UUID, str]) -> tuple[Peer, ...]:
    """Return the peers of an identity, by virtual IP; empty if the identity itself may have no tunnels.

    Args:
        identities: all records of the registry.
        own: the record of this end.
        endpoints: the endpoints of peers, as ``HOST:PORT`` by the peer's UUID.
    """
    partners = _PARTNERS.get(own.kind, frozenset()) if _has_tunnels(own) else frozenset()
    peers = [
        Peer(one.uuid, one.kind, one.virtual_ip, one.keys.tunnel_key, endpoints.get(one.uuid, ""))
        for one in identities
        if one.kind in partners and _has_tunnels(one) and one.virtual_ip and one.keys.tunnel_key
    ]
    return tuple(sorted(peers, key=lambda peer: peer.address))


def _has_tunnels(one: Identity) -> bool:
    return not one.banned and not one.retired and one.virtual_ip is not None and one.keys.tunnel_key is not None


def render_peers(peers: Iterable[Peer]) -> str:
    """Return the sections of the peers in a configuration file of WireGuard (wg(8), "Configuration file format")."""
    sections = []
    for peer in peers:
        lines = [
            f"# {peer.kind} {peer.uuid}",
            "[Peer]",
            f"PublicKey = {peer.encoded_key}",
            f"AllowedIPs = {peer.address}/32",
        ]
        if peer.endpoint:
            lines += [f"Endpoint = {peer.endpoint}", f"PersistentKeepalive = {KEEPALIVE}"]
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def render_interface(private_key: str, listen_port: int | None, *, address: IPv4Address | None = None) -> str:
    """Return the section of this end in a configuration file of WireGuard.

    Args:
        private_key: the X25519 key in base64.
        listen_port: the UDP port; None to let WireGuard choose the port.
        address: the virtual IP, which only wg-quick and WireGuard's apps read; None to omit the address.
    """
    lines = ["[Interface]", f"PrivateKey = {private_key}"]
    lines += [f"ListenPort = {listen_port}"] if listen_port else []
    lines += [f"Address = {address}/32"] if address else []
    return "\n".join(lines) + "\n\n"


def render_rules(interface: str, kind: IdentityKind, ports: Ports, peers: Iterable[Peer]) -> str:
    """Return the nftables rules of an interface: accept its open ports and replies, and drop forwarded packets.

    Loading the rules again replaces the former rules of the interface. The rules do not affect other interfaces.

    Args:
        interface: name of the interface.
        kind: the kind of this identity.
        ports: the ports.
        peers: the peers. The rules contain only addresses of validators and clouds, so a new or banned gateway does not
            change the rules.
    """
    table, opened = f"table inet blockota_{interface}", list[str]()
    addresses = [(one.kind, one.address) for one in peers]

    # A port for all kinds of partners needs no list of addresses: every peer is a partner.
    for port, kinds in ports.of(kind):
        sources = [str(address) for source, address in addresses if source in kinds]
        if kinds == _PARTNERS[kind]:
            opened.append(f'    iifname "{interface}" tcp dport {port} accept\n')
        elif sources:
            opened.append(f'    iifname "{interface}" ip saddr {{ {", ".join(sources)} }} tcp dport {port} accept\n')

    return f"""{table} {{}}
delete {table}
{table} {{
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{interface}" ct state established,related accept
    iifname "{interface}" icmp type echo-request accept
{"".join(opened)}    iifname "{interface}" drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{interface}" drop
    oifname "{interface}" drop
  }}
}}
"""
