"""The contents of the pages, computed from the readings of the room and from its archive.

Each value names its evidence: an entry of a log, or a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from blockota.errors import BlockOTAError
from blockota.model.device import Device
from blockota.model.order import Group, GroupKind, Order, OrderStatus
from blockota.model.receipt import EntryKind
from blockota.model.warning import RequestWarning
from blockota.operations.archive import (
    ENTRY_COLUMNS,
    ArchivedEntry,
    Happening,
    RoomArchive,
    Running,
    entry_of,
)
from blockota.operations.city_reading import CityReading
from blockota.operations.public_text import without_reason
from blockota.operations.room import RoomState
from blockota.strict_json import load_object

PAGE = 50
"""The number of rows on a page."""
_HAPPENING = "chain, position, block, time, contract, name, subject, text, hash"
_RUNNING = "device, product, version, level, kind, time, update_order, keeper, number"
# The text and signature of a sign-in stay in the entry, where they can be checked.
_SIGNATURE = re.compile(r"(?<=^sign-in of 0x[0-9a-fA-F]{40}), signature 0x[0-9a-f]+.*", re.DOTALL)
_TEXT_LIMIT, _NAMED = 100, 1000
_LAST_BLOCK = (1 << 43) - 2
"""The last block whose positions, which end with 20 bits for the event, are numbers of SQLite."""
_FOLDED = {"DeviceRegistered", *(str(kind) for kind in EntryKind if kind.names_running_image)}
"""The events and entries that come in large numbers, one for each device of a fleet."""


@dataclass(frozen=True)
class ReleaseShare:
    """The number of devices that run a version of a product."""

    product: str
    version: str
    devices: int
    share: float
    is_newest: bool = False


@dataclass(frozen=True)
class UpdateProgress:
    """An order with its progress.

    Attributes:
        order: the order.
        group: the group; None if the group cannot be read.
        members: the present number of devices in the group; None if the group is defined by a list, which is not on the
            chain.
        done: the number of devices that run the release, according to the verified logs.
        claimed: the number of devices in `done` that only claim to run the release. Their installation is not recorded.
        failed: the number of refusals that name the order.
        postponed: the number of postponements that name the order.
        share: `done` divided by `members`, from 0 to 1.
    """

    order: Order
    group: Group | None
    members: int | None
    done: int
    claimed: int
    failed: int
    postponed: int
    share: float


@dataclass(frozen=True)
class DeviceRow:
    """A device in a list.

    Attributes:
        device: the record of the registry.
        model: the name of its model.
        running: the releases that the device runs.
        seen: Unix time of the newest entry about the device; None if no entry is about the device.
    """

    device: Device
    model: str
    running: tuple[Running, ...]
    seen: int | None


@dataclass(frozen=True)
class LogLine:
    """A line of the operational log: an event of a chain, or an entry of a log.

    Attributes:
        time: Unix time.
        source: ``chain`` or ``log``.
        kind: the name of the event, or the kind of the entry.
        subject: the subject of the line, such as ``device 256``.
        text: a description of the event or entry.
        link: the path of the evidence.
        others: the number of adjacent lines about other devices that were merged into this line.
    """

    time: int
    source: str
    kind: str
    subject: str
    text: str
    link: str
    others: int = 0

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of an exported line."""
        return {
            "time": self.time,
            "source": self.source,
            "kind": self.kind,
            "subject": self.subject,
            "text": self.text,
            "evidence": self.link,
        }


def release_shares(state: RoomState, archive: RoomArchive) -> list[ReleaseShare]:
    """Return how many devices run each release, ordered by product and descending version."""
    rows = archive.rows("SELECT product, version, count(*) FROM running GROUP BY product, version")
    totals: dict[str, int] = {}
    for product, _, count in rows:
        totals[product] = totals.get(product, 0) + count
    newest = newest_versions(state)
    shares = [
        ReleaseShare(product, version, count, count / totals[product], is_newest=newest.get(product) == version)
        for product, version, count in rows
    ]
    return sorted(shares, key=lambda one: (one.product, [-int(part) for part in one.version.split(".")]))


