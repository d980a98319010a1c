"""Answer HTTP requests from the catalogue, which lists only files that the chain allows the repository to serve."""

from __future__ import annotations

import json
from dataclasses import replace
from http import HTTPStatus

from blockota.formats.cid import CID
from blockota.repository import answers
from blockota.repository.answers import HttpAnswer, Piece, text_response
from blockota.repository.catalogue import Catalogue
from blockota.repository.request import (
    HttpRequest,
    RefusedRequestError,
    Wanted,
    byte_range,
    has_etag,
    read_address,
    read_wanted,
)
from blockota.repository.site import CROSS_ORIGIN, HEALTH, METHODS, PREFLIGHT
from blockota.repository.tokens import Tokens
from blockota.repository.tree import TreeBlock

_CONTENT = "/ipfs/"
_RETRY = {"Retry-After": "60"}


class Responder:
    """Chooses the response to each request. Without `tokens`, every client is served.

    The responder does not read blocks from the store. A response lists the pieces of its body, and the server reads
    these pieces while it sends the response.
    """

    def __init__(self, catalogue: Catalogue, tokens: Tokens | None = None) -> None:
        self._catalogue, self._tokens = catalogue, tokens

    def holder(self, request: HttpRequest) -> str | None:
        """Return the name of a request's token; None if the request has no valid token."""
        return self._tokens.holder(request.headers.get("authorization", "")) if self._tokens else None

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the response to a request, which may be a refusal."""
        try:
            found = self._route(request)
        except RefusedRequestError as refusal:
            found = text_response(refusal.status, str(refusal), refusal.headers)
        return replace(found, headers={**found.headers, **CROSS_ORIGIN})

    def _route(self, request: HttpRequest) -> HttpAnswer:
        path = request.path
        if path != HEALTH and not path.startswith(_CONTENT):
            return text_response(HTTPStatus.NOT_FOUND, "Only /ipfs/ and /health are served.")
        if request.method not in METHODS:
            sentence, allow = "Only GET, HEAD and OPTIONS are supported.", {"Allow": ", ".join(METHODS)}
            return text_response(HTTPStatus.METHOD_NOT_ALLOWED, sentence, allow)
        if request.method == "OPTIONS":  # before the token is checked: a preflight has no token
            return HttpAnswer(HTTPStatus.OK, {**PREFLIGHT, "Cache-Control": "no-store"})
        if path == HEALTH:
            return self._health()

        if self._tokens and self.holder(request) is None:
            # RFC 6750 section 3: a request without valid credentials is answered with a challenge.
            headers = {"WWW-Authenticate": 'Bearer realm="repository"'}
            remedy = "ask the operator of this repository for a token"
            raise RefusedRequestError(401, "a token is required", remedy=remedy, headers=headers)
        address, slash, _ = path.removeprefix(_CONTENT).partition("/")
        if slash:
            raise RefusedRequestError(
                400, "a content address cannot be followed by a path", why="images and manifests are files, not folders"
            )
        return self._content(request, address)

    def _health(self) -> HttpAnswer:
        health = health_of(self._catalogue, self._tokens)
        body = json.dumps(health, indent=2).encode() + b"\n"
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "Content-Length": str(len(body))}
        return HttpAnswer(503 if health["status"] in ("closed", "failing") else 200, headers, (body,))

    def _content(self, request: HttpRequest, address: str) -> HttpAnswer:
        wanted = read_wanted(request.parameters, request.headers.get("accept", ""))
        is_private = self._tokens is not None
        if address == answers.PROBE:
            return _probe(wanted)
        cid = read_address(address)
        blocks = self._find(cid, request)

        etag = wanted.etag(cid)
        headers = answers.content_headers(cid, wanted, etag=etag, is_private=is_private)
        if filename := request.parameters.get("filename"):
            headers["Content-Disposition"] = answers.disposition(filename)
        if has_etag(request.headers.get("if-none-match", ""), etag):
            # RFC 9110 section 15.4.5: the headers by which a cache updates its entry.
            return HttpAnswer(304, {name: headers[name] for name in ("Cache-Control", "ETag")})
        if not wanted.is_car:
            return _block(request, blocks[0], headers=headers)
        chosen = answers.car_blocks(blocks, wanted)
        headers["Content-Length"] = str(answers.car_length(chosen, cid))
        return HttpAnswer(200, headers, answers.car_pieces(chosen, cid))

    def _find(self, cid: CID, request: HttpRequest) -> tuple[TreeBlock, ...]:
        """Return the block of an address and all blocks below it.

        Raises:
            RefusedRequestError: the block is not served. The status is 503 if the chain or the store is out of reach,
                and 410 if the right to serve the block has ended. In all other cases, the status is 404, or 412 if the
                request has ``only-if-cached``.
        """
        catalogue = self._catalogue
        if not catalogue.is_open:
            why = "the chain is out of reach, which records the files that may be served"
            raise RefusedRequestError(503, "nothing is served now", why=why, headers=_RETRY)
        if catalogue.store_trouble:
            raise RefusedRequestError(503, "nothing is served now", why="the store is out of reach", headers=_RETRY)
        found = catalogue.files.find(cid)
        if found:
            return found

        if cid in catalogue.files.rights.gone:
            why = "its release was revoked, or its agreement ended"
            raise RefusedRequestError(410, f"{cid} is not served any more", why=why)
        # Path Gateway specification: 412 if the request has only-if-cached and the gateway does not have the content.
        status = 412 if "only-if-cached" in request.headers.get("cache-control", "") else 404
        if cid in catalogue.files.missing:
            why = "parts of the file are missing or corrupt in the store"
            raise RefusedRequestError(status, f"{cid} is not served yet", why=why)
        why = "the file does not belong to a release that this repository has read from the chain"
        remedy = f"ask again after {catalogue.refresh_seconds:.0f} s if the release is new"
        raise RefusedRequestError(status, f"{cid} is not yet known here", why=why, remedy=remedy)


def health_of(catalogue: Catalogue, tokens: Tokens | None) -> dict[str, object]:
    """Return the JSON object of a repository's ``/health``. `tokens` is None if the repository serves every client."""
    health = catalogue.health()
    if tokens:
        health |= {"tokens": tokens.count, "tokensTrouble": tokens.why}
        health |= {"status": "closed"} if tokens.are_void else {}
    return health


def _block(request: HttpRequest, block: TreeBlock, *, headers: dict[str, str]) -> HttpAnswer:
    status, first, stop = HTTPStatus.OK, 0, block.size
    # RFC 9110 section 14.2: ranges are defined for GET only; section 13.1.5: If-Range compares strongly.
    asked = request.headers.get("range", "") if request.method == "GET" else ""
    if asked and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        part = byte_range(asked, block.size)
        if part:
            status, (first, stop) = HTTPStatus.PARTIAL_CONTENT, part
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{block.size}"
    headers["Content-Length"] = str(stop - first)
    return HttpAnswer(status, headers, (Piece(block, first, stop),))


def _probe(wanted: Wanted) -> HttpAnswer:
    etag = f'"{answers.PROBE}.{"car" if wanted.is_car else "raw"}"'
    headers = answers.content_headers(answers.PROBE, wanted, etag=etag, is_private=False)
    body = answers.PROBE_CAR if wanted.is_car else b""
    return HttpAnswer(200, headers | {"Content-Length": str(len(body))}, (body,))
