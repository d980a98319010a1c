"""The DDI face: hawkBit's device interface over HTTPS, for SWUpdate, RAUC and other Linux clients.

A device polls. If the gateway offers an image to the device, the answer links to an action, and the action links to the
image. The device sends feedback about the action; the last feedback has the execution ``closed``. SWUpdate sends
``closed`` after the restart, when the boot loader has kept the new system. ``closed`` therefore counts as the device's
report that it runs the image (evidence level B). If the device reports its running image by the attribute
``blockota.image``, this attribute counts instead of ``closed``.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from blockota.errors import AccessRefusedError, BlockOTAError, RefusedError, StoreError
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.ddi_documents import (
    Feedback,
    FileHashes,
    cancellation,
    deployment,
    file_name,
    polling,
    read_attributes,
    read_feedback,
)
from blockota.gateway.faces.ddi_state import STATE_NAME, ActionStore
from blockota.gateway.faces.image_response import ImageResponse
from blockota.model.delivery import Stage
from blockota.repository.asgi_server import serve_application
from blockota.repository.connection import ConnectionLimits
from blockota.repository.server import LOCAL_PROXIES, Listening
from blockota.settings_table import SettingsTable

_MAX_BODY, _BODY_TIME = 1 << 16, 30
"""The largest body of a request in bytes, and the number of seconds within which the body must arrive."""
_MAX_CONNECTIONS, _KEEP_ALIVE, _STALL = 2000, 75, 60
_WITHDRAWN = "the device reports the success of a withdrawn update; its attributes show what it runs"
_INTRODUCTION = 3600
"""Seconds after which a device is asked for its attributes again, even if it ended no action in the meantime."""
_NUMBER = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PAUSE = re.compile(r"[0-9]{2}:[0-5][0-9]:[0-5][0-9]", re.ASCII)
_TOKENS = ("TargetToken", "GatewayToken")
"""The kinds of tokens in a request. A gateway token is a token that was issued for several devices."""
_FETCHED = (Stage.TRANSFER, Stage.TRIAL)
_STATUSES: tuple[tuple[type[BlockOTAError], HTTPStatus], ...] = (
    (AccessRefusedError, HTTPStatus.FORBIDDEN),
    (RefusedError, HTTPStatus.TOO_MANY_REQUESTS),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (BlockOTAError, HTTPStatus.BAD_REQUEST),
)
"""The HTTP status for an error of the core. The first matching class counts."""


@dataclass(frozen=True)
class DdiSettings:
    """The table ``[gateway.ddi]``.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        certificate: PEM file with the server's certificate; None for plain HTTP, which is served on loopback only.
        key: PEM file with the private key of the certificate.
        tenant: first segment of the URL paths.
        pause: time between two polls of a device, in the form ``HH:MM:SS``.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    tenant: str = "default"
    pause: str = "00:05:00"

    @classmethod
    def read(cls, table: SettingsTable) -> DdiSettings:
        """Read the table.

        Raises:
            UsageError: a setting is not valid.
        """
        table.known("listen", "certificate", "key", "tenant", "poll", "devices")
        host, port = table.address("listen", "127.0.0.1:8443")
        certificate, key = table.path("certificate"), table.path("key")
        if certificate is None and not _is_loopback(host):
            raise table.unusable("listen", f"without a certificate, the face serves on loopback only, not on {host}")
        for name, file in {"certificate": certificate, "key": key}.items():
            if (file is None) != (certificate is None) or (file and not file.is_file()):
                raise table.unusable(name, f"{file or 'no file'} is not a PEM file")

        pause = table.text("poll", "00:05:00") or ""
        if not _PAUSE.fullmatch(pause):
            raise table.unusable("poll", f"{pause!r:.40} is not a time such as 00:05:00")
        return cls(host, port, certificate, key, table.text("tenant", "default") or "", pause)


def create(table: SettingsTable, context: FaceContext) -> DdiFace:
    """Make the face.

    Raises:
        UsageError: a setting is not valid.
    """
    return DdiFace(DdiSettings.read(table), context)