def newest_versions(state: RoomState) -> dict[str, str]:
    """Return the newest active version of each product as a string."""
    found: dict[str, Any] = {}
    for vendor in state.vendors.values():
        for releases in vendor.releases.values():
            for one in releases:
                if str(one.status) == "active" and (one.product not in found or one.version > found[one.product]):
                    found[one.product] = one.version
    return {product: str(version) for product, version in found.items()}


def update_progress(state: RoomState, archive: RoomArchive, *, is_open: bool | None = None) -> list[UpdateProgress]:
    """Return the orders with their progress, newest first.

    Args:
        state: the readings.
        archive: the archive.
        is_open: True selects the open orders, False the other orders, and None all orders.
    """
    if state.city is None:
        return []
    orders = [one for one in state.city.orders if is_open is None or (one.status is OrderStatus.OPEN) == is_open]
    return [_progress(one, state.city, archive) for one in reversed(orders)]


def _progress(order: Order, city: CityReading, archive: RoomArchive) -> UpdateProgress:
    group = city.groups.get(order.group)
    members = members_of(group, city) if group else None

    product, version = order.release.product, str(order.release.version)
    statement = "SELECT device, kind FROM running WHERE product = ? AND version = ?"
    rows = archive.rows(statement, (product, version))
    kinds = [kind for device, kind in rows if members is None or device in members]
    done, claimed = len(kinds), kinds.count(EntryKind.CLAIMED)

    counts = dict(
        archive.rows(
            "SELECT kind, count(*) FROM entry WHERE kind IN (?, ?) AND update_order = ? GROUP BY kind",
            (int(EntryKind.REFUSAL), int(EntryKind.POSTPONEMENT), order.number),
        )
    )

    share = done / len(members) if members else 0.0
    total = len(members) if members is not None else None
    failed, postponed = counts.get(int(EntryKind.REFUSAL), 0), counts.get(int(EntryKind.POSTPONEMENT), 0)
    return UpdateProgress(order, group, total, done, claimed, failed, postponed, share)


def members_of(group: Group, city: CityReading) -> set[int] | None:
    """Return the device numbers of a group; None if the group is defined by a list, which is not on the chain."""
    if group.kind is GroupKind.SITE:
        return {number for number, one in city.devices.items() if one.site == group.site}
    if group.kind is GroupKind.MODEL:
        return {number for number, one in city.devices.items() if one.spec_hash == group.value}
    return None


@dataclass(frozen=True)
class DeviceQuery:
    """The filters of the list of devices. An empty text matches all devices."""

    text: str = ""
    product: str = ""
    version: str = ""
    status: str = ""
    page: int = 1


def find_devices(
    state: RoomState, archive: RoomArchive, query: DeviceQuery, *, with_serials: bool
) -> tuple[list[DeviceRow], int]:
    """Return one page of the devices that match the filters, and the total number of matching devices.

    Args:
        state: the readings.
        archive: the archive.
        query: the filters.
        with_serials: whether the text filter also searches the serial numbers.
    """
    if state.city is None:
        return [], 0

    city, wanted = state.city, query.text.strip().lower()[:_TEXT_LIMIT]
    numbers: set[int] | None = None
    if query.product:
        clause, values = "product = ?", [query.product]
        if query.version:
            clause, values = "product = ? AND version = ?", [query.product, query.version]
        numbers = {row[0] for row in archive.rows(f"SELECT device FROM running WHERE {clause}", values)}  # noqa: S608

    found = []
    for number, one in city.devices.items():
        if numbers is not None and number not in numbers:
            continue
        if query.status and (query.status == "banned") != (one.banned_at is not None):
            continue
        if not wanted or wanted in _searched(one, city, with_serials=with_serials):
            found.append(one)

    shown = found[(query.page - 1) * PAGE : query.page * PAGE]
    return device_rows(shown, city, archive), len(found)


def _searched(device: Device, city: CityReading, *, with_serials: bool) -> str:
    """Return the text in which the filter of the devices searches."""
    words = [str(device.number), city.model_of(device), str(device.site)]
    if with_serials and device.record:
        words += device.record.aliases
    return " ".join(words).lower()


