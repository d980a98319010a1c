"""Requests to the resources of a registered device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiocoap import GET, POST, PUT, Context, Message
from aiocoap.error import Error as CoapError
from aiocoap.numbers.codes import Code

from blockota.errors import NoAnswerError
from blockota.formats.lwm2m import OPAQUE, TEXT

Path = tuple[int, ...]
"""The numbers of an object, an instance and a resource."""
JSON = 50
"""The content format of JSON (RFC 7252, section 12.3)."""
LARGEST_VALUE = 1024
"""The maximum size in bytes of a value that is read."""
_IDS_PER_SECOND, _LAST_ID = 160, 0xFFFF
"""The rate at which the first message id rises, in ids per second, and the last id. In 247 seconds, the id rises by
less than 65,536, so it does not repeat within this time."""
_LONGEST_EXCHANGE = 93
"""Seconds after which an answer is no longer expected: MAX_TRANSMIT_WAIT in RFC 7252, section 4.8.2."""


@dataclass(frozen=True)
class DeviceAnswer:
    """The value of a resource, as the device encoded it."""

    payload: bytes
    content_format: int | None


class ServerContext(Context):
    """An endpoint of aiocoap with one transport, on which requests are both received and sent.

    The class is needed because aiocoap cannot send a request through a session that its DTLS server has accepted.
    """

    async def find_remote_and_interface(self, message: Message) -> Any:  # noqa: ARG002 - aiocoap's method
        """Return the only transport."""
        return self.request_interfaces[0]

    def continue_message_ids(self, now: int) -> None:
        """Choose the first message id so that a restarted gateway does not repeat the ids from before the restart.

        If a device has received a message id in the last 247 seconds, it sends the old answer again (RFC 7252, sections
        4.2 and 4.8.2). The random first id of aiocoap may repeat an id from before the restart. The first id is
        therefore derived from the time, and rises faster than messages are sent.

        Args:
            now: Unix time in seconds.
        """
        for interface in self.request_interfaces:
            interface.token_interface.message_id = now * _IDS_PER_SECOND & _LAST_ID


class DeviceClient:
    """The resources of one device.

    Args:
        context: the endpoint at which the device registered.
        remote: the address from which the device registered; with DTLS, the session of the device.
    """

    def __init__(self, context: Context, remote: Any) -> None:
        self._context = context
        self.remote = remote
        self._watch: asyncio.Task[None] | None = None

    async def read(self, path: Path, *, accept: int = TEXT) -> DeviceAnswer | None:
        """Read a resource.

        Returns None if the device answers with an error, for example because it does not have the resource.

        Raises:
            NoAnswerError: the device does not answer.
            ValueError: the value is too long, or a block of the answer is out of order.
        """
        payload = b""
        wanted: Any = None
        while True:
            answer = await self._ask(Message(code=GET, uri_path=_texts(path), accept=accept, block2=wanted))
            if not answer.code.is_successful():
                return None

            block = answer.opt.block2
            if block is not None and block.start != len(payload):
                raise ValueError(f"block {block.block_number} of the answer is not the requested block")

            payload += answer.payload
            # A device must not fill the memory of the gateway.
            if len(payload) > LARGEST_VALUE:
                raise ValueError(f"the value is longer than {LARGEST_VALUE} bytes")
            if block is None or not block.more:
                return DeviceAnswer(payload, answer.opt.content_format)
            wanted = (block.block_number + 1, 0, block.size_exponent)

    async def write(self, path: Path, value: bytes, content_format: int = TEXT) -> Code:
        """Write a resource, and return the code of the answer.

        Raises:
            NoAnswerError: the device does not answer.
        """
        request = Message(code=PUT, uri_path=_texts(path), payload=value, content_format=content_format)
        return (await self._ask(request)).code

    async def write_block(self, path: Path, block: bytes, place: tuple[int, bool, int]) -> Message:
        """Write one block of a resource, and return the answer.

        Raises:
            NoAnswerError: the device does not answer.
        """
        message = Message(code=PUT, uri_path=_texts(path), payload=block, content_format=OPAQUE, block1=place)
        return await self._ask(message)

    async def execute(self, path: Path) -> Code:
        """Execute a resource, and return the code of the answer.

        Raises:
            NoAnswerError: the device does not answer.
        """
        return (await self._ask(Message(code=POST, uri_path=_texts(path)))).code

    async def post(self, path: tuple[str, ...], payload: bytes) -> tuple[Code, bytes]:
        """Send a JSON document to a path of the device, and return the code and the payload of the answer.

        Raises:
            NoAnswerError: the device does not answer.
        """
        answer = await self._ask(Message(code=POST, uri_path=path, payload=payload, content_format=JSON))
        return answer.code, bytes(answer.payload)

    async def observe(self, path: Path, changed: Callable[[], None]) -> None:
        """Request notifications of changes of a resource.

        A device that does not support notifications answers with the current value only.

        Args:
            path: the resource.
            changed: called for each notification.

        Raises:
            NoAnswerError: the device does not answer.
        """
        message = Message(code=GET, uri_path=_texts(path), accept=TEXT, observe=0)
        message.remote = self.remote
        request = self._context.request(message, handle_blockwise=False)
        answer = await _answer(request)
        if answer.opt.observe is not None and request.observation is not None:
            self._watch = asyncio.create_task(_follow(request.observation, changed))

    def close(self) -> None:
        """Stop listening to notifications."""
        if self._watch is not None:
            self._watch.cancel()

    async def _ask(self, request: Message) -> Message:
        request.remote = self.remote
        return await _answer(self._context.request(request, handle_blockwise=False))


async def _answer(request: Any) -> Message:
    """Wait for the answer to a request."""
    try:
        async with asyncio.timeout(_LONGEST_EXCHANGE):
            return await request.response
    except (CoapError, OSError) as error:
        raise NoAnswerError("the device does not answer", why=f"{error or type(error).__name__}") from error


async def _follow(notifications: Any, changed: Callable[[], None]) -> None:
    """Call a function for each notification. Returns without an error when the device ends the observation."""
    with suppress(CoapError, OSError):
        async for _ in notifications:
            changed()


def _texts(path: Path) -> tuple[str, ...]:
    return tuple(map(str, path))
