"""Background tasks of the operations room: send notices, append to the room's log, and anchor the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from blockota.errors import BlockOTAError
from blockota.line_log import LineLog
from blockota.messaging.client import connected
from blockota.operations.notices import NoticeOutbox, publish_notices
from blockota.operations.room import Room
from blockota.operations.room_log import RoomLog, anchor_log

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_ANCHOR_PAUSE, _RECORD_PAUSE = 60.0, 0.5


def background_tasks(
    room: Room, room_log: RoomLog | None, account: BaseAccount | None, lines: LineLog
) -> list[asyncio.Task[None]]:
    """Start the background tasks in the running event loop.

    Args:
        room: the room.
        room_log: the log of the room; None if the room has no log.
        account: the account that anchors the log; None if the log is not anchored.
        lines: writes failures and recoveries as lines of JSON.
    """
    tasks = []
    if room.settings.broker:
        connect = partial(connected, room.settings.broker.account())
        tasks.append(asyncio.create_task(publish_notices(room.outbox, connect, partial(lines.state, "broker"))))

    if room_log:
        record = partial(_record, room.outbox, room_log)
        tasks.append(asyncio.create_task(_repeat(record, _RECORD_PAUSE, partial(lines.state, "log of the room"))))
    if room_log and account:
        anchor = partial(_anchor, room, room_log, account)
        tasks.append(asyncio.create_task(_repeat(anchor, _ANCHOR_PAUSE, partial(lines.state, "anchor"))))

    return tasks


async def _repeat(step: Callable[[], None], pause: float, note: Callable[[str], None]) -> None:
    """Run a step in a thread after each pause, and report each failure."""
    while True:
        await asyncio.sleep(pause)
        try:
            await asyncio.to_thread(step)
        except BlockOTAError as error:
            note(f"{error.what}: {error.why}" if error.why else error.what)
        else:
            note("")


def _record(outbox: NoticeOutbox, log: RoomLog) -> None:
    """Append the orders and bans on the chain to the room's log.

    If the room crashes before it removes an entry from the outbox, the entry is passed to the log again. The log stores
    a repeated entry only once.
    """
    for number, text, time in outbox.records():
        log.record(text, now=time)
        outbox.remove([number])


def _anchor(room: Room, log: RoomLog, account: BaseAccount) -> None:
    if room.city is not None and len(log.log):
        anchor_log(log, account, room.city.ledger, room.city.identities)