def device_rows(devices: Sequence[Device], city: CityReading, archive: RoomArchive) -> list[DeviceRow]:
    """Return the rows of devices."""
    marks = ", ".join("?" * len(devices))
    numbers = [one.number for one in devices]

    running: dict[int, list[Running]] = {}
    for row in archive.rows(f"SELECT {_RUNNING} FROM running WHERE device IN ({marks})", numbers):  # noqa: S608
        device, product, version, level, kind, time, order, keeper, number = row
        one = Running(device, product, version, level, EntryKind(kind), time, order, UUID(bytes=keeper), number)
        running.setdefault(device, []).append(one)

    seen = dict(archive.rows(f"SELECT device, time FROM seen WHERE device IN ({marks})", numbers))  # noqa: S608
    return [
        DeviceRow(one, city.model_of(one), tuple(running.get(one.number, ())), seen.get(one.number)) for one in devices
    ]


@dataclass(frozen=True)
class EntryQuery:
    """The filters of a list of entries. None matches all entries.

    Attributes:
        order: the number of an order; selects the entries that name the order, except installations.
    """

    device: int | None = None
    kinds: tuple[EntryKind, ...] = ()
    keeper: UUID | None = None
    order: int | None = None
    page: int = 1


def find_entries(archive: RoomArchive, query: EntryQuery) -> list[ArchivedEntry]:
    """Return one page of entries, newest first, and one additional entry if a further page exists."""
    table, clauses, values = "entry", ["1"], list[Any]()
    if query.device is not None:
        clauses, values = [*clauses, "device = ?"], [*values, query.device]
    if query.kinds:
        marks = ", ".join("?" * len(query.kinds))
        clauses, values = [*clauses, f"kind IN ({marks})"], [*values, *map(int, query.kinds)]
    if query.keeper:
        clauses, values = [*clauses, "keeper = ?"], [*values, query.keeper.bytes]
    if query.order is not None:
        # Without INDEXED BY, SQLite would use the index on the kinds, and sort all entries of the order.
        table = "entry INDEXED BY report_of_order"
        clauses, values = [*clauses, f"update_order = ? AND kind >= {int(EntryKind.EVENT)}"], [*values, query.order]
    order = "number DESC" if query.keeper and not query.kinds else "time DESC, number DESC"
    found = f"SELECT keeper, number FROM {table} WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
    rows = archive.rows(
        f"SELECT {ENTRY_COLUMNS} FROM ({found}) JOIN entry USING (keeper, number) ORDER BY {order}",  # noqa: S608
        [*values, PAGE + 1, (query.page - 1) * PAGE],
    )
    return [entry_of(row) for row in rows]


def find_happenings(archive: RoomArchive, *, subject: str = "", limit: int = PAGE) -> list[Happening]:
    """Return the newest events of the chains, newest first, about one subject or about all subjects."""
    clause, values = ("WHERE subject = ?", [subject]) if subject else ("", [])
    rows = archive.rows(
        f"SELECT {_HAPPENING} FROM happening {clause} ORDER BY time DESC, position DESC LIMIT ?",  # noqa: S608
        [*values, limit],
    )
    return [Happening(*row) for row in rows]


def happenings_of_transaction(archive: RoomArchive, chain: int, transaction: bytes, block: int) -> list[Happening]:
    """Return the events of a transaction in a block."""
    if block > _LAST_BLOCK:
        return []
    rows = archive.rows(
        f"SELECT {_HAPPENING} FROM happening WHERE chain = ? AND position >= ? AND position < ? AND hash = ?",  # noqa: S608
        (chain, block << 20, (block + 1) << 20, transaction),
    )
    return [Happening(*row) for row in rows]


@dataclass(frozen=True)
class LogPlace:
    """A place in the operational log from which a page or an export reads lines.

    Attributes:
        before: the latest Unix time of the lines to read.
        skip: the number of lines with the time `before` that were already read. A fleet can write hundreds of lines in
            one second.
    """

    before: int = 1 << 40
    skip: int = 0

    def after(self, lines: Sequence[LogLine]) -> LogPlace:
        """Return the place after `lines`. The lines must have been read from this place."""
        if not lines:
            return self
        last = lines[-1].time
        read = sum(one.time == last for one in lines)
        return LogPlace(last, read + (self.skip if last == self.before else 0))


