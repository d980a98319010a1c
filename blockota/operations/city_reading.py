"""Read the gateway chain for the operations room: identities, devices, orders and anchored logs at one block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from blockota.bindings.devices import DevicesContract
from blockota.bindings.events import GATEWAY_CONTRACTS, DecodedEvent, read_events
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.orders import OrdersContract
from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.chain import Log
from blockota.chain.follow import Follower
from blockota.chain.records import BlockHead
from blockota.connection import Connection
from blockota.model.anchored_log import AnchoredLog
from blockota.model.device import BLOCK, Device
from blockota.model.identity import Identity
from blockota.model.order import Group, Order
from blockota.operations.happenings import HappeningWriter
from blockota.settings import REGISTRIES

_OF_DEVICE = frozenset({"DeviceRegistered", "DeviceKeySet", "DeviceTransferred", "DeviceBanned", "DeviceUnbanned"})
_FIRST_WORD = 1


@dataclass(frozen=True)
class CityReading:
    """The records of the gateway chain at one confirmed block.

    Attributes:
        block: the confirmed block.
        newest: the newest block.
        identities: all identities, the most recently enrolled first.
        devices: all devices that have their own record, by number.
        models: the name of each Spec, by hash.
        orders: all orders, oldest first.
        groups: the groups of the orders, by name.
        logs: the newest anchor of each log, by the UUID of the log's identity.
        log_keys: the present and earlier log keys of each identity.
    """

    block: BlockHead
    newest: BlockHead
    identities: Mapping[UUID, Identity] = field(default_factory=dict)
    devices: Mapping[int, Device] = field(default_factory=dict)
    models: Mapping[bytes, str] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    logs: Mapping[UUID, AnchoredLog] = field(default_factory=dict)
    log_keys: Mapping[UUID, tuple[bytes, ...]] = field(default_factory=dict)

    def model_of(self, device: Device) -> str:
        """Return the name of a device's model."""
        return self.models.get(device.spec_hash, device.spec_hash.hex()[:8])

    def identity_name(self, uuid: UUID) -> str:
        """Return the kind and the UUID of an identity."""
        found = self.identities.get(uuid)
        return f"{found.kind} {uuid}" if found else str(uuid)


class CityChain:
    """Reads the gateway chain. A record is read again only after an event names the record.

    Args:
        connection: the gateway chain with its contracts.
        follower: follows the chain.
        writer: writes the events of the chain into the archive.

    Attributes:
        connection: the gateway chain with its contracts.
    """

    CONTRACTS = GATEWAY_CONTRACTS

    def __init__(self, connection: Connection, follower: Follower, writer: HappeningWriter) -> None:
        self.connection, self._follower, self._writer = connection, follower, writer
        self.identities = connection.open(IdentitiesContract)
        self.devices = connection.open(DevicesContract)
        self.orders = connection.open(OrdersContract)
        self.ledger = connection.open(UpdateLedgerContract)

        known = connection.settings.registries
        self._names = {
            address: REGISTRIES[setting] for setting, address in known.items() if REGISTRIES[setting] in self.CONTRACTS
        }

        self._next_block = 0
        self._known: CityReading | None = None
        self._order_logs: list[Log] = []

    def read(self) -> CityReading:
        """Read the records of the city at the newest confirmed block.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised during the read.
            RefusedError: a contract's answer is not valid.
        """
        # (1) The confirmed block. After a reorganisation, everything is read again.
        position = self._follower.advance()
        if position.reorganised_from is not None:
            self._known, self._next_block, self._order_logs = None, 0, []
            self._writer.drop(position.reorganised_from)
        known, at = self._known, position.block.number

        # (2) The events show what changed.
        logs = self._follower.events(*self._names, first_block=self._next_block)
        events = list(read_events(logs, self._names))

        # (3) Read that, and check afterwards that the block is still on the chain.
        reading = replace(known or CityReading(position.block, position.newest), block=position.block)
        reading = replace(reading, newest=position.newest)
        changed = {event.contract for event in events}
        if known is None or "IdentityRegistry" in changed:
            reading = self._with_identities(reading, at)
        if known is None or "DeviceRegistry" in changed:
            reading = self._with_devices(reading, events, at, is_first=known is None)
        if known is None or "UpdateLedger" in changed:
            keepers = [uuid for uuid, one in reading.identities.items() if one.keys.log_key]
            anchored = {uuid: found for uuid in keepers if (found := self.ledger.log(uuid, block=at))}
            reading = replace(reading, logs=anchored)
        self._order_logs += [event.log for event in events if event.contract == "UpdateOrders"]
        reading = self._with_orders(reading, position.block)

        self._follower.check()
        self._writer.write(events)
        self._follower.acknowledge()
        self._known, self._next_block = reading, at + 1
        return reading

    def _with_identities(self, reading: CityReading, at: int) -> CityReading:
        found = {one.uuid: one for one in self.identities.identities(block=at)}
        keys = {}
        for uuid, identity in found.items():
            if identity.keys.log_key or uuid in reading.log_keys:
                generations = self.identities.generations(uuid, block=at)
                keys[uuid] = tuple(one.keys.log_key for one in generations if one.keys.log_key is not None)
        return replace(reading, identities=found, log_keys=keys)

    def _with_devices(
        self, reading: CityReading, events: list[DecodedEvent], at: int, *, is_first: bool
    ) -> CityReading:
        words = set[int]()
        for event in events:
            if event.contract == "DeviceRegistry" and event.name in _OF_DEVICE:
                words.add(event.arguments["number"] // BLOCK)
            elif event.name == "BatchRegistered":
                first, count = event.arguments["first"], event.arguments["count"]
                words.update(range(first // BLOCK, (first + count - 1) // BLOCK + 1))
            elif event.name == "SiteReplaced":
                moved = event.arguments["from"]
                words.update(number // BLOCK for number, one in reading.devices.items() if one.site.bytes == moved)

        if is_first:
            words = set(range(_FIRST_WORD, self.devices.block_count(block=at) + _FIRST_WORD))
        read = self.devices.devices_in(sorted(words), block=at) if words else []

        devices = {**reading.devices, **{one.number: one for one in read}}
        models = {spec.hash: spec.name for spec in self.devices.specs(block=at)}
        return replace(reading, devices=dict(sorted(devices.items())), models=models)

    def _with_orders(self, reading: CityReading, block: BlockHead) -> CityReading:
        """Read the orders at each block, because the status of an order depends on the time of the block."""
        if not self._order_logs:
            return replace(reading, orders=(), groups={})
        orders = tuple(self.orders.orders_in(self._order_logs, block))
        groups = dict(reading.groups)
        for name in {one.group for one in orders} - groups.keys():
            if found := self.orders.group(name, block=block.number):
                groups[name] = found
        return replace(reading, orders=orders, groups=groups)
