"""Read replicas, tunnels and the cloud's database at intervals, because none of them announces changes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from blockota.connection import Connection
from blockota.errors import BlockOTAError
from blockota.identity.tunnel_sync import TunnelState, join_states
from blockota.identity.wireguard import WireGuard
from blockota.operations import queries
from blockota.operations.city_reading import CityReading
from blockota.operations.database import CloudDatabase
from blockota.operations.queries import MinuteCount
from blockota.operations.vendor_reading import VendorReading
from blockota.stores.probe import Challenge, Probe, probe_all

Found = TypeVar("Found")
MINUTE, HOUR = 60, 3600
REPLICA_PAUSE, TUNNEL_PAUSE, COUNT_PAUSE = 60.0, 2.0, 2.0
"""Seconds between two readings of the replicas, the tunnels, and the counts in the database."""


@dataclass(frozen=True)
class WatchedValue(Generic[Found]):
    """The newest result of a `Watcher`.

    Attributes:
        found: the value that was read; None before the first reading.
        time: Unix time of the last successful reading; 0 if there was none.
        trouble: why the newest reading failed; empty if the newest reading succeeded.
    """

    found: Found | None = None
    time: int = 0
    trouble: str = ""


class Watcher(Generic[Found]):
    """Reads one source, such as the tunnels, at intervals.

    Args:
        name: the name of the source on the pages.
        pause: seconds between two readings.
        read: reads the source; returns None if the source cannot be read yet.

    Attributes:
        last: the newest result.
    """

    def __init__(self, name: str, pause: float, read: Callable[[], Found | None]) -> None:
        self.name, self.pause, self._read = name, pause, read
        self.last: WatchedValue[Found] = WatchedValue()

    def refresh(self) -> bool:
        """Read the source once, and return whether the value or the error changed."""
        before = self.last
        try:
            found = self._read()
        except BlockOTAError as error:
            trouble = f"{error.what}: {error.why}" if error.why else error.what
            self.last = WatchedValue(before.found, before.time, trouble)
        else:
            self.last = WatchedValue(found, int(time.time())) if found is not None else before
        return (before.found, before.trouble) != (self.last.found, self.last.trouble)


def probe_replicas(vendor: VendorReading | None, connection: Connection) -> tuple[Probe, ...] | None:
    """Probe the announced replicas of a producer chain, as ``blockota replica check`` does.

    Args:
        vendor: the newest reading of the chain; None before the first reading.
        connection: the connection to the chain.
    """
    if vendor is None:
        return None
    # The contract of agreements belongs to the configured contract of releases.
    address = connection.settings.contract or ""
    named = {(one.product, one.version): one for one in vendor.releases.get(address, ())}
    serving = [one for one in vendor.agreements if one.serves(vendor.newest.time)]
    found = [(one, named[one.product, one.version]) for one in serving if (one.product, one.version) in named]
    challenge = Challenge(
        secrets.randbelow,
        time.monotonic,
        allow_private=connection.is_local_chain,
        credentials=connection.credentials,
    )
    return tuple(probe_all([(one, release) for one, release in found if str(release.status) == "active"], challenge))


def read_tunnel_states(interface: str, city: CityReading | None) -> tuple[TunnelState, ...] | None:
    """Return the tunnels of this host with their identities from the registry, as ``blockota vpn status`` does.

    Args:
        interface: name of the network interface.
        city: the newest reading of the gateway chain; None before the first reading.

    Raises:
        UsageError: the interface does not exist, or WireGuard is not installed.
    """
    if city is None:
        return None
    return tuple(join_states(city.identities.values(), WireGuard(interface).peers()))


@dataclass(frozen=True)
class RequestCounts:
    """The requests of the last hour.

    Attributes:
        minutes: the counts of the requests that the cloud accepted, for each minute with a request.
        gateways: for each gateway, its newest minute and its counts of requests and readings.
    """

    minutes: tuple[MinuteCount, ...]
    gateways: dict[UUID, MinuteCount]


def count_requests(database: CloudDatabase, now: int) -> RequestCounts:
    """Count the accepted requests of the last hour.

    Raises:
        StoreError: the database is out of reach.
    """
    until = now - now % MINUTE + MINUTE
    since = until - HOUR
    with database.reading() as connection:
        found = queries.minutes(connection, since, until)
        return RequestCounts(tuple(found), queries.gateway_counts(connection, since, until))
