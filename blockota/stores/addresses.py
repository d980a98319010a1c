"""Where a name leads: a source must not send us into networks that it cannot reach itself.

A redirect may lead to public addresses, or to an address of the very source that was named: a gateway on this machine
may redirect to this machine, and one in the internet may not. A source that a stranger named, on the chain, must be
public itself. The connection is made to the address that was checked,
so that a name which changes its meaning in between gains nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

IPAddress = IPv4Address | IPv6Address
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Endpoint:
    """One address of a host, as the socket library takes it."""

    family: socket.AddressFamily
    place: tuple[str, int] | tuple[str, int, int, int]

    @property
    def address(self) -> IPAddress:
        """Its IP address."""
        return ip_address(self.place[0].partition("%")[0])


def look_up(host: str, port: int) -> list[Endpoint]:
    """The addresses of a host.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [Endpoint(family, place) for family, _, _, _, place in found if isinstance(place[0], str)]


def is_public(address: IPAddress) -> bool:
    """Whether an address lies in the public internet, also where it only wraps an IPv4 address."""
    inner = embedded(address)
    return address.is_global and not address.is_multicast and (inner is None or is_public(inner))


def embedded(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4 or NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def permitted(endpoints: list[Endpoint], *, own: Collection[IPAddress]) -> list[Endpoint]:
    """The endpoints that a redirect may lead to.

    Args:
        endpoints: those of the new host.
        own: the addresses of the source that was named.
    """
    return [endpoint for endpoint in endpoints if endpoint.address in own or is_public(endpoint.address)]
