"""The gateway's core: the functions that the faces call, and the offers to devices.

All methods must be called in one asyncio loop. A face with a thread of its own calls the methods by
`asyncio.run_coroutine_threadsafe`.

A coroutine returns after the new state is on the disk. A face therefore acknowledges a message only when its content is
on the disk. If the job number in a call belongs to an earlier try, the call changes nothing and returns False. A
refused message is logged as a warning. A device that causes too many log entries is refused until the next minute,
while other devices are still served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from blockota.errors import AccessRefusedError, LimitReachedError, RefusedError, StoreError
from blockota.gateway.device_events import EventDesk
from blockota.gateway.entries import EntryMaker
from blockota.gateway.exchange import Clock, DeviceOffer, Report
from blockota.gateway.facts import ComponentFacts, KnownDevice, SiteFacts
from blockota.gateway.fleet import Fleet, FleetWork
from blockota.gateway.judgement import Judge, after, statement_digest
from blockota.gateway.planning import FIRMWARE, Slot
from blockota.gateway.state import GatewayState, StateChanges
from blockota.gateway.steady_time import SteadyTime
from blockota.model.delivery import Delivery, EntryFacts, Event, Offered, Outcome, Postponed, Progress, Retried, Stage
from blockota.model.receipt import POSTPONES, EntryKind, printable
from blockota.model.target import GroupPolicy

__all__ = ["Clock", "Core", "DeviceOffer", "Face", "Report"]

_AT_ONCE = 500
"""The number of devices that are planned in one step. Other calls are served between two steps."""


class Face(Protocol):
    """A protocol by which devices communicate with the gateway."""

    name: str

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve devices until the task is cancelled. A face calls `on_ready` when it is ready for devices."""

    def offer_changed(self, device: int) -> None:
        """React to a new, changed or withdrawn offer to a device. The core calls this method in the asyncio loop."""


