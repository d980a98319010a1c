"""Where a name leads: a source must not send us into networks that it cannot reach itself.

A redirect may lead to public addresses, or to the very address at which the source that was named has answered: a
gateway on this machine may redirect to this machine, and one in the internet may not, whatever other addresses its name
has. A source that a stranger named, on the chain, must be public itself. The connection is made to the address that was
checked, so that a name which changes its meaning in between gains nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IPAddress = IPv4Address | IPv6Address
_NAT64 = IPv6Network("64:ff9b::/96")
_UNICAST = IPv6Network("2000::/3")
_SPECIAL: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")),
    *map(IPv4Network, ("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15")),
    *map(IPv4Network, ("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")),
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")),
)
"""What is not the public internet, by IANA's registries of special addresses; Python's own list grows with its version.

Of IPv6 only 2000::/3 is given to hosts at all.
"""


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
    public = embedded(address) or address
    is_unicast = isinstance(public, IPv4Address) or public in _UNICAST
    return is_unicast and not any(public in network for network in _SPECIAL)


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
        own: the address at which the source that was named has answered.
    """
    return [endpoint for endpoint in endpoints if endpoint.address in own or is_public(endpoint.address)]
