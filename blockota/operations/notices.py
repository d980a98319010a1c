"""Notices on MQTT. A notice names an event of a chain or an entry of a log, which the subscriber can verify.

The topic is ``blockota/v1/notices/{kind}``. A notice is JSON. A subscriber can compare all fields of a notice with the
chain or the log::

    {"kind": "release", "chainId": 1337, "block": 812, "transaction": "0x…", "contract": "BlockOTA",
     "event": "ReleasePublished", "subject": "product acme-thermo2"}
    {"kind": "warning", "log": "21b678da-…", "entry": 17, "time": 1795000000, "device": 256}

The room writes a notice into the archive together with its event or entry. After the broker has acknowledged a notice,
the room deletes the notice. Each notice is therefore sent at least once (QoS 1), even if the room or the broker stops
in the meantime. If an event or an entry is older than one day when the room reads it, the room sends no notice.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from blockota.errors import MessagingError
from blockota.messaging.client import BrokerConnection, Message, keep_connected, publish_all
from blockota.model.receipt import EntryKind, LogEntry
from blockota.operations.archive import Happening, RoomArchive

TOPIC = "blockota/v1/notices/"
"""The beginning of the topics; a kind of `KINDS` follows."""
KINDS: Mapping[str, str] = {
    "ReleasePublished": "release",
    "ReleaseRevoked": "revocation",
    "AgreementProposed": "agreement-proposed",
    "AgreementAccepted": "agreement-accepted",
    "ReplicaAnnounced": "agreement-announced",
    "OrderPlaced": "order",
}
"""The kind of notice for an event of a contract. Entries of logs have the kinds ``event`` and ``warning``."""
RECORDED = frozenset({"OrderPlaced", "OrderCancelled", "IdentityBanned", "IdentityUnbanned", "DeviceBanned"})
"""The events that the room's own log names, with their transactions."""
MAX_AGE = 86_400
_NOTICE, _RECORD = "notice", "record"
_AT_ONCE, _PAUSE = 256, 0.2


class NoticeOutbox:
    """A queue in the archive: it stores notices for the message broker, and records for the room's log.

    Args:
        archive: the archive.
        clock: returns the Unix time.
        has_broker: whether the room sends notices; otherwise the queue stores no notices.
        has_log: whether the room has a log; otherwise the queue stores no records.
    """

    def __init__(self, archive: RoomArchive, clock: Callable[[], float], *, has_broker: bool, has_log: bool) -> None:
        self._archive, self._clock = archive, clock
        self._has_broker, self._has_log = has_broker, has_log

    def add_happenings(self, database: sqlite3.Connection, happenings: Iterable[Happening]) -> None:
        """Add the notices and records about new events, within a transaction of the archive."""
        for one in happenings:
            if one.time < self._clock() - MAX_AGE:
                continue

            if one.name in KINDS and self._has_broker:
                fields = {
                    "kind": KINDS[one.name],
                    "chainId": one.chain,
                    "block": one.block,
                    "transaction": f"0x{one.hash.hex()}",
                    "contract": one.contract,
                    "event": one.name,
                    "subject": one.subject,
                }
                _add(database, _NOTICE, KINDS[one.name], json.dumps(fields), one.time)

            if one.name in RECORDED and self._has_log:
                words = f"{one.subject}: {one.text}; transaction 0x{one.hash.hex()} on chain {one.chain}"
                _add(database, _RECORD, "", words, one.time)

    def add_entry(self, database: sqlite3.Connection, keeper: UUID, number: int, entry: LogEntry) -> None:
        """Add the notice about a new entry, within a transaction of the archive."""
        is_announced = entry.kind in (EntryKind.EVENT, EntryKind.WARNING) and entry.time >= self._clock() - MAX_AGE
        if is_announced and self._has_broker:
            kind = str(entry.kind)
            fields = {"kind": kind, "log": str(keeper), "entry": number, "time": entry.time, "device": entry.device}
            _add(database, _NOTICE, kind, json.dumps(fields), entry.time)

    def notices(self) -> list[tuple[int, str, str]]:
        """Return number, kind and JSON of the oldest notices that the broker has not acknowledged."""
        statement = "SELECT number, kind, text FROM outbox WHERE target = ? ORDER BY number LIMIT ?"
        return [(number, kind, text) for number, kind, text in self._archive.rows(statement, (_NOTICE, _AT_ONCE))]

    def records(self) -> list[tuple[int, str, int]]:
        """Return number, text and Unix time of the oldest records that are not in the room's log yet."""
        statement = "SELECT number, text, time FROM outbox WHERE target = ? ORDER BY number LIMIT ?"
        return [(number, text, time) for number, text, time in self._archive.rows(statement, (_RECORD, _AT_ONCE))]

    def remove(self, numbers: Iterable[int]) -> None:
        """Delete delivered notices or records."""
        with self._archive.changing() as database:
            database.executemany("DELETE FROM outbox WHERE number = ?", [(number,) for number in numbers])

    def waiting(self) -> int:
        """Return the number of notices that the broker has not acknowledged."""
        count: int = self._archive.rows("SELECT count(*) FROM outbox WHERE target = ?", (_NOTICE,))[0][0]
        return count


async def publish_notices(
    outbox: NoticeOutbox,
    connect: Callable[[], AbstractAsyncContextManager[BrokerConnection]],
    note: Callable[[str], None],
) -> None:
    """Publish notices without end.

    Args:
        outbox: the notices.
        connect: connects to the broker.
        note: called with the reason when the connection to the broker fails, and with an empty text after the broker
            has acknowledged a notice.
    """

    async def serve(connection: BrokerConnection) -> None:
        note("")
        while True:
            waiting = await asyncio.to_thread(outbox.notices)
            if not waiting:
                await asyncio.sleep(_PAUSE)
                continue
            await publish_all(connection, [Message(TOPIC + kind, text.encode()) for _, kind, text in waiting])
            await asyncio.to_thread(outbox.remove, [number for number, _, _ in waiting])

    def lost(error: MessagingError) -> None:
        note(f"{error.what}: {error.why}" if error.why else error.what)

    await keep_connected(connect, serve, note=lost)


def _add(database: sqlite3.Connection, target: str, kind: str, text: str, time: int) -> None:
    row = (target, kind, text, time)
    database.execute("INSERT INTO outbox (target, kind, text, time) VALUES (?, ?, ?, ?)", row)
