"""The server at which devices register, fetch images and send events.

The server listens on two ports. The first port, such as 5683, uses plain CoAP and serves only images (`images`). The
next port uses CoAP over DTLS with pre-shared keys, and serves all requests. The PSK identity and the endpoint name are
the device's number. Requests to a device go to the DTLS session in which the device registered.

Without the package DTLSSocket, the second port also uses plain CoAP. Devices are then not authenticated, so the face
runs only on a loopback address.

=====================  =====================================================================================
``POST /rd``           registers a device, and begins its `DeviceSession`
``POST /rd/{id}``      updates the registration, after which a device in queue mode listens for a while
``DELETE /rd/{id}``    ends the registration
``GET /fw/{sha256}``   serves an image in blocks
``POST /events``       logs an event, and answers with its index in the log
``POST /readings``     accepts a reading of a device (`things`)
=====================  =====================================================================================
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiocoap import CHANGED, CONTINUE, CREATED, DELETE, DELETED, POST, Message
from aiocoap.numbers.codes import (
    BAD_OPTION,
    BAD_REQUEST,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    TOO_MANY_REQUESTS,
    Code,
)
from aiocoap.resource import PathCapable, Resource, Site

from blockota.errors import RefusedError, missing_package
from blockota.formats.lwm2m import CBOR, LINKS
from blockota.gateway.core import Core
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.lwm2m.bodies import BlockBodies, WrongBlockError
from blockota.gateway.faces.lwm2m.client import DeviceClient, ServerContext
from blockota.gateway.faces.lwm2m.images import FOLDER, WRONG_BLOCK, ImageBlocks, ImageSocket
from blockota.gateway.faces.lwm2m.registration import VERSIONS, DeviceRegistration, device_of, parameters_of
from blockota.gateway.faces.lwm2m.session import DeviceSession, SessionSettings
from blockota.gateway.faces.lwm2m.things import CommandSender, take_reading
from blockota.gateway.limits import RateLimit
from blockota.messaging.topics import ThingEvent, event_accepted
from blockota.repository.server import listen_error
from blockota.settings_table import SettingsTable

NAME = "lwm2m"
KEY_SIZE = 16
"""Size of a pre-shared key in bytes. tinydtls does not accept longer keys."""
_REGISTRATIONS_A_MINUTE = 20
_SWEEP = 30
_EXPONENTS = {16: 0, 32: 1, 64: 2, 128: 3, 256: 4, 512: 5, 1024: 6}


def create(table: SettingsTable, context: FaceContext) -> Lwm2mFace:
    """Create the face from its settings.

    Raises:
        UsageError: a setting is not valid, or the package for DTLS is missing.
    """
    table.known("listen", "images", "awake", "block", "devices")
    host, port = table.address("listen", "127.0.0.1:5683")
    try:
        address = ip_address(host)
    except ValueError as error:
        raise table.unusable("listen", f"{host!r:.60} is not an IP address") from error
    if address.is_unspecified:
        raise table.unusable("listen", "answers must leave from the address at which a device asks: name one address")

    is_secure = find_spec("DTLSSocket") is not None
    if not is_secure and not address.is_loopback:
        missing = missing_package(f"cannot serve LwM2M on {host}", "DTLSSocket", "dtls")
        raise missing.revised(
            why="devices cannot be authenticated without the package DTLSSocket",
            remedy=f"listen on 127.0.0.1, or {missing.remedy}",
        )

    block = table.number("block", 64)
    if block not in _EXPONENTS:
        raise table.unusable("block", f"{block} is not one of {', '.join(map(str, _EXPONENTS))}")

    shown = f"[{host}]" if address.version == 6 else host  # noqa: PLR2004 - the version of IP
    session = SessionSettings(
        images=table.text("images") or f"coap://{shown}:{port}/{FOLDER}/",
        awake=table.seconds("awake", 93),
        block_exponent=_EXPONENTS[block],
    )
    return Lwm2mFace(context, Lwm2mAddress(host, port, is_secure), session)


@dataclass(frozen=True)
class Lwm2mAddress:
    """The address on which the face listens.

    Attributes:
        host: an IP address of this computer, such as 127.0.0.1.
        port: the port for plain CoAP. The next port is for CoAP over DTLS.
        is_secure: whether the second port uses DTLS.
    """

    host: str
    port: int
    is_secure: bool


@dataclass
class _Registered:
    id: str
    registration: DeviceRegistration
    session: DeviceSession
    task: asyncio.Task[None]
    host: str
    client: DeviceClient


class Lwm2mFace:
    """The face that serves LwM2M devices.

    Args:
        context: the objects that the gateway's service passes to the face.
        listening: the address of the face.
        settings: the settings of the dialogue with devices.
    """

    name = NAME

    def __init__(self, context: FaceContext, listening: Lwm2mAddress, settings: SessionSettings) -> None:
        self._context, self._listening, self.settings = context, listening, settings
        self._registered: dict[int, _Registered] = {}
        self._registrations = RateLimit(_REGISTRATIONS_A_MINUTE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._blocks = ImageBlocks(self._find_image)
        self._coap: ServerContext | None = None
        self._core: Core

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve devices until the task is cancelled.

        Raises:
            UsageError: the face cannot listen on the address.
        """
        self._core, where = core, self._listening
        # aiocoap's own messages go to the service's log only if they are defects.
        logging.getLogger("coap-server").setLevel(logging.ERROR)

        loop, sending = asyncio.get_running_loop(), None
        try:
            plain, _ = await loop.create_datagram_endpoint(
                lambda: ImageSocket(self._blocks, self._note_served), local_addr=(where.host, where.port)
            )
        except OSError as error:
            raise listen_error(where.host, where.port, error) from error

        try:
            self._coap = await self._listen()
            scheme = "coaps" if where.is_secure else "coap, without DTLS"
            self._context.log(NAME, "listening", host=where.host, images=where.port, devices=where.port + 1, by=scheme)
            on_ready()
            sending = asyncio.create_task(CommandSender(self._context, self._awake_client).run())
            while True:
                await asyncio.sleep(_SWEEP)
                self._end_expired()
                if sending.done():
                    sending.result()  # a defect is reported, and the face starts again
        finally:
            plain.close()
            if sending:
                sending.cancel()
                await asyncio.wait([sending])

            sessions = [known.task for known in self._registered.values()]
            for number in list(self._registered):
                self._end(number)
            await asyncio.gather(*sessions, return_exceptions=True)
            if self._coap is not None:
                await self._coap.shutdown()
            self._blocks.close()

    def offer_changed(self, device: int) -> None:
        """Wake the session of a device. If the device is banned, its registration is removed."""
        if (found := self._registered.get(device)) is None:
            return
        known = self._core.device(device)
        if known is None or known.is_banned:
            self._end(device)
        else:
            found.session.wake()

    async def _listen(self) -> ServerContext:
        site, shared = Site(), BlockBodies()
        site.add_resource(["rd"], _Handled(shared, self._register, self._refuse_block))
        site.add_resource(["rd"], _HandledBelow(shared, self._change, self._refuse_block))
        site.add_resource(["events"], _Handled(shared, self._log_event, self._refuse_block))
        site.add_resource(["readings"], _Handled(shared, self._take_reading, self._refuse_block))
        site.add_resource([FOLDER], _HandledBelow(shared, self._serve_image, self._refuse_block))

        host, port = self._listening.host, self._listening.port
        # The DTLS transport adds 1 to the port, the distance of the two registered ports.
        transport: dict[str, Any] = {"bind": (host, port + 1), "transports": ["simplesocketserver"]}
        if self._listening.is_secure:
            keys = _SharedKeys(self._core, self._warn_later)
            transport = {"bind": (host, port), "transports": ["tinydtls_server"], "server_credentials": keys}

        try:
            context: ServerContext = await ServerContext.create_server_context(site, **transport)
        except OSError as error:
            raise listen_error(host, port + 1, error) from error
        context.continue_message_ids(self._context.clock())
        return context

    async def _register(self, request: Message) -> Message:
        """Register a device. A new registration replaces the previous registration."""
        if request.code is not POST:
            return Message(code=METHOD_NOT_ALLOWED)
        # (1) The message (LwM2M 1.0, section 5.3).
        number = None
        try:
            parameters = parameters_of(request.opt.uri_query)
            number = device_of(parameters.get("ep", ""))
            registration = DeviceRegistration(number)
            registration.update(request.opt.uri_query, _links(request), now=self._core.time())
        except ValueError as error:
            return await self._refuse(self._claimed(request), f"registration refused: {error}", BAD_REQUEST)

        # (2) The sender may be this device, speaks a known version, and does not register too often.
        if refusal := await self._check_identity(request, number):
            return refusal
        if (version := parameters.get("lwm2m", "")) not in VERSIONS:
            why = f"registration refused: version {version!r:.20} of LwM2M is not supported"
            return await self._refuse(number, why, PRECONDITION_FAILED)
        if not self._registrations.take(number, self._core.time()):
            return await self._refuse(number, "too many registrations in a minute", TOO_MANY_REQUESTS)

        # (3) The new registration replaces the former one, and goes on with an interrupted push.
        before = self._registered.get(number)
        self._end(number)
        assert self._coap is not None  # noqa: S101 - a request arrives after the socket was opened
        client = DeviceClient(self._coap, request.remote)
        session = DeviceSession(self._core, self._context, self.settings, client, registration)
        session.pushing = before.session.pushing if before else None
        task = asyncio.create_task(session.run(), name=f"LwM2M device {number}")
        host = request.remote.hostinfo.rpartition(":")[0].strip("[]")
        known = _Registered(secrets.token_hex(4), registration, session, task, host, client)
        self._registered[number] = known
        if self._context.commands:
            self._context.commands.set_face(number, NAME)
        task.add_done_callback(lambda done: self._note_end(number, done))
        return Message(code=CREATED, location_path=("rd", known.id))

    async def _change(self, request: Message) -> Message:
        """Update or end a registration."""
        claimed = self._claimed(request)
        now = self._core.time()
        named = [one for one in self._registered.values() if (one.id,) == request.opt.uri_path]
        if not named or named[0].registration.is_over(now):
            return Message(code=NOT_FOUND)  # the device registers again

        known, number = named[0], named[0].registration.number
        if refusal := await self._check_identity(request, number):
            return refusal

        if request.code is DELETE:
            self._end(number)
            return Message(code=DELETED)
        if request.code is not POST:
            return Message(code=METHOD_NOT_ALLOWED)
        try:
            known.registration.update(request.opt.uri_query, _links(request), now=now)
        except ValueError as error:
            return await self._refuse(claimed or number, f"update refused: {error}", BAD_REQUEST)
        known.session.wake(anew=True)
        return Message(code=CHANGED)

    async def _log_event(self, request: Message) -> Message:
        """Log an event of a registered device."""
        if request.code is not POST:
            return Message(code=METHOD_NOT_ALLOWED)

        number = self._sender(request)
        if number is None:
            return await self._refuse(None, "event refused: the device is not registered", FORBIDDEN)
        if refusal := await self._check_identity(request, number):
            return refusal

        try:
            event = ThingEvent.decode(request.payload)
            index = await self._core.event(number, text=event.text, statement=event.statement, counter=event.seq)
        except ValueError as error:
            return await self._refuse(number, f"event refused: {error}", BAD_REQUEST)
        except RefusedError as error:
            return Message(code=TOO_MANY_REQUESTS, payload=error.what.encode())
        return Message(code=CHANGED, payload=event_accepted(event.seq, index), content_format=CBOR)

    async def _take_reading(self, request: Message) -> Message:
        if request.code is not POST:
            return Message(code=METHOD_NOT_ALLOWED)
        number = self._sender(request)
        if number is None:
            return await self._refuse(None, "reading refused: the device is not registered", FORBIDDEN)
        if refusal := await self._check_identity(request, number):
            return refusal
        return await take_reading(self._core, self._context, number, request.payload)

    async def _serve_image(self, request: Message) -> Message:
        answer, number = self._blocks.answer(request, request.opt.uri_path), self._sender(request)
        if answer.code is BAD_OPTION:
            return await self._refuse(number, WRONG_BLOCK, answer.code)
        if answer.code.is_successful() and number in self._registered:
            self._count(self._registered[number], request.opt.uri_path[0], request)
        return answer

    async def _refuse_block(self, request: Message, why: str, code: Code) -> Message:
        return await self._refuse(self._sender(request), f"request refused: {why}", code)

    def _note_served(self, host: str, request: Message, answer: Message) -> None:
        """Count the image blocks that were served to a host as progress of all devices at this host."""
        known = [one for one in self._registered.values() if one.host == host]
        if answer.code is BAD_OPTION:
            self._warn_later(known[0].registration.number if len(known) == 1 else None, WRONG_BLOCK)
        elif answer.code.is_successful():
            for one in known:
                self._count(one, request.opt.uri_path[1], request)

    def _count(self, known: _Registered, image: str, request: Message) -> None:
        block = request.opt.block2
        received = 0 if block is None else block.start + block.size
        served, digest = known.registration.served, bytes.fromhex(image)
        offer = self._core.offer(known.registration.number)
        if offer is not None and offer.image == digest:
            served[digest] = max(served.get(digest, 0), min(received, offer.size))

    def _find_image(self, digest: bytes) -> Path | None:
        """Return the file of an image that is offered to a registered device, or that is in the gateway's folder."""
        for number in self._registered:
            for offer in self._core.offers(number):
                if offer.image == digest:
                    return offer.path
        path = self._context.folder / "images" / digest.hex()
        return path if path.is_file() else None

    def _claimed(self, request: Message) -> int | None:
        """Return the number of the device whose key the client used; None without DTLS."""
        identity = request.remote.authenticated_claims[0] if self._listening.is_secure else None
        return None if identity is None else int(identity)

    def _sender(self, request: Message) -> int | None:
        """Return the number of the device that sent a request.

        Without DTLS, a device is recognised by the address from which it registered.
        """
        if self._listening.is_secure:
            return self._claimed(request)
        registered = [one for one in self._registered.values() if one.session.remote == request.remote]
        now = self._core.time()
        return next((one.registration.number for one in registered if not one.registration.is_over(now)), None)

    async def _check_identity(self, request: Message, number: int) -> Message | None:
        """Return a refusal if the client uses another device's key, or if the device is banned or not of this site."""
        claimed = self._claimed(request)
        if claimed is not None and claimed != number:
            return await self._refuse(claimed, f"the device claims to be device {number}", FORBIDDEN)
        device = self._core.device(number)
        if device is None:
            return await self._refuse(None, f"device {number} is not of this site", FORBIDDEN)
        if device.is_banned:
            return await self._refuse(number, "the device is banned", FORBIDDEN)
        return None

    async def _refuse(self, number: int | None, reason: str, code: Code) -> Message:
        await self._core.warn(number, reason)
        return Message(code=code, payload=reason.encode())

    def _warn_later(self, number: int | None, reason: str) -> None:
        task = asyncio.create_task(self._core.warn(number, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, number: int) -> None:
        if known := self._registered.pop(number, None):
            known.task.cancel()
            if self._context.commands:
                self._context.commands.set_face(number, None)

    def _awake_client(self, number: int) -> DeviceClient | None:
        """Return the client for a registered device that listens now; None if it sleeps or is not registered."""
        known, now = self._registered.get(number), self._core.time()
        if known is None or known.registration.is_over(now):
            return None
        heard = known.registration.heard
        is_asleep = known.registration.is_queued and (heard is None or now - heard >= self.settings.awake)
        return None if is_asleep else known.client

    def _end_expired(self) -> None:
        now = self._core.time()
        for number in [n for n, one in self._registered.items() if one.registration.is_over(now)]:
            self._context.log(NAME, "registration ended", device=number, why="its lifetime has passed")
            self._end(number)

    def _note_end(self, number: int, task: asyncio.Task[None]) -> None:
        """Log a defect that ended a session. The device can register again."""
        if not task.cancelled() and (error := task.exception()):
            self._context.log(NAME, "defect", device=number, why=repr(error))
            if (known := self._registered.get(number)) and known.task is task:
                self._end(number)


class _SharedKeys:
    """The pre-shared keys, in the form that aiocoap's DTLS transport requires."""

    def __init__(self, core: Core, warn: Callable[[int | None, str], None]) -> None:
        self._core, self._warn = core, warn

    def find_dtls_psk(self, identity: bytes) -> tuple[bytes, str]:
        """Return the pre-shared key of a DTLS identity, and the device's number as text.

        Raises:
            KeyError: the identity is not a device of this site, or the device is banned or has no key.
        """
        try:
            number = device_of(identity.decode())
        except ValueError as error:
            self._warn(None, f"DTLS refused: {error}")
            raise KeyError(identity) from error

        key = self._core.shared_key(NAME, number)
        if key is None:
            known = self._core.device(number) is not None
            self._warn(number if known else None, f"DTLS refused: device {number} is banned, unknown or has no key")
            raise KeyError(identity)
        return key[:KEY_SIZE], str(number)


class _Handled(Resource):
    """A resource that assembles the body of each request, and answers all requests by one function.

    Args:
        bodies: the incomplete bodies of all clients.
        handle: answers a request.
        refuse: answers a request whose block cannot be used.
    """

    def __init__(self, bodies: BlockBodies, handle: _Handler, refuse: _Refuser) -> None:
        super().__init__()
        self._bodies, self._handle, self._refuse = bodies, handle, refuse

    async def needs_blockwise_assembly(self, request: Message) -> bool:  # noqa: ARG002 - aiocoap's method
        """Return False, because aiocoap's own assembly fails on a missing block, and stores any number of bodies."""
        return False

    async def render(self, request: Message) -> Message:
        """Answer a request."""
        block = request.opt.block1
        try:
            body = self._bodies.take(request)
        except WrongBlockError as error:
            return await self._refuse(request, str(error), error.code)
        if body is None:
            return Message(code=CONTINUE, block1=block)

        answer = await self._handle(request.copy(payload=body))
        if block is not None:
            answer.opt.block1 = block
        return answer


class _HandledBelow(_Handled, PathCapable):
    """A resource like `_Handled` that handles all paths below its own path."""


_Handler = Callable[[Message], Awaitable[Message]]
_Refuser = Callable[[Message, str, Code], Awaitable[Message]]


def _links(request: Message) -> bytes:
    """Return the body of a registration.

    Raises:
        ValueError: the content format of the body is not ``application/link-format``.
    """
    if request.payload and request.opt.content_format not in (None, LINKS):
        raise ValueError(f"content format {request.opt.content_format} is not application/link-format")
    payload: bytes = request.payload
    return payload