class DdiFace:
    """Serves devices that speak DDI.

    Args:
        settings: the settings.
        context: the objects that the gateway's service passes to the face.
        stall_seconds: a client that does not send a whole request, or does not read, is disconnected after this number
            of seconds.
    """

    name = "ddi"

    def __init__(self, settings: DdiSettings, context: FaceContext, *, stall_seconds: float = _STALL) -> None:
        self._settings, self._context, self._stall_seconds = settings, context, stall_seconds
        self._actions = ActionStore(context.folder / STATE_NAME)
        self._introduced: dict[int, int] = {}  # when a device sent its attributes
        self._hashes: dict[bytes, FileHashes] = {}
        self._port = settings.port

    @property
    def port(self) -> int:
        """The port on which the face listens; if the setting is 0, a port that the operating system has chosen."""
        return self._port

    def offer_changed(self, device: int) -> None:
        """Do nothing, because devices poll."""

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve devices until the task is cancelled.

        Raises:
            UsageError: the face cannot listen, or its certificate cannot be used.
        """
        settings, limits = self._settings, ConnectionLimits(self._stall_seconds, _KEEP_ALIVE, self._stall_seconds / 2)
        place = Listening(
            settings.host,
            settings.port,
            settings.certificate,
            settings.key,
            LOCAL_PROXIES,
            clients=_MAX_CONNECTIONS,
            stop_seconds=2,
            limits=limits,
        )

        def note_port(url: str) -> None:
            self._port = urlsplit(url).port or settings.port
            on_ready()

        await serve_application(self.application(core), place, on_ready=note_port)

    def application(self, core: Core) -> Starlette:
        """Return the routes."""
        device = "/{tenant}/controller/v1/{id}"
        serves: dict[str, tuple[str, _Handler]] = {
            device: ("GET", self._poll),
            f"{device}/configData": ("PUT", self._attributes),
            f"{device}/deploymentBase/{{action}}": ("GET", self._deployment),
            f"{device}/deploymentBase/{{action}}/feedback": ("POST", self._feedback),
            f"{device}/cancelAction/{{action}}": ("GET", self._cancellation),
            f"{device}/cancelAction/{{action}}/feedback": ("POST", self._canceled),
            f"{device}/softwaremodules/{{action}}/artifacts/{{file}}": ("GET", self._download),
        }

        guarded = [Route(path, self._guarded(core, one), methods=[method]) for path, (method, one) in serves.items()]
        return Starlette(
            routes=[Route("/images/{sha256}", self._image), *guarded],
            exception_handlers={HTTPException: _refusal},
        )

    async def _image(self, request: Request) -> Response:
        """Serve a proven image or delta by its SHA-256, without authentication, to devices of other faces."""
        digest = request.path_params["sha256"]
        if _DIGEST.fullmatch(digest):
            for folder in ("images", "deltas"):
                path = self._context.folder / folder / digest
                if path.is_file():
                    return ImageResponse(request, path, bytes.fromhex(digest), path.stat().st_size)
        raise HTTPException(HTTPStatus.NOT_FOUND)

    def _guarded(self, core: Core, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that authenticates the device and maps errors of the core to HTTP statuses."""

        async def endpoint(request: Request) -> Response:
            if request.path_params["tenant"] != self._settings.tenant:
                raise HTTPException(HTTPStatus.NOT_FOUND)
            number = await self._authenticated(core, request)

            try:
                return await handler(core, number, request)
            except ValueError as error:
                await core.warn(number, str(error))
                raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error
            except BlockOTAError as error:
                status = next(status for kind, status in _STATUSES if isinstance(error, kind))
                raise HTTPException(status, error.why or error.what) from error

        return endpoint

    async def _authenticated(self, core: Core, request: Request) -> int:
        """Return the number of the device that sent a request.

        Raises:
            HTTPException: the gateway has not read its devices yet, or the id or the token is wrong. If the id or the
                token is wrong, the answer does not reveal which.
        """
        name = request.path_params["id"]
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        refused = HTTPException(HTTPStatus.UNAUTHORIZED, "the device or its token is not known")
        if not _NUMBER.fullmatch(name):
            await core.warn(None, "a client of ddi has an id that is not the number of a device")
            raise refused

        number = int(name)
        # Before the first reading of the devices, a known device cannot be distinguished from an unknown one.
        if next(iter(core.numbers()), None) is None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "the gateway has not read its devices yet")

        try:
            core.authenticate(self.name, number, token if kind in _TOKENS else "")
        except AccessRefusedError as error:
            raise refused from error
        return number

    async def _poll(self, core: Core, number: int, request: Request) -> Response:
        offer, begun = self._offer(core, number), self._actions.device(number).begun
        # A device that has begun an action must cancel it when the gateway withdraws the action.
        canceled = begun if begun is not None and self._offer_of(core, number, begun) is None else None
        answer = polling(
            self._base(request),
            pause=self._settings.pause,
            job=offer.job if offer else None,
            canceled=canceled,
            asks_attributes=self._context.clock() - self._introduced.get(number, -_INTRODUCTION) >= _INTRODUCTION,
        )
        return JSONResponse(answer)

    async def _attributes(self, core: Core, number: int, request: Request) -> Response:
        found = read_attributes(await _body(request))
        if found.image or found.version or found.hardware:
            await core.reported(number, Report(image=found.image, version=found.version, hardware=found.hardware))
        self._introduced[number] = self._context.clock()
        if found.image:
            self._actions.note_image(number)
        return Response()

    async def _deployment(self, core: Core, number: int, request: Request) -> Response:
        offer = self._required(core, number, request)
        if (hashes := self._hashes.get(offer.image)) is None:
            hashes = self._hashes[offer.image] = await asyncio.to_thread(_hash_file, offer.path, offer.image)
        await core.offered(number, offer.job)
        self._actions.start(number, offer.job)
        return JSONResponse(deployment(self._base(request), offer, hashes))

    async def _feedback(self, core: Core, number: int, request: Request) -> Response:
        feedback, action = read_feedback(await _body(request)), _action(request)
        # (1) Feedback about a withdrawn action.
        offer = self._offer_of(core, number, action)
        if offer is None:
            is_over = feedback.is_success or feedback.is_over
            known = self._actions.device(number)
            is_known = action in (known.begun, core.state(number).job)
            if is_known and feedback.is_success and action == known.begun:
                await core.warn(number, _WITHDRAWN)
            elif is_known and feedback.is_over:  # the failure ends a trial, repeats a message, or is too late
                is_known = await self._failed(core, number, action, feedback)
            # A device may also refuse to cancel an action, and go on with it.
            is_repeated = known.ended == action and known.feedback in (feedback, None)
            if is_over:
                self._end(number, action, feedback)
            return Response(status_code=HTTPStatus.OK if is_known or is_repeated else HTTPStatus.GONE)

        # (2) Feedback about the present offer.
        if feedback.is_success:
            await self._succeeded(core, number, offer)
        elif feedback.is_over:
            await self._failed(core, number, action, feedback)
        else:
            await core.progress(number, action)
            return Response()
        self._end(number, action, feedback)
        return Response()

    async def _succeeded(self, core: Core, number: int, offer: DeviceOffer) -> None:
        """Record a success.

        Raises:
            ValueError: the device did not fetch the image.
        """
        product = offer.component.product if offer.is_configuration else None
        if core.state(number, product).stage not in _FETCHED:
            raise ValueError("the device reports a success, but did not fetch the image")
        # A single call, so that a killed gateway has recorded the whole message or nothing. The success counts as a
        # report of the image, unless the device reports its image itself: then the report follows later.
        if self._actions.device(number).names_image and not offer.is_configuration:
            await core.outcome(number, offer.job, succeeded=True)
        else:
            await core.reported(number, Report(image=offer.image, product=product))

    async def _failed(self, core: Core, number: int, action: int, feedback: Feedback) -> bool:
        reason = feedback.details or f"the device answers {feedback.execution}, {feedback.finished}"
        is_refusal = feedback.execution == "rejected"
        return await core.outcome(number, action, succeeded=False, reason=reason, is_refusal=is_refusal)

    async def _cancellation(self, _: Core, number: int, request: Request) -> Response:
        action = _action(request)
        if self._actions.device(number).begun != action:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return JSONResponse(cancellation(action))

    async def _canceled(self, _: Core, number: int, request: Request) -> Response:
        """Forget an action after the device has answered its cancellation. The result in the answer is ignored."""
        read_feedback(await _body(request))
        self._end(number, _action(request))
        return Response()

    async def _download(self, core: Core, number: int, request: Request) -> Response:
        offer = self._required(core, number, request)
        if request.path_params["file"] != file_name(offer):
            raise HTTPException(HTTPStatus.NOT_FOUND)

        async def report(received: int) -> None:
            await core.progress(number, offer.job, received)

        response = ImageResponse(request, offer.path, offer.image, offer.size, report=report)
        if request.method == "GET":
            await report(response.start)
        return response

    def _offer(self, core: Core, number: int) -> DeviceOffer | None:
        """Return the offer that the device has begun; otherwise a firmware offer; otherwise a configuration offer."""
        offers = sorted(core.offers(number), key=lambda one: one.is_configuration)
        begun = self._actions.device(number).begun
        return next((one for one in offers if one.job == begun), offers[0] if offers else None)

    def _offer_of(self, core: Core, number: int, action: int) -> DeviceOffer | None:
        return next((one for one in core.offers(number) if one.job == action), None)

    def _required(self, core: Core, number: int, request: Request) -> DeviceOffer:
        offer = self._offer_of(core, number, _action(request))
        if offer is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "the action is over")
        return offer

    def _end(self, number: int, action: int, feedback: Feedback | None = None) -> None:
        self._actions.end(number, action, feedback)
        self._introduced.pop(number, None)  # what the device runs may have changed

    def _base(self, request: Request) -> str:
        place = f"{request.url.scheme}://{request.url.netloc}"
        return f"{place}/{self._settings.tenant}/controller/v1/{request.path_params['id']}"


