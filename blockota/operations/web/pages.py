"""The pages that are shown without a sign-in. Each function takes a request, and returns a response."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from blockota.errors import UnreachableError
from blockota.operations import views
from blockota.operations.commands import CommandLine, RoomCommand, Values
from blockota.operations.evidence import EntryEvidence, TransactionView, trust_file
from blockota.operations.public_text import without_addresses
from blockota.operations.room import Room
from blockota.operations.warning_desk import count_open
from blockota.operations.web.rendering import render

_NUMBER = re.compile(r"[1-9]\d{0,17}", re.ASCII)
_MAX_TEXT = 200
_EXPORTED, _LINES, _NEWEST, _READ, _MOST_SKIPPED = 10_000, 100, 8, 200, 10_000
_LAST_REPORTS = 2000
"""The last page of the reports about an order."""
_VERBS = {
    "install": "installed",
    "reinstall": "installed again:",
    "equivalent": "runs",
    "claimed": "reported",
    "configuration": "configured with",
    "refusal": "refused",
    "postponement": "postponed",
}
"""The words before the release of an entry, by the kind of the entry."""
_KINDS, _FORMS = ("", "chain", "log"), ("csv", "jsonl")


def overview(request: Request) -> Response:
    """The overview: the numbers of devices, updates and warnings, and the state of chains and anchors."""
    room = room_of(request)
    archive, state = room.archive, room.state
    lines = views.log_lines(archive, views.LogPlace(), limit=_READ, with_texts=not is_public(request))
    # The room's own log repeats the orders and bans on the chain.
    lines = [one for one in lines if one.source == "chain" or "; transaction 0x" not in one.text]
    return render(
        request,
        "overview.html",
        shares=views.release_shares(state, archive),
        updates=views.update_progress(state, archive, is_open=True),
        warnings=count_open(archive),
        lines=views.folded(lines)[:_NEWEST],
        verbs=_VERBS,
        logs=log_rows(room),
    )


def devices(request: Request) -> Response:
    """The list of devices with filters."""
    room = room_of(request)
    asked = request.query_params
    query = views.DeviceQuery(
        text=text_of(request, "q"),
        product=text_of(request, "product"),
        version=text_of(request, "version"),
        status=asked.get("status", "") if asked.get("status") in ("active", "banned") else "",
        page=page_of(request),
    )

    rows, count = views.find_devices(room.state, room.archive, query, with_serials=not is_public(request))
    shares = views.release_shares(room.state, room.archive)
    newest = views.newest_versions(room.state)

    return render(
        request,
        "devices.html",
        rows=rows,
        count=count,
        query=query,
        products=sorted({one.product for one in shares}),
        newest=newest,
        has_more=query.page * views.PAGE < count,
        page_count=-(-count // views.PAGE),
    )


def device(request: Request) -> Response:
    """One device: its record, releases, status history and events."""
    room = room_of(request)
    number = int(request.path_params["number"])
    city = room.state.city
    found = city.devices.get(number) if city else None
    if city is None or found is None:
        return missing(request, f"device {number}", "the registry of devices has no record of it at this block")

    query = views.EntryQuery(device=number, page=page_of(request))
    entries = views.find_entries(room.archive, query)

    return render(
        request,
        "device.html",
        row=views.device_rows([found], city, room.archive)[0],
        entries=entries[: views.PAGE],
        has_more=len(entries) > views.PAGE,
        page=query.page,
        words=words_of(request),
        happenings=views.find_happenings(room.archive, subject=f"device {number}", limit=20),
        newest=views.newest_versions(room.state),
        link=views.entry_link,
    )


def updates(request: Request) -> Response:
    """The orders with their progress, and the releases of the producers."""
    room = room_of(request)
    progress = views.update_progress(room.state, room.archive)
    releases = []
    for vendor in room.state.vendors.values():
        for address, found in vendor.releases.items():
            producer = vendor.producers.get(address, "")
            releases += [(vendor.chain_id, address, producer, one) for one in found]

    counts = {(one.product, one.version): one.devices for one in views.release_shares(room.state, room.archive)}
    published = {
        (one.chain, one.text.removesuffix(" published")): one
        for one in views.find_named(room.archive, "ReleasePublished")
    }
    placed = {one.subject: one for one in views.find_named(room.archive, "OrderPlaced")}
    cancelled = {one.subject: one for one in views.find_named(room.archive, "OrderCancelled")}

    return render(
        request,
        "updates.html",
        updates=progress,
        releases=releases,
        counts=counts,
        published=published,
        placed=placed,
        cancelled=cancelled,
        city=room.state.city,
    )


def order_reports(request: Request) -> Response:
    """The log entries about an order, except installations: refusals, postponements and problems."""
    room = room_of(request)
    number = int(request.path_params["number"])
    progress = views.update_progress(room.state, room.archive)
    found = next((one for one in progress if one.order.number == number), None)
    if found is None:
        return missing(request, f"order {number}", "the gateway chain has no such order at this block")

    query = views.EntryQuery(order=number, page=min(page_of(request), _LAST_REPORTS))
    entries = views.find_entries(room.archive, query)

    return render(
        request,
        "order.html",
        update=found,
        entries=entries[: views.PAGE],
        has_more=len(entries) > views.PAGE,
        page=query.page,
        words=words_of(request),
        link=views.entry_link,
    )


def ledger(request: Request) -> Response:
    """The logs of the city, with their anchors."""
    return render(request, "ledger.html", logs=log_rows(room_of(request)))


def entries(request: Request) -> Response:
    """The entries of one log."""
    room = room_of(request)
    keeper = request.path_params["keeper"]

    query = views.EntryQuery(keeper=keeper, page=page_of(request))
    found = views.find_entries(room.archive, query)
    row = next((one for one in log_rows(room) if one["keeper"] == keeper), None)
    if row is None:
        return missing(request, f"the log of {keeper}", "the registry has no log key for this identity")

    return render(
        request,
        "entries.html",
        row=row,
        entries=found[: views.PAGE],
        has_more=len(found) > views.PAGE,
        page=query.page,
        words=words_of(request),
        link=views.entry_link,
    )


def entry(request: Request) -> Response:
    """One entry with its proof."""
    room = room_of(request)
    keeper, number = request.path_params["keeper"], int(request.path_params["number"])
    with proving(request):
        evidence = EntryEvidence.find(room, keeper, number)
    if evidence is None:
        return missing(request, f"entry {number} of {keeper}", "the room has not read and verified such an entry")

    fields: dict[str, Any] = {}
    if evidence.entry:
        fields = {name: value for name, value in evidence.entry.as_fields().items() if value is not None}
    if is_public(request):
        for name in ("uniqueId", "source", "signature", "text"):
            fields.pop(name, None)

    values = {"file": f"receipt-{number}.json", "trust": f"trust-{number}.toml"}
    offline = command_of(request, RoomCommand.VERIFY_ENTRY, values)
    online = command_of(request, RoomCommand.VERIFY_ENTRY, {**values, "asks_chain": True})
    return render(request, "entry.html", evidence=evidence, fields=fields, offline=offline, online=online)


def proof_file(request: Request) -> Response:
    """A file for ``blockota log verify``: the proof of an entry, or the registered keys of its log and device."""
    room = room_of(request)
    if request.path_params["file"] not in ("receipt.json", "trust.toml"):
        return missing(request, request.url.path[:120], "an entry has the files receipt.json and trust.toml")

    keeper, number = request.path_params["keeper"], int(request.path_params["number"])
    if is_public(request):
        return missing(request, "the proof file", "a public page gives no entries, because they have serial numbers")

    with proving(request):
        evidence = EntryEvidence.find(room, keeper, number)
    if evidence is None or evidence.proof is None:
        why = evidence.trouble if evidence else "the room has not read such an entry"
        return missing(request, f"the proof file of entry {number}", why)

    if request.path_params["file"] == "trust.toml":
        headers = {"Content-Disposition": f'attachment; filename="trust-{number}.toml"'}
        return Response(trust_file(room, evidence), media_type="application/toml", headers=headers)
    headers = {"Content-Disposition": f'attachment; filename="receipt-{number}.json"'}
    return Response(evidence.proof.to_json(), media_type="application/json", headers=headers)


def transaction(request: Request) -> Response:
    """One transaction with its events, its sender, and the owners of a Safe who signed the transaction."""
    room = room_of(request)
    chain, block = int(request.path_params["chain"]), int(request.path_params["block"])
    hash_ = request.path_params["hash"]
    if not re.fullmatch(r"0x[0-9a-f]{64}", hash_):
        return missing(request, "the transaction", f"{hash_:.80} is not the hash of a transaction")
    with proving(request):
        found = TransactionView.find(room, chain, block, bytes.fromhex(hash_[2:]))
    if not found.happenings:
        return missing(request, f"the transaction {hash_}", "no event of it is known here")
    return render(request, "transaction.html", view=found, hash=hash_)


def log(request: Request) -> Response:
    """The operational log."""
    room = room_of(request)
    kind = request.query_params.get("kind", "")
    kind = kind if kind in _KINDS else ""
    place = place_of(request)
    lines = views.log_lines(room.archive, place, limit=_LINES, kind=kind, with_texts=not is_public(request))
    older = place.after(lines) if len(lines) == _LINES else None
    return render(request, "log.html", lines=lines, kind=kind, older=older, exported=_EXPORTED)


def export(request: Request) -> Response:
    """The newest 10,000 lines of the operational log as CSV or JSON lines. A Link header leads to the next lines."""
    room = room_of(request)
    form = request.path_params["form"]
    if form not in _FORMS:
        return missing(request, f"the log as {form:.20}", f"it is exported as {' and '.join(_FORMS)}")
    place = place_of(request)
    lines = views.log_lines(room.archive, place, limit=_EXPORTED, with_texts=not is_public(request))

    def rows() -> Iterator[str]:
        names = ("time", "source", "kind", "subject", "text", "evidence")
        if form == "csv":
            yield csv_line(names)
        for line in lines:
            fields = line.as_fields()
            if is_public(request):
                fields |= {name: without_addresses(fields[name]) for name in ("subject", "text")}
            yield csv_line([fields[name] for name in names]) if form == "csv" else json.dumps(fields) + "\n"

    kind = "text/csv; charset=utf-8" if form == "csv" else "application/jsonl"
    name = time.strftime("operations-%Y%m%d", time.gmtime())
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    if len(lines) == _EXPORTED:
        headers["Link"] = f'</log/export.{form}?{urlencode(asdict(place.after(lines)))}>; rel="next"'
    return StreamingResponse(rows(), media_type=kind, headers=headers)


def csv_line(values: Any) -> str:
    """Return one line of CSV. An apostrophe precedes each text that a spreadsheet would interpret as a formula."""
    buffer = io.StringIO()
    safe = [
        f"'{one}" if isinstance(one, str) and one[:1] in ("=", "+", "-", "@", "\t", "\r") else one for one in values
    ]
    csv.writer(buffer).writerow(safe)
    return buffer.getvalue()


def log_rows(room: Room) -> list[dict[str, Any]]:
    """Return the logs of the city: one row for each identity with a log key or an anchored log."""
    state = room.state
    if state.city is None:
        return []
    city = state.city
    keepers = [uuid for uuid, one in city.identities.items() if one.keys.log_key or uuid in city.logs]
    anchored = {one.subject: one for one in reversed(views.find_named(room.archive, "Anchored"))}

    rows = []
    for uuid in sorted(keepers, key=lambda one: (str(city.identities[one].kind), str(one))):
        row = {
            "keeper": uuid,
            "identity": city.identities[uuid],
            "anchor": city.logs.get(uuid),
            "event": anchored.get(f"log {uuid}"),
            "followed": state.logs.get(uuid),
        }
        rows.append(row)
    return rows


@contextmanager
def proving(request: Request) -> Iterator[None]:
    """Limit the number of pages that wait for another host, so that a slow host does not block the other pages.

    Raises:
        UnreachableError: too many pages wait.
    """
    places: BoundedSemaphore = request.app.state.proofs
    if not places.acquire(blocking=False):
        raise UnreachableError(
            "the proof cannot be made now",
            why="a chain or a log answers slowly, and too many viewers wait for it",
            remedy="load the page again in some seconds",
        )

    try:
        yield
    finally:
        places.release()


def room_of(request: Request) -> Room:
    """Return the room of the application."""
    room: Room = request.app.state.room
    return room


def command_of(request: Request, command: RoomCommand, values: Values) -> str:
    """Return the text of a command, to type in a shell."""
    command_line: CommandLine = request.app.state.command_line
    return command_line(command, values)


def is_public(request: Request) -> bool:
    """Whether pages omit serial numbers, addresses, and texts that persons and services wrote."""
    return bool(request.app.state.is_public)


def words_of(request: Request) -> Any:
    """Return the function that describes an entry."""
    with_texts = not is_public(request)
    return lambda one: views.entry_words(one, with_texts=with_texts)


def page_of(request: Request) -> int:
    """Return the page number in the query; the first page has the number 1."""
    return min(number_of(request, "page") or 1, 100_000)


def place_of(request: Request) -> views.LogPlace:
    """Return the place in the operational log that the query names; by default the place of the newest line."""
    skip = min(number_of(request, "skip") or 0, _MOST_SKIPPED)
    return views.LogPlace(number_of(request, "before") or views.LogPlace.before, skip)


def number_of(request: Request, name: str) -> int | None:
    """Return a positive number from the query; None if the query has no such number."""
    value = request.query_params.get(name, "")
    return int(value) if _NUMBER.fullmatch(value) else None


def text_of(request: Request, name: str) -> str:
    """Return a text from the query, shortened to its maximum length."""
    return request.query_params.get(name, "")[:_MAX_TEXT]


def missing(request: Request, what: str, why: str) -> Response:
    """Return the page with status 404 about something that does not exist."""
    return render(request, "missing.html", status=404, what=what, why=why)
