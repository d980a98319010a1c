"""An outbox on the disk for requests that must not be lost: each request is stored until its receiver has accepted it.

`RequestOutbox.put` returns when its items are on the disk. `RequestCourier` sends the requests in order, one request at
a time for each receiver. One request can contain several items, as a list in the request's data. The argument `member`
of `put` names this list. After the first try, the items and the id of a request do not change. Each try has a new
signature. A receiver that has already accepted a request answers that it has seen the id. No item is therefore lost
when an answer is lost or the sender is killed.

A request that its receiver refuses permanently is set aside with the reason, and the next request is sent. After any
other refusal, the request is repeated, because the cause may disappear. For example, a ban is lifted, or a clock is
corrected.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self
from uuid import UUID

from blockota.errors import BlockOTAError, RefusedError, UnreachableError
from blockota.identity.sending import Parcel, RequestReply, RequestSigner
from blockota.model.request import MAX_SIZE
from blockota.shutdown import Stop
from blockota.sqlite_file import FileMark, SqliteFile

PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next try, after each failure in a row. The last value repeats."""
_MARK = FileMark(0x424F544F, 1, "an outbox of requests")
"""The application id in the file's header (the letters BOTO), and the version of the tables."""
_TABLES = """
CREATE TABLE IF NOT EXISTS item (
    number INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, method TEXT NOT NULL, member TEXT NOT NULL,
    body TEXT NOT NULL, expires INTEGER, name TEXT
);
CREATE INDEX IF NOT EXISTS items_by_receiver ON item (receiver, number);
CREATE TABLE IF NOT EXISTS refused (
    number INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, method TEXT NOT NULL, data TEXT NOT NULL,
    why TEXT NOT NULL, time INTEGER NOT NULL
);
"""
_MOST_ITEMS = 512
_KEPT_REFUSED = 1000
"""The number of refused requests that are kept for the operator."""
_IDLE = 1.0
"""Seconds between two looks into an empty outbox, if nothing wakes the courier."""


class Route(Protocol):
    """A connection to a receiver, such as `blockota.identity.sending.RequestLine`."""

    def send(self, raw: bytes) -> RequestReply:
        """Send a request. Raises UnreachableError if the receiver does not reply."""


@dataclass(frozen=True)
class Shipment:
    """A request of the outbox.

    Attributes:
        receiver: UUID of the receiving identity.
        parcel: the request.
        numbers: the numbers of the request's items.
        expires: Unix time after which the request is not sent any more; None if the request does not expire.
    """

    receiver: UUID
    parcel: Parcel
    numbers: tuple[int, ...]
    expires: int | None = None


class RequestOutbox:
    """The outbox: one SQLite file. Several threads may share it.

    Args:
        path: the SQLite file, which is created if it does not exist.
        max_size: the size of the largest request that the receivers accept, in bytes.
        is_owner: whether this process sends the requests; False to read the outbox only.

    Raises:
        RefusedError: another process uses the file, or the file is not an outbox.
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path, *, max_size: int = MAX_SIZE, is_owner: bool = True) -> None:
        # base64 takes 4 characters for 3 bytes of the items, and the rest of a request takes less than a kilobyte.
        self._room = max_size * 3 // 4 - 1024
        self._file = SqliteFile(path, _MARK, _TABLES, is_owner=is_owner)
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        """Return the outbox."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def put(
        self,
        receiver: UUID,
        method: str,
        items: Iterable[Mapping[str, Any] | str],
        *,
        member: str = "",
        expires: int | None = None,
    ) -> None:
        """Write items to the disk, where they are stored until their receiver has accepted them.

        Args:
            receiver: UUID of the receiving identity.
            method: the method of the request.
            items: JSON objects or texts.
            member: the name of the list of items in the request's data; if empty, each item is the data of a separate
                request.
            expires: Unix time after which the items are dropped.

        Raises:
            RefusedError: an item is too large for a request. Nothing was kept.
            StoreError: the file cannot be written. Nothing was kept.
        """
        rows = [(str(receiver), method, member, json.dumps(item, separators=(",", ":")), expires) for item in items]
        if (largest := max((len(row[3].encode()) for row in rows), default=0)) > self._room:
            why = f"it has {largest:,} bytes of JSON, and a request has room for {self._room:,}"
            raise RefusedError("the item cannot be sent", why=why, remedy="send it in parts")

        with self._file.transaction() as database:
            statement = "INSERT INTO item (receiver, method, member, body, expires) VALUES (?, ?, ?, ?, ?)"
            database.executemany(statement, rows)
        with self._changed:
            self._changed.notify_all()

    def next(self, receiver: UUID) -> Shipment | None:
        """Return the oldest request for a receiver; None if none is waiting.

        The items and the id of the request are the same at each call.
        """
        with self._file.transaction() as database:
            found = _oldest(database, receiver, self._room)
            if not found:
                return None
            _, method, member, body, expires, old_name = found[0]
            numbers = tuple(row[0] for row in found)
            # The id is stored before the first try, so that the receiver recognises a repetition.
            name = old_name or secrets.token_hex(16)
            if not old_name:
                statement = "UPDATE item SET name = ? WHERE number = ?"
                database.executemany(statement, [(name, number) for number in numbers])

        data = {member: [json.loads(row[3]) for row in found]} if member else json.loads(body)
        return Shipment(receiver, Parcel(method, data, name), numbers, expires)

    def remove(self, shipment: Shipment) -> None:
        """Remove a request that its receiver has accepted."""
        with self._file.transaction() as database:
            _remove(database, shipment)

    def set_aside(self, shipment: Shipment, why: str, *, now: int) -> None:
        """Set aside a request that cannot be delivered, and store it for the operator."""
        row = (str(shipment.receiver), shipment.parcel.method, json.dumps(shipment.parcel.data), why, now)
        with self._file.transaction() as database:
            _remove(database, shipment)
            database.execute("INSERT INTO refused (receiver, method, data, why, time) VALUES (?, ?, ?, ?, ?)", row)
            database.execute(
                "DELETE FROM refused WHERE number <= (SELECT max(number) FROM refused) - ?", (_KEPT_REFUSED,)
            )

    def waiting(self) -> int:
        """Return the number of items that wait for their receivers."""
        return int(self._file.execute("SELECT count(*) FROM item")[0][0])

    def waiting_for(self) -> dict[UUID, int]:
        """Return the number of waiting items for each receiver that has waiting items."""
        rows = self._file.execute("SELECT receiver, count(*) FROM item GROUP BY receiver")
        return {UUID(receiver): count for receiver, count in rows}

    def refused(self) -> list[tuple[str, str, int]]:
        """Return the receiver, the reason and the time of each request that was set aside, the newest first."""
        return self._file.execute("SELECT receiver, why, time FROM refused ORDER BY number DESC")

    def receivers(self) -> list[UUID]:
        """Return the receivers for which items are waiting."""
        return [UUID(one) for (one,) in self._file.execute("SELECT DISTINCT receiver FROM item ORDER BY receiver")]

    def wait(self, seconds: float) -> None:
        """Wait until items are added, or until a number of seconds has passed."""
        with self._changed:
            self._changed.wait(seconds)

    def wake(self) -> None:
        """End the waits."""
        with self._changed:
            self._changed.notify_all()


