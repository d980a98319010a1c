"""The page of warnings, and their dismissal by a signed-in person."""

from __future__ import annotations

import re
import time
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from blockota.errors import UsageError, plain
from blockota.operations import views
from blockota.operations.room_log import RoomLog
from blockota.operations.warning_desk import Dismissal, WarningQuery, count_open, dismiss, find_warnings, open_of
from blockota.operations.web.access import form_of, require_role
from blockota.operations.web.pages import is_public, page_of, room_of, text_of, words_of
from blockota.operations.web.rendering import Visitor, render

_STATUSES = ("open", "dismissed", "all")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NAME = re.compile(rf"({_UUID.pattern})/(\d{{1,18}})", re.ASCII)
_MAX_REASON, _MAX_NAMED = 500, 30
"""The characters of a reason, and the warnings in one entry of the room's log, so that all of them fit into it."""


def warnings_page(request: Request) -> Response:
    """The warnings with filters."""
    room = room_of(request)
    status = request.query_params.get("status", "open")
    if status not in _STATUSES:
        status = "open"
    log = request.query_params.get("log", "")
    keeper = UUID(log) if _UUID.fullmatch(log) else None

    query = WarningQuery(status=status, text=text_of(request, "q"), keeper=keeper, page=page_of(request))
    rows = find_warnings(room.archive, query, with_texts=not is_public(request))
    return render(
        request,
        "warnings.html",
        rows=rows[: views.PAGE],
        has_more=len(rows) > views.PAGE,
        query=query,
        open_count=count_open(room.archive),
        words=words_of(request),
        link=views.entry_link,
        logs=sorted(room.state.logs, key=str),
        city=room.state.city,
    )


async def dismiss_warnings(request: Request) -> Response:
    """Dismiss the selected warnings, and record the person, the time and the reason in the room's log."""
    form = await form_of(request)
    visitor = await run_in_threadpool(require_role, request, form, "operator", "administrator")
    why = plain(" ".join(form.get("why", [""])[0].split()))
    named = [_NAME.fullmatch(one) for one in form.get("warning", [])]
    if not why or len(why) > _MAX_REASON:
        raise UsageError("the warnings are not dismissed", why=f"a reason with 1 to {_MAX_REASON} characters is needed")
    if not named or not all(named):
        raise UsageError("the warnings are not dismissed", why="no warning was selected")
    # A warning may be dismissed once: the log of the room must not name two persons for one dismissal.
    warnings = [(UUID(one[1]), int(one[2])) for one in named if one]
    await run_in_threadpool(_dismiss, request, visitor, warnings, why)
    room_of(request).changed()
    return RedirectResponse("/warnings", status_code=303)


def _dismiss(request: Request, visitor: Visitor, warnings: list[tuple[UUID, int]], why: str) -> None:
    """Record the dismissal of warnings in the room's log, and then dismiss the warnings in the archive."""
    if visitor.session is None:
        return

    archive = room_of(request).archive
    archive.check_file()
    warnings = open_of(archive, warnings)
    if not warnings:
        raise UsageError("no warning is dismissed", why="the selected warnings do not exist or are already dismissed")

    log: RoomLog = request.app.state.room_log
    now = int(time.time())
    session = f"session of entry {visitor.session.number}"
    for start in range(0, len(warnings), _MAX_NAMED):
        some = warnings[start : start + _MAX_NAMED]
        names = " ".join(f"{keeper.hex}/{number}" for keeper, number in some)
        log.record(f"dismissal by {visitor.role} {visitor.name}, {session}: {why}; warnings {names}", now=now)

    who = f"{visitor.role} {visitor.name}"
    dismiss(archive, warnings, Dismissal(who, now, why))
