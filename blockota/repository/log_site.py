"""The site of a log: its checkpoint, tiles and entry bundles as plain files (C2SP tlog-tiles).

The path of a request is parsed as the name of a tile or bundle. The server builds the file's name from the parsed
values. A request can therefore not select any other file inside or outside of the log's folder.
"""

from __future__ import annotations

import json
from dataclasses import replace
from http import HTTPStatus

from blockota.formats.tlog import Tile
from blockota.ledger.log import TileLog
from blockota.ledger.reader import CHECKPOINT
from blockota.repository.answers import HttpAnswer, text_response
from blockota.repository.request import HttpRequest, has_etag
from blockota.repository.site import CROSS_ORIGIN, HEALTH, METHODS, PREFLIGHT, PlainSite

_SHORTLY = "public, max-age=1"
"""Caches may keep a checkpoint for one second. C2SP asks for a few seconds at most, because a checkpoint changes."""
_FOR_EVER = "public, max-age=31536000, immutable"


class LogSite(PlainSite):
    """The published files of a log."""

    def __init__(self, log: TileLog) -> None:
        self._log = log

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the response to a request, which may be a refusal.

        Raises:
            ContentError: the checkpoint is damaged.
            StoreError: the folder of the log cannot be read.
        """
        found = self._route(request)
        return replace(found, headers={**found.headers, **CROSS_ORIGIN})

    def _route(self, request: HttpRequest) -> HttpAnswer:
        if request.method not in METHODS:
            sentence, allow = "Only GET, HEAD and OPTIONS are supported.", {"Allow": ", ".join(METHODS)}
            return text_response(HTTPStatus.METHOD_NOT_ALLOWED, sentence, allow)
        if request.method == "OPTIONS":
            return HttpAnswer(HTTPStatus.OK, {**PREFLIGHT, "Cache-Control": "no-store"})

        path = request.path.removeprefix("/")
        if request.path == HEALTH:
            size = self._log.published.head().size
            body = json.dumps({"status": "serving", "entries": size}).encode() + b"\n"
            return _file(body, "application/json", caching="no-store")
        if path == CHECKPOINT:
            note = self._log.published.note()
            return _file(note.encode() if note else None, "text/plain; charset=utf-8", caching=_SHORTLY)

        try:
            return self._tile(Tile.parse(path), request)
        except ValueError:
            return text_response(HTTPStatus.NOT_FOUND, "Only /checkpoint, /tile/ and /health are served.")

    def _tile(self, tile: Tile, request: HttpRequest) -> HttpAnswer:
        etag = f'"{tile.path}"'
        found = _file(self._log.read_file(tile.path), "application/octet-stream", caching=_FOR_EVER)
        if found.status != HTTPStatus.OK:
            return found
        if has_etag(request.headers.get("if-none-match", ""), etag):
            return HttpAnswer(HTTPStatus.NOT_MODIFIED, {"Cache-Control": _FOR_EVER, "ETag": etag})
        return replace(found, headers={**found.headers, "ETag": etag})


def _file(content: bytes | None, kind: str, *, caching: str) -> HttpAnswer:
    if content is None:  # a later checkpoint can need the file: caches must not keep this response
        return text_response(HTTPStatus.NOT_FOUND, "The log does not have this file.")
    headers = {"Content-Type": kind, "Cache-Control": caching, "X-Content-Type-Options": "nosniff"}
    return HttpAnswer(HTTPStatus.OK, {**headers, "Content-Length": str(len(content))}, (content,))
