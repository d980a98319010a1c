"""A constrained device with LwM2M over CoAP without DTLS: it downloads its image, and the gateway reads its state.

The device is both a client and a server on one UDP socket. A relay between the device and the gateway loses, duplicates
and corrupts datagrams. Devices with odd numbers have the LwM2M object 26241, and sign their reports.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from aiocoap import CHANGED, CONTENT, GET, POST, PUT, Context, Message
from aiocoap.error import Error as CoapError
from aiocoap.numbers.codes import BAD_REQUEST, METHOD_NOT_ALLOWED, NOT_FOUND
from aiocoap.resource import PathCapable, Resource, Site

from benchmarks.fleet_diary import DeviceFault, DeviceStart, FleetDevice, FleetRelease
from benchmarks.fleet_relay import UdpRelay
from blockota.formats import cbor
from blockota.messaging.topics import ThingEvent
from blockota.model.receipt import EntryKind, EvidenceLevel

_IDLE, _DOWNLOADING, _DOWNLOADED, _UPDATING = range(4)
_SUCCESS, _LOST, _SPOILED, _UNSUPPORTED, _FAILED = 1, 4, 5, 6, 8
"""Values of resource 5/0/5."""
_ANSWER, _READ, _BLOCK, _OPAQUE = 8, 4, 6, 42
_NETWORK = (DeviceFault.LOST_DATAGRAM, DeviceFault.DOUBLED_DATAGRAM, DeviceFault.SPOILED_DATAGRAM)


class ConstrainedDevice(FleetDevice):
    """The device.

    Args:
        start: the initial state of the device.
        relay: the relay in front of the gateway's port for devices.
        images: the gateway's port for images.
    """

    face = "lwm2m"
    FAULTS = (
        *_NETWORK,
        *(
            DeviceFault.SPOILED_IMAGE,
            DeviceFault.REFUSAL,
            DeviceFault.RESTART,
            DeviceFault.ROLLBACK,
            DeviceFault.WRONG_VERSION,
        ),
        *(DeviceFault.DOUBLED_EVENT, DeviceFault.CHANGED_EVENT),
    )

    def __init__(self, start: DeviceStart, relay: UdpRelay, images: int) -> None:
        super().__init__(start)
        self._relay, self._images = relay, images
        self._signs = bool(self.number % 2)
        self._state = self._result = _IDLE
        self._uri, self._nonce, self._stated = "", b"", ""
        self._reads: Counter[str] = Counter()
        self._asked = asyncio.Event()
        self._location: tuple[str, ...] = ()
        self._events = 0
        self._context: Any = None

    @classmethod
    @asynccontextmanager
    async def started(cls, start: DeviceStart, port: int) -> AsyncIterator[Self]:
        """Start a device; `port` is the gateway's port for images, and the next port is its port for devices."""
        async with UdpRelay.opened(port + 1, seed=start.number) as relay:
            device, site = cls(start, relay, port), Site()
            for number in ("3", "5", "26241"):
                site.add_resource([number], _Instances(number, device.answer))
            # It warns that a client usually has another socket than a server.
            logging.getLogger("coap-server").setLevel(logging.ERROR)
            bind = ("127.0.0.1", 0)
            device._context = await Context.create_server_context(site, bind=bind, transports=["simplesocketserver"])
            try:
                yield device
            finally:
                with suppress(CoapError, OSError, TimeoutError):
                    async with asyncio.timeout(5):
                        await device._context.shutdown()

    async def start(self) -> None:
        """Report the image that the device runs before its first update."""
        await self._register()
        await self._report()

    async def finish(self) -> None:
        """Let the gateway read the device again, in case the gateway was killed after its last read."""
        await self._until_read("5/0/5")

    async def inject(self, fault: DeviceFault, release: FleetRelease) -> bool:
        """Inject the fault if it is independent of an update; return whether the fault was injected."""
        if fault is DeviceFault.WRONG_VERSION:
            self._stated = release.version if self._signs else "9.9.9"
            await self._until_read("3/0/3")
            self._stated = ""
        elif fault in (DeviceFault.DOUBLED_EVENT, DeviceFault.CHANGED_EVENT):
            await self._event(fault)
        else:
            return False
        return True

    async def attempt(self, release: FleetRelease, fault: DeviceFault | None, *, is_last: bool) -> bool:
        """Try once to get a release. All tries except the last fail."""
        if fault in _NETWORK:
            name = {
                DeviceFault.LOST_DATAGRAM: "lost",
                DeviceFault.DOUBLED_DATAGRAM: "doubled",
                DeviceFault.SPOILED_DATAGRAM: "spoiled",
            }
            setattr(self._relay, name[fault], self.draw.randrange(1, 4))
        uri = await self._offered(release)
        if fault is DeviceFault.RESTART:
            self._state, self._result = _IDLE, 0
            await self._register()
            return True
        image = await self._pull(uri, len(release.image))
        # The gateway took the offer back meanwhile, or answered with an error, such as after its restart.
        if self._state != _DOWNLOADING or len(image) < len(release.image):
            self._state = _IDLE
            return False
        if fault is DeviceFault.SPOILED_IMAGE:
            image = self.spoiled(image)
        is_whole = hashlib.sha256(image).digest() == release.sha256
        if fault is not DeviceFault.SPOILED_IMAGE and not is_whole:
            self.diary.unverified += 1  # the gateway served other bytes
        if not is_whole or fault is DeviceFault.REFUSAL or not (is_last or fault is DeviceFault.ROLLBACK):
            reasons = {DeviceFault.SPOILED_IMAGE: _SPOILED, DeviceFault.REFUSAL: _UNSUPPORTED}
            await self._end(reasons.get(fault, _LOST) if fault else _LOST)
            if fault is DeviceFault.REFUSAL:
                self.diary.given_up.add(release.sha256)
            return True
        return await self._install(release, image, fault)

    async def _install(self, release: FleetRelease, image: bytes, fault: DeviceFault | None) -> bool:
        """Wait for the command to install the image, and install it; return False if the command does not come."""
        self._state = _DOWNLOADED
        await self._until(lambda: self._state != _DOWNLOADED)
        if self._state != _UPDATING:
            return False
        if fault is DeviceFault.ROLLBACK:
            await self._register()
            await self._end(_FAILED)
            return True
        self.install(release.version, image)
        self._state, self._result = _IDLE, _SUCCESS
        await self._register()
        await self._report()
        return True

    async def _offered(self, release: FleetRelease) -> str:
        """Wait until the gateway writes the URI of the release's image."""
        while True:
            await self._until(lambda: self._state == _DOWNLOADING)
            if self._uri.endswith(release.sha256.hex()):
                return self._uri
            self._state = _IDLE

    async def _end(self, result: int) -> None:
        """Set the update result, and set the update state to idle; wait until the gateway has read the result."""
        self._state, self._result = _IDLE, result
        await self._until_read("5/0/5")

    async def _report(self) -> None:
        await self._until_read("26241/0/2" if self._signs else "3/0/3")
        self.note_report(self.runs.sha256, EvidenceLevel.A if self._signs else EvidenceLevel.B)

    async def _until_read(self, path: str) -> None:
        """Send registration updates until the gateway has read a resource."""
        before = self._reads[path]
        await self._until(lambda: self._reads[path] > before, is_urgent=True)

    async def _until(self, is_true: Callable[[], bool], *, is_urgent: bool = False) -> None:
        """Send registration updates until the gateway's requests have made a condition true."""
        if is_urgent or self._state != _IDLE:
            await self._update()
        while not is_true():
            self._asked.clear()
            try:
                async with asyncio.timeout(_READ):
                    await self._asked.wait()
            except TimeoutError:
                await self._update()

    async def _pull(self, uri: str, size: int) -> bytes:
        """Fetch the image block by block. A missing block is requested again."""
        image = b""
        while len(image) < size:
            block = (len(image) >> (_BLOCK + 4), 0, _BLOCK)
            answer = await self._ask(lambda block=block: Message(code=GET, uri=uri, block2=block))  # type: ignore[misc]
            if not answer.code.is_successful():
                break
            image += answer.payload
        return image

    async def _register(self) -> None:
        objects = "</3/0>,</5/0>" + (",</26241/0>" if self._signs else "")
        path = f"rd?ep={self.number}&lt=3600&b=U&lwm2m=1.0"
        while True:
            answer = await self._send(POST, path, objects.encode(), content_format=40)
            if answer.code.is_successful():
                self._location = answer.opt.location_path
                return
            await asyncio.sleep(1)

    async def _update(self) -> None:
        answer = await self._send(POST, "/".join(self._location))
        if answer.code is NOT_FOUND:  # the gateway was restarted
            await self._register()

    async def _event(self, fault: DeviceFault) -> None:
        self._events += 1
        event = ThingEvent(self._events, "alarm", 3, body=self.text("alarm"))
        while True:
            for _ in range(2 if fault is DeviceFault.DOUBLED_EVENT else 1):
                answer = await self._send(POST, "events", event.encode())
            if answer.code.is_successful():
                break
            await self._register()
            await asyncio.sleep(1)
        _, index = cbor.decode(answer.payload)
        self.note_text(EntryKind.EVENT, event.text, index)
        if fault is DeviceFault.CHANGED_EVENT:
            other = ThingEvent(self._events, "alarm", 3, body=self.text("changed"))
            if (await self._send(POST, "events", other.encode())).code.is_successful():
                raise AssertionError("the gateway accepted two different events with the same number")

    async def _send(self, code: Any, path: str, payload: bytes = b"", **options: Any) -> Any:
        uri = f"coap://127.0.0.1:{self._relay.port}/{path}"
        return await self._ask(lambda: Message(code=code, uri=uri, payload=payload, **options))

    async def _ask(self, make: Callable[[], Any]) -> Any:
        """Send a request again and again until it is answered."""
        while True:
            with suppress(CoapError, OSError, TimeoutError):
                async with asyncio.timeout(_ANSWER):
                    return await self._context.request(make(), handle_blockwise=False).response
            await asyncio.sleep(0.5)

    def answer(self, request: Any, path: str) -> Any:
        """Answer a request of the gateway."""
        answer = self._answered(request, path)
        if request.code is GET:
            self._reads[path] += 1
        self._asked.set()
        return answer

    def _answered(self, request: Any, path: str) -> Any:
        if request.code is GET:
            value = self._value(path)
            if value is None:
                return Message(code=NOT_FOUND)
            return Message(code=CONTENT, payload=value, content_format=_OPAQUE if path.startswith("2") else 0)
        if request.code is PUT and path == "26241/0/1":
            self._nonce = request.payload
            return Message(code=CHANGED)
        if request.code is PUT and path == "5/0/1":
            return self._take_uri(request.payload.decode())
        if request.code is POST and path == "5/0/2" and self._state == _DOWNLOADED:
            self._state = _UPDATING
            return Message(code=CHANGED)
        return Message(code=METHOD_NOT_ALLOWED)

    def _take_uri(self, uri: str) -> Any:
        if uri and self._state != _IDLE:
            return Message(code=BAD_REQUEST)
        self._uri, self._state, self._result = uri, _DOWNLOADING if uri else _IDLE, 0
        return Message(code=CHANGED)

    def _value(self, path: str) -> bytes | None:
        version = self._stated or self.runs.version
        known = {"3/0/3": version, "3/0/18": "rev-b", "5/0/3": self._state, "5/0/5": self._result}
        if path in known:
            return str(known[path]).encode()
        if path == "26241/0/0":
            return self.runs.sha256
        if path == "26241/0/2" and len(self._nonce) == len(bytes(16)):
            return self.signer.state(self.runs.sha256, nonce=self._nonce)[1]
        return None


class _Instances(Resource, PathCapable):  # type: ignore[misc]
    """The resources of one object."""

    def __init__(self, number: str, answer: Callable[[Any, str], Any]) -> None:
        super().__init__()
        self._number, self._answer = number, answer

    async def needs_blockwise_assembly(self, _: Any) -> bool:
        """Requests have one block."""
        return False

    async def render(self, request: Any) -> Any:
        """Answer a request."""
        return self._answer(request, "/".join((self._number, *request.opt.uri_path)))
