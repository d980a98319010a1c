"""The page that prepares orders and bans. The wallet or the command of the person signs."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from blockota.errors import UnreachableError, UsageError
from blockota.model.receipt import printable
from blockota.operations.city_reading import CityChain
from blockota.operations.preparing import (
    PreparedCall,
    WantedOrder,
    prepare_ban,
    prepare_group,
    prepare_order,
    propose_ban,
    version_of,
)
from blockota.operations.room_log import RoomLog
from blockota.operations.web.access import form_of, require_role
from blockota.operations.web.pages import missing, room_of
from blockota.operations.web.rendering import Visitor, render

_ROLES = {
    "order": ("operator",),
    "group": ("operator",),
    "ban": ("administrator",),
    "ban-proposal": ("administrator", "operator"),
}
"""The kinds of identities for which something is prepared."""
_MAX_VALUE = 200


def prepare(request: Request) -> Response:
    """The forms."""
    state = room_of(request).state
    releases = [
        (vendor.producers[address], one)
        for vendor in state.vendors.values()
        for address, found in vendor.releases.items()
        for one in found
        if str(one.status) == "active" and address in vendor.producers
    ]
    city = state.city
    identities = sorted(city.identities.values() if city else (), key=lambda one: (one.kind.value, str(one.uuid)))
    return render(
        request,
        "prepare.html",
        releases=releases,
        identities=[one for one in identities if one.is_active],
        groups=sorted(city.groups) if city else [],
        models=sorted(set(city.models.values())) if city else [],
        sites=[one.uuid for one in identities if str(one.kind) == "gateway" and one.is_active],
    )


async def prepared(request: Request) -> Response:
    """Prepare what a form asks for."""
    what = request.path_params["what"]
    if what not in _ROLES:
        return missing(request, request.url.path, "the room prepares orders, groups and bans only")
    form = await form_of(request)
    return await run_in_threadpool(_prepare, request, what, form)


def _prepare(request: Request, what: str, form: Mapping[str, list[str]]) -> Response:
    visitor = require_role(request, form, *_ROLES[what])
    city = room_of(request).city
    if city is None or visitor.session is None:
        raise UnreachableError("nothing can be prepared", why="the gateway chain was not read yet")
    if what == "ban-proposal":
        return _proposal(request, visitor, city, form)
    account = visitor.session.account
    if what == "order":
        call = prepare_order(city, room_of(request).connections[1], _wanted(form), account)
    elif what == "group":
        call = prepare_group(city, _value(form, "name"), _value(form, "place"), account)
    else:
        call = prepare_ban(city, _uuid(form), _value(form, "reason"), account)
    _record(request, visitor, f"{what} prepared", f"{call.words}; call {hashlib.sha256(call.data).hexdigest()}")
    return render(request, "prepared.html", call=call, command=_command(call), transaction=json.dumps(call.as_fields()))


def _proposal(request: Request, visitor: Visitor, city: CityChain, form: Mapping[str, list[str]]) -> Response:
    """Return the proposal file of a ban by the Safe."""
    uuid = _uuid(form)
    proposal = propose_ban(city, uuid, _value(form, "reason"), now=int(time.time()))
    _record(request, visitor, "proposal of a ban prepared", f"{uuid}; safeTxHash 0x{proposal.safe_tx_hash.hex()}")
    headers = {"Content-Disposition": f'attachment; filename="ban-{uuid.hex[:8]}.json"'}
    return Response(proposal.to_json(), media_type="application/json", headers=headers)


def _record(request: Request, visitor: Visitor, what: str, details: str) -> None:
    log: RoomLog = request.app.state.room_log
    if visitor.session:
        session = f"session of entry {visitor.session.number}"
        log.record(printable(f"{what} for {visitor.role} {visitor.name}, {session}: {details}"))


def _wanted(form: Mapping[str, list[str]]) -> WantedOrder:
    producer, product, version = (*_value(form, "release").split(" "), "", "")[:3]
    return WantedOrder(
        producer=producer,
        product=product,
        version=version_of(version),
        group=_value(form, "group"),
        not_before=_moment(form, "not_before"),
        deadline=_moment(form, "deadline"),
    )


def _command(call: PreparedCall) -> str:
    return f"blockota {shlex.join(call.command)} --key URI"


def _value(form: Mapping[str, list[str]], name: str) -> str:
    value = form.get(name, [""])[0].strip()
    if not value or len(value) > _MAX_VALUE:
        raise UsageError(f"the field {name.replace('_', ' ')} is needed", why=f"it has 1 to {_MAX_VALUE} characters")
    return value


def _uuid(form: Mapping[str, list[str]]) -> UUID:
    value: Any = _value(form, "identity")
    try:
        return UUID(value)
    except ValueError as error:
        raise UsageError(f"{value!r:.60} is not a UUID") from error


def _moment(form: Mapping[str, list[str]], name: str) -> int:
    """Return a time of a form in UTC; 0 for an empty field."""
    value = form.get(name, [""])[0].strip()
    if not value:
        return 0
    try:
        return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{value!r:.40} is not a time", why="a time is written as 2026-12-24T18:00") from error
