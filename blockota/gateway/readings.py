"""Accepts the readings of devices, and stores each reading until it was delivered to the validators.

`ReadingDesk.receive` returns after the reading was written to the outbox on the disk. A face confirms a reading to the
device only after `receive` has returned. A killed gateway therefore loses no confirmed reading. Readings that arrive
during a transaction are written together in the next transaction. If writing fails, no reading is confirmed, and the
transaction is repeated.

Each validator has a share of the outbox. A validator that is out of reach for days can fill only its own share.
When a share is full, new readings are stored for the other validators only. New readings are refused when all shares
are full.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

from blockota.errors import LimitReachedError, RefusedError, StoreError
from blockota.gateway.limits import RateLimit
from blockota.identity.request_outbox import RequestOutbox
from blockota.messaging.readings import read_reading
from blockota.model.reading import SensorReading

READINGS_PER_MINUTE = 600
"""The largest number of readings of one device in a minute."""
MOST_WAITING = 1_000_000
"""The largest number of readings in the outbox, about 200 MB. Each validator has an equal share of it."""
_METHOD, _MEMBER = "submit", "readings"
_COUNTED_FOR = 5.0
_PAUSE = 1.0


class ReadingDesk:
    """Accepts and stores the readings of all devices of a site.

    Args:
        outbox: the outbox.
        validators: the receivers. Each reading is stored for each validator whose share of the outbox is not full.
        clock: returns Unix time.
        note: called with the reason after a failed write to the outbox, and with an empty text after a successful
            write.

    Attributes:
        accepted: the number of readings since the start.
        refused: the number of messages that were refused since the start.
        last: Unix time of the last accepted reading of each device.
    """

    def __init__(
        self,
        outbox: RequestOutbox,
        validators: Sequence[UUID],
        *,
        clock: Callable[[], int],
        note: Callable[[str], None],
    ) -> None:
        self._outbox, self._validators, self._clock, self._note = outbox, tuple(validators), clock, note
        self._limit = RateLimit(READINGS_PER_MINUTE)
        self._waiting: list[tuple[SensorReading, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._counted_at, self._counts = float("-inf"), Counter[UUID]()
        self.accepted, self.refused = 0, 0
        self.last: dict[int, int] = {}

    async def receive(self, thing: int, payload: bytes) -> None:
        """Store a reading of an authenticated device. Returns when the reading is on the disk.

        Args:
            thing: number of the device.
            payload: the message, in the format of `blockota.messaging.readings`.

        Raises:
            LimitReachedError: the device sends too many readings, or the outbox is full.
            RefusedError: the message is not a reading.
        """
        now = self._clock()
        limit = ""
        if not self._limit.take(thing, now):
            limit = f"more than {READINGS_PER_MINUTE} readings in a minute"
        elif self._validators and not self._open_validators():
            limit = f"{MOST_WAITING:,} readings wait for the validators"
        if limit:
            self.refused += 1
            raise LimitReachedError("the reading is refused", why=limit)

        try:
            reading = read_reading(payload, thing=thing, now=now)
        except ValueError as error:
            self.refused += 1
            raise RefusedError("the reading is refused", why=str(error)) from error

        # The readings that arrive during a write share the next one.
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((reading, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await written
        self.accepted += 1
        self.last[thing] = now

    def put(self, readings: Sequence[SensorReading]) -> None:
        """Write readings of the gateway itself, in the caller's thread.

        Raises:
            StoreError: the outbox cannot be written.
        """
        # If the share of every validator is full, the gateway's own readings are written all the same.
        for validator in self._open_validators() or self._validators:
            self._outbox.put(validator, _METHOD, [one.as_fields() for one in readings], member=_MEMBER)
            self._counts[validator] += len(readings)

    def waiting(self) -> int:
        """Return the number of readings in the outbox, which may be a few seconds old."""
        return sum([*self._counted().values()])  # a copy, because another thread may write

    def _counted(self) -> Counter[UUID]:
        now = time.monotonic()
        if now - self._counted_at >= _COUNTED_FOR:
            self._counted_at = now
            with suppress(StoreError):  # the next write reports it
                self._counts = Counter(self._outbox.waiting_for())
        return self._counts

    def _open_validators(self) -> list[UUID]:
        """Return the validators whose shares of the outbox are not full."""
        counts, share = self._counted(), MOST_WAITING // max(len(self._validators), 1)
        return [one for one in self._validators if counts[one] < share]

    async def _write(self) -> None:
        """Write the waiting readings, until no reading waits."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._write_all([reading for reading, _ in waiting])
            for _, future in waiting:
                if not future.done():  # a cancelled caller
                    future.set_result(None)
        self._writing = None

    async def _write_all(self, readings: Sequence[SensorReading]) -> None:
        trouble = ""

        while True:
            try:
                await asyncio.to_thread(self.put, readings)
            except StoreError as error:
                trouble = f"{error.what}: {error.why}"
                self._note(trouble)
                # The devices have not been answered, so the write is repeated until the disk works.
                await asyncio.sleep(_PAUSE)
            else:
                if trouble:
                    self._note("")
                return
