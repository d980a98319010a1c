"""The pages whose data are read at intervals: requests, replicas, and the network with its tunnels."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from blockota.model.identity import Identity
from blockota.model.receipt import EntryKind
from blockota.operations import views
from blockota.operations.archive import RoomArchive
from blockota.operations.commands import RoomCommand
from blockota.operations.queries import PAGE, MinuteCount, requests_of
from blockota.operations.queries import request as stored
from blockota.operations.watching import HOUR, MINUTE
from blockota.operations.web.pages import command_of, is_public, missing, number_of, proving, room_of
from blockota.operations.web.rendering import render

CHART_HEIGHT = 120
"""Height of the bars of the chart, in units of its picture."""


@dataclass(frozen=True)
class Bar:
    """One minute in the chart of requests.

    Attributes:
        start: Unix time of the minute.
        passed: the number of requests that the cloud accepted; None without a database.
        refused: the number of warnings in the logs.
        passed_height: height of the bar's part for accepted requests. The whole bar has at most `CHART_HEIGHT`.
    """

    start: int
    passed: int | None
    refused: int
    passed_height: float = 0.0
    refused_height: float = 0.0


def requests(request: Request) -> Response:
    """The requests of the last hour, accepted and refused.

    The accepted requests come from the cloud's database. The refused requests come from the warnings in the logs.
    """
    room = room_of(request)
    now = int(time.time())
    first = now - now % MINUTE + MINUTE - HOUR

    watcher = room.watches.requests
    passed, total, by_gateway = None, None, dict[UUID, MinuteCount]()
    if watcher and (counts := watcher.last.found):
        passed, by_gateway = {one.start: one.requests for one in counts.minutes}, counts.gateways
        total = sum(passed.values())

    refused = warnings_by(room.archive, "time / 60 * 60", first)
    bars = _bars(first, passed, refused)
    warned = {UUID(bytes=keeper): number for keeper, number in warnings_by(room.archive, "keeper", first).items()}

    return render(
        request,
        "requests.html",
        bars=bars,
        top=max((one.refused + (one.passed or 0) for one in bars), default=0),
        height=CHART_HEIGHT,
        passed=total,
        refused=sum(refused.values()),
        gateways=by_gateway,
        warned=warned,
        keepers=sorted({*by_gateway, *warned}, key=str),
        has_database=watcher is not None,
        trouble=watcher.last.trouble if watcher else "",
        city=room.state.city,
    )


def stored_requests(request: Request) -> Response:
    """The newest accepted requests of a gateway in the cloud's database."""
    room, gateway = room_of(request), request.path_params["keeper"]
    database = room.watches.cloud
    if database is None:
        return missing(request, f"the requests of {gateway}", "the settings name no database of the cloud")
    with proving(request), database.reading() as connection:
        found = requests_of(connection, gateway, before=number_of(request, "before"))
    return render(request, "stored.html", gateway=gateway, rows=found, city=room.state.city, page_size=PAGE)


def stored_request(request: Request) -> Response:
    """The exact bytes of one request, as the gateway signed them."""
    room, gateway, number = room_of(request), request.path_params["keeper"], request.path_params["number"]
    database = room.watches.cloud
    if database is None or is_public(request):
        return missing(request, f"the request {number}", "a public page, or a room without the database, gives none")
    with proving(request), database.reading() as connection:
        found = stored(connection, number)
    if found is None or found.gateway != gateway:
        return missing(request, f"the request {number} of {gateway}", "the cloud's database does not have it")
    headers = {"Content-Disposition": f'attachment; filename="request-{number}.txt"'}
    return Response(found.raw, media_type="application/octet-stream", headers=headers)


def warnings_by(archive: RoomArchive, group: str, since: int) -> dict[Any, int]:
    """Count the warnings since a Unix time, for each value of an SQL expression over the columns of an entry."""
    statement = f"SELECT {group}, count(*) FROM entry WHERE kind = ? AND time >= ? GROUP BY 1"  # noqa: S608 - constants
    return dict(archive.rows(statement, (int(EntryKind.WARNING), since)))


def _bars(first: int, passed: dict[int, int] | None, refused: dict[int, int]) -> list[Bar]:
    starts = range(first, first + HOUR, MINUTE)
    counted = [(start, passed.get(start, 0) if passed is not None else None, refused.get(start, 0)) for start in starts]
    top = max((bad + (good or 0) for _, good, bad in counted), default=0) or 1
    unit = CHART_HEIGHT / top
    return [Bar(start, good, bad, (good or 0) * unit, bad * unit) for start, good, bad in counted]


def replicas(request: Request) -> Response:
    """The agreements with brokers, and the announced replicas with the results of their checks."""
    room = room_of(request)
    watcher = room.watches.replicas
    probes = {one.agreement: one for one in watcher.last.found or ()}
    vendors = list(room.state.vendors.values())
    agreements = [(vendor, one) for vendor in vendors for one in reversed(vendor.agreements)]
    names = ("ReplicaAnnounced", "AgreementAccepted", "AgreementProposed")

    # Each producer has a contract of its own, so two agreements can have the same number.
    events = {}
    for name in reversed(names):
        for one in views.find_named(room.archive, name):
            events[one.chain, one.subject, one.text.rpartition(" ")[0]] = one

    return render(
        request,
        "replicas.html",
        command=command_of(request, RoomCommand.CHECK_REPLICAS, {}),
        agreements=agreements,
        probes=probes,
        look=watcher.last,
        events=events,
        vendors=vendors,
    )


def network(request: Request) -> Response:
    """The identities of the city, the tunnels of this host, and bans."""
    room = room_of(request)
    city = room.state.city
    watcher = room.watches.tunnels
    look = watcher.last if watcher else None
    known: Iterable[Identity] = city.identities.values() if city else ()
    identities = sorted(known, key=lambda one: (one.kind.value, str(one.uuid)))

    banned = {one.subject: one for one in reversed(views.find_named(room.archive, "IdentityBanned"))}
    return render(
        request,
        "network.html",
        identities=identities,
        tunnels=look.found if look else None,
        look=look,
        banned=banned,
        enrolled={one.subject: one for one in views.find_named(room.archive, "IdentityEnrolled")},
    )
