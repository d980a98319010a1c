"""The warnings, which are log entries of the kind warning, and their dismissals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.model.receipt import EntryKind
from blockota.model.warning import RequestWarning
from blockota.operations.archive import ENTRY_COLUMNS, ArchivedEntry, RoomArchive, entry_of
from blockota.operations.views import PAGE

_WARNING = int(EntryKind.WARNING)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_JOINED = "LEFT JOIN dismissal USING (keeper, number)"


@dataclass(frozen=True)
class Dismissal:
    """Who dismissed a warning, when and why.

    Attributes:
        who: kind and UUID of the person's identity.
        time: Unix time.
        why: the reason.
    """

    who: str
    time: int
    why: str


@dataclass(frozen=True)
class WarningRow:
    """A warning.

    Attributes:
        entry: its entry.
        dismissal: the dismissal of the warning; None if the warning is open.
    """

    entry: ArchivedEntry
    dismissal: Dismissal | None

    @property
    def refused(self) -> RequestWarning | None:
        """The refused requests of the warning; None if the warning is not about requests."""
        return RequestWarning.parse(self.entry.text or "")


@dataclass(frozen=True)
class WarningQuery:
    """The filters of the warnings.

    Attributes:
        status: ``open``, ``dismissed`` or ``all``.
        text: a part of the warning's text, or the number of the device.
        keeper: UUID of the identity that writes the log; None for all logs.
        page: the page, from 1.
    """

    status: str = "open"
    text: str = ""
    keeper: UUID | None = None
    page: int = 1


def count_open(archive: RoomArchive) -> int:
    """Return the number of warnings that are not dismissed."""
    counted = archive.rows("SELECT entries FROM counted WHERE kind = ?", (_WARNING,))
    dismissed: int = archive.rows("SELECT count(*) FROM dismissal")[0][0]
    total: int = counted[0][0] if counted else 0
    return max(total - dismissed, 0)


def find_warnings(archive: RoomArchive, query: WarningQuery, *, with_texts: bool) -> list[WarningRow]:
    """Return one page of warnings, newest first, and one additional warning if a further page exists.

    Args:
        archive: the archive.
        query: the filters.
        with_texts: whether the text filter searches the texts of the warnings.
    """
    # The kind is a literal, so that SQLite uses the index that has the warnings with their texts, and reads no more.
    clauses, values = [f"entry.kind = {_WARNING}"], list[Any]()
    if query.status in ("open", "dismissed"):
        clauses.append(f"dismissal.who IS {'NOT ' if query.status == 'dismissed' else ''}NULL")

    if _NUMBER.fullmatch(query.text):
        clauses, values = [*clauses, "entry.device = ?"], [*values, int(query.text)]
    elif query.text and with_texts:
        clauses, values = [*clauses, "instr(lower(entry.text), ?)"], [*values, query.text.lower()]
    if query.keeper:
        clauses, values = [*clauses, "entry.keeper = ?"], [*values, query.keeper.bytes]

    # The inner query selects the page, and the outer query reads the columns of its rows only.
    found = (
        f"SELECT entry.keeper, entry.number FROM entry {_JOINED} WHERE {' AND '.join(clauses)} "  # noqa: S608
        "ORDER BY entry.time DESC, entry.number DESC LIMIT ? OFFSET ?"
    )
    columns = ", ".join(f"entry.{name}" for name in ENTRY_COLUMNS.split(", "))
    rows = archive.rows(
        f"SELECT {columns}, dismissal.who, dismissal.time, dismissal.why FROM ({found}) "  # noqa: S608
        f"JOIN entry USING (keeper, number) {_JOINED} ORDER BY entry.time DESC, number DESC",
        [*values, PAGE + 1, (query.page - 1) * PAGE],
    )

    return [WarningRow(entry_of(row[:-3]), Dismissal(*row[-3:]) if row[-3] else None) for row in rows]


def open_of(archive: RoomArchive, warnings: Sequence[tuple[UUID, int]]) -> list[tuple[UUID, int]]:
    """Select the warnings that exist and are open, without duplicates."""
    statement = (
        f"SELECT 1 FROM entry {_JOINED} WHERE keeper = ? AND number = ? AND kind = {_WARNING} AND dismissal.who IS NULL"  # noqa: S608
    )
    return [one for one in dict.fromkeys(warnings) if archive.rows(statement, (one[0].bytes, one[1]))]


def dismiss(archive: RoomArchive, warnings: Sequence[tuple[UUID, int]], dismissal: Dismissal) -> list[tuple[UUID, int]]:
    """Dismiss warnings. A warning that does not exist or is already dismissed is ignored.

    Returns:
        The warnings that were dismissed.
    """
    done = []
    with archive.changing() as database:
        for keeper, number in warnings:
            changed = database.execute(
                "INSERT OR IGNORE INTO dismissal SELECT keeper, number, ?, ?, ? FROM entry "
                "WHERE keeper = ? AND number = ? AND kind = ?",
                (dismissal.who, dismissal.time, dismissal.why, keeper.bytes, number, _WARNING),
            )

            if changed.rowcount:
                done.append((keeper, number))
    return done
