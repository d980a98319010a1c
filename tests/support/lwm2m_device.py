"""An LwM2M device for tests.

The simulated device is stricter than the specification, and refuses writes in a wrong order. On one UDP socket, the
device is both a client of the gateway's plain port and a server of its own resources. The device shares no code with
the gateway except aiocoap's encoding of messages.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from aiocoap import CHANGED, CONTENT, DELETE, GET, POST, PUT, Context, Message
from aiocoap.numbers.codes import (
    BAD_REQUEST,
    CONTINUE,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
)
from aiocoap.resource import ObservableResource, PathCapable, Resource, Site

IDLE, DOWNLOADING, DOWNLOADED, UPDATING = range(4)
LINKS = b"</1/0>,</3/0>,</5/0>"
SIGNING_LINKS = LINKS + b",</26241/0>"


class Lwm2mDevice(ObservableResource, PathCapable):
    """A device with the LwM2M objects 3 (Device) and 5 (Firmware Update).

    Attributes:
        version: version of the running image.
        next_version: version of the downloaded image.
        state, result: resources 5/0/3 and 5/0/5.
        package: the downloaded image.
        values: further readable resources by path, as text.
        asked: methods and paths of the gateway's requests, in order.
        can_pull, can_push: whether the device can pull images, and whether it accepts pushed images.
        rolls_back: whether the device runs the old image after an update.
        stalls: whether downloads never end.
        pull_result: the result with which each download fails; 0 for a successful download.
        block: the exponent in the block option, which selects the block size that the device requests.
        server: the URI of the gateway's device port.
        image: the running image, which the object 26241 reports; None for a device without this object.
        sign: signs the image and the gateway's nonce; None for a device that does not sign.
        commands: payloads of the received commands.
        command_answer: code and payload of the answer to each command.
    """

    def __init__(self) -> None:
        super().__init__()
        self.version, self.next_version = "1.0.0", "1.1.0"
        self.state = self.result = IDLE
        self.package = b""
        self.uri = ""
        self.values: dict[str, bytes] = {"3/0/18": b"rev-b"}
        self.asked: list[str] = []
        self.can_pull = self.can_push = True
        self.rolls_back = self.stalls = False
        self.pull_result = 0
        self.downloaded = asyncio.Event()
        self.block = 2
        self.most = 1 << 20
        self.image: bytes | None = None
        self.sign: Callable[[bytes, bytes], bytes] | None = None
        self.commands: list[bytes] = []
        self.command_answer = CHANGED, b""
        self._statement = b""
        self.location: tuple[str, ...] = ()
        self.executed = asyncio.Event()
        self.reset = asyncio.Event()
        self.heard = asyncio.Event()
        self._context: Any = None
        self.server = ""
        self._download: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def started(cls, port: int) -> AsyncIterator[Self]:
        """Run a device of the gateway on a port of the loopback interface."""
        device = cls()
        site = Site()
        for number in ("3", "5", "26241"):
            site.add_resource([number], _Object(device, number))
        site.add_resource(["commands"], _Commands(device))
        device._context = await Context.create_server_context(
            site, bind=("127.0.0.1", 0), transports=["simplesocketserver"]
        )
        device.server = f"coap://127.0.0.1:{port}"
        try:
            yield device
        finally:
            if device._download:
                device._download.cancel()
            await device._context.shutdown()

    async def request(self, code: Any, path: str, payload: bytes = b"", **options: Any) -> Message:
        """Send a request to the gateway."""
        message = Message(code=code, uri=f"{self.server}/{path}", payload=payload, **options)
        if "block1" in options:
            return await self.ask(message)
        async with asyncio.timeout(10):
            return await self._context.request(message).response

    async def ask(self, message: Message) -> Message:
        """Send one CoAP message; aiocoap does not split or assemble blocks."""
        async with asyncio.timeout(10):
            return await self._context.request(message, handle_blockwise=False).response

    async def register(
        self, number: object = 256, query: str = "lt=60&b=U&lwm2m=1.0", links: bytes | None = None
    ) -> Message:
        """Register, and store the location of the registration."""
        if links is None:
            links = LINKS if self.image is None else SIGNING_LINKS
        answer = await self.request(POST, f"rd?ep={number}&{query}", links, content_format=40)
        self.location = answer.opt.location_path
        return answer

    async def update(self, query: str = "") -> Message:
        """Update the registration."""
        return await self.request(POST, "/".join(self.location) + (f"?{query}" if query else ""))

    async def leave(self) -> Message:
        """End the registration."""
        return await self.request(DELETE, "/".join(self.location))

    async def reboot(self, number: int = 256) -> Message:
        """Start the downloaded image, and register again."""
        await self._settled()
        self.end_update()
        return await self.register(number)

    def end_update(self) -> None:
        """Start the downloaded image if the gateway requested an update."""
        if self.state == UPDATING:
            self.state, self.result = IDLE, 8 if self.rolls_back else 1
            if not self.rolls_back:
                self.version, self.image = self.next_version, self.package if self.image is not None else None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true. The condition is checked after each request of the gateway."""
        async with asyncio.timeout(10):
            while not condition():
                self.heard.clear()
                await self.heard.wait()

    async def _settled(self) -> None:
        if self._download:
            await asyncio.wait([self._download])

    def answer(self, request: Message, path: str) -> Message:
        """Answer a request of the gateway."""
        self.asked.append(f"{request.code.name} {path}")
        self.heard.set()
        if request.code is GET:
            value, is_own = self._value(path), path.startswith("26241/")
            found = Message(code=CONTENT, payload=value or b"", content_format=42 if is_own else 0)
            return Message(code=NOT_FOUND) if value is None else found
        if request.code is PUT and path == "26241/0/1" and self.image is not None and len(request.payload) == 16:
            self._statement = self.sign(hashlib.sha256(self.image).digest(), request.payload) if self.sign else b""
            return Message(code=CHANGED)
        if request.code is PUT and path == "5/0/1":
            return self._take_uri(request)
        if request.code is PUT and path == "5/0/0":
            return self._take_block(request)
        if request.code is POST and path == "5/0/2" and self.state == DOWNLOADED:
            self.state = UPDATING
            self.executed.set()
            return Message(code=CHANGED)
        return Message(code=METHOD_NOT_ALLOWED)

    def _value(self, path: str) -> bytes | None:
        if path in self.values:
            return self.values[path]
        own = {"26241/0/0": hashlib.sha256(self.image or b"").digest(), "26241/0/2": self._statement}
        if path in own:
            return own[path] if self.image is not None and own[path] else None
        known = {"3/0/3": self.version, "5/0/3": self.state, "5/0/5": self.result}
        return str(known[path]).encode() if path in known else None

    def _take_uri(self, request: Message) -> Message:
        if not request.payload:
            if self.state not in (DOWNLOADING, DOWNLOADED):
                return Message(code=BAD_REQUEST)
            self.state, self.package = IDLE, b""
            self.reset.set()
            return Message(code=CHANGED)
        if self.state != IDLE or not self.can_pull:
            return Message(code=BAD_REQUEST)
        self.state, self.result, self.uri = DOWNLOADING, 0, request.payload.decode()
        self._download = asyncio.create_task(self._pull())
        return Message(code=CHANGED)

    def _take_block(self, request: Message) -> Message:
        block = request.opt.block1
        if not self.can_push or block.start + len(request.payload) > self.most:
            return Message(code=REQUEST_ENTITY_TOO_LARGE)
        if block.block_number == 0 and self.state == IDLE:
            self.state, self.result, self.package = DOWNLOADING, 0, b""
        if self.state != DOWNLOADING or block.start != len(self.package):
            return Message(code=REQUEST_ENTITY_INCOMPLETE)
        self.package += request.payload
        self.state = DOWNLOADING if block.more else DOWNLOADED
        place = (block.block_number, block.more, min(self.block, block.size_exponent))
        return Message(code=CONTINUE if block.more else CHANGED, block1=place)

    async def _pull(self) -> None:
        """Fetch the image block by block.

        All blocks must have the same ETag, which is the beginning of the image's SHA-256.
        """
        if self.pull_result:
            self.state, self.result = IDLE, self.pull_result
        if self.pull_result or self.stalls:
            return
        image, number, etag = b"", 0, None
        while True:
            block = (number, 0, self.block)
            message = Message(code=GET, uri=self.uri, block2=block)
            answer = await self._context.request(message, handle_blockwise=False).response
            if not answer.code.is_successful() or answer.opt.block2.block_number != number:
                self.state, self.result = IDLE, 4
                return
            etag = etag or answer.opt.etag
            assert answer.opt.etag == etag
            image += answer.payload
            number += 1
            if not answer.opt.block2.more:
                break
        is_whole = hashlib.sha256(image).hexdigest() == self.uri.rpartition("/")[2]
        self.state, self.result = (DOWNLOADED, 0) if is_whole else (IDLE, 5)
        self.package = image
        self.downloaded.set()
        self.updated_state(Message(code=CONTENT, payload=str(self.state).encode()))


class _Object(ObservableResource, PathCapable):
    """The resources of one object. Resource 5/0/3 can be observed."""

    def __init__(self, device: Lwm2mDevice, number: str) -> None:
        super().__init__()
        self._device, self._number = device, number

    async def needs_blockwise_assembly(self, _: Message) -> bool:
        """Return False, because the device assembles blocks itself."""
        return False

    async def add_observation(self, request: Message, observation: Any) -> None:
        """Accept the observation of the state."""
        if (self._number, *request.opt.uri_path) == ("5", "0", "3"):
            await self._device.add_observation(request, observation)

    async def render(self, request: Message) -> Message:
        """Answer a request."""
        return self._device.answer(request, "/".join((self._number, *request.opt.uri_path)))


class _Commands(Resource):
    """The resource to which the gateway sends commands."""

    def __init__(self, device: Lwm2mDevice) -> None:
        super().__init__()
        self._device = device

    async def render_post(self, request: Message) -> Message:
        """Answer a command."""
        self._device.commands.append(request.payload)
        self._device.heard.set()
        code, payload = self._device.command_answer
        return Message(code=code, payload=payload)
