"""The state of a gateway on its disk, in one SQLite file.

The core changes its memory first, and then awaits `GatewayState.commit`. One transaction contains the changes of all
waiting callers. While a thread writes a transaction to the disk, new callers wait for the next transaction. The
deliveries and the log entries of one change are in the same transaction. Changes are written in the order of the calls.
If a change cannot be written, the error is raised in its caller, and the next commit writes the change again.

Entries for the log first go to the table ``outbox``. The service appends them to the log in batches, in order, and then
removes them with `appended`. A service that is killed between these two steps passes the same batch to the log again.
`TileLog.append` recognises the repeated entries.

Tokens are stored as their SHA-256. A slow hash such as scrypt is not needed, because a token has 256 random bits and
cannot be guessed. Pre-shared keys are derived from the secret of the site and a salt, so the keys themselves are not
stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from blockota.model.delivery import Delivery
from blockota.model.delivery_record import decode_delivery, encode_delivery
from blockota.sqlite_file import FileMark, SqliteFile

BATCH = 256
"""The largest number of entries that are appended to the log together. `TileLog.append` recognises the same number of
entries."""
_MARK = FileMark(
    0x424F5447,
    1,
    "the state of a gateway",
    use="another process runs a gateway with this file",
    remedy="restore the file from a backup; the log and the chains are not affected",
)
"""The application id in the file's header (the letters BOTG), and the version of the tables."""
_KEPT_EVENTS = 64
"""The number of a device's events that are recognised when the device repeats them."""
_TABLES = """
CREATE TABLE IF NOT EXISTS site (secret BLOB NOT NULL, time INTEGER NOT NULL, log_size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    device INTEGER NOT NULL, slot TEXT NOT NULL, state BLOB NOT NULL, PRIMARY KEY (device, slot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (
    device INTEGER PRIMARY KEY, counter INTEGER NOT NULL, statements INTEGER NOT NULL, last BLOB NOT NULL,
    hardware TEXT, unique_id BLOB
);
CREATE TABLE IF NOT EXISTS outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, entry BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    device INTEGER NOT NULL, counter INTEGER NOT NULL, digest BLOB NOT NULL, sequence INTEGER NOT NULL,
    position INTEGER, PRIMARY KEY (device, counter)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_events ON events (sequence) WHERE position IS NULL;
CREATE TABLE IF NOT EXISTS credentials (
    device INTEGER NOT NULL, face TEXT NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (device, face, kind, value)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pauses (subject TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, device INTEGER NOT NULL, slot TEXT NOT NULL
);
"""
_TOKEN, _KEY = "token", "key"
_KEY_SIZE = 16
"""Size of a pre-shared key in bytes. tinydtls does not accept longer keys."""


@dataclass(frozen=True)
class DeviceRecord:
    """The stored facts about a device, in addition to its deliveries.

    Attributes:
        counter: the counter of the newest accepted statement; -1 before the first statement.
        statements: the number of accepted statements.
        last: SHA-256 of the newest accepted statement; empty before the first statement.
        hardware: the reported hardware revision.
        unique_id: the reported unique id of the chip.
    """

    counter: int = -1
    statements: int = 0
    last: bytes = b""
    hardware: str | None = None
    unique_id: bytes | None = None


@dataclass(frozen=True)
class LoggedEvent:
    """An event to which a device gave a number.

    Attributes:
        digest: SHA-256 of the event's text.
        sequence: number of the event's entry in the outbox.
        position: index of the event's entry in the log; None if the entry is not appended yet.
    """

    digest: bytes
    sequence: int
    position: int | None


@dataclass
class StateChanges:
    """Changes that are written in one transaction.

    Attributes:
        time: the gateway's time.
        deliveries: the new states, by device and slot.
        devices: the new records of devices.
        entries: entries for the log, in order.
        event: if the last entry is an event with a number: the device, the number and the digest of the event; None
            otherwise.
        banned: devices whose credentials are removed.
        retries: numbers of the operators' requests that were processed.
    """

    time: int
    deliveries: dict[tuple[int, str], Delivery] = field(default_factory=dict)
    devices: dict[int, DeviceRecord] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    event: tuple[int, int, bytes] | None = None
    banned: tuple[int, ...] = ()
    retries: tuple[int, ...] = ()


