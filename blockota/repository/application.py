"""The repository as a web application: what is asked for is looked up in the catalogue, and nowhere else."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Lifespan

from blockota.errors import ContentError, StoreError
from blockota.formats.cid import CID
from blockota.repository import answers
from blockota.repository.request import RefusedRequestError, Wanted, byte_range, names, read_address, read_wanted
from blockota.repository.shelf import Shelf
from blockota.repository.tokens import Tokens
from blockota.repository.tree import Entry

_RETRY_SECONDS = "60"


class Application:
    """The repository's answers.

    Args:
        shelf: what is served.
        tokens: who may fetch; None lets everybody.
    """

    def __init__(self, shelf: Shelf, *, tokens: Tokens | None = None) -> None:
        """Nothing is served yet."""
        self._shelf, self._tokens = shelf, tokens

    def build(self, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
        """The application, for a server.

        Args:
            lifespan: runs beside it.
        """
        routes = [
            Route("/health", self._health),
            Route("/ipfs/{cid}", self._content),
            Route("/ipfs/{cid}/{path:path}", self._path),
        ]
        handlers = {RefusedRequestError: _refused, HTTPException: _unrouted, StoreError: _failed, ContentError: _failed}
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
        app.router.redirect_slashes = False
        return app

    async def _health(self, request: Request) -> Response:
        del request
        health = self._shelf.health()
        if self._tokens:
            health |= {"tokens": self._tokens.count, "tokensTrouble": self._tokens.why}
            health |= {"status": "closed"} if self._tokens.are_void else {}
        status = 503 if health["status"] in ("closed", "failing") else 200
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Response(json.dumps(health, indent=2) + "\n", status, headers)

    async def _path(self, request: Request) -> Response:
        self._authorise(request)
        raise RefusedRequestError(
            400, "there is nothing below a content address here", why="images and manifests are files, not folders"
        )

    async def _content(self, request: Request) -> Response:
        self._authorise(request)
        wanted = read_wanted(request.query_params, request.headers.get("accept", ""))
        if request.path_params["cid"] == answers.PROBE:
            return self._probe(wanted)
        cid = read_address(request.path_params["cid"])
        entries = self._find(cid, request)
        headers = self._headers(cid, wanted)
        if names(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(None, 304, {name: headers[name] for name in ("Cache-Control", "ETag")})
        if wanted.is_car:
            return self._car(request, entries, wanted=wanted, headers=headers)
        return self._block(request, entries[0], headers=headers)

    def _block(self, request: Request, entry: Entry, *, headers: dict[str, str]) -> Response:
        status, first, stop = HTTPStatus.OK, 0, entry.size
        asked = request.headers.get("range", "") if request.method == "GET" else ""
        if asked and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            part = byte_range(asked, entry.size)
            if part:
                status, (first, stop) = HTTPStatus.PARTIAL_CONTENT, part
                headers["Content-Range"] = f"bytes {first}-{stop - 1}/{entry.size}"
        headers["Content-Length"] = str(stop - first)
        if request.method == "HEAD":
            return Response(None, status, headers)
        pieces = [answers.Piece(entry, first, stop)]
        return answers.PiecesResponse(status, headers, pieces=pieces, blocks=self._shelf.blocks)

    def _car(
        self, request: Request, entries: tuple[Entry, ...], *, wanted: Wanted, headers: dict[str, str]
    ) -> Response:
        root, chosen = entries[0].cid, answers.chosen(entries, wanted)
        headers["Content-Length"] = str(answers.car_length(chosen, root))
        if request.method == "HEAD":
            return Response(None, 200, headers)
        pieces = answers.car_pieces(chosen, root)
        return answers.PiecesResponse(HTTPStatus.OK, headers, pieces=pieces, blocks=self._shelf.blocks)

    def _probe(self, wanted: Wanted) -> Response:
        form = "car" if wanted.is_car else "raw"
        headers = answers.content_headers(answers.PROBE, wanted, etag=f'"{answers.PROBE}.{form}"', is_private=False)
        return Response(answers.PROBE_CAR if wanted.is_car else b"", 200, headers)

    def _headers(self, cid: CID, wanted: Wanted) -> dict[str, str]:
        return answers.content_headers(cid, wanted, etag=wanted.etag(cid), is_private=self._tokens is not None)

    def _find(self, cid: CID, request: Request) -> tuple[Entry, ...]:
        """What is served under an address, or why nothing is."""
        if not self._shelf.is_open:
            why = "the chain, which tells what may be, is out of reach"
            raise RefusedRequestError(503, "nothing is served now", why=why, headers={"Retry-After": _RETRY_SECONDS})
        if self._shelf.store_trouble:
            why = "the store is out of reach"
            raise RefusedRequestError(503, "nothing is served now", why=why, headers={"Retry-After": _RETRY_SECONDS})
        catalogue = self._shelf.catalogue
        found = catalogue.find(cid)
        if found:
            return found
        if cid in catalogue.rights.gone:
            raise RefusedRequestError(
                410, f"{cid} is not served any more", why="its release was revoked, or its agreement ended"
            )
        status = 412 if "only-if-cached" in request.headers.get("cache-control", "") else 404
        if cid in catalogue.missing:
            raise RefusedRequestError(status, f"{cid} is not served yet", why="the store does not hold it whole")
        raise RefusedRequestError(
            status, f"{cid} is not served", why="it belongs to no release that this repository serves"
        )

    def _authorise(self, request: Request) -> None:
        if self._tokens is None:
            return
        holder = self._tokens.holder(request.headers.get("authorization", ""))
        if holder is None:
            headers = {"WWW-Authenticate": 'Bearer realm="repository"'}
            raise RefusedRequestError(
                401, "a token is needed", remedy="ask whoever runs this repository", headers=headers
            )
        request.scope["blockota.holder"] = holder


async def _refused(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, RefusedRequestError):
        raise TypeError("only refusals come here")
    body, headers = answers.problem(str(error), error.headers)
    return Response(body, error.status, headers)


async def _unrouted(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: other paths and other methods."""
    del request
    if not isinstance(error, HTTPException):
        raise TypeError("only HTTP exceptions come here")
    wrong_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    sentence = "Only GET and HEAD are understood." if wrong_method else "Only /ipfs/ and /health are here."
    body, headers = answers.problem(sentence, {"Allow": "GET, HEAD"} if wrong_method else {})
    return Response(body, error.status_code, headers)


async def _failed(request: Request, error: Exception) -> Response:
    """The store's failure, whose words are the operator's and not the client's."""
    request.scope["blockota.trouble"] = str(error)
    body, headers = answers.problem("The block cannot be read from this repository's store. Ask another source.")
    return Response(body, 500, headers)
