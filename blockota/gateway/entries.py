"""Creates the entries of the gateway's log, and limits the number of entries for each device.

A caller can wait until an entry has its index in the log (`EntryPlaces`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from blockota.gateway.limits import RateLimit
from blockota.model.delivery import EntryFacts
from blockota.model.receipt import EntryKind, LogEntry, printable

ENTRIES_PER_MINUTE, WARNINGS_PER_MINUTE = 30, 10
"""The maximum number of entries that one device may cause in a minute, and the maximum number of warnings about it."""
_KEPT_PLACES = 4096


class EntryMaker:
    """Creates log entries, with a limit for each device.

    Args:
        site: UUID of the gateway.
    """

    def __init__(self, site: UUID) -> None:
        self._site = site
        self._entries = RateLimit(ENTRIES_PER_MINUTE)
        self._warnings = RateLimit(WARNINGS_PER_MINUTE)
        self._reasons = RateLimit(1)

    def is_flooding(self, number: int, now: int) -> bool:
        """Whether a device has reached its limit of entries for the current minute."""
        return self._entries.is_reached(number, now)

    def warning(self, number: int | None, reason: str, now: int) -> list[bytes]:
        """Return the entry of a warning as a list.

        The list is empty if the same warning was already logged within the minute, or if the limit of warnings is
        reached.

        Args:
            number: number of the device; None if it is unknown, or not of this site.
            reason: the text of the warning.
            now: the gateway's time.
        """
        # The limit of all warnings is checked first, so that new reasons use no memory after the limit is reached.
        if self._warnings.is_reached(number, now) or not self._reasons.take((number, reason), now):
            return []
        self._warnings.take(number, now)
        return [self._encode(number or 0, EntryFacts(EntryKind.WARNING, text=reason), now)]

    def entry(
        self, number: int, facts: EntryFacts, now: int, *, unique_id: bytes | None = None, source: str | None = None
    ) -> list[bytes]:
        """Return an entry about a device as a list.

        For a warning, the limits of `warning` apply, and the list can be empty.

        Args:
            number: number of the device.
            facts: the entry.
            now: the gateway's time.
            unique_id: unique id of the device's chip.
            source: the source from which the gateway fetched the image.
        """
        if facts.kind is EntryKind.WARNING:
            return self.warning(number, facts.text, now)
        self._entries.take(number, now)
        return [self._encode(number, facts, now, unique_id=unique_id, source=source)]

    def _encode(
        self, number: int, facts: EntryFacts, now: int, *, unique_id: bytes | None = None, source: str | None = None
    ) -> bytes:
        # Only an entry that names the running image has the chip and the source; any other has its text in that field.
        if not facts.kind.names_running_image:
            unique_id, source = None, printable(facts.text)
        return LogEntry(
            kind=facts.kind,
            time=now,
            device=number,
            release=facts.release,
            image=facts.image,
            previous=facts.previous,
            level=facts.level,
            counter=facts.counter,
            unique_id=unique_id,
            gateway=self._site,
            source=source,
            order=facts.order,
            signature=facts.statement,
        ).encode()


class EntryPlaces:
    """Stores the log indices of entries, so that a caller can wait until an entry is in the log."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, int] = OrderedDict()
        self._awaited: dict[int, asyncio.Future[int]] = {}

    async def of(self, sequence: int) -> int:
        """Wait until an entry is in the log, and return its log index.

        Args:
            sequence: the number of the entry in the outbox.
        """
        if sequence in self._known:
            return self._known[sequence]
        future = self._awaited.get(sequence)
        if future is None:
            future = self._awaited[sequence] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(future)

    def add(self, positions: Iterable[tuple[int, int]]) -> None:
        """Record the log indices of entries, as pairs (number in the outbox, log index)."""
        for sequence, position in positions:
            self._known[sequence] = position
            future = self._awaited.pop(sequence, None)
            if future and not future.done():
                future.set_result(position)
        while len(self._known) > _KEPT_PLACES:
            self._known.popitem(last=False)


def event_digest(text: str) -> bytes:
    """Return the SHA-256 of the text that the log stores for an event, by which a repeated event is recognised."""
    return hashlib.sha256(printable(text).encode("utf-8", "surrogatepass")).digest()
