"""Serve proven images to devices that download them by CoAP block-wise transfer (RFC 7959).

The socket for plain CoAP stores no state about its clients. Each request for a block is answered directly from the
file. A repeated request is answered again, as RFC 7252, section 4.5, allows for GET. The memory use therefore does not
depend on the number of requests and downloads. The socket serves only images.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import cast

from aiocoap import ACK, CON, CONTENT, GET, NON, RST, Message
from aiocoap.error import UnparsableMessage
from aiocoap.numbers.codes import BAD_OPTION, EMPTY, METHOD_NOT_ALLOWED, NOT_FOUND

from blockota.formats.lwm2m import OPAQUE

FOLDER = "fw"
"""The path before the SHA-256 of an image."""
_LARGEST_BLOCK = 6  # 1024 bytes; 7 is reserved
_OPEN_FILES = 16
_HEX_DIGITS = 64
_ETAG_SIZE = 8
WRONG_BLOCK = "the requested block lies outside of the image, or its size is not supported"
"""Why a request for an image is refused."""
Find = Callable[[bytes], Path | None]
"""Returns the file with the proven image that has a given SHA-256; None if there is no such file."""


class ImageBlocks:
    """Reads the blocks of images from files, and limits the number of open files."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._files: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def answer(self, request: Message, path: tuple[str, ...]) -> Message:
        """Answer a request for a block of an image.

        Args:
            request: the request.
            path: path of the request below `FOLDER`.
        """
        digest = _digest(path)
        if digest is None or (file := self._open(digest)) is None:
            return Message(code=NOT_FOUND)
        if request.code is not GET:
            return Message(code=METHOD_NOT_ALLOWED)

        descriptor, size = file
        wanted = request.opt.block2
        number, exponent = (wanted.block_number, wanted.size_exponent) if wanted else (0, _LARGEST_BLOCK)
        # A client must not set the flag "more" in a request, but a server ignores it (RFC 7959, section 2.2).
        length = 1 << (min(exponent, _LARGEST_BLOCK) + 4)
        offset = number * length
        if exponent > _LARGEST_BLOCK or offset >= max(size, 1):
            return Message(code=BAD_OPTION, payload=WRONG_BLOCK.encode())

        response = Message(code=CONTENT, payload=os.pread(descriptor, length, offset))
        response.opt.content_format = OPAQUE
        # A client that resumes with another image's blocks sees another ETag.
        response.opt.etag = digest[:_ETAG_SIZE]
        if number == 0:
            response.opt.size2 = size
        response.opt.block2 = (number, offset + length < size, exponent)
        return response

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1][0])

    def _open(self, digest: bytes) -> tuple[int, int] | None:
        """Return the descriptor and the size of an image's file."""
        if digest in self._files:
            self._files.move_to_end(digest)
            return self._files[digest]

        path = self._find(digest)
        if path is None:
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

        # The file that was not used for the longest time is closed.
        self._files[digest] = descriptor, os.fstat(descriptor).st_size
        if len(self._files) > _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1][0])
        return self._files[digest]


class ImageSocket(asyncio.DatagramProtocol):
    """The socket for plain CoAP.

    Args:
        blocks: the images.
        served: called with a client's host, its request for an image, and the answer.
    """

    def __init__(self, blocks: ImageBlocks, served: Callable[[str, Message, Message], None]) -> None:
        self._blocks = blocks
        self._served = served
        self._transport: asyncio.DatagramTransport | None = None
        self._message_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, through which answers are sent."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one message. A message that is not a request is dropped."""
        try:
            request = Message.decode(data)
        except UnparsableMessage:
            return
        answer = self._answer(request, addr[0])
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer.encode(), addr)

    def _answer(self, request: Message, host: str) -> Message | None:
        if request.code is EMPTY and request.mtype is CON:  # a ping (RFC 7252, section 4.3)
            return _reply(Message(code=EMPTY), RST, request.mid)
        if not request.code.is_request() or request.mtype not in (CON, NON):
            return None

        path = request.opt.uri_path
        is_image = path[:1] == (FOLDER,)
        answer = self._blocks.answer(request, path[1:]) if is_image else Message(code=NOT_FOUND)
        if is_image:
            self._served(host, request, answer)

        answer.token = request.token
        if request.mtype is CON:
            return _reply(answer, ACK, request.mid)
        self._message_id = (self._message_id + 1) & 0xFFFF
        return _reply(answer, NON, self._message_id)


def _reply(message: Message, kind: int, message_id: int) -> Message:
    message.mtype, message.mid = kind, message_id
    return message


def _digest(path: tuple[str, ...]) -> bytes | None:
    """Return the SHA-256 that a path names; None if the path is not a SHA-256 in hexadecimal."""
    if len(path) != 1 or len(path[0]) != _HEX_DIGITS or not set(path[0]) <= set("0123456789abcdef"):
        return None
    return bytes.fromhex(path[0])
