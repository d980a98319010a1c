"""What a request asks for, in the words of the trustless gateway protocol; pure.

Sources: Trustless Gateway specification, IPIP-402 and IPIP-412 (specs.ipfs.tech); RFC 9110 sections 12.5.1, 13 and 14.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from blockota.errors import BlockOTAError, RefusedError
from blockota.formats.cid import CID
from blockota.stores.gateway import CAR_TYPE, RAW_TYPE

SCOPES = ("all", "entity", "block")
_CAR_PARAMETERS = {"version": ("1",), "order": ("dfs", "unk"), "dups": ("y", "n")}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_ENTITY_BYTES = re.compile(r"(-?\d{1,18}):(\*|-?\d{1,18})", re.ASCII)
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
_MAX_CHOICES = 32


class RefusedRequestError(RefusedError):
    """A request that is not fulfilled.

    Args:
        status: of HTTP.
        headers: those that belong to such an answer.
    """

    def __init__(
        self, status: int, what: str, *, why: str = "", remedy: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Keep the status beside the sentence."""
        self.status, self.headers = status, headers or {}
        super().__init__(what, why=why, remedy=remedy)


@dataclass(frozen=True)
class Wanted:
    """A form of content.

    Attributes:
        is_car: a CAR; else one raw block.
        scope: how much of the tree the CAR is to hold (``dag-scope``).
        repeat: whether it has a block as often as the tree names it (``dups=y``).
        span: offsets of the first and last byte that it is to prove (``entity-bytes``); negative ones count from the
            file's end, and None is the end.
        is_named: whether the address itself names the form, so that a cache need not look at ``Accept``.
    """

    is_car: bool
    scope: str = "all"
    repeat: bool = False
    span: tuple[int, int | None] | None = None
    is_named: bool = True

    @property
    def content_type(self) -> str:
        """The media type of the answer."""
        return f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if self.repeat else 'n'}" if self.is_car else RAW_TYPE

    def etag(self, cid: CID) -> str:
        """A strong validator: the same content in the same form has the same bytes."""
        if not self.is_car:
            return f'"{cid}.raw"'
        part = f".{self.span[0]}:{'*' if self.span[1] is None else self.span[1]}" if self.span else ""
        return f'"{cid}.car.{self.scope}.{"y" if self.repeat else "n"}{part}"'

    def location(self, cid: CID) -> str:
        """The address that names this form (``Content-Location``)."""
        if not self.is_car:
            return f"/ipfs/{cid}?format=raw"
        dups = f"car-version=1&car-order=dfs&car-dups={'y' if self.repeat else 'n'}"
        return f"/ipfs/{cid}?format=car&dag-scope={self.scope}&{dups}"


def read_wanted(query: Mapping[str, str], accept: str) -> Wanted:
    """The form that a request asks for; what the query says goes before the ``Accept`` header.

    Raises:
        RefusedRequestError: 400, it names none or contradicts itself; 406, it names none that is served.
    """
    choices = [choice for choice in _choices(accept) if choice[0] in (RAW_TYPE, CAR_TYPE) and _is_served(choice[1])]
    named = query.get("format")
    if named == "raw":
        return Wanted(is_car=False)
    if named == "car":
        return _car(query, next((parameters for kind, parameters in choices if kind == CAR_TYPE), {}))
    if named is not None:
        raise RefusedRequestError(
            406, f"the format {named[:40]!a} is not served", remedy="ask with format=raw or format=car"
        )
    if not choices:
        raise _nothing_named(accept)
    kind, parameters = choices[0]
    return Wanted(is_car=False, is_named=False) if kind == RAW_TYPE else _car(query, parameters, is_named=False)


def read_address(text: str) -> CID:
    """The content address in a request's path.

    Raises:
        RefusedRequestError: 400, it is none; 404, it is one of a kind that no image has.
    """
    try:
        return CID.parse(text)
    except RefusedError as error:
        raise RefusedRequestError(404, f"{text[:100]!a} is not served", why=error.why) from error
    except BlockOTAError as error:
        raise RefusedRequestError(400, f"{text[:100]!a} is no content address that is served", why=error.why) from error


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last that a ``Range`` header asks for; None is all of them.

    Several ranges, other units and what cannot be read are left aside, as RFC 9110 section 14.2 allows.

    Raises:
        RefusedRequestError: 416, the range lies outside.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
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


def names(header: str, etag: str) -> bool:
    """Whether an ``If-None-Match`` header names a validator, or any."""
    return any(each.strip().removeprefix("W/") in ("*", etag) for each in header.split(","))


def _car(query: Mapping[str, str], parameters: Mapping[str, str], *, is_named: bool = True) -> Wanted:
    chosen = {**parameters, **{name: query[f"car-{name}"] for name in _CAR_PARAMETERS if f"car-{name}" in query}}
    if not _is_served(chosen):
        why = "only CARs of version 1 in the order dfs are served, with dups=y or dups=n"
        raise RefusedRequestError(406, "that form of CAR is not served", why=why)
    span = _entity_bytes(query["entity-bytes"]) if "entity-bytes" in query else None
    scope = query.get("dag-scope", "entity" if span else "all")
    if scope not in SCOPES or (span and scope != "entity"):
        raise RefusedRequestError(
            400, f"dag-scope={scope[:40]!a} is not understood", remedy=f"say one of {', '.join(SCOPES)}"
        )
    return Wanted(is_car=True, scope=scope, repeat=chosen.get("dups") == "y", span=span, is_named=is_named)


def _is_served(parameters: Mapping[str, str]) -> bool:
    return all(parameters.get(name, allowed[0]) in allowed for name, allowed in _CAR_PARAMETERS.items())


def _entity_bytes(text: str) -> tuple[int, int | None]:
    match = _ENTITY_BYTES.fullmatch(text)
    if match is None:
        raise RefusedRequestError(
            400, f"entity-bytes={text[:40]!a} is not understood", remedy="say FROM:TO, such as 0:1023 or 0:*"
        )
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _choices(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Media types with their parameters, the best liked first."""
    read = [_choice(part) for part in accept.lower().split(",")[:_MAX_CHOICES]]
    liked = [(kind, parameters) for kind, parameters in read if _quality(parameters) > 0]
    return sorted(liked, key=lambda choice: -_quality(choice[1]))


def _choice(part: str) -> tuple[str, dict[str, str]]:
    kind, *rest = (word.strip() for word in part.split(";"))
    return kind, dict(_parameters(rest))


def _parameters(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, value = word.partition("=")
        yield name.strip(), value.strip().strip('"')


def _quality(parameters: Mapping[str, str]) -> float:
    text = parameters.get("q", "1")
    return float(text) if _QUALITY.fullmatch(text) else 0.0


def _nothing_named(accept: str) -> RefusedRequestError:
    remedy = f"ask with ?format=raw or ?format=car, or with Accept: {RAW_TYPE} or {CAR_TYPE}"
    if accept.strip() in ("", "*/*"):
        return RefusedRequestError(400, "the request does not say in which form", remedy=remedy)
    return RefusedRequestError(406, "no form that the request accepts is served", remedy=remedy)
