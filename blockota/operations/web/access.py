"""Access control: sign-in, sessions, and the checks of each request that makes a change."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from blockota.errors import AccessRefusedError, BlockOTAError, UsageError
from blockota.model.identity import IdentityKind
from blockota.operations.commands import RoomCommand
from blockota.operations.room_log import RoomLog
from blockota.operations.settings import OperationsSettings
from blockota.operations.sign_in import SESSION_TIME, SignIns
from blockota.operations.web.pages import command_of, room_of
from blockota.operations.web.rendering import Visitor, render
from blockota.strict_json import integer, load_object
from blockota.strict_json import text as text_field

_MAX_BODY = 1 << 20
_ROLES = (IdentityKind.OPERATOR, IdentityKind.ADMINISTRATOR)
_SAME_ORIGIN = ("same-origin", "none")


def visitor_of(request: Request) -> Visitor:
    """Return the visitor, whose role is read from the chain. A banned person has no role from the next block on."""
    sign_ins: SignIns | None = request.app.state.sign_ins
    secret = request.cookies.get(cookie_name(request), "")
    session = sign_ins.session(secret, now=int(time.time())) if sign_ins and secret else None
    return replace(_listed(request, session.account), session=session) if session else Visitor()


def _listed(request: Request, account: str) -> Visitor:
    """Return the role of an account, or the reason why the account has no role."""
    room = room_of(request)
    try:
        found = room.city.identities.identity_of(account) if room.city else None
    except BlockOTAError as error:
        return Visitor(why=f"your role cannot be read: {error.what}")

    if room.city is None:
        return Visitor(why="your role cannot be read: the gateway chain was not read yet")
    if found is None or found.keys.account != account or found.kind not in _ROLES:
        return Visitor(why="the registry does not list your account as an Operator or Administrator")

    if not found.is_active:
        return Visitor(name=str(found.uuid), why=f"your identity is {found.status}")
    return Visitor(role=str(found.kind), name=str(found.uuid))


def _require_listed(request: Request, account: str) -> None:
    """Refuse the sign-in of an account without a role, because each sign-in adds an entry to the room's log.

    Raises:
        AccessRefusedError: the account has no role.
    """
    if why := _listed(request, account).why:
        raise AccessRefusedError("the sign-in is refused", why=why, remedy="ask the city to enrol your account")


def cookie_name(request: Request) -> str:
    """Return the session cookie's name; over TLS, the prefix ``__Host-`` binds the cookie to a host (RFC 6265bis)."""
    return "__Host-operations" if settings_of(request).is_secure else "operations"


def settings_of(request: Request) -> OperationsSettings:
    """Return the settings of the room."""
    return room_of(request).settings


async def form_of(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form.

    Raises:
        UsageError: the body is too large or is not a form.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise UsageError("the request is not a form", why="its content type is not application/x-www-form-urlencoded")

    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise UsageError("the form is too large", why=f"at most {_MAX_BODY:,} bytes are accepted")

    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=5000)
    except ValueError as error:
        raise UsageError("the form cannot be read", why=str(error)) from error


