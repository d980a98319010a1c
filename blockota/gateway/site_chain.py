"""Read the gateway chain: the devices of the site, their Specs, the orders for them, and the gateway's own identity.

All records are read at one confirmed block. A record is read again only if a new event names the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.bindings.devices import DevicesContract
from blockota.bindings.events import DecodedEvent, read_events
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.orders import OrdersContract
from blockota.chain import Log
from blockota.chain.follow import Follower
from blockota.chain.records import BlockHead
from blockota.errors import BlockOTAError
from blockota.files import read_input
from blockota.gateway.facts import SiteOrder, SpecFacts
from blockota.model.device import BLOCK, Device
from blockota.model.identity import IdentityKind, obstacle_of
from blockota.model.order import Group, GroupKind, Order, OrderStatus, list_root, read_devices
from blockota.model.target import Component

_MAX_LIST = 1 << 24
_OF_DEVICE = frozenset({"DeviceRegistered", "DeviceKeySet", "DeviceTransferred", "DeviceBanned", "DeviceUnbanned"})
_OF_SPEC = frozenset({"SpecRegistered", "UpdateAllowed", "UpdateDisallowed"})


@dataclass(frozen=True)
class SiteReading:
    """The records of the gateway chain about the site at one confirmed block.

    Attributes:
        block: the block.
        newest: the newest block of the chain.
        devices: the devices of the site by number, including banned devices.
        specs: the Specs of these devices, by hash.
        orders: the open orders for devices of the site, oldest first.
        is_banned: whether the gateway is banned, retired or not enrolled.
        unknown_lists: names of groups whose device lists are not in the gateway's folder.
        obstacle: why the gateway cannot use its identity, for example because it is banned; empty if it can use the
            identity.
    """

    block: BlockHead
    newest: BlockHead
    devices: Mapping[int, Device]
    specs: Mapping[bytes, SpecFacts]
    orders: tuple[SiteOrder, ...]
    is_banned: bool
    unknown_lists: tuple[str, ...] = ()
    obstacle: str = ""


@dataclass
class _KnownFacts:
    """The facts from earlier events and readings. After a reorganisation, all these facts are discarded."""

    next_block: int = 0
    words: dict[bytes, set[int]] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    devices: dict[int, Device] = field(default_factory=dict)
    registered: dict[int, int] = field(default_factory=dict)
    batches: list[tuple[int, int, int]] = field(default_factory=list)
    specs: dict[bytes, SpecFacts] = field(default_factory=dict)
    orders: list[Log] = field(default_factory=list)
    groups: dict[str, Group | None] = field(default_factory=dict)


class SiteChain:
    """Reads the gateway chain.

    Args:
        identity: UUID of the gateway.
        follower: follows the chain.
        contracts: the registries of identities and devices, and the contract of orders.
        lists: the folder with the lists of devices, for the groups that are defined by a list.
    """

    def __init__(
        self,
        identity: UUID,
        follower: Follower,
        contracts: tuple[IdentitiesContract, DevicesContract, OrdersContract],
        *,
        lists: Path,
    ) -> None:
        self._identity, self._follower, self._lists = identity, follower, lists
        self._identities, self._devices, self._orders = contracts
        self._known = _KnownFacts()

    def read(self) -> SiteReading:
        """Read the site at the newest confirmed block.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised during the read.
            RefusedError: the return data of a contract is not valid.
        """
        # (1) The confirmed block. After a reorganisation, everything is read again.
        position = self._follower.advance()
        if position.reorganised_from is not None:
            self._known = _KnownFacts()
        known, at = self._known, position.block.number

        # (2) The events show what changed.
        names = {self._devices.address: "DeviceRegistry", self._orders.address: "UpdateOrders"}
        logs = self._follower.events(*names, first_block=known.next_block)
        for event in read_events(logs, names):
            self._note(event)

        # (3) Read that, and check afterwards that the block is still on the chain.
        self._read_devices(at)
        self._read_specs(at)
        identity = self._identities.identity(self._identity, block=at)
        orders, unknown = self._read_orders(position.block)
        self._follower.check()
        known.next_block = at + 1
        self._follower.acknowledge()

        return SiteReading(
            position.block,
            position.newest,
            dict(known.devices),
            dict(known.specs),
            orders,
            is_banned=identity is None or not identity.is_active,
            unknown_lists=unknown,
            obstacle=obstacle_of(identity, IdentityKind.GATEWAY),
        )

    def _note(self, event: DecodedEvent) -> None:
        """Record what an event changed."""
        # An event names only what has changed; the records themselves are read afterwards.
        known, found = self._known, event.arguments

        if event.contract == "UpdateOrders":
            if event.log not in known.orders:
                known.orders.append(event.log)
        elif event.name in _OF_DEVICE:
            number = found["number"]
            known.dirty.add(number // BLOCK)
            if event.name == "DeviceRegistered":
                known.registered[number] = event.log.block_number
        elif event.name == "BatchRegistered":
            batch = (found["first"], found["count"], event.log.block_number)
            known.batches.append(batch)
            known.dirty.update(range(batch[0] // BLOCK, (batch[0] + batch[1] - 1) // BLOCK + 1))
        elif event.name == "BlocksGiven":
            given = range(found["first"], found["first"] + found["count"])
            known.words.setdefault(found["site"], set()).update(given)
        elif event.name == "SiteReplaced":
            moved = known.words.pop(found["from"], set())
            known.words.setdefault(found["to"], set()).update(moved)
            known.dirty |= moved
        elif event.name in _OF_SPEC:
            known.specs.pop(found["specHash"], None)

    def _read_devices(self, at: int) -> None:
        known = self._known
        own = known.words.get(self._identity.bytes, set())
        # Only blocks of devices that belong to this site and have changed are read.
        words = sorted(known.dirty & own)
        read = self._devices.devices_in(words, block=at) if words else ()
        kept = {number: one for number, one in known.devices.items() if number // BLOCK in own}
        known.devices = kept | {one.number: one for one in read}
        known.dirty.clear()

    def _read_specs(self, at: int) -> None:
        known = self._known
        missing = {device.spec_hash for device in known.devices.values()} - known.specs.keys()
        for spec in self._devices.specs_with(sorted(missing), block=at) if missing else ():
            listed = (one for one in self._devices.updates(spec, block=at) if one.allowed)
            components = tuple(Component(one.chain_id, one.contract, one.product) for one in listed)
            known.specs[spec.hash] = SpecFacts(spec.name, components)

    def _read_orders(self, block: BlockHead) -> tuple[tuple[SiteOrder, ...], tuple[str, ...]]:
        """Return the open orders for the site, and the names of groups whose device lists are missing."""
        known = self._known
        if not known.orders:
            return (), ()
        open_orders = [one for one in self._orders.orders_in(known.orders, block) if one.status is OrderStatus.OPEN]

        lists = self._read_lists() if open_orders else {}
        found, unknown = [], list[str]()

        for order in open_orders:
            if order.group not in known.groups:
                known.groups[order.group] = self._orders.group(order.group, block=block.number)
            group = known.groups[order.group]
            # Without the list, the gateway cannot know whether its devices are members.
            if group and group.kind is GroupKind.LIST and group.value not in lists:
                unknown.append(group.name)
            elif group and (members := self._members(order, group, lists)):
                found.append(SiteOrder(order, members))
        return tuple(found), tuple(unknown)

    def _members(self, order: Order, group: Group, lists: Mapping[bytes, frozenset[int]]) -> frozenset[int]:
        """Return the devices of this site to which an order applies: members of its group, registered before it."""
        devices = self._known.devices
        numbers: Iterable[int] = ()
        if group.kind is GroupKind.MODEL:
            numbers = (number for number, one in devices.items() if one.spec_hash == group.value)
        elif group.kind is GroupKind.SITE and group.site == self._identity:
            numbers = devices
        elif group.kind is GroupKind.LIST:
            numbers = lists[group.value] & devices.keys()
        return frozenset(number for number in numbers if self._registered_in(number) <= order.block)

    def _registered_in(self, number: int) -> int:
        """Return the block in which a device was registered."""
        known = self._known
        if number not in known.registered:
            ends = ((first, first + count, block) for first, count, block in known.batches)
            known.registered[number] = next((block for first, end, block in ends if first <= number < end), 0)
        return known.registered[number]

    def _read_lists(self) -> dict[bytes, frozenset[int]]:
        """Read the device lists in the folder. The key of each list is its Merkle root. All other files are skipped."""
        found = {}
        for path in sorted(self._lists.iterdir()) if self._lists.is_dir() else ():
            try:
                numbers = read_devices(read_input(path, limit=_MAX_LIST).decode("ascii", "replace"))
                found[list_root(numbers)] = frozenset(numbers)
            except BlockOTAError:
                continue
        return found
