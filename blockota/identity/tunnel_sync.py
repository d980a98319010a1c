"""Keep the tunnels of this host in agreement with the registry of identities.

At the start, all peers that a killed process left are removed from the interface. After each event of the registry, all
records are read at the event's block, and the changed peers are replaced. A change does not use the command
``syncconf`` of wg(8), which would remove the addresses of all peers for a moment. Packets of unchanged peers would be
lost in this moment. A peer is removed as soon as the event of its ban is read, before the records are read. The records
are read from unconfirmed blocks. If a reorganisation removes a ban, the peer returns with the next reading.

If the chain is out of reach, the last peers stay for `TunnelSettings.max_age` seconds, so that a short outage of the
chain does not interrupt the tunnels. After this time, all peers are removed, because a ban could have been missed. The
peers are also removed when the program ends.

Other programs on the host can remove the interface or the rules; for example, a restart of Debian's nftables.service
flushes all rules. `TunnelSync.repair` loads the rules again without reading the chain. If the interface was removed,
the next call of `TunnelSync.update` creates the interface again.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Protocol
from uuid import UUID

from blockota.bindings.events import DecodedEvent, read_events
from blockota.bindings.identities import IdentitiesContract
from blockota.chain.follow import Follower
from blockota.errors import Action, ChainError, RefusedError, UsageError
from blockota.file_locks import LockHeldError, exclusive_lock
from blockota.identity.tunnel_settings import TunnelSettings
from blockota.identity.tunnels import Peer, find_peers, render_interface, render_peers, render_rules
from blockota.identity.wireguard import PeerState
from blockota.model.identity import Identity
from blockota.model.release import show_time

Report = Callable[[str], None]
"""Shows one sentence."""
_RESOLVE_PAUSE = 30
"""Seconds after which the host name of an endpoint that could not be resolved is tried again."""
_REPAIR_PAUSE = 5
"""Seconds between two looks at the rules of nftables."""


class TunnelInterface(Protocol):
    """A network interface with tunnels, such as `blockota.identity.wireguard.WireGuard`."""

    def exists(self) -> bool:
        """Whether the interface exists."""

    def open(self, address: IPv4Address) -> None:
        """Create the interface without peers."""

    def has_rules(self) -> bool:
        """Whether the rules of nftables are loaded."""

    def resolves(self, endpoint: str) -> bool:
        """Whether the host name of an endpoint can be resolved to an address."""

    def load_rules(self, rules: str) -> None:
        """Load rules of nftables."""

    def set_configuration(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Replace key and peers."""

    def add_peers(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Add peers, and replace existing peers with the same keys."""

    def remove_peers(self, keys: Sequence[str]) -> None:
        """Remove peers at once."""


@dataclass(frozen=True)
class TunnelView:
    """The records of the registry for this end of the tunnels.

    Attributes:
        own: the record of this end.
        peers: the peers of this end.
        block: the block at which the records were read.
    """

    own: Identity
    peers: tuple[Peer, ...]
    block: int

    def as_fields(self) -> dict[str, Any]:
        """Return the records as a JSON object."""
        return {
            "identity": str(self.own.uuid),
            "virtualIp": str(self.own.virtual_ip),
            "block": self.block,
            "peers": [one.as_fields() for one in self.peers],
        }


def read_tunnels(contract: IdentitiesContract, settings: TunnelSettings, *, block: int | None = None) -> TunnelView:
    """Read the peers of this end.

    Args:
        contract: the registry.
        settings: this end.
        block: number of the block to read; None means the newest one.

    Raises:
        RefusedError: this end is not enrolled, or has no virtual IP or tunnel key.
        ChainError: the node is out of reach.
    """
    number = contract.chain.head().number if block is None else block
    records = list(contract.identities(block=number))
    own = next((one for one in records if one.uuid == settings.identity), None)

    if own is None or own.virtual_ip is None or own.keys.tunnel_key is None:
        missing = "is not enrolled" if own is None else "has no virtual IP, or no tunnel key"
        raise RefusedError(
            f"the identity {settings.identity} has no tunnels",
            why=f"it {missing} in block {number}",
            remedy="make a tunnel key, if this host has none, and let the city enrol its public key and a virtual IP",
            action=Action.MAKE_TUNNEL_KEY,
        )
    return TunnelView(own, find_peers(records, own, settings.endpoints), number)


def check_age(block_time: int, settings: TunnelSettings, *, now: int) -> None:
    """Check that the newest block is not too old, because a ban could be missing in an old block.

    Raises:
        ChainError: the newest block is older than the settings allow.
    """
    if (age := now - block_time) > settings.max_age:
        raise ChainError("the node is behind", why=f"its newest block is {age} s old", remedy="use another node")


@contextmanager
def lock_settings(settings: TunnelSettings) -> Iterator[None]:
    """Lock the settings, so that no second process follows the registry while the ``with`` block runs.

    If two processes used the same interface, the process that ends first would remove the peers of the other process.

    Raises:
        RefusedError: another process follows the registry for these settings.
        UsageError: the lock file in the folder of the key cannot be written.
    """
    path = settings.key_file.with_name(f"{settings.key_file.name}.lock")

    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(path, timeout=0))
        except LockHeldError as error:
            what, why = (
                f"the tunnels of {settings.interface} are in use",
                "another process follows the registry for them",
            )
            raise RefusedError(what, why=why, remedy="stop the other process") from error
        except OSError as error:
            why = error.strerror or str(error)
            raise UsageError(f"{path} cannot be written", why=why, remedy="move the key to another folder") from error
        yield


@dataclass(frozen=True)
class TunnelState:
    """A tunnel of this host.

    Attributes:
        state: the state of the peer in WireGuard.
        identity: the record of the other end; None if no identity has the peer's key.
    """

    state: PeerState
    identity: Identity | None

    @property
    def status(self) -> str:
        """The status of the other end in the registry, such as ``enrolled``."""
        if self.identity is None:
            return "not enrolled"
        if self.identity.banned and self.identity.banned_at:
            return f"banned since {show_time(self.identity.banned_at)}"
        return "retired" if self.identity.retired else "enrolled"

    def as_fields(self) -> dict[str, Any]:
        """Return the tunnel as a JSON object."""
        end: dict[str, Any] = {"uuid": None, "kind": None, "virtualIp": None}
        ban: dict[str, Any] = {"banned": None, "bannedAt": None}
        if one := self.identity:
            end = {"uuid": str(one.uuid), "kind": str(one.kind), "virtualIp": str(one.virtual_ip)}
            ban = {"banned": one.banned, "bannedAt": one.banned_at}
        return end | self.state.as_fields() | ban


def join_states(identities: Iterable[Identity], states: Iterable[PeerState]) -> list[TunnelState]:
    """Return the tunnels of this host, each with the record of its other end, in the order of the virtual IPs."""
    by_key = {base64.b64encode(one.keys.tunnel_key).decode(): one for one in identities if one.keys.tunnel_key}
    rows = [TunnelState(state, by_key.get(state.key)) for state in states]
    # A peer without a record comes first.
    return sorted(rows, key=lambda row: (row.identity and row.identity.virtual_ip) or IPv4Address(0))


class TunnelSync:
    """Keeps the tunnels of one interface in agreement with the registry.

    Args:
        settings: this end.
        private_key: the private key of this end in base64.
        interface: the interface.
        report: shows what changed.
    """

    def __init__(self, settings: TunnelSettings, private_key: str, interface: TunnelInterface, report: Report) -> None:
        self._settings, self._key, self._interface, self._report = settings, private_key, interface, report
        self._peers: tuple[Peer, ...] = ()
        self._next_block = 0
        self._fresh_at: int | None = None
        self._is_open = False
        self._rules, self._checked_at = "", 0
        self._is_partial, self._resolved_at = False, 0

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers that the interface has."""
        return self._peers

    def start_closed(self) -> None:
        """Remove the peers that a killed process left, because a peer may have been banned since then."""
        if self._interface.exists():
            self._set(())

    @property
    def fresh_at(self) -> int | None:
        """Unix time of the newest block that was read; None before the first reading."""
        return self._fresh_at

    def update(self, contract: IdentitiesContract, follower: Follower, *, now: int) -> None:
        """Read the new blocks of the chain, and update the tunnels.

        Args:
            contract: the registry.
            follower: follows the registry's chain without waiting for confirmations.
            now: Unix time.

        Raises:
            ChainError: the node is out of reach, or its newest block is too old. The peers stay until `expire` removes
                them.
            RefusedError: this end is not enrolled, or has no virtual IP or tunnel key.
        """
        # (1) The new blocks. After a reorganisation, or to resolve an endpoint again, all records are read.
        position = follower.advance()
        check_age(position.newest.time, self._settings, now=now)
        is_retry = self._is_partial and now - self._resolved_at >= _RESOLVE_PAUSE
        if position.reorganised_from is not None or is_retry:
            self._next_block = 0
        names = {contract.address: "IdentityRegistry"}
        events = list(read_events(follower.events(*names, first_block=self._next_block), names))

        # (2) A ban closes its tunnel at once, before the records are read.
        before = self._peers
        self._close_banned(_banned_by(events))

        # (3) The records, if the events can have changed them in another way.
        if not self._next_block or _needs_records(events, self._settings.identity):
            view = read_tunnels(contract, self._settings, block=position.block.number)
            self._apply(view, now)
            follower.check()

        # (4) The blocks count as read only now, so that a failure above repeats the steps.
        if self._peers != before:
            self._report(f"{len(self._peers)} peers in block {position.block.number}.")
        self._next_block = position.block.number + 1
        follower.acknowledge()
        self._fresh_at = position.newest.time

    def expire(self, *, now: int) -> None:
        """Remove all peers if the newest block that was read is older than the settings allow."""
        if self._peers and self._fresh_at is not None and now - self._fresh_at > self._settings.max_age:
            self._report(f"No block has been read for more than {self._settings.max_age} s: all peers are removed.")
            self.close()

    def repair(self, *, now: int) -> None:
        """Load the rules again if another program removed them.

        If another program removed the interface, the next call of `update` creates the interface again.

        Args:
            now: Unix time. The rules are checked every `_REPAIR_PAUSE` seconds.
        """
        if not self._is_open or 0 <= now - self._checked_at < _REPAIR_PAUSE:
            return
        self._checked_at = now
        if not self._interface.exists():
            self._report(f"The interface {self._settings.interface} was removed, and is made again.")
            self._peers, self._next_block, self._is_open = (), 0, False
        elif not self._interface.has_rules():
            self._interface.load_rules(self._rules)
            self._report("The rules of nftables were removed, and are loaded again.")

    def close(self) -> None:
        """Remove all peers."""
        if self._is_open and self._interface.exists():
            self._set(())
            self._next_block = 0  # the next reading is a whole one

    def _close_banned(self, banned: Collection[UUID]) -> None:
        if removed := [peer for peer in self._peers if peer.uuid in banned]:
            self._interface.remove_peers([peer.encoded_key for peer in removed])
            self._peers = tuple(peer for peer in self._peers if peer.uuid not in banned)
        for peer in removed:
            self._report(f"The {peer.kind} {peer.uuid} at {peer.address} is banned: its tunnel is closed.")

    def _apply(self, view: TunnelView, now: int) -> None:
        is_new = not self._is_open
        if is_new and view.own.virtual_ip:
            self._interface.open(view.own.virtual_ip)

        # The rules are loaded before the peers, so that no peer reaches a port that is closed to it.
        rules = render_rules(self._settings.interface, view.own.kind, self._settings.ports, view.peers)
        if is_new or rules != self._rules:
            self._interface.load_rules(rules)
            self._rules, self._is_open = rules, True

        peers = self._reachable(view.peers, now)
        if is_new or not peers:
            self._set(peers)
        else:
            self._change(peers)

    def _reachable(self, peers: Iterable[Peer], now: int) -> tuple[Peer, ...]:
        """Remove the endpoints that cannot be resolved. WireGuard refuses all peers if one endpoint is wrong."""
        found, before = [], {one.uuid: one for one in self._peers}
        for peer in peers:
            # An endpoint that was resolved before is not resolved again.
            is_known = not peer.endpoint or before.get(peer.uuid) == peer
            if is_known or self._interface.resolves(peer.endpoint):
                found.append(peer)
                continue
            found.append(replace(peer, endpoint=""))
            if found[-1] != before.get(peer.uuid):
                self._report(f"The endpoint {peer.endpoint} of the {peer.kind} {peer.uuid} cannot be resolved.")

        self._is_partial, self._resolved_at = [*found] != [*peers], now
        return tuple(found)

    def _change(self, peers: tuple[Peer, ...]) -> None:
        """Remove old peers before new peers are added, because a new peer may have the address of an old peer."""
        if removed := sorted({one.encoded_key for one in self._peers} - {one.encoded_key for one in peers}):
            self._interface.remove_peers(removed)
        if added := [one for one in peers if one not in self._peers]:
            self._interface.add_peers(render_peers(added), [one.address for one in added])
        self._peers = peers

    def _set(self, peers: tuple[Peer, ...]) -> None:
        text = render_interface(self._key, self._settings.listen_port) + render_peers(peers)
        self._interface.set_configuration(text, [peer.address for peer in peers])
        self._peers = peers


def _needs_records(events: Iterable[DecodedEvent], own: UUID) -> bool:
    """Whether the records must be read again. A ban of an identity other than `own` needs no new reading."""
    return any(event.name != "IdentityBanned" or UUID(bytes=event.arguments["uuid"]) == own for event in events)


def _banned_by(events: Iterable[DecodedEvent]) -> set[UUID]:
    """Return the identities that were banned by the events and are still banned after the last event."""
    banned: set[UUID] = set()
    for event in events:
        if event.name == "IdentityBanned":
            banned.add(UUID(bytes=event.arguments["uuid"]))
        elif event.name == "IdentityUnbanned":
            banned.discard(UUID(bytes=event.arguments["uuid"]))
    return banned
