"""Keep the log of a service.

Entries are taken from the outbox in the service's database, appended to the log, published and anchored. An entry is
put into the outbox in the same database transaction as the change of state that the entry records. An entry is removed
from the outbox after the entry was appended to the log. If the process is killed before the removal, the next process
appends the entry again. The log does not store an entry twice, and returns the index of the stored entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from blockota.errors import BlockOTAError, UnreachableError
from blockota.formats.notes import NoteSigner
from blockota.ledger.log import TileLog
from blockota.ledger.log_anchor import LogAnchor, due_multiple, oldest_unanchored
from blockota.ledger.witnesses import Witness, publish_witnessed
from blockota.line_log import LineLog, sentence
from blockota.model.receipt import LogEntry

BATCH = 256
"""The largest number of entries that are appended at once. The log recognises repeats among as many of its newest
entries."""
_AGAIN = 60
"""Seconds until the next try while the gateway chain is out of reach."""


class Outbox(Protocol):
    """The database table of a service with the entries that the log does not have yet."""

    def outbox(self, limit: int = ...) -> list[tuple[int, bytes]]:
        """Return the oldest entries with their sequence numbers."""

    def appended(self, positions: Iterable[tuple[int, int]], /) -> None:
        """Record, for each pair of an entry's sequence number and its index in the log, that the entry was appended."""


@dataclass(frozen=True)
class LogParts:
    """The log of a service.

    Attributes:
        log: the log.
        signer: the key that signs the log.
        witnesses: the witnesses that are asked to sign checkpoints.
        open_anchor: connects to the gateway chain, and is called again until the node answers; None if the log is not
            anchored.
        period: seconds between two anchors.
    """

    log: TileLog
    signer: NoteSigner
    witnesses: tuple[Witness, ...] = ()
    open_anchor: Callable[[], LogAnchor] | None = None
    period: int = 600


@dataclass(frozen=True)
class LogStatus:
    """The log of a service at one moment.

    Attributes:
        entries: number of entries.
        anchored: number of anchored entries; None if it is unknown.
        unanchored_since: Unix time of the oldest published entry that is not anchored; None if all entries are
            anchored. Before the first answer of the chain, only entries that were appended since the service's start
            count.
        appended: number of entries that were appended since the start, by kind.
    """

    entries: int = 0
    anchored: int | None = None
    unanchored_since: int | None = None
    appended: Mapping[str, int] = field(default_factory=dict)


class LogRecorder:
    """Writes and publishes the log.

    One thread calls `append`, and one thread calls the other methods.

    Args:
        parts: the log.
        lines: the operating log, which records failures and recoveries.
        clock: the service's clock.
        owns: whether a device belongs to the gateway's site; always False for services other than gateways.
    """

    def __init__(
        self, parts: LogParts, lines: LineLog, *, clock: Callable[[], int], owns: Callable[[int], bool]
    ) -> None:
        self._parts, self._lines, self._clock, self._owns = parts, lines, clock, owns
        self._tried_at = 0
        self._anchor: LogAnchor | None = None
        self._anchored: int | None = None
        self._first: int | None = None
        self._unanchored_since: int | None = None
        self._appended: Counter[str] = Counter()

    @property
    def anchored(self) -> int | None:
        """The anchored size; None until the size was read from the chain."""
        return self._anchored

    def status(self) -> LogStatus:
        """Return the current state of the log. Any thread may call this method."""
        return LogStatus(len(self._parts.log), self._anchored, self._unanchored_since, dict(self._appended))

    def append(self, outbox: Outbox) -> list[tuple[int, int]]:
        """Append entries of the outbox.

        Returns:
            A pair for each appended entry: its sequence number in the outbox, and its index in the log.
        """
        entries = outbox.outbox(BATCH)
        if not entries:
            return []

        try:
            indices = self._parts.log.append(entry for _, entry in entries)
        except BlockOTAError as error:
            self._lines.state("log", sentence(error))
            return []

        self._lines.state("log", "")
        self._first = indices[0] if self._first is None else self._first
        found = [(sequence, index) for (sequence, _), index in zip(entries, indices, strict=True)]
        outbox.appended(found)
        for (_, raw), index in zip(entries, indices, strict=True):
            self._note(raw, index)
        return found

    def _note(self, raw: bytes, index: int) -> None:
        entry = LogEntry.decode(raw)
        self._appended[str(entry.kind)] += 1
        release = str(entry.release) if entry.release else None

        self._lines.event(
            "log",
            str(entry.kind),
            index=index,
            device=entry.device or None,
            release=release,
            level=entry.level,
            order=entry.order,
            text=entry.source,
        )

    def publish(self) -> None:
        """Publish a checkpoint with all appended entries, if there are new entries."""
        parts = self._parts

        try:
            if len(parts.log) == parts.log.published.head().size:
                return
            _, silent = publish_witnessed(parts.log, parts.signer, parts.witnesses)
        except BlockOTAError as error:
            self._lines.state("checkpoint", sentence(error))
            return

        self._lines.state("checkpoint", "")
        for witness in parts.witnesses:
            self._lines.state(f"witness {witness.key.name}", silent.get(witness, ""))

    def anchor(self) -> None:
        """Anchor the published log, if an anchor is due."""
        parts, now = self._parts, self._clock()
        self._tried_at = min(self._tried_at, now)  # the clock was set back
        if parts.open_anchor is None:
            return

        try:
            if self._anchored is None and self._first is not None:  # this process has not anchored its entries
                self._unanchored_since = oldest_unanchored(parts.log.published, self._first)
            self._anchor = anchor = self._anchor or parts.open_anchor()
            if self._anchored is None:
                self._anchored = anchor.size()
            self._unanchored_since = since = anchor.waiting_since(self._anchored)
            every = due_multiple(now=now, period=parts.period, tried_at=self._tried_at, waiting_since=since)
            if every is None:
                return
            self._tried_at = now
            before = self._anchored
            self._anchored = anchor.anchor(
                every, owns=self._owns, report=lambda why: self._lines.event("anchor", "not recorded", why=why)
            )
        except BlockOTAError as error:
            is_passing = isinstance(error, UnreachableError)
            self._tried_at = now - max(parts.period - _AGAIN, 0) if is_passing else now
            self._lines.state("anchor", sentence(error))
            return

        self._lines.state("anchor", "")
        if self._anchored > before:
            self._lines.event("anchor", "anchored", size=self._anchored)