class GatewayState:
    """The state of a gateway in a file. One service at a time owns the file.

    Another process opens the file with `is_owner` False, to read the state, issue credentials, and store requests.

    Args:
        path: the file. Files with the endings ``-wal``, ``-shm`` and ``.lock`` in the same folder belong to the state.
        is_owner: whether this process runs the gateway.
        pause: called before and after each commit. A test can raise an exception in this function to interrupt the
            writer.

    Raises:
        RefusedError: the file is in use, belongs to another program, or belongs to a newer version of BlockOTA.
        StoreError: the file is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path, *, is_owner: bool = True, pause: Callable[[], None] = lambda: None) -> None:
        self._between = pause
        self._waiting: list[tuple[StateChanges, asyncio.Future[range]]] = []
        self._unwritten: list[StateChanges] = []
        self._writing: asyncio.Task[None] | None = None
        with suppress(OSError):  # SqliteFile reports it
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # the secret of the site is for this user alone
        with ExitStack() as stack:
            self._file = stack.enter_context(SqliteFile(path, _MARK, _TABLES, is_owner=is_owner))
            # The event loop reads through its own connection, which does not wait while a transaction is flushed.
            self._reader = stack.enter_context(SqliteFile(path, _MARK, "", is_owner=False, is_checked=False))
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="gateway-state")
            stack.callback(self._thread.shutdown)
            self._secret, self.time = self._site()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return the state."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stack.close()

    def deliveries(self, device: int | None = None) -> Iterator[tuple[int, str, Delivery]]:
        """Yield the deliveries of one device or of all devices, each with its device and slot."""
        statement = "SELECT device, slot, state FROM deliveries"
        one = (f"{statement} WHERE device = ?", (device,))
        for number, slot, state in self._reader.execute(statement) if device is None else self._reader.execute(*one):
            try:
                yield number, slot, decode_delivery(state)
            except ValueError as error:
                raise self._file.damaged(f"device {number}: {error}") from error

    def devices(self) -> dict[int, DeviceRecord]:
        """Return the records of all devices that have sent a report."""
        rows = self._reader.execute("SELECT device, counter, statements, last, hardware, unique_id FROM devices")
        return {device: DeviceRecord(*values) for device, *values in rows}

    def event(self, device: int, counter: int) -> LoggedEvent | None:
        """Return the event to which a device gave a number; None if the event is not stored."""
        statement = "SELECT digest, sequence, position FROM events WHERE device = ? AND counter = ?"
        rows = self._reader.execute(statement, (device, counter))
        return LoggedEvent(*rows[0]) if rows else None

    def is_forgotten(self, device: int, counter: int) -> bool:
        """Whether an event is older than all stored events, so that its repetition could not be recognised."""
        count, least = self._reader.execute("SELECT count(*), min(counter) FROM events WHERE device = ?", (device,))[0]
        return bool(count >= _KEPT_EVENTS and counter < least)

    def nonce(self, device: int, statement: int) -> bytes:
        """Return the nonce of a device's statement, derived from the gateway's secret and the statement's number."""
        return self._derived("nonce", device, str(statement))[:16]

    async def commit(self, changes: StateChanges) -> range:
        """Write changes durably.

        Returns:
            The numbers of the new entries in the outbox.

        Raises:
            StoreError: the file cannot be written. The changes are written with the next commit.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[range] = loop.create_future()
        self._waiting.append((changes, future))
        if self._writing is None:
            self._writing = loop.create_task(self._write_waiting())
        return await future

    def waiting(self) -> int:
        """Return the number of entries that are not in the log yet."""
        count: int = self._reader.execute("SELECT count(*) FROM outbox")[0][0]
        return count

    @property
    def is_failing(self) -> bool:
        """Whether there are changes that could not be written."""
        return bool(self._unwritten)

    def outbox(self, limit: int = BATCH) -> list[tuple[int, bytes]]:
        """Return the oldest entries that are not in the log yet, with their numbers.

        Only the thread of the log calls this method.
        """
        statement = "SELECT sequence, entry FROM outbox ORDER BY sequence LIMIT ?"
        return self._file.execute(statement, (min(limit, BATCH),))

    def appended(self, positions: Iterable[tuple[int, int]]) -> None:
        """Remove entries that are in the log.

        Only the thread of the log calls this method.

        Args:
            positions: pairs of an entry's number in the outbox and its index in the log.
        """
        pairs = list(positions)
        size = max((position for _, position in pairs), default=-1) + 1
        with self._transaction() as database:
            database.execute("UPDATE site SET log_size = max(log_size, ?)", (size,))
            database.executemany("DELETE FROM outbox WHERE sequence = ?", [(number,) for number, _ in pairs])
            events = [(position, number) for number, position in pairs]
            statement = "UPDATE events SET position = ? WHERE sequence = ? AND position IS NULL"
            database.executemany(statement, events)

    @property
    def log_size(self) -> int:
        """The size of the log when the last entries were removed from the outbox."""
        size: int = self._reader.execute("SELECT log_size FROM site")[0][0]
        return size

    @property
    def first_attempt(self) -> int:
        """The number before the first try. It is random, so that a gateway that lost its state uses new job numbers."""
        return int.from_bytes(self._secret[:4])

    def learn(self, changes: StateChanges, events: Sequence[tuple[int, int, bytes, int]], *, log_size: int) -> None:
        """Store facts from log entries, before the gateway serves devices.

        Args:
            changes: deliveries and records of devices.
            events: device, number, digest and index of events.
            log_size: size of the log.
        """
        self._write([changes])
        with self._transaction() as database:
            for device, counter, digest, position in events:
                _insert_event(database, (device, counter, digest), 0, position)
            database.execute("UPDATE site SET log_size = ?", (log_size,))

    def issue_token(self, face: str, devices: Sequence[int]) -> str:
        """Create a random token with which a face accepts each of the given devices."""
        token = secrets.token_urlsafe(32)
        # The file contains only hashes of tokens, so a copy of the file authenticates no device.
        digest = hashlib.sha256(token.encode()).digest()
        with self._transaction() as database:
            rows = [(device, face, _TOKEN, digest) for device in devices]
            database.executemany("INSERT INTO credentials VALUES (?, ?, ?, ?)", rows)
        return token

    def accepts_token(self, face: str, device: int, token: bytes) -> bool:
        """Whether a token was issued for a device and a face, and was not revoked."""
        values = (device, face, _TOKEN, hashlib.sha256(token).digest())
        statement = "SELECT 1 FROM credentials WHERE device = ? AND face = ? AND kind = ? AND value = ?"
        return bool(self._reader.execute(statement, values))

    def issue_key(self, face: str, device: int) -> bytes:
        """Create a pre-shared key of a device for a face. An earlier key becomes void."""
        salt = secrets.token_bytes(16)
        with self._transaction() as database:
            database.execute("DELETE FROM credentials WHERE device = ? AND face = ? AND kind = ?", (device, face, _KEY))
            database.execute("INSERT INTO credentials VALUES (?, ?, ?, ?)", (device, face, _KEY, salt))
        return self._derived(f"key {face}", device, salt.hex())[:_KEY_SIZE]

    def key(self, face: str, device: int) -> bytes | None:
        """Return the pre-shared key of a device for a face; None if no key was issued."""
        statement = "SELECT value FROM credentials WHERE device = ? AND face = ? AND kind = ?"
        rows = self._reader.execute(statement, (device, face, _KEY))
        return self._derived(f"key {face}", device, rows[0][0].hex())[:_KEY_SIZE] if rows else None

    def revoke(self, device: int) -> None:
        """Remove the credentials of a device for all faces."""
        with self._transaction() as database:
            database.execute("DELETE FROM credentials WHERE device = ?", (device,))

    def pauses(self) -> frozenset[str]:
        """Return the names of the paused groups and the decimal numbers of the paused devices."""
        return frozenset(subject for (subject,) in self._reader.execute("SELECT subject FROM pauses"))

    def pause(self, subject: str, *, is_paused: bool = True) -> None:
        """Pause or resume a group or a device. A running gateway applies the change."""
        statement = "INSERT OR IGNORE INTO pauses VALUES (?)" if is_paused else "DELETE FROM pauses WHERE subject = ?"
        with self._transaction() as database:
            database.execute(statement, (subject,))

    def request_retry(self, device: int, slot: str = "") -> None:
        """Request new tries of a delivery.

        The request is processed by the running gateway, or after the gateway's next start.
        """
        with self._transaction() as database:
            database.execute("INSERT INTO retries (device, slot) VALUES (?, ?)", (device, slot))

    def retries(self) -> list[tuple[int, int, str]]:
        """Return the operators' requests for new tries, as triples (number of the request, device, slot)."""
        return self._reader.execute("SELECT number, device, slot FROM retries ORDER BY number")

    async def _write_waiting(self) -> None:
        """Write the changes of all waiting callers in one transaction, and repeat this until no caller waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            every = [*self._unwritten, *(changes for changes, _ in waiting)]

            try:
                sequences = await loop.run_in_executor(self._thread, self._write, every)
            except Exception as error:  # noqa: BLE001 - each caller gets it
                self._unwritten = every
                for _, future in waiting:
                    if not future.done():  # a cancelled caller
                        future.set_exception(error)
            else:
                self._unwritten = []
                for (_, future), numbers in zip(waiting, sequences[-len(waiting) :], strict=True):
                    if not future.done():
                        future.set_result(numbers)
        self._writing = None

    def _write(self, every: Sequence[StateChanges]) -> list[range]:
        """Write changes in one transaction. Returns the entry numbers for each change."""
        sequences = list[range]()
        # Of several states of one delivery, the newest is written.
        deliveries = {place: delivery for changes in every for place, delivery in changes.deliveries.items()}
        records = {device: record for changes in every for device, record in changes.devices.items()}

        with self._transaction() as database:
            rows = [(device, slot, encode_delivery(one)) for (device, slot), one in deliveries.items()]
            database.executemany("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?)", rows)
            known = [
                (device, one.counter, one.statements, one.last, one.hardware, one.unique_id)
                for device, one in records.items()
            ]
            database.executemany("INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?)", known)

            for changes in every:
                sequences.append(_insert_entries(database, changes.entries))
                if changes.event:
                    _insert_event(database, changes.event, sequences[-1][-1])
                for device in changes.banned:
                    database.execute("DELETE FROM credentials WHERE device = ?", (device,))
                for number in changes.retries:
                    database.execute("DELETE FROM retries WHERE number = ?", (number,))
            database.execute("UPDATE site SET time = ?", (every[-1].time,))
        return sequences

    def _site(self) -> tuple[bytes, int]:
        rows = self._reader.execute("SELECT secret, time FROM site")
        if not rows:
            rows = [(secrets.token_bytes(32), 0)]
            with self._transaction() as database:
                database.execute("INSERT INTO site VALUES (?, ?, 0)", rows[0])
        secret, time = rows[0]
        return secret, time

    def _derived(self, purpose: str, device: int, detail: str) -> bytes:
        return hmac.digest(self._secret, f"{purpose}/{device}/{detail}".encode(), "sha256")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the ``with`` block in one transaction. If the block fails, no change is committed."""
        with self._file.transaction() as database:
            yield database
            self._between()
        self._between()


def _insert_entries(database: sqlite3.Connection, entries: Sequence[bytes]) -> range:
    """Put entries into the outbox.

    Returns the numbers of the entries, which are consecutive, because only one process writes.
    """
    if not entries:
        return range(0)
    database.executemany("INSERT INTO outbox (entry) VALUES (?)", [(entry,) for entry in entries])
    last: int = database.execute("SELECT max(sequence) FROM outbox").fetchone()[0]
    return range(last - len(entries) + 1, last + 1)


def _insert_event(
    database: sqlite3.Connection, event: tuple[int, int, bytes], sequence: int, position: int | None = None
) -> None:
    """Record an event by the device's number, and delete the oldest events of the device."""
    device, counter, digest = event
    values = device, counter, digest, sequence, position
    database.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", values)
    oldest = "SELECT counter FROM events WHERE device = ? ORDER BY counter DESC LIMIT 1 OFFSET ?"
    database.execute(
        f"DELETE FROM events WHERE device = ? AND counter <= ({oldest})",  # noqa: S608 - a constant
        (device, device, _KEPT_EVENTS),
    )
