"""The devices of a site in memory: their deliveries, their targets, and when to choose their targets again.

This module writes nothing to disk. Changes are collected in a `FleetWork`, which `blockota.gateway.core.Core` commits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from blockota.gateway.facts import KnownDevice, SiteFacts
from blockota.gateway.planning import FIRMWARE, Plan, Slot
from blockota.gateway.state import DeviceRecord
from blockota.model.delivery import Delivery, EntryFacts, Event, Planned, Stage, Timeout
from blockota.model.delivery_rules import advance
from blockota.model.target import Choice, Condition, GroupPolicy

_UNKNOWN = DeviceRecord()


@dataclass
class FleetWork:
    """The results of events, which the caller commits.

    Attributes:
        now: the gateway's time.
        deliveries: the changed deliveries, by device and slot.
        entries: the new log entries in order, each with the number of its device.
        notified: the devices whose offers changed.
        banned: the devices that were banned.
        records: the changed records of devices.
        retries: numbers of the operators' requests that were processed.
    """

    now: int
    deliveries: dict[tuple[int, str], Delivery] = field(default_factory=dict)
    entries: list[tuple[int, EntryFacts]] = field(default_factory=list)
    notified: dict[int, None] = field(default_factory=dict)
    banned: list[int] = field(default_factory=list)
    records: dict[int, DeviceRecord] = field(default_factory=dict)
    retries: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Member:
    """A device in memory.

    Attributes:
        record: the facts from the device's reports and statements.
        deliveries: the deliveries of the device, by slot.
        choices: the chosen targets, by slot.
        basis: the facts from which the targets were chosen.
        alarm: the time at which the device's targets must be chosen again; None if no time is set.
    """

    record: DeviceRecord = _UNKNOWN
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    basis: tuple[object, ...] = ()
    alarm: int | None = None


class Fleet:
    """The devices of a site.

    Args:
        records: the stored facts about devices, by number.
        deliveries: the stored deliveries, each with the number of its device and its slot.
        first_attempt: the number from which the tries of a new delivery are counted.
    """

    def __init__(
        self,
        records: Mapping[int, DeviceRecord],
        deliveries: Iterable[tuple[int, str, Delivery]],
        *,
        first_attempt: int = 0,
    ) -> None:
        self._nothing = Delivery(attempt=first_attempt)
        self.plan = Plan(SiteFacts(), {})
        self.paused: frozenset[str] = frozenset()
        self._members = {number: _Member(record) for number, record in records.items()}
        self._alarms: list[tuple[int, int]] = []
        for number, slot, delivery in deliveries:
            self._member(number).deliveries[slot] = delivery

    def record(self, number: int) -> DeviceRecord:
        """Return the known facts about a device."""
        member = self._members.get(number)
        return member.record if member else _UNKNOWN

    def set_record(self, work: FleetWork, number: int, record: DeviceRecord) -> None:
        """Replace the known facts about a device."""
        if record != self.record(number):
            self._member(number).record = record
            work.records[number] = record

    def delivery(self, number: int, slot: str = FIRMWARE) -> Delivery:
        """Return the delivery state of a component of a device."""
        member = self._members.get(number)
        return member.deliveries.get(slot, self._nothing) if member else self._nothing

    def choice(self, number: int, slot: str = FIRMWARE) -> Choice | None:
        """Return the newest choice of a target for a component of a device; None before the first choice."""
        member = self._members.get(number)
        return member.choices.get(slot) if member else None

    def slot_of(self, device: KnownDevice, product: str | None) -> Slot | None:
        """Return the slot of a product. If `product` is None, return the slot of the firmware."""
        slots = self.plan.slots(device)
        if product is None:
            return slots.get(FIRMWARE)
        return next((slot for slot in slots.values() if slot.has(product)), None)

    def slot_of_job(self, device: KnownDevice, job: int) -> Slot | None:
        """Return the slot whose current try has the number `job`."""
        slots = self.plan.slots(device).items()
        return next((slot for name, slot in slots if self.delivery(device.number, name).job == job and job), None)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of all devices of the site."""
        yield from self.plan.facts.devices

    def stages(self) -> Counter[Stage]:
        """Count the components of the devices by stage."""
        found = Counter[Stage]()
        for number, device in self.plan.facts.devices.items():
            found.update(self.delivery(number, name).stage for name in self.plan.slots(device))
        return found

    def learn(self, facts: SiteFacts, policies: Mapping[str, GroupPolicy]) -> list[int]:
        """Replace the facts. Returns the devices that must be planned again, including devices that left the site."""
        before = self.plan
        if before.is_of(facts, policies):
            before.facts = facts
            return []
        self.plan = Plan(facts, policies, previous=before)
        changed = [number for number, device in facts.devices.items() if self._is_changed(device)]
        return changed + [number for number in before.facts.devices if number not in facts.devices]

    def pause(self, paused: frozenset[str]) -> list[int]:
        """Replace the set of paused groups and devices. Returns the devices that must be planned again."""
        if paused == self.paused:
            return []
        self.paused = paused
        return [number for number, device in self.plan.facts.devices.items() if self._is_changed(device)]

    def apply(self, work: FleetWork, device: KnownDevice, slot: Slot, event: Event) -> None:
        """Process an event of a component, and choose its target again."""
        self._advance(work, device, slot, event)
        self._choose(work, device, slot)
        self._set_alarm(device.number)

    def replan(self, work: FleetWork, number: int) -> None:
        """Choose the targets of a device again. A device that left the site keeps its state, but receives no offers."""
        device, member = self.plan.device(number), self._member(number)
        if device is None:
            work.notified[number] = None
            member.basis = ()
            return

        if device.is_banned and not (member.basis and member.basis[1]):
            work.banned.append(number)
            work.notified[number] = None
        member.basis = self._basis(device)

        slots = self.plan.slots(device)
        for slot in slots.values():
            self._choose(work, device, slot)

        # A product that left the Spec is planned without a target.
        for name in [name for name in member.deliveries if name not in slots]:
            planned = Planned(None, why="the device's Spec does not list the product any more")
            self._advance(work, device, Slot.of(name, (), GroupPolicy()), planned)
            member.choices.pop(name, None)
        self._set_alarm(number)

    def due(self, now: int) -> list[int]:
        """Return the devices whose next planning is due, each device once."""
        found = list[int]()
        while self._alarms and self._alarms[0][0] <= now:
            time, number = heapq.heappop(self._alarms)
            member = self._members[number]
            # An alarm that an earlier alarm has replaced stays in the heap, and is skipped here.
            if member.alarm == time:
                member.alarm = None
                found.append(number)
        return found

    def wake(self, work: FleetWork, number: int) -> None:
        """Process the expired timeouts of a device, and choose its targets again."""
        device = self.plan.device(number)
        if device is None:
            return
        for name, slot in self.plan.slots(device).items():
            wake = self.delivery(number, name).wake
            if wake is not None and wake <= work.now:
                self._advance(work, device, slot, Timeout())
        self.replan(work, number)

    def delay(self, work: FleetWork, seconds: int) -> None:
        """Extend the timeouts and pauses of all deliveries. A postponed delivery keeps the time named by its device."""
        for number, member in self._members.items():
            for name, delivery in member.deliveries.items():
                # A postponed delivery waits for a time that the device has named.
                if delivery.wake is not None and delivery.stage is not Stage.POSTPONED:
                    self._put(work, number, name, delivery, replace(delivery, wake=delivery.wake + seconds))
            self._set_alarm(number)

    def _member(self, number: int) -> _Member:
        member = self._members.get(number)
        if member is None:
            member = self._members[number] = _Member()
        return member

    def _basis(self, device: KnownDevice) -> tuple[object, ...]:
        is_paused = device.group in self.paused or str(device.number) in self.paused
        is_banned = device.is_banned
        orders = self.plan.orders(device.number)
        return device, is_banned, self.plan.slots(device), orders, is_paused, self.plan.facts.is_banned

    def _is_changed(self, device: KnownDevice) -> bool:
        member = self._members.get(device.number)
        return member is None or member.basis != self._basis(device)

    def _condition(self, device: KnownDevice, slot: Slot) -> Condition:
        return Condition(
            running=self.delivery(device.number, slot.name).running,
            hardware=self.record(device.number).hardware,
            face=device.face,
            is_banned=device.is_banned or self.plan.facts.is_banned,
            is_paused=device.group in self.paused or str(device.number) in self.paused,
        )

    def _choose(self, work: FleetWork, device: KnownDevice, slot: Slot) -> None:
        orders = self.plan.orders(device.number)
        choice = self.plan.choose(slot, self._condition(device, slot), orders, work.now)
        self._member(device.number).choices[slot.name] = choice
        self._advance(work, device, slot, Planned(choice.target, choice.is_withheld, choice.why))

    def _advance(self, work: FleetWork, device: KnownDevice, slot: Slot, event: Event) -> None:
        before = self.delivery(device.number, slot.name)
        step = advance(before, event, policy=slot.limits, now=work.now)
        work.entries += [(device.number, entry) for entry in step.entries]
        self._put(work, device.number, slot.name, before, step.delivery)

    def _put(self, work: FleetWork, number: int, slot: str, before: Delivery, after: Delivery) -> None:
        """Store a new delivery state in memory, and record whether the offer has changed."""
        if after == before:
            return
        self._member(number).deliveries[slot] = after
        work.deliveries[number, slot] = after
        # A face learns of a new or changed offer, of another try, and of the end of an offer.
        if (before.offer, before.attempt) != (after.offer, after.attempt) and (before.offer or after.offer):
            work.notified[number] = None

    def _set_alarm(self, number: int) -> None:
        member = self._member(number)
        times = [one.wake for one in member.deliveries.values() if one.wake is not None]
        times += [one.changes_at for one in member.choices.values() if one.changes_at is not None]
        if times and (member.alarm is None or min(times) < member.alarm):
            member.alarm = min(times)
            heapq.heappush(self._alarms, (member.alarm, number))
