"""Read requests of the trustless gateway protocol from their path, query and headers. Pure functions.

Sources: the Trustless Gateway specification with IPIP-402 and IPIP-412 (specs.ipfs.tech), and RFC 9110.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import parse_qsl, unquote

from blockota.errors import BlockOTAError, RefusedError
from blockota.formats.cid import CID
from blockota.stores.gateway import CAR_TYPE, RAW_TYPE

SCOPES = ("all", "entity", "block")
# IPIP-412.
_CAR_PARAMETERS = {"version": ("1",), "order": ("dfs", "unk"), "dups": ("y", "n")}
"""The served values of each parameter of a CAR's media type, the default value first."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_ENTITY_BYTES = re.compile(r"(-?\d{1,18}):(\*|-?\d{1,18})", re.ASCII)
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
_MAX_CHOICES = 32
_AUTHORITY = re.compile(r"^https?://[^/?]*", re.IGNORECASE)


@dataclass(frozen=True)
class HttpRequest:
    """One HTTP request without a body.

    Attributes:
        method: the HTTP method, such as ``GET``.
        target: the request target, as the client sent it (RFC 9112 section 3.2).
        headers: the header fields, by name in lower case.
        client: IP address of the client.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    client: str

    @property
    def path(self) -> str:
        """The path, with percent-encoding removed."""
        return unquote(self._parts[0])

    @property
    def query(self) -> str:
        """The query, percent-encoded."""
        return self._parts[1]

    @property
    def parameters(self) -> dict[str, str]:
        """The query's fields by name. If a field name is repeated, the last value is used."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def _parts(self) -> tuple[str, str]:
        """Path and query. The target may be an absolute URL (RFC 9112 section 3.2.2)."""
        path, _, query = _AUTHORITY.sub("", self.target).partition("?")
        return path, query