class RequestCourier:
    """Sends the requests of an outbox to one receiver, in a thread of the service.

    Args:
        outbox: the outbox.
        receiver: the receiver.
        signer: signs the requests.
        route: the connection to the receiver.
        clock: returns Unix time.
    """

    def __init__(
        self,
        outbox: RequestOutbox,
        receiver: UUID,
        signer: RequestSigner,
        route: Route,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._outbox, self._receiver, self._signer, self._route = outbox, receiver, signer, route
        self._clock = clock
        self._refused: Callable[[str], None] = lambda _: None

    def run(
        self,
        stop: Stop,
        *,
        report: Callable[[str], None],
        refused: Callable[[str], None] = lambda _: None,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """Send requests until `stop` is requested.

        Args:
            stop: ends the courier.
            report: called after each try with the reason for the failure; empty after a success.
            refused: called with the reason when a request was refused permanently.
            pauses: seconds to wait after the first, the second and each further consecutive failure. The last value
                repeats.
        """
        self._refused = refused
        failures = 0
        while not stop.is_asked:
            try:
                trouble = self.send_next()
            except BlockOTAError as error:
                trouble = f"{error.what}: {error.why}"
            if trouble is None:
                self._outbox.wait(_IDLE)
                continue

            report(trouble)
            failures = failures + 1 if trouble else 0
            if failures:
                stop.wait(pauses[min(failures, len(pauses)) - 1])

    def send_next(self) -> str | None:
        """Send the oldest request.

        Returns:
            Why the request must be sent again; empty if the request was accepted or set aside; None if no request was
            waiting.

        Raises:
            StoreError: the outbox cannot be used.
        """
        shipment = self._outbox.next(self._receiver)
        if shipment is None:
            return None

        now = self._clock()
        if shipment.expires is not None and now > shipment.expires:
            self._outbox.set_aside(shipment, "its deadline has passed", now=now)
            self._refused("its deadline has passed")
            return ""

        try:
            reply = self._route.send(self._signer.request(shipment.parcel, receiver=self._receiver, now=now))
        except UnreachableError as error:
            return f"{error.what}: {error.why}"

        if reply.is_delivered:
            self._outbox.remove(shipment)
            return ""
        # The receiver would refuse the request again for ever, and the requests behind it would wait.
        if reply.is_final:
            self._outbox.set_aside(shipment, reply.sentence, now=now)
            self._refused(reply.sentence)
            return ""
        return reply.sentence


_Row = tuple[int, str, str, str, int | None, str | None]


def _oldest(database: sqlite3.Connection, receiver: UUID, room: int) -> list[_Row]:
    """Return the items of the oldest request.

    If the request was never sent, it contains as many items as fit into one request.
    """
    statement = (
        "SELECT number, method, member, body, expires, name FROM item WHERE receiver = ? ORDER BY number LIMIT ?"
    )
    rows: list[_Row] = database.execute(statement, (str(receiver), _MOST_ITEMS)).fetchall()

    found: list[_Row] = []
    for row in rows:
        room -= len(row[3].encode()) + 1
        # The items of one request have one method, member and deadline. An item without a member is sent alone.
        is_same = not found or (row[2] and (row[1], row[2], row[4], row[5]) == (*found[0][1:3], *found[0][4:]))
        # A request that was sent before keeps all its items, because its id stands for them.
        if not is_same or (found and found[0][5] is None and room < 0):
            break
        found.append(row)
    return found


def _remove(database: sqlite3.Connection, shipment: Shipment) -> None:
    database.executemany("DELETE FROM item WHERE number = ?", [(number,) for number in shipment.numbers])
