"""Render the templates.

Jinja2 escapes every shown value for HTML. `plain` also escapes the characters that change the direction of text, look
blank, or control a terminal.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from blockota.errors import plain
from blockota.operations.city_reading import CityReading
from blockota.operations.public_text import without_addresses, without_reason
from blockota.operations.room import Room, RoomState
from blockota.operations.sign_in import SignedIn
from blockota.operations.watching import Watcher

_IDENTIFIER = re.compile(
    r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b0x[0-9a-f]{40}(?:[0-9a-f]{24})?\b", re.ASCII | re.IGNORECASE
)
_WORD = re.compile(r"[a-z']+[,:;.]?( |$)", re.IGNORECASE)
"""A word at the beginning of a text. The names of products and files have digits, hyphens or full stops inside."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LIMIT, _LENGTH, _UUID_LENGTH = 2000, 8, 36
"""The characters of a text, and of each end of an identifier, that are shown."""
PAGES = (
    ("/", "Overview"),
    ("/warnings", "Warnings"),
    ("/devices", "Devices"),
    ("/updates", "Updates"),
    ("/requests", "Requests"),
    ("/replicas", "Replicas"),
    ("/ledger", "Ledger"),
    ("/network", "Network"),
    ("/log", "Log"),
    ("/prepare", "Order or ban"),
)
"""The pages in the order of the navigation."""


@dataclass(frozen=True)
class Visitor:
    """The person of a request.

    Attributes:
        session: the session; None if the visitor is not signed in.
        role: the present kind of the account's identity on the chain; None if the account has no rights.
        name: the UUID of the identity; empty if the account has no identity.
        why: why the visitor has no role; empty if the visitor has a role or is not signed in.
    """

    session: SignedIn | None = None
    role: str | None = None
    name: str = ""
    why: str = ""


