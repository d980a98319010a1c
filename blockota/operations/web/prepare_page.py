"""The page that prepares orders, configurations and bans. A person signs them with a wallet or a command."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from blockota.approval.proposal import Proposal
from blockota.errors import UnreachableError, UsageError
from blockota.model.identity import Identity
from blockota.model.receipt import printable
from blockota.operations.city_reading import CityChain
from blockota.operations.configuring import MAX_IMAGE, WantedConfiguration, prepare_configuration
from blockota.operations.ordering import WantedOrder
from blockota.operations.preparing import (
    PreparedCall,
    prepare_ban,
    prepare_group,
    prepare_order,
    propose_ban,
    version_of,
)
from blockota.operations.room_log import RoomLog
from blockota.operations.web.access import form_of, require_role, require_session
from blockota.operations.web.pages import command_of, missing, room_of
from blockota.operations.web.rendering import Visitor, render
from blockota.operations.web.uploads import FileForm, file_form_of

_ROLES = {
    "order": ("operator",),
    "group": ("operator",),
    "configuration": ("operator",),
    "ban": ("administrator",),
    "ban-proposal": ("administrator", "operator"),
}
"""The kinds of identities for which something is prepared."""
_MAX_VALUE = 200


def prepare(request: Request) -> Response:
    """The forms."""
    state = room_of(request).state
    releases = []
    for vendor in state.vendors.values():
        for address, found in vendor.releases.items():
            if address in vendor.producers:
                active = [one for one in found if str(one.status) == "active"]
                releases += [(vendor.chain_id, vendor.producers[address], one) for one in active]

    identities: list[Identity] = []
    groups: list[str] = []
    models: list[str] = []
    if city := state.city:
        identities = [one for one in city.identities.values() if one.is_active]
        groups, models = sorted(city.groups), sorted(set(city.models.values()))
    identities.sort(key=lambda one: (one.kind.value, str(one.uuid)))

    return render(
        request,
        "prepare.html",
        releases=releases,
        identities=identities,
        groups=groups,
        models=models,
        sites=[one.uuid for one in identities if str(one.kind) == "gateway"],
    )


async def prepared(request: Request) -> Response:
    """Prepare what a form asks for."""
    what = request.path_params["what"]
    if what not in _ROLES:
        return missing(request, request.url.path, "the room prepares orders, groups, configurations and bans only")
    if what == "configuration":
        # A file is read only for a person who may send one.
        await run_in_threadpool(require_session, request)
        return await run_in_threadpool(_configure, request, await file_form_of(request, most=MAX_IMAGE))
    form = await form_of(request)
    return await run_in_threadpool(_prepare, request, what, form)


def _prepare(request: Request, what: str, form: Mapping[str, list[str]]) -> Response:
    visitor = require_role(request, form, *_ROLES[what])
    city, account = _place_of(request, visitor)
    if what == "ban-proposal":
        return _propose_ban(request, visitor, city, form)

    if what == "order":
        call = _order(request, city, form, account)
    elif what == "group":
        call = prepare_group(city, _value(form, "name"), _value(form, "place"), account)
    else:
        call = prepare_ban(city, _uuid(form), _value(form, "reason"), account)

    return _show(request, visitor, what, call)


def _order(request: Request, city: CityChain, form: Mapping[str, list[str]], account: str) -> PreparedCall:
    """Prepare an order of a release. The form names the release and the id of its producer chain."""
    chain, producer, product, version = (*_value(form, "release").split(" "), "", "", "")[:4]
    vendors = room_of(request).connections[1:]
    vendor = next((one for one in vendors if str(one.settings.chain_id) == chain), None)
    if vendor is None:
        raise UsageError(
            f"the room follows no producer chain {chain!r:.40}", why="the release in the form belongs to this chain"
        )
    wanted = _wanted(form, product, version)
    call = prepare_order(city, vendor, wanted, producer, account)
    return call if vendor is vendors[0] else replace(call, network=vendor.settings.network)


def _configure(request: Request, sent: FileForm) -> Response:
    """Prepare the order of a configuration, or return a proposal file to publish the configuration."""
    visitor = require_role(request, sent.fields, *_ROLES["configuration"])
    city, account = _place_of(request, visitor)
    order = _wanted(sent.fields, _value(sent.fields, "product"), _value(sent.fields, "version"))
    wanted = WantedConfiguration(order, sent.content, sent.file_name, _value(sent.fields, "reason"))

    vendors = room_of(request).connections[1:]
    vendor = next((one for one in vendors if "configurations" in one.settings.registries), vendors[0])
    made = prepare_configuration(city, vendor, wanted, account, now=int(time.time()))

    if isinstance(made, PreparedCall):
        return _show(request, visitor, "configuration", made)

    digest = hashlib.sha256(sent.content).hexdigest()
    release = f"{order.product} {order.version} with SHA-256 {digest} for {order.group}"
    _record(request, visitor, "proposal of a configuration prepared", f"{release}; {_hash_of(made)}")
    return _file(made, f"{order.product}-{order.version}.json")


def _place_of(request: Request, visitor: Visitor) -> tuple[CityChain, str]:
    """Return the gateway chain and the account of a person.

    Raises:
        UnreachableError: the gateway chain was not read yet.
    """
    city = room_of(request).city
    if city is None or visitor.session is None:
        raise UnreachableError("nothing can be prepared", why="the gateway chain was not read yet")
    return city, visitor.session.account


def _show(request: Request, visitor: Visitor, what: str, call: PreparedCall) -> Response:
    """Record a prepared transaction in the room's log, and show the transaction."""
    _record(request, visitor, f"{what} prepared", f"{call.words}; call {hashlib.sha256(call.data).hexdigest()}")

    variable = f"BLOCKOTA_PRODUCER_NETWORK={shlex.quote(call.network)} " if call.network else ""
    command = variable + command_of(request, call.command, {**call.values, "key": "URI"})
    return render(request, "prepared.html", call=call, command=command, transaction=json.dumps(call.as_fields()))


def _file(proposal: Proposal, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(proposal.to_json(), media_type="application/json", headers=headers)


def _hash_of(proposal: Proposal) -> str:
    return f"safeTxHash 0x{proposal.safe_tx_hash.hex()}"


def _propose_ban(request: Request, visitor: Visitor, city: CityChain, form: Mapping[str, list[str]]) -> Response:
    """Return the proposal file for a ban by the city's Safe."""
    uuid = _uuid(form)
    proposal = propose_ban(city, uuid, _value(form, "reason"), now=int(time.time()))
    _record(request, visitor, "proposal of a ban prepared", f"{uuid}; {_hash_of(proposal)}")
    return _file(proposal, f"ban-{uuid.hex[:8]}.json")


def _record(request: Request, visitor: Visitor, what: str, details: str) -> None:
    log: RoomLog = request.app.state.room_log
    if visitor.session:
        session = f"session of entry {visitor.session.number}"
        log.record(printable(f"{what} for {visitor.role} {visitor.name}, {session}: {details}"))


def _wanted(form: Mapping[str, list[str]], product: str, version: str) -> WantedOrder:
    """Return the order of a release, with the group and the time window in a form."""
    return WantedOrder(
        product=product,
        version=version_of(version),
        group=_value(form, "group"),
        not_before=_moment(form, "not_before"),
        deadline=_moment(form, "deadline") or None,
    )


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