_Handler = Callable[[Core, int, Request], Awaitable[Response]]


def _hash_file(path: Path, image: bytes) -> FileHashes:
    """Hash a proven file.

    Raises:
        StoreError: the file was damaged after it was proven.
    """
    hashes = [hashlib.sha1(usedforsecurity=False), hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            for one in hashes:
                one.update(part)

    if hashes[2].digest() != image:
        raise StoreError(
            f"the file {path} does not have the SHA-256 in its name",
            remedy="remove the file; the gateway then fetches it again",
        )
    return FileHashes(*(one.hexdigest() for one in hashes))


def _action(request: Request) -> int:
    """Return the number of the action in the path.

    Raises:
        HTTPException: the number is malformed.
    """
    name = request.path_params["action"]
    if not _NUMBER.fullmatch(name):
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return int(name)


async def _body(request: Request) -> bytes:
    """Read the body of a request.

    Raises:
        HTTPException: the body is too long, arrives too slowly, or is not JSON.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() not in _JSON_TYPES:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")

    length = request.headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length) or int(length) > _MAX_BODY:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_MAX_BODY} bytes are taken")

    parts, size = [], 0
    try:
        async with asyncio.timeout(_BODY_TIME):
            async for part in request.stream():
                parts.append(part)
                if (size := size + len(part)) > _MAX_BODY:
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_MAX_BODY} bytes are taken")
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT) from error
    return b"".join(parts)


_JSON_TYPES = {"application/json", "application/hal+json"}


async def _refusal(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = {"Connection": "close"} if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else None
    return JSONResponse({"message": error.detail}, status_code=error.status_code, headers=headers)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