def log_lines(archive: RoomArchive, place: LogPlace, *, limit: int, kind: str = "", with_texts: bool) -> list[LogLine]:
    """Return lines of the operational log, newest first.

    Args:
        archive: the archive.
        place: where the lines begin.
        limit: the number of lines.
        kind: ``chain`` for events of chains, ``log`` for entries of logs, or empty for both sources.
        with_texts: whether lines contain reasons and the texts of entries, which can contain serial numbers and
            addresses.
    """
    lines, bounds = list[LogLine](), (place.before, limit + place.skip)

    if kind != "log":
        rows = archive.rows(
            f"SELECT {_HAPPENING} FROM happening WHERE time <= ? "  # noqa: S608
            "ORDER BY time DESC, chain DESC, position DESC LIMIT ?",
            bounds,
        )
        for happening in (Happening(*row) for row in rows):
            link = f"/transactions/{happening.chain}/{happening.block}/0x{happening.hash.hex()}"
            text = happening.text if with_texts else without_reason(happening.text)
            lines.append(LogLine(happening.time, "chain", happening.name, happening.subject, text, link))

    if kind != "chain":
        rows = archive.rows(
            f"SELECT {ENTRY_COLUMNS} FROM entry WHERE time <= ? "  # noqa: S608
            "ORDER BY time DESC, keeper DESC, number DESC LIMIT ?",
            bounds,
        )
        for entry in map(entry_of, rows):
            subject = f"device {entry.device}" if entry.device else f"log {entry.keeper}"
            text = entry_words(entry, with_texts=with_texts)
            lines.append(LogLine(entry.time, "log", str(entry.kind), subject, text, entry_link(entry)))

    return sorted(lines, key=lambda one: one.time, reverse=True)[place.skip : place.skip + limit]


def folded(lines: Sequence[LogLine]) -> list[LogLine]:
    """Merge adjacent lines about the same event of several devices into one line.

    Without the merge, the lines about the registration or the update of a fleet would hide all other lines.
    """
    found = list[LogLine]()
    for line in lines:
        last = found[-1] if found else None
        if last and line.kind in _FOLDED and (line.kind, line.text) == (last.kind, last.text):
            found[-1] = replace(last, others=last.others + 1)
        else:
            found.append(line)
    return found


def entry_link(one: ArchivedEntry | Running) -> str:
    """Return the path of an entry's evidence."""
    return f"/entries/{one.keeper}/{one.number}"


def _in_words(text: str) -> str:
    """Return the text of an entry. A JSON object, such as a warning about refused requests, is put into words."""
    if not text.startswith("{"):
        return text
    if refused := RequestWarning.parse(text):
        claimed = "" if refused.is_proven else "claimed "
        sender = f"{claimed}{refused.node}" if refused.node else "an unknown sender"
        number = "1 request" if refused.count == 1 else f"{refused.count:,} requests"
        return f"{refused.words}; {number} of {sender} from {refused.address}"

    try:
        fields = load_object(text.encode(), has_fractions=True)
    except BlockOTAError:
        return text
    words = [str(fields[name]) for name in ("result", "why", "failure") if fields.get(name)]
    if operator := fields.get("operator"):
        words.append(f"by {operator}")
    return ", ".join(words) or text


def entry_words(one: ArchivedEntry, *, with_texts: bool) -> str:
    """Return an entry in words."""
    release = f"{one.product} {one.version}" if one.product else ""
    if one.kind.names_running_image:
        return release
    text = _SIGNATURE.sub("", _in_words(one.text or "")) if with_texts else ""
    return ": ".join(filter(None, (release, text))) or str(one.kind)


def find_named(archive: RoomArchive, name: str) -> list[Happening]:
    """Return the newest events with one name, newest first."""
    rows = archive.rows(
        f"SELECT {_HAPPENING} FROM happening WHERE name = ? ORDER BY time DESC, position DESC LIMIT ?",  # noqa: S608
        (name, _NAMED),
    )
    return [Happening(*row) for row in rows]