class Core:
    """The state of all devices of a site.

    Args:
        site: UUID of the gateway, as in the registry of identities.
        state: the state of the gateway on the disk.
        clock: returns the Unix time.

    The service calls the core as follows::

        core = Core(site, state, clock=clock)
        core.add_face(face)
        await core.update(facts, policies)
        while True:
            await core.tick()  # once a second
    """

    def __init__(self, site: UUID, state: GatewayState, *, clock: Clock) -> None:
        self._state = state
        self._time = SteadyTime(clock, last=state.time)
        self._fleet = Fleet(state.devices(), state.deliveries(), first_attempt=state.first_attempt)
        self._faces: list[Face] = []
        self._planning = asyncio.Lock()
        self._maker = EntryMaker(site)
        self._has_doubt = False
        self._background: set[asyncio.Task[None]] = set()
        self._events = EventDesk(state, self._maker)

    def time(self) -> int:
        """Return the gateway's Unix time, which does not follow a sudden jump of the system clock."""
        return self._time()

    def add_face(self, face: Face) -> None:
        """Add a face, so that the core notifies the face of changed offers."""
        self._faces.append(face)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of all devices of the site, including banned devices."""
        return self._fleet.numbers()

    def stages(self) -> Mapping[Stage, int]:
        """Return the number of device components in each stage of delivery."""
        return self._fleet.stages()

    def device(self, number: int) -> KnownDevice | None:
        """Return a device of this site, even if it is banned; None for a number that is not of this site."""
        return self._fleet.plan.device(number)

    def products(self, number: int) -> tuple[ComponentFacts, ...]:
        """Return the facts of the products that a device's Spec lists."""
        return self._fleet.plan.products(self.device(number))

    def authenticate(self, face: str, number: int, secret: str | bytes) -> KnownDevice:
        """Check the credentials of a device.

        Args:
            face: name of the face.
            number: number that the client claims.
            secret: token or key of the device.

        Raises:
            AccessRefusedError: the number is not of this site, the device is banned, or the secret is wrong.
        """
        device = self.device(number)
        token = secret.encode() if isinstance(secret, str) else secret
        if device and not device.is_banned and self._state.accepts_token(face, number, token):
            return device
        reason = "the device is banned" if device and device.is_banned else f"a client of {face} has another token"
        if device is None:
            reason = f"a client of {face} claims to be device {number}, which is not of this site"
        self._warn_later(number if device else None, reason)
        raise AccessRefusedError(f"device {number} is not accepted", why=reason)

    def shared_key(self, face: str, number: int) -> bytes | None:
        """Return the 16-byte pre-shared key of a device; None if it is banned, not of this site, or has no key."""
        device = self.device(number)
        return self._state.key(face, number) if device and not device.is_banned else None

    def offer(self, number: int, product: str | None = None) -> DeviceOffer | None:
        """Return the offer for one component of a device; None if the component must not be changed now.

        Args:
            number: number of the device.
            product: product of the component; None for the firmware.
        """
        device = self.device(number)
        slot = self._fleet.slot_of(device, product) if device else None
        offer = self._offer(number, slot) if slot else None
        return offer if offer and product in (None, offer.component.product) else None

    def offers(self, number: int) -> list[DeviceOffer]:
        """Return the offers for all components of a device."""
        device = self.device(number)
        slots = self._fleet.plan.slots(device).values() if device else ()
        return [offer for slot in slots if (offer := self._offer(number, slot))]

    def state(self, number: int, product: str | None = None) -> Delivery:
        """Return the state of a component of a device.

        Raises:
            AccessRefusedError: the device is not of this site.
        """
        device = self.device(number)
        if device is None:
            raise AccessRefusedError(f"device {number} is not of this site")
        slot = self._fleet.slot_of(device, product)
        return self._fleet.delivery(number, slot.name) if slot else Delivery()

    def why(self, number: int, product: str | None = None) -> str:
        """Return why the target of a device's component was chosen, or why no target was chosen."""
        device = self.device(number)
        slot = self._fleet.slot_of(device, product) if device else None
        choice = self._fleet.choice(number, slot.name) if slot else None
        return choice.why if choice else "the device's Spec lists no product for it"

    def nonce(self, number: int) -> bytes:
        """Return the 16 bytes that a device's next statement must contain. They change after each accepted statement.

        The previous nonce is also accepted, because a device may have received its offer before the change.
        """
        return self._state.nonce(number, self._fleet.record(number).statements)

    async def update(self, facts: SiteFacts, policies: Mapping[str, GroupPolicy]) -> None:
        """Replace the chain facts, and plan the devices whose facts changed.

        Args:
            facts: the facts of one reading of the chains.
            policies: the policies of the groups, by name.
        """
        async with self._planning:
            self._time.confirm(facts.time)
            await self._replan(self._fleet.learn(facts, policies))

    async def tick(self) -> None:
        """Process expired timeouts, opened update windows, and requests of operators. Call this once a second."""
        async with self._planning:
            now = self._time()

            # (1) No timeout counts the time in which the gateway did not run, or by which its clock jumped.
            if missed := self._time.take_missed():
                work = FleetWork(now)
                self._fleet.delay(work, missed)
                await self._finish(work)

            # (2) A jump of the machine's clock is logged once.
            if (doubt := self._time.doubt) and not self._has_doubt:
                await self.warn(None, f"the clock differs by {doubt} seconds from the time that the gateway counted")
            self._has_doubt = bool(doubt)

            # (3) Pauses and retries that operators requested.
            await self._replan(self._fleet.pause(self._state.pauses()))
            for request, number, slot in self._state.retries():
                await self._retry(request, number, slot)

            # (4) Deliveries whose timeout or window is due; and changes that could not be written earlier.
            await self._replan(self._fleet.due(now), with_timeouts=True)
            if self._state.is_failing:
                await self._state.commit(StateChanges(now))

    def appended(self, positions: Iterable[tuple[int, int]]) -> None:
        """Record the log indices of entries that were appended to the log.

        Args:
            positions: pairs of an entry's number in the outbox and its index in the log.
        """
        self._events.places.add(positions)

    async def reported(self, number: int, report: Report) -> bool:
        """Record the facts that a device reports about itself.

        Returns:
            Whether the report was accepted.

        Raises:
            AccessRefusedError: the device is not of this site, or is banned.
            RefusedError: the statement is replayed, forged or about another image; the version does not belong to the
                image; or the device's Spec does not list the product. A warning is logged.
        """
        device = await self._served(number)
        slot = self._fleet.slot_of(device, report.product)
        if slot is None:
            raise await self._refused(number, f"the report names {report.product or 'an image'}, and its Spec does not")

        work, delivery, judge = FleetWork(self._time()), self._fleet.delivery(number, slot.name), self._judge(device)
        try:
            if judge.is_repeated(report, slot, delivery):
                await self._finish(work, always=True)  # the record of the first message may not be on disk yet
                return True
            judged = judge.report(report, slot, delivery)
        except RefusedError as error:
            raise await self._refused(number, error.why) from error

        if judged.warning:
            work.entries.append((number, EntryFacts(EntryKind.WARNING, text=judged.warning)))
        self._fleet.set_record(work, number, judged.record)
        if judged.event:
            self._fleet.apply(work, device, slot, judged.event)
        else:
            self._fleet.replan(work, number)
        await self._finish(work)
        return True

    async def offered(self, number: int, job: int) -> bool:
        """Record that a device was notified of an offer."""
        return await self._answered(number, job, Offered())

    async def progress(self, number: int, job: int, received: int = 0) -> bool:
        """Record that a device received a part of the image.

        Args:
            number: number of the device.
            job: number of the try.
            received: the number of bytes so far; 0 if the device does not report it.
        """
        return await self._answered(number, job, Progress(received))

    async def outcome(
        self, number: int, job: int, *, succeeded: bool, reason: str = "", is_refusal: bool = False
    ) -> bool:
        """Record the outcome of a try that a device states. A success counts when the device reports the new image.

        Args:
            number: number of the device.
            job: number of the try.
            succeeded: whether the device states that the image is installed.
            reason: the reason for a failure.
            is_refusal: whether another try would fail in the same way.

        Returns:
            Whether the outcome was recorded, now or from an earlier copy of the message.
        """
        words = printable(reason)
        if await self._answered(number, job, Outcome(succeeded, words, is_refusal)):
            return True

        device = self.device(number)
        slots = self._fleet.plan.slots(device) if device else ()
        if succeeded or not any(self._fleet.delivery(number, name).ended_by(job, words) for name in slots):
            return False
        await self._finish(FleetWork(self._time()), always=True)  # the first message's record may not be on disk yet
        return True

    async def postponed(
        self, number: int, job: int, *, until: int, reason: str = "", statement: bytes | None = None
    ) -> bool:
        """Record a device's request to postpone its update.

        Args:
            number: number of the device.
            job: number of the try.
            until: Unix time to which the device postpones the update.
            reason: the device's reason.
            statement: the device's signed statement about the image that it postpones.

        Returns:
            Whether the postponement was granted.
        """
        device = await self._served(number)
        slot = self._fleet.slot_of_job(device, job)
        delivery = self._fleet.delivery(number, slot.name) if slot else Delivery()
        if slot is None or delivery.offer is None:
            return delivery.stage is Stage.POSTPONED  # a repeated message
        if statement is not None and statement_digest(statement) == self._fleet.record(number).last:
            return delivery.stage is Stage.POSTPONED  # a repeated statement, whose time may have passed

        work, counter = FleetWork(self._time()), None
        if statement is not None:
            try:
                signed = self._judge(device).statement(statement, POSTPONES, delivery.offer.image)
            except RefusedError as error:
                raise await self._refused(number, error.why) from error
            counter = signed.counter
            self._fleet.set_record(work, number, after(self._fleet.record(number), signed.counter, statement))

        event = Postponed(until, printable(reason), counter, statement)
        self._fleet.apply(work, device, slot, event)
        await self._finish(work)
        return self._fleet.delivery(number, slot.name).stage is Stage.POSTPONED

    async def event(self, number: int, *, text: str, statement: bytes | None = None, counter: int | None = None) -> int:
        """Log an event of a device, such as an alarm.

        Args:
            number: number of the device.
            text: the event.
            statement: the device's signed statement, which gives the event the evidence level A. Without a statement,
                the event has level B.
            counter: the device's own number for the event. A repeated event is not logged again.

        Returns:
            The index of the entry in the log. The method returns after the entry was appended to the log.

        Raises:
            LimitReachedError: the device causes too many log entries.
            RefusedError: the device has already used the number for another event, or the statement does not prove that
                this device reported the event.
        """
        device = await self._served(number)
        try:
            return await self._events.take(device, text, counter=counter, statement=statement, now=self._time())
        except RefusedError as error:
            raise await self._refused(number, error.why) from error

    async def retry(self, number: int, product: str | None = None) -> bool:
        """Allow new tries of a delivery at an operator's request. Returns whether the device has the component."""
        device = self.device(number)
        slot = self._fleet.slot_of(device, product) if device else None
        return slot is not None and await self._retry(None, number, slot.name)

    async def warn(self, number: int | None, reason: str) -> None:
        """Log a warning, such as a refusal of a message. One reason is logged at most once a minute for each device.

        Args:
            number: number of the device; None if it is unknown.
            reason: the text of the warning.
        """
        now, known = self._time(), number if number is not None and self.device(number) else None
        if entries := self._maker.warning(known, reason, now):
            await self._state.commit(StateChanges(now, entries=entries))

    async def _answered(self, number: int, job: int, event: Event) -> bool:
        """Process a device's answer about a try. Returns False if the try is not the current try of any component."""
        device = await self._served(number)
        slot = self._fleet.slot_of_job(device, job)
        if slot is None:
            return False
        work = FleetWork(self._time())
        self._fleet.apply(work, device, slot, event)
        await self._finish(work)
        return True

    async def _served(self, number: int) -> KnownDevice:
        """Return a device after checking that the gateway accepts its messages.

        Raises:
            AccessRefusedError: the device is not of this site, or it is banned.
            LimitReachedError: the device causes too many log entries.
            StoreError: an earlier write to the disk failed, and its repetition failed, too. No further changes are
                made.
        """
        if self._state.is_failing:
            await self._state.commit(StateChanges(self._time()))

        device = self.device(number)
        if device is None:
            await self.warn(None, f"a client claims to be device {number}, which is not of this site")
            raise AccessRefusedError(f"device {number} is not accepted", why="it is not of this site")
        if device.is_banned:
            await self.warn(number, "a message of a banned device was refused")
            raise AccessRefusedError(f"device {number} is not accepted", why="it is banned")

        if self._maker.is_flooding(number, self._time()):
            why = "the device causes too many entries; wait a minute"
            raise await self._refused(number, why, LimitReachedError)
        return device

    async def _refused(self, number: int, why: str, kind: type[RefusedError] = RefusedError) -> RefusedError:
        """Log a warning about a refused message, and return the error for the caller to raise."""
        await self.warn(number, why)
        return kind(f"the message of device {number} is refused", why=why)

    def _judge(self, device: KnownDevice) -> Judge:
        record = self._fleet.record(device.number)
        nonces = [self._state.nonce(device.number, record.statements - back) for back in (0, 1)]
        return Judge(device, record, nonces)

    async def _retry(self, request: int | None, number: int, slot_name: str) -> bool:
        """Allow new tries of a delivery. The operator's request is removed in the same transaction."""
        device = self.device(number)
        slot = self._fleet.plan.slots(device).get(slot_name) if device else None
        work = FleetWork(self._time(), retries=[request] if request is not None else [])
        if device and slot:
            self._fleet.apply(work, device, slot, Retried())
        await self._finish(work)
        return slot is not None

    async def _replan(self, numbers: Iterable[int], *, with_timeouts: bool = False) -> None:
        """Choose the targets of devices again. Other calls are served after each batch of devices."""
        every, failure = list(numbers), None
        for begin in range(0, len(every), _AT_ONCE):
            work = FleetWork(self._time())
            for number in every[begin : begin + _AT_ONCE]:
                if with_timeouts:
                    self._fleet.wake(work, number)
                else:
                    self._fleet.replan(work, number)

            try:
                await self._finish(work)
            except StoreError as error:  # the changes are written later; the other devices are planned all the same
                failure = error
        if failure:
            raise failure

    async def _finish(self, work: FleetWork, *, always: bool = False) -> None:
        """Write the changes, and then notify the faces of changed offers. A failed write does not prevent this."""
        entries = list[bytes]()
        for number, facts in work.entries:
            image = self._fleet.plan.image(facts.image) if facts.image else None
            source, unique_id = image.source if image else None, self._fleet.record(number).unique_id
            entries += self._maker.entry(number, facts, work.now, unique_id=unique_id, source=source)

        changes = StateChanges(
            work.now,
            deliveries=work.deliveries,
            devices=work.records,
            entries=entries,
            banned=tuple(work.banned),
            retries=tuple(work.retries),
        )
        try:
            if always or changes != StateChanges(work.now):
                await self._state.commit(changes)
        finally:
            for number in work.notified:
                self._notify(number)

    def _notify(self, number: int) -> None:
        device = self.device(number)
        for face in self._faces:
            if device is None or device.face in ("", face.name):
                try:
                    face.offer_changed(number)
                except Exception as error:  # noqa: BLE001 - a defect of one face must not stop the others
                    context = {"message": f"the face {face.name} failed", "exception": error}
                    asyncio.get_running_loop().call_exception_handler(context)

    def _offer(self, number: int, slot: Slot) -> DeviceOffer | None:
        delivery = self._fleet.delivery(number, slot.name)
        target = delivery.offer
        image = self._fleet.plan.image(target.image) if target else None
        if target is None or image is None:
            return None
        orders = self._fleet.plan.orders(number)
        order = next((one for one in orders if one.number == target.order), None)
        offer = DeviceOffer.of(delivery.job, target, image, order, nonce=self.nonce(number))
        return replace(offer, is_configuration=slot.name != FIRMWARE)

    def _warn_later(self, number: int | None, reason: str) -> None:
        """Log a warning in a background task, because the caller is not a coroutine."""

        async def write() -> None:
            with suppress(StoreError):  # the entry is written with the next commit
                await self.warn(number, reason)

        task = asyncio.get_running_loop().create_task(write())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