class RefusedRequestError(RefusedError):
    """A request was refused. `status` and `headers` are the HTTP status and additional headers of the response."""

    def __init__(
        self, status: int, what: str, *, why: str = "", remedy: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.headers = status, headers or {}
        super().__init__(what, why=why, remedy=remedy)


@dataclass(frozen=True)
class Wanted:
    """The requested form of the content: one raw block, or a CAR.

    Attributes:
        is_car: whether a CAR is requested; otherwise, one raw block is requested.
        scope: which blocks of the tree the CAR contains (``dag-scope``).
        repeat: whether a block that occurs several times in the tree is also repeated in the CAR (``dups=y``).
        span: offsets of the first and last requested byte of the file (``entity-bytes``). A negative offset counts from
            the end of the file; None as the last offset means the end.
        is_named: whether the URL names the form, so that the header ``Accept`` has no effect.
    """

    is_car: bool
    scope: str = "all"
    repeat: bool = False
    span: tuple[int, int | None] | None = None
    is_named: bool = True

    @property
    def content_type(self) -> str:
        """The media type of the response."""
        return f"{CAR_TYPE}; version=1; order=dfs; dups={self._dups}" if self.is_car else RAW_TYPE

    def etag(self, cid: CID) -> str:
        """Return the strong validator of the content in this form (RFC 9110 section 8.8.3)."""
        # The same content in the same form always has the same bytes.
        if not self.is_car:
            return f'"{cid}.raw"'
        part = ""
        if self.span:
            first, last = self.span
            part = f".{first}:{'*' if last is None else last}"
        return f'"{cid}.car.{self.scope}.{self._dups}{part}"'

    def location(self, cid: CID) -> str:
        """Return the path and query that name this form of the content (``Content-Location``)."""
        if not self.is_car:
            return f"/ipfs/{cid}?format=raw"
        return f"/ipfs/{cid}?format=car&dag-scope={self.scope}&car-version=1&car-order=dfs&car-dups={self._dups}"

    @property
    def _dups(self) -> str:
        return "y" if self.repeat else "n"


def read_wanted(query: Mapping[str, str], accept: str) -> Wanted:
    """Read the requested form of the content. The query takes precedence over the ``Accept`` header.

    Raises:
        RefusedRequestError: the status is 400 if the request names no form, or if a query field is not valid. The
            status is 406 if the requested form is not served.
    """
    choices = [choice for choice in _choices(accept) if choice[0] in (RAW_TYPE, CAR_TYPE) and _is_served(choice[1])]
    named = query.get("format")
    if named == "raw":
        return Wanted(is_car=False)
    if named == "car":
        return _car(query, next((parameters for kind, parameters in choices if kind == CAR_TYPE), {}))
    if named is not None:
        raise RefusedRequestError(
            406, f"the format {named[:40]!a} is not served", remedy="use format=raw or format=car in the URL"
        )

    if choices:
        kind, parameters = choices[0]
        return Wanted(is_car=False, is_named=False) if kind == RAW_TYPE else _car(query, parameters, is_named=False)
    remedy = f"ask with ?format=raw or ?format=car, or with Accept: {RAW_TYPE} or {CAR_TYPE}"
    if accept.strip() in ("", "*/*"):
        raise RefusedRequestError(400, "the request does not give a form of the content", remedy=remedy)
    raise RefusedRequestError(406, "the repository serves no form that the request accepts", remedy=remedy)


def read_address(text: str) -> CID:
    """Read the content address in a request's path.

    Raises:
        RefusedRequestError: the status is 400 if the address is malformed, and 404 if images never have an address of
            this kind.
    """
    try:
        return CID.parse_any(text)
    except RefusedError as error:
        raise RefusedRequestError(404, f"{text[:100]!a} is not served", why=error.why) from error
    except BlockOTAError as error:
        raise RefusedRequestError(400, f"{text[:100]!a} is not a content address", why=error.why) from error


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the offset of the first byte and the end offset that a ``Range`` header requests; None for all bytes.

    Several ranges, other units and malformed ranges are ignored, as RFC 9110 section 14.2 allows.

    Raises:
        RefusedRequestError: with status 416 if the range lies outside of the block.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None

    # `bytes=-N` requests the last N bytes.
    first = int(match[1]) if match[1] else max(size - int(match[2]), 0)
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if match[1] and match[2] and int(match[2]) < first:
        return None

    if first >= size or (not match[1] and not int(match[2])):
        headers = {"Content-Range": f"bytes */{size}"}
        raise RefusedRequestError(
            416, "the range lies outside of the block", why=f"the block has {size} bytes", headers=headers
        )
    return first, last + 1


def has_etag(header: str, etag: str) -> bool:
    """Whether an ``If-None-Match`` header lists a validator or ``*``, by weak comparison (RFC 9110 section 13.1.2)."""
    return any(each.strip().removeprefix("W/") in ("*", etag) for each in header.split(","))


def client_of(peer: str, forwarded: str, proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the IP address of the client that made a request. Proxies may have forwarded the request.

    Each proxy appends the IP address from which it received the request to ``X-Forwarded-For``. An entry is therefore
    trusted only if the connection's peer and all later entries are addresses of trusted proxies.

    Args:
        peer: IP address of the connection's peer.
        forwarded: value of ``X-Forwarded-For``.
        proxies: the proxies that are trusted.
    """
    entries = [entry.strip() for entry in forwarded.split(",") if entry.strip()]
    client = peer
    with suppress(ValueError):  # an entry that is not an address is not a trusted proxy
        while entries and any(ip_address(client) in network for network in proxies):
            client = entries.pop()
    return client


def _car(query: Mapping[str, str], parameters: Mapping[str, str], *, is_named: bool = True) -> Wanted:
    chosen = {**parameters, **{name: query[f"car-{name}"] for name in _CAR_PARAMETERS if f"car-{name}" in query}}
    if not _is_served(chosen):
        why = "only CARs of version 1 in the order dfs are served, with dups=y or dups=n"
        raise RefusedRequestError(406, "this form of CAR is not served", why=why)

    span = None
    if "entity-bytes" in query:
        text = query["entity-bytes"]
        match = _ENTITY_BYTES.fullmatch(text)
        if match is None:
            remedy = "use FROM:TO, such as 0:1023 or 0:*"
            raise RefusedRequestError(400, f"entity-bytes={text[:40]!a} is malformed", remedy=remedy)
        span = int(match[1]), None if match[2] == "*" else int(match[2])
    # IPIP-402: entity-bytes implies dag-scope=entity. With another scope, entity-bytes is ignored, as in Kubo.
    scope = query.get("dag-scope", "entity" if span else "all")
    if scope not in SCOPES:
        remedy = f"use one of {', '.join(SCOPES)}"
        raise RefusedRequestError(400, f"dag-scope={scope[:40]!a} is not supported", remedy=remedy)
    span = span if scope == "entity" else None
    return Wanted(is_car=True, scope=scope, repeat=chosen.get("dups") == "y", span=span, is_named=is_named)


def _is_served(parameters: Mapping[str, str]) -> bool:
    return all(parameters.get(name, allowed[0]) in allowed for name, allowed in _CAR_PARAMETERS.items())


def _choices(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Return the media types of an ``Accept`` header and their parameters, best first (RFC 9110 section 12.5.1)."""
    accepted = []
    for part in accept.lower().split(",")[:_MAX_CHOICES]:
        kind, *words = (word.strip() for word in part.split(";"))
        parameters = {}
        for word in words:
            name, _, value = word.partition("=")
            parameters[name.strip()] = value.strip().strip('"')
        if _quality(parameters) > 0:
            accepted.append((kind, parameters))
    return sorted(accepted, key=lambda choice: -_quality(choice[1]))


def _quality(parameters: Mapping[str, str]) -> float:
    text = parameters.get("q", "1")
    return float(text) if _QUALITY.fullmatch(text) else 0.0
