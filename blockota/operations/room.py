"""The operations room: follows the chains and the logs in threads, and provides the results to the pages."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

from blockota.chain.event_store import EventStore
from blockota.chain.follow import Follower
from blockota.chain.wake import BlockSignal
from blockota.connection import Connection
from blockota.errors import BlockOTAError
from blockota.identity.tunnel_sync import TunnelState
from blockota.ledger.places import published_log
from blockota.line_log import LineLog
from blockota.operations.archive import RoomArchive
from blockota.operations.city_reading import CityChain, CityReading
from blockota.operations.cloud_settings import open_database
from blockota.operations.database import CloudDatabase
from blockota.operations.happenings import HappeningWriter
from blockota.operations.log_following import FollowedLog, LogFollower
from blockota.operations.notices import NoticeOutbox
from blockota.operations.settings import OperationsSettings
from blockota.operations.vendor_reading import VendorChain, VendorReading
from blockota.operations.watching import (
    COUNT_PAUSE,
    REPLICA_PAUSE,
    TUNNEL_PAUSE,
    RequestCounts,
    Watcher,
    count_requests,
    probe_replicas,
    read_tunnel_states,
)
from blockota.service_threads import ServiceThreads
from blockota.shutdown import Stop
from blockota.stores.probe import Probe

_GATEWAY_CHAIN = "gateway-chain"
_LOCAL_PAUSE, _PAUSE = 0.5, 5.0
"""Seconds between two readings of a local chain, and of any other chain, if the node does not announce blocks."""
_FIRST_LOOK = 0.3
"""Seconds after which a watcher looks again that could not look yet."""
_LOG_PAUSE = 0.5
"""Seconds between two readings of the checkpoint of a log."""
_END = 3.0
"""Seconds for which the end of a thread is awaited."""


@dataclass(frozen=True)
class RoomState:
    """The newest readings of the room.

    Attributes:
        city: the gateway chain; None before the first reading.
        vendors: the newest reading of each producer chain, by chain id.
        logs: the state of each log, by the UUID of the identity that writes the log.
        read_at: Unix time of the last successful reading of each part, such as a chain.
        troubles: why a part cannot be read now, by the name of the part.
    """

    city: CityReading | None = None
    vendors: Mapping[int, VendorReading] = field(default_factory=dict)
    logs: Mapping[UUID, FollowedLog] = field(default_factory=dict)
    read_at: Mapping[str, int] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Watches:
    """The watchers of a room.

    Attributes:
        replicas: the watcher of the announced replicas.
        tunnels: the watcher of this host's tunnels; None if the settings name no interface.
        requests: the watcher of the requests in the last hour; None if the settings name no database.
        cloud: the cloud's database, which stores the requests; None if the settings name no database.
    """

    replicas: Watcher[tuple[Probe, ...]]
    tunnels: Watcher[tuple[TunnelState, ...]] | None = None
    requests: Watcher[RequestCounts] | None = None
    cloud: CloudDatabase | None = None

    @property
    def all(self) -> list[Watcher[Any]]:
        """All watchers."""
        return [one for one in (self.replicas, self.tunnels, self.requests) if one is not None]


class Room:
    """Follows the chains and logs.

    Args:
        settings: the settings.
        archive: the archive that stores verified entries and events.
        city: the gateway chain.
        vendors: the producer chains.
        lines: writes failures and recoveries as lines of JSON.
    """

    def __init__(
        self,
        settings: OperationsSettings,
        archive: RoomArchive,
        *,
        city: Connection,
        vendors: Sequence[Connection],
        lines: LineLog,
    ) -> None:
        self.settings, self.archive, self.city_connection = settings, archive, city
        self._vendors, self._lines = vendors, lines
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._stop = Stop()
        self.watches = self._watches()
        self.state = RoomState()
        self.outbox = NoticeOutbox(
            archive, time.time, has_broker=settings.broker is not None, has_log=settings.identity is not None
        )
        self._followers = {}
        for keeper, place in settings.logs.items():
            # The room need not announce what it recorded itself.
            announce = None if keeper == settings.identity else self.outbox.add_entry
            self._followers[keeper] = LogFollower(keeper, published_log(place), archive, announce)
        self.city: CityChain | None = None

    def listen(self, changed: Callable[[], None]) -> None:
        """Register a function to call after each change. Any thread may call the function."""
        self._listeners.append(changed)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Follow the chains and logs in threads while the ``with`` block runs.

        Raises:
            RefusedError: a store of events is in use, or belongs to another chain.
        """
        with ExitStack() as stack:
            threads = ServiceThreads(self._lines, self._stop)
            vendors = [(f"producer-chain-{one.settings.chain_id}", one) for one in self._vendors]
            for name, connection in [(_GATEWAY_CHAIN, self.city_connection), *vendors]:
                chain = connection.settings
                path = self.settings.folder / f"{name}.sqlite"
                events = stack.enter_context(EventStore.open(path, chain_id=chain.chain_id))
                pause = _LOCAL_PAUSE if chain.confirmations == 0 else _PAUSE
                signal = stack.enter_context(closing(BlockSignal(chain.url, pause=pause)))
                opened: list[CityChain | VendorChain] = []
                threads.start(f"thread of {name}", partial(self._follow, name, connection, (events, signal), opened))
            # Each log has a thread, because a host that does not answer must not delay the others.
            for keeper, follower in self._followers.items():
                threads.start(f"thread of log {keeper}", partial(self._follow_log, follower))
            for one in self.watches.all:
                threads.start(f"thread of {one.name}", partial(self._watch, one))
            try:
                yield
            finally:
                self._stop.ask()
                threads.join(_END)
                for connection in self.connections:
                    connection.close()

    def changed(self) -> None:
        """Notify the listeners of a change."""
        for listener in self._listeners:
            listener()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections to all chains, the gateway chain first."""
        return (self.city_connection, *self._vendors)

    @property
    def troubles(self) -> dict[str, str]:
        """Why a chain cannot be read, or the archive cannot be written. The key is the name of the chain or archive."""
        why = self.archive.trouble
        return {**self.state.troubles, **({"archive": why} if why else {})}

    def log_follower(self, keeper: UUID) -> LogFollower | None:
        """Return the follower of a log; None if the settings do not name the log."""
        return self._followers.get(keeper)

    def _follow(
        self,
        name: str,
        connection: Connection,
        source: tuple[EventStore, BlockSignal],
        opened: list[CityChain | VendorChain],
    ) -> None:
        """Read one chain, and wait for its next block.

        Args:
            name: the name of the chain.
            connection: the connection, which only this thread uses.
            source: the store of the chain's events, and the signal of new blocks.
            opened: the opened chain; empty until the node answers.
        """
        events, signal = source
        try:
            if not opened:
                opened.append(self._open(name, connection, events))
            self._take(name, opened[0])
        except BlockOTAError as error:
            self._note(name, f"{error.what}: {error.why}" if error.why else error.what)
        signal.wait(self._stop)

    def _open(self, name: str, connection: Connection, events: EventStore) -> CityChain | VendorChain:
        settings = connection.settings
        follower = Follower(
            connection.chain, confirmations=settings.confirmations, first_block=settings.first_block, store=events
        )
        reader = CityChain if name == _GATEWAY_CHAIN else VendorChain
        writer = HappeningWriter(connection.chain, self.archive, reader.CONTRACTS, self.outbox.add_happenings)
        return reader(connection, follower, writer)

    def _take(self, name: str, chain: CityChain | VendorChain) -> None:
        """Read a chain, and store the reading in `state`."""
        reading = chain.read()
        with self._lock:
            before = self.state
            if isinstance(reading, CityReading) and isinstance(chain, CityChain):
                self.city = chain
                state = replace(before, city=reading)
            elif isinstance(reading, VendorReading):
                state = replace(before, vendors={**before.vendors, reading.chain_id: reading})
            self.state = state

        self._note(name, "")
        if (state.city, state.vendors) != (before.city, before.vendors):
            self.changed()

    def _watches(self) -> Watches:
        """Return the watchers that the settings name."""
        settings = self.settings

        def replicas() -> tuple[Probe, ...] | None:
            state = self.state
            looks = [probe_replicas(state.vendors.get(one.settings.chain_id), one) for one in self._vendors]
            known = [one for one in looks if one is not None]
            return tuple(probe for some in known for probe in some) if known else None

        watches = Watches(Watcher("replicas", REPLICA_PAUSE, replicas))
        if settings.tunnels:
            tunnels = partial(read_tunnel_states, settings.tunnels)
            watches = replace(watches, tunnels=Watcher("tunnels", TUNNEL_PAUSE, lambda: tunnels(self.state.city)))
        if settings.database:
            database = open_database(settings.database, folder=settings.beside, environment=os.environ)
            requests = Watcher("database", COUNT_PAUSE, lambda: count_requests(database, int(time.time())))
            watches = replace(watches, requests=requests, cloud=database)
        return watches

    def _watch(self, watcher: Watcher[Any]) -> None:
        """Wait for the pause of a watcher, and read its source once."""
        has_looked = watcher.last.time or watcher.last.trouble
        if self._stop.wait(watcher.pause if has_looked else _FIRST_LOOK):
            return
        if watcher.refresh():
            self.changed()
        self._lines.state(watcher.name, watcher.last.trouble)

    def _note(self, part: str, trouble: str) -> None:
        """Record that a part was read, or why the reading failed."""
        with self._lock:
            known = self.state
            troubles = {name: why for name, why in known.troubles.items() if name != part}
            troubles |= {part: trouble} if trouble else {}
            read_at = {**known.read_at, part: known.read_at.get(part, 0) if trouble else int(time.time())}
            self.state = replace(known, troubles=troubles, read_at=read_at)
        self._lines.state(part, trouble)
        if troubles != known.troubles:
            self.changed()

    def _follow_log(self, follower: LogFollower) -> None:
        """Wait for a pause, and read one log."""
        city = self.state.city
        if self._stop.wait(_LOG_PAUSE) or city is None:
            return

        keeper, before = follower.keeper, follower.state
        with suppress(BlockOTAError):  # the archive is locked or gone: the log keeps its old age
            follower.update(city.log_keys.get(keeper, ()), city.logs.get(keeper), clock=time.time)
        self._lines.state(f"log {keeper}", follower.state.trouble)

        with self._lock:
            self.state = replace(self.state, logs={**self.state.logs, keeper: follower.state})
        if replace(before, read_at=None) != replace(follower.state, read_at=None):
            self.changed()
