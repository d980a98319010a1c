"""Logs the events of devices.

An event with a number is logged only once. If the device signed the event, the signature is checked and logged.
"""

from __future__ import annotations

import asyncio

from blockota.errors import RefusedError
from blockota.gateway.entries import EntryMaker, EntryPlaces, event_digest
from blockota.gateway.facts import KnownDevice
from blockota.gateway.judgement import check_event
from blockota.gateway.state import GatewayState, StateChanges
from blockota.model.delivery import EntryFacts
from blockota.model.receipt import EntryKind, EvidenceLevel

_COUNTERS = 1 << 63


class EventDesk:
    """Logs the events of devices, and recognises repeated events.

    Args:
        state: the gateway's state.
        maker: makes the entries.

    Attributes:
        places: the indices of entries in the log.
    """

    def __init__(self, state: GatewayState, maker: EntryMaker) -> None:
        self._state, self._maker = state, maker
        self._waiting: dict[tuple[int, int, bytes], asyncio.Task[int]] = {}
        self.places = EntryPlaces()

    async def take(
        self, device: KnownDevice, text: str, *, counter: int | None, statement: bytes | None, now: int
    ) -> int:
        """Log an event, and return the index of its log entry. `Core.event` explains the arguments.

        Raises:
            RefusedError: the signature is not valid, or the number is too large, too old or used for another event.
        """
        if counter is not None and not 0 <= counter < _COUNTERS:
            raise _refused("the number of an event has more than 63 bits")
        if statement is not None:
            check_event(device, statement, text, counter)

        # An event without a number cannot be recognised when it is repeated, so it is logged each time.
        level = EvidenceLevel.B if statement is None else EvidenceLevel.A
        facts = EntryFacts(EntryKind.EVENT, level=level, counter=counter, statement=statement, text=text)
        if counter is None:
            return await self._log(device.number, facts, None, now)

        # A repeated event gets the index of its first entry; another event must not use its number.
        digest = event_digest(text)
        known = self._state.event(device.number, counter)
        if known and known.digest != digest:
            raise _refused(f"the device has sent another event with the number {counter}")
        if known:
            return known.position if known.position is not None else await self.places.of(known.sequence)
        if self._state.is_forgotten(device.number, counter):
            raise _refused(f"the event {counter} is too old: it is replayed")

        # A device that repeats an event before the first one is written waits for the first one.
        key = device.number, counter, digest
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.create_task(self._log(device.number, facts, key, now))
            task.add_done_callback(lambda _: self._waiting.pop(key, None))
        return await asyncio.shield(task)

    async def _log(self, number: int, facts: EntryFacts, key: tuple[int, int, bytes] | None, now: int) -> int:
        entries = self._maker.entry(number, facts, now)
        [sequence] = await self._state.commit(StateChanges(now, entries=entries, event=key))
        return await self.places.of(sequence)


def _refused(why: str) -> RefusedError:
    return RefusedError("the event is refused", why=why)
