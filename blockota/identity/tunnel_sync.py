"""Keep the tunnels of this host equal to the registry.

The interface starts without peers. Whenever the registry has an event, all records are read at that block, and the
peers that changed are replaced. The others are not named to WireGuard: ``wg syncconf`` would remove the address of each
peer for a moment, and packets of this moment would be lost. A ban is carried out before the records are read.
Blocks need no confirmation here: if a reorganisation takes a ban back, the peer returns with the next reading.

While the chain is out of reach, the last peers stay for `TunnelSettings.max_age`, because a chain that is down should
not stop a city; then all are removed, because a ban could be missing. They are also removed when the program ends.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol
from uuid import UUID

from blockota.bindings.events import read_events
from blockota.bindings.identities import IdentitiesContract
from blockota.chain.follow import Follower
from blockota.errors import ChainError, RefusedError
from blockota.identity.tunnel_settings import TunnelSettings
from blockota.identity.tunnels import Peer, find_peers, render_interface, render_peers, render_rules
from blockota.identity.wireguard import PeerState
from blockota.model.identity import Identity
from blockota.model.release import show_time

Report = Callable[[str], None]
"""Shows one sentence."""


class TunnelInterface(Protocol):
    """A network interface with tunnels; `blockota.identity.wireguard.WireGuard` is one."""

    def open(self, address: IPv4Address) -> None:
        """Create the interface without peers."""

    def load_rules(self, rules: str) -> None:
        """Load rules of nftables."""

    def set_configuration(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Replace key and peers."""

    def add_peers(self, text: str, addresses: Sequence[IPv4Address]) -> None:
        """Add peers, or replace those that have the same keys."""

    def remove_peers(self, keys: Sequence[str]) -> None:
        """Remove peers at once."""


@dataclass(frozen=True)
class TunnelView:
    """The registry as this end sees it.

    Attributes:
        own: the record of this end.
        peers: its peers.
        block: the block at which the records were read.
    """

    own: Identity
    peers: tuple[Peer, ...]
    block: int


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
            remedy="let the city enrol it with a virtual IP and the public key that `vpn key` printed",
        )
    return TunnelView(own, find_peers(records, own, settings.endpoints), number)


@dataclass(frozen=True)
class TunnelState:
    """A tunnel of this host.

    Attributes:
        state: what WireGuard knows about it.
        identity: the record of its other end; None if no identity has its key.
    """

    state: PeerState
    identity: Identity | None

    @property
    def standing(self) -> str:
        """The registry's data about the other end of a tunnel."""
        if self.identity is None:
            return "not enrolled"
        if self.identity.banned and self.identity.banned_at:
            return f"banned since {show_time(self.identity.banned_at)}"
        return "retired" if self.identity.retired else "enrolled"


def join_states(identities: Iterable[Identity], states: Iterable[PeerState]) -> list[TunnelState]:
    """Return the tunnels of this host with the records of their other ends, in the order of the virtual IPs."""
    by_key = {base64.b64encode(one.keys.tunnel_key).decode(): one for one in identities if one.keys.tunnel_key}
    rows = [TunnelState(state, by_key.get(state.key)) for state in states]
    return sorted(rows, key=lambda row: (row.identity and row.identity.virtual_ip) or IPv4Address(0))


class TunnelSync:
    """Keeps the tunnels of one interface equal to the registry.

    Args:
        settings: this end.
        private_key: its key in base64.
        interface: the interface.
        report: shows what changed.
    """

    def __init__(self, settings: TunnelSettings, private_key: str, interface: TunnelInterface, report: Report) -> None:
        self._settings, self._key, self._interface, self._report = settings, private_key, interface, report
        self._peers: tuple[Peer, ...] = ()
        self._next_block = 0
        self._fresh_at: int | None = None
        self._is_open = False

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers that the interface has."""
        return self._peers

    def update(self, contract: IdentitiesContract, follower: Follower, *, now: int) -> None:
        """Read the registry as far as the chain has grown, and change the tunnels.

        Args:
            contract: the registry.
            follower: follows its chain without confirmations.
            now: Unix time.

        Raises:
            ChainError: the node is out of reach, or its newest block is too old. `expire` then decides about the peers.
            RefusedError: this end is not enrolled, or has no virtual IP or tunnel key.
        """
        position = follower.advance()
        if (age := now - position.newest.time) > self._settings.max_age:
            raise ChainError("the node is behind", why=f"its newest block is {age} s old", remedy="use another node")
        if position.reorganised_from is not None:
            self._next_block = 0
        names = {contract.address: "IdentityRegistry"}
        events = list(read_events(follower.events(*names, first_block=self._next_block), names))
        if events or not self._next_block:
            before = self._peers
            banned = {UUID(bytes=event.arguments["uuid"]) for event in events if event.name == "IdentityBanned"}
            self._remove(banned)
            view = read_tunnels(contract, self._settings, block=position.block.number)
            self._apply(view)
            if self._peers != before:
                self._report(f"{len(self._peers)} peers in block {view.block}.")
            follower.check()
        self._next_block = position.block.number + 1
        follower.acknowledge()
        self._fresh_at = position.newest.time

    def expire(self, *, now: int) -> None:
        """Remove all peers if the newest block that was read is older than the settings allow."""
        if self._peers and self._fresh_at is not None and now - self._fresh_at > self._settings.max_age:
            self._report(f"No block has been read for more than {self._settings.max_age} s: all peers are removed.")
            self.close()

    def close(self) -> None:
        """Remove all peers."""
        if self._is_open:
            self._set(())
            self._next_block = 0  # the next reading is a whole one

    def _remove(self, banned: Collection[UUID]) -> None:
        if removed := [peer for peer in self._peers if peer.uuid in banned]:
            self._interface.remove_peers([peer.encoded_key for peer in removed])
            self._peers = tuple(peer for peer in self._peers if peer.uuid not in banned)
        for peer in removed:
            self._report(f"The {peer.kind} {peer.uuid} at {peer.address} is banned: its tunnel is closed.")

    def _apply(self, view: TunnelView) -> None:
        is_new = not self._is_open
        if is_new and view.own.virtual_ip:
            self._interface.open(view.own.virtual_ip)
            self._interface.load_rules(render_rules(self._settings.interface, view.own.kind, self._settings.ports))
            self._is_open = True
        if is_new or not view.peers:
            self._set(view.peers)
        else:
            self._change(view.peers)

    def _change(self, peers: tuple[Peer, ...]) -> None:
        """Replace the peers that changed, the removed ones first, because a new peer may have the address of one."""
        if removed := sorted({one.encoded_key for one in self._peers} - {one.encoded_key for one in peers}):
            self._interface.remove_peers(removed)
        if added := [one for one in peers if one not in self._peers]:
            self._interface.add_peers(render_peers(added), [one.address for one in added])
        self._peers = peers

    def _set(self, peers: tuple[Peer, ...]) -> None:
        text = render_interface(self._key, self._settings.listen_port) + render_peers(peers)
        self._interface.set_configuration(text, [peer.address for peer in peers])
        self._peers = peers