def check_origin(request: Request) -> None:
    """Refuse a request from a page of another site.

    Raises:
        AccessRefusedError: the request does not come from a page of this room.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    # Under the referrer policy of the pages, a browser sends `Origin: null` with a form, so Sec-Fetch-Site decides if
    # the browser sends it.
    is_ours = site in _SAME_ORIGIN if site is not None else origin in (None, settings_of(request).url)
    if not is_ours:
        raise _refused("another site made it")


def require_session(request: Request) -> Visitor:
    """Return the person who sent a request, and require a session and a role.

    Raises:
        AccessRefusedError: the request comes from another site, or the person is not signed in or has no role.
    """
    check_origin(request)
    visitor = visitor_of(request)
    if visitor.session is None:
        raise _refused("you are not signed in")
    if visitor.role is None:
        raise _refused(visitor.why)
    return visitor


def require_role(request: Request, form: Mapping[str, list[str]], *roles: str) -> Visitor:
    """Return the person who sent a form, and require a session and one of the given roles.

    Raises:
        AccessRefusedError: the form comes from another site, its token is wrong, or the person has none of the roles.
    """
    visitor = require_session(request)
    token = visitor.session.csrf if visitor.session else ""
    if not secrets.compare_digest(form.get("csrf", [""])[0].encode(), token.encode()):
        raise _refused("its token is not that of your session")
    if visitor.role not in roles:
        raise _refused(f"an {' or '.join(roles)} may do this, and you are an {visitor.role}")
    return visitor


def sign_in_page(request: Request) -> Response:
    """The page that explains how to sign in. At a one-time address, the page asks the person to confirm the sign-in."""
    values = {"url": settings_of(request).url, "key": "keystore:operator.json"}
    command = Markup.escape(command_of(request, RoomCommand.SIGN_IN, values))  # public pages show its URL too
    return render(request, "sign_in.html", command=command, ticket=request.path_params.get("ticket", ""))


async def challenge(request: Request) -> Response:
    """Return the values of a new sign-in text for the account in the JSON body.

    This function reads neither the chain nor the archive, so a flood of requests costs little.
    """
    try:
        check_origin(request)
        text = _sign_ins(request).challenge(str((await _json(request)).get("account", "")), now=int(time.time()))
    except BlockOTAError as error:
        return _json_error(error)
    values = {"account": text.account, "nonce": text.nonce, "issuedAt": text.issued_at, "text": str(text)}
    return JSONResponse(values, headers={"Cache-Control": "no-store"})


async def answer(request: Request) -> Response:
    """Check the signature of a sign-in text, and return a one-time address."""
    try:
        check_origin(request)
        fields = await _json(request)
        ticket = await asyncio.to_thread(_ticket_for, request, fields)
    except BlockOTAError as error:
        return _json_error(error)
    return JSONResponse(
        {"address": f"{settings_of(request).url}/sign-in/{ticket}"}, headers={"Cache-Control": "no-store"}
    )


def _ticket_for(request: Request, fields: Mapping[str, Any]) -> str:
    """Check a signed text, and return a ticket: the secret of a one-time address."""
    sign_ins, now = _sign_ins(request), int(time.time())
    try:
        text = sign_ins.text(text_field(fields, "account"), text_field(fields, "nonce"), integer(fields, "issuedAt"))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError("the sign-in is not complete", why="account, nonce and issuedAt are needed") from error
    signature = _hexadecimal(fields.get("signature"))
    sign_ins.accept(text, signature, now=now)
    _require_listed(request, text.account)
    return sign_ins.give_ticket(text, signature, now=now)


async def start_session(request: Request) -> Response:
    """Accept a one-time address: record the sign-in, and set the cookie of a session."""
    check_origin(request)
    secret = await asyncio.to_thread(_session_for, request, request.path_params["ticket"])

    response = RedirectResponse("/", status_code=303)
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=SESSION_TIME,
        secure=settings_of(request).is_secure,
        httponly=True,
        samesite="strict",
    )
    return response


def _session_for(request: Request, ticket: str) -> str:
    """Use a ticket: record the sign-in in the room's log, and return the secret of the new session."""
    sign_ins, now = _sign_ins(request), int(time.time())
    account, text, signature = sign_ins.use_ticket(ticket, now=now)
    _require_listed(request, account)
    signed = text.replace("\n", "\\n")
    log: RoomLog = request.app.state.room_log
    number = log.record(f"sign-in of {account}, signature 0x{signature.hex()}, text: {signed}")
    return sign_ins.open_session(account, number=number, now=now)


async def end_session(request: Request) -> Response:
    """End the session of the cookie."""
    check_origin(request)
    form = await form_of(request)
    await asyncio.to_thread(_close_session, request, form.get("csrf", [""])[0])
    response = RedirectResponse("/", status_code=303)
    response.delete_cookie(
        cookie_name(request), secure=settings_of(request).is_secure, httponly=True, samesite="strict"
    )
    return response


def _close_session(request: Request, token: str) -> None:
    """End the session of the cookie if the form has the token of the session. The person needs no role."""
    sign_ins, secret = _sign_ins(request), request.cookies.get(cookie_name(request), "")
    session = sign_ins.session(secret, now=int(time.time()))
    if session and secrets.compare_digest(token.encode(), session.csrf.encode()):
        sign_ins.close_session(secret)


def _sign_ins(request: Request) -> SignIns:
    sign_ins: SignIns | None = request.app.state.sign_ins
    if sign_ins is None:
        raise AccessRefusedError(
            "signing in is disabled here",
            why="the room has no identity, so it cannot record the actions of persons",
            remedy="ask the operator of the room to set up its identity",
        )
    return sign_ins


async def _json(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise UsageError("the request is too large")
    try:
        return dict(load_object(bytes(body)))
    except BlockOTAError as error:
        raise UsageError("the request cannot be read", why=error.why) from error


def _hexadecimal(value: object) -> bytes:
    text = value.removeprefix("0x") if isinstance(value, str) else ""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise UsageError("the signature is not hexadecimal") from error


def _json_error(error: BlockOTAError) -> Response:
    status = 403 if isinstance(error, AccessRefusedError) else 400
    return JSONResponse({"what": error.what, "why": error.why, "remedy": error.remedy}, status_code=status)


def _refused(why: str) -> AccessRefusedError:
    return AccessRefusedError("the request is refused", why=why, remedy="reload the page, and sign in again")