@cache
def environment(*, is_public: bool) -> Environment:
    """Return the templates.

    Args:
        is_public: whether all values omit addresses and free texts.
    """
    found = Environment(
        loader=PackageLoader("blockota.operations.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible_in_public if is_public else _visible,
    )
    found.filters.update(
        age=age, when=when, count=_count, counted=_counted, short=_short, percent=_percent, query=urlencode, named=named
    )
    found.filters.update(private=str, worded=str, sentence=_sentence)
    if is_public:
        found.filters.update(
            # An address is left out before it is shortened, because the short form shows a part of it.
            short=lambda value, length=_LENGTH: _short(without_addresses(value), length),
            named=lambda text, city, limit=_LIMIT: named(without_addresses(text), city, limit),
            sentence=lambda text: _sentence(without_addresses(text)),
            private=lambda _: "",
            worded=without_reason,
        )
    return found


def render(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """Render a page.

    Args:
        request: the request.
        template: the template's name.
        status: status of the response.
        values: the values of the template.
    """
    room: Room = request.app.state.room
    shared = {
        "pages": PAGES,
        "path": request.url.path,
        "is_answer": request.method == "POST",
        "visitor": getattr(request.state, "visitor", Visitor()),
        "freshness": freshness(room.state, room.watches.all),
        "troubles": room.troubles,
        "is_public": request.app.state.is_public,
        "now": int(time.time()),
        "state": room.state,
    }
    # The transaction of a signed-in person has the address of its contract.
    is_public = request.app.state.is_public and template != "prepared.html"
    text = environment(is_public=is_public).get_template(template).render({**shared, **values})
    return HTMLResponse(text, status_code=status)


def named(text: str, city: CityReading | None, limit: int = _LIMIT) -> Markup:
    """Shorten the UUIDs, addresses and hashes in a text. The title of each contains the full value.

    Args:
        text: the text, which this function escapes.
        city: the reading of the gateway chain with the kinds of identities; None before the first reading.
        limit: the number of the text's characters that are shown. An identifier that begins before the limit is shown
            whole.
    """
    shown, at = Markup(), 0
    for found in _IDENTIFIER.finditer(text):
        if found.start() > limit:
            break
        before = text[at : found.start()]
        shown += plain(before) + _identifier(found[0], city, before)
        at = found.end()
    rest = text[at : max(limit, at)]
    return shown + plain(rest) + ("…" if len(text) > at + len(rest) else "")


def _identifier(value: str, city: CityReading | None, before: str) -> Markup:
    is_uuid = len(value) == _UUID_LENGTH
    identity = city.identities.get(UUID(value)) if city and is_uuid else None
    # A text such as "by operator UUID" names the kind already.
    kind = Markup()
    if identity is not None and not before.endswith(f"{identity.kind} "):
        kind = Markup('<span class="kind">{}</span> ').format(identity.kind)
    return kind + Markup('<code title="{}">{}</code>').format(value, _short(value))


@dataclass(frozen=True)
class Freshness:
    """The time of the last successful reading of one source, as a page shows it.

    Attributes:
        name: the source.
        detail: for a chain, the number of the last block; for the logs, how many are followed; empty for other sources.
        time: Unix time of the last successful reading; 0 if there was none.
        trouble: why the source cannot be read now; empty if the source can be read.
    """

    name: str
    detail: str
    time: int
    trouble: str


def freshness(state: RoomState, watchers: Sequence[Watcher[Any]]) -> list[Freshness]:
    """Return the times of the last readings of chains, logs and watchers, which are at the end of each page."""
    found = []
    blocks = {"gateway-chain": state.city.block.number} if state.city else {}
    blocks |= {f"producer-chain-{number}": one.block.number for number, one in state.vendors.items()}
    for part in sorted(set(state.read_at) | set(state.troubles)):
        name = part.partition("-chain")[0].capitalize() + " chain"
        detail = f"block {blocks[part]:,}" if part in blocks else ""
        found.append(Freshness(name, detail, state.read_at.get(part, 0), state.troubles.get(part, "")))

    read = [one.read_at or 0 for one in state.logs.values()]
    if read:
        trouble = "; ".join(one.trouble for one in state.logs.values() if one.trouble)
        found.append(Freshness("Logs", f"{len(read)} followed", min(read), trouble))

    watched = [one for one in watchers if one.last.time or one.last.trouble]
    found += [Freshness(one.name.capitalize(), "", one.last.time, one.last.trouble) for one in watched]
    return found


def age(moment: int | None) -> Markup:
    """Return the age of a time, such as ``5 min ago``, with the exact time as the title."""
    if not moment:
        return Markup("never")
    try:
        exact = datetime.fromtimestamp(moment, UTC)
    except (OverflowError, ValueError, OSError):
        return Markup("beyond the calendar")
    return Markup('<time datetime="{}" title="{}" data-at="{}">{}</time>').format(
        exact.strftime("%Y-%m-%dT%H:%M:%SZ"), exact.strftime("%Y-%m-%d %H:%M:%S UTC"), moment, _age_words(moment)
    )


def when(moment: int | None) -> Markup:
    """Return an exact time in UTC."""
    if not moment:
        return Markup("&ndash;")
    try:
        exact = datetime.fromtimestamp(moment, UTC)
    except (OverflowError, ValueError, OSError):
        return Markup("beyond the calendar")
    iso, shown = exact.strftime("%Y-%m-%dT%H:%M:%SZ"), exact.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{}</time>').format(iso, shown)


def _age_words(moment: int) -> str:
    seconds = int(time.time()) - moment
    word = "ago" if seconds >= 0 else "ahead"
    seconds = abs(seconds)
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} {word}"
    return f"{seconds} s {word}"


def _count(number: int | None) -> Markup | str:
    return Markup("&ndash;") if number is None else f"{number:,}"


def _counted(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def _short(value: str, length: int = _LENGTH) -> str:
    """Shorten a long identifier: replace its middle with an ellipsis."""
    return value if len(value) <= 2 * length + 1 else f"{value[:length]}…{value[-4:]}"


def _sentence(text: str) -> str:
    """Return a text with a capital first letter, unless the text begins with a name such as ``acme-pump``."""
    return text[:1].upper() + text[1:] if _WORD.match(text) else text


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _visible(value: Any) -> Any:
    """Escape characters that change the direction of text or look blank."""
    return value if isinstance(value, Markup | Callable) else plain(value)


def _visible_in_public(value: Any) -> Any:
    """Leave addresses out too."""
    return value if isinstance(value, Markup | Callable) else plain(without_addresses(str(value)))
