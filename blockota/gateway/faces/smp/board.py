"""One board over SMP.

The module uses `smpclient`, and converts its exceptions into errors of BlockOTA. An upload continues at the offset in
the board's answer, so a repeated upload of the same file resumes. An image that is marked for a test is started once.
MCUboot restores the previous image at the next start, unless the tested image was confirmed.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from cbor2 import CBORError
from smp.exceptions import SMPException
from smpclient import SMPClient
from smpclient.exceptions import SMPClientException, SMPUploadError
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite, ImageUploadWrite
from smpclient.requests.os_management import EchoWrite, ResetWrite
from smpclient.transport import SMPTransport
from smpclient.transport.serial import SMPSerialTransport
from smpclient.transport.udp import SMPUDPTransport

from blockota.errors import BoardError, LinkError, UsageError, plain

UDP_PORT = 1337
"""The port of SMP over UDP, which smpclient uses by default."""
_CHUNK = 1024
"""The maximum number of bytes of an image in one request. A request then fits into the buffer of the operating system.
"""
_DIGEST_SIZES = (32, 48, 64)
"""The sizes in bytes of SHA-256, SHA-384 and SHA-512, the hashes that MCUboot uses for image digests."""
_SMP_FIELDS = {"header", "version", "sequence", "smp_data"}
"""The fields of every message of `smp`, which it sets itself."""
_MAX_REPEATS = 8
"""The number of consecutive answers without progress after which an upload ends."""
_FOREIGN: tuple[type[Exception], ...] = (
    *(OSError, SMPClientException, SMPException, CBORError, EOFError, ValueError),
    *(struct.error, LookupError, TypeError, OverflowError),
)
"""The exceptions of smpclient for a lost port, a late answer, and an invalid answer. OSError includes pyserial's
SerialException and TimeoutError. ValueError includes the errors of pydantic."""

# smpclient logs what it raises. Without a handler, Python would write it to standard error, among the gateway's lines.
logging.getLogger("smpclient").addHandler(logging.NullHandler())
_is_success: Callable[[Any], bool] = success


@dataclass(frozen=True)
class SmpLine:
    """The port and the timeouts for the connection to a board.

    Attributes:
        port: path of a serial port, or ``udp:ADDRESS`` with an optional ``:PORT``.
        speed: speed of the serial port in bits per second.
        answer: seconds until the board must have answered a request.
        erase: seconds to wait for the first answer to an upload, before which the board erases its second slot.
    """

    port: str
    speed: int = 115_200
    answer: float = 2.5
    erase: float = 40.0


@dataclass(frozen=True)
class BoardSlot:
    """An image in a slot of a board, as the board reports it.

    Attributes:
        digest: the digest of the image, as `blockota.formats.mcuboot.image_digest` computes it; empty if the board
            reports no digest.
        version: the version, as the board states it.
        is_pending: whether MCUboot starts the image after the next reset.
        is_confirmed: whether the image is confirmed, so that MCUboot does not restore the previous image.
    """

    digest: bytes
    version: str = ""
    is_pending: bool = False
    is_confirmed: bool = False


@dataclass(frozen=True)
class BoardSlots:
    """The images of a board.

    Attributes:
        active: the running image.
        other: the image in the second slot; None if the slot is empty.
    """

    active: BoardSlot
    other: BoardSlot | None = None


class SmpBoard:
    """A board with an open link. `open_board` creates it."""

    def __init__(self, client: SMPClient, line: SmpLine) -> None:
        self._client, self._line = client, line

    async def slots(self) -> BoardSlots:
        """Return the images of the board.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request, or reports no running image.
        """
        answer = await self.ask(ImageStatesRead(), "read the images")
        # A board with more than one pair of slots: the first pair is the program.
        found = {one.slot: one for one in answer.images if one.image in (None, 0)}
        if 0 not in found or len(found) != len([one for one in answer.images if one.image in (None, 0)]):
            raise BoardError("the board's images cannot be used", why="it does not report exactly one image in slot 0")
        if odd := [len(one.hash) for one in found.values() if one.hash and len(one.hash) not in _DIGEST_SIZES]:
            raise BoardError("the board's images cannot be used", why=f"it reports a digest of {odd[0]} bytes")
        slots = {
            number: BoardSlot(bytes(one.hash or b""), plain(one.version), bool(one.pending), bool(one.confirmed))
            for number, one in found.items()
        }
        return BoardSlots(slots[0], slots.get(1))

    async def upload(self, image: bytes) -> AsyncGenerator[int]:
        """Write an image to the second slot.

        Yields the number of bytes that the board has received.

        Raises:
            LinkError: the board does not answer, its answer cannot be read, or the upload makes no progress.
            BoardError: the board refuses the image.
        """
        sha256 = hashlib.sha256(image).digest()
        first = ImageUploadWrite(off=0, data=b"", len=len(image), sha=sha256, image=0)
        async for offset in self.send_parts(image, first, "take the image"):
            yield offset

    async def send_parts(self, content: bytes, first: Any, what: str) -> AsyncGenerator[int]:
        """Send bytes in parts. Each part begins at the offset in the board's last answer.

        Yields the number of bytes that the board has received.

        Args:
            content: the bytes.
            first: the first request, with empty data. Later requests contain only the offset and the data.
            what: the requested operation, for error texts, such as ``take the image``.

        Raises:
            LinkError: the board does not answer, its answer cannot be read, or the upload makes no progress.
            BoardError: the board refuses the content.
        """
        offset = repeats = 0
        while offset < len(content):
            empty = first if offset == 0 else type(first)(off=offset, data=b"")
            seconds = self._line.answer if offset else self._line.erase
            answer = await self.ask(self._filled(empty, content), what, seconds=seconds)

            if answer.off is None or not 0 <= answer.off <= len(content):
                raise LinkError(f"the board did not {what}", why=f"the board requests the invalid offset {answer.off}")
            if answer.match is False:
                raise BoardError(f"the board did not {what}", why="the board computed another SHA-256")

            # The board names the next offset. A lost part is sent again, but not for ever.
            repeats = 0 if answer.off > offset else repeats + 1
            if repeats == _MAX_REPEATS:
                why = f"the upload makes no progress: the board requests the offset {answer.off} repeatedly"
                raise LinkError(f"the board did not {what}", why=why)
            offset = answer.off
            yield offset

    async def mark(self, digest: bytes) -> None:
        """Mark the image in the second slot for a test.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request, for example because the image is not in its second slot.
        """
        await self.ask(ImageStatesWrite(hash=digest, confirm=False), "mark the image for a test")

    async def confirm(self, digest: bytes) -> None:
        """Confirm the running image.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request, or runs another image.
        """
        await self.ask(ImageStatesWrite(hash=digest, confirm=True), "confirm the image")

    async def reset(self) -> None:
        """Reset the board.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request.
        """
        await self.ask(ResetWrite(), "reset")

    async def echo(self, text: str) -> bool:
        """Send a text to the board's program, and return whether the program echoed the text.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
        """
        return bool((await self.ask(EchoWrite(d=text), "return a text")).r == text)

    async def ask(self, request: Any, what: str, *, seconds: float | None = None) -> Any:
        """Send a request, and return the answer.

        Args:
            request: a request of smpclient.
            what: the requested operation, for error texts, such as ``read the images``.
            seconds: time limit for the answer; `SmpLine.answer` by default.

        Raises:
            LinkError: the board does not answer, or its answer cannot be read.
            BoardError: the board refuses the request.
        """
        with _translated(f"the board did not {what}"):
            answer = await self._client.request(request, timeout_s=seconds)
        if _is_success(answer) and getattr(answer, "rc", None) in (None, 0):
            return answer

        # The error is in `rc`, or with version 2 of SMP in `err`.
        code = getattr(answer, "rc", None) if getattr(answer, "err", None) is None else answer.err.rc
        number, name = int(code) if isinstance(code, int) else "?", getattr(code, "name", "")
        error = f"{name} ({number})" if name else str(number)
        reason = plain(getattr(answer, "rsn", None) or "")[:100]
        why = f"it answers with the error {error}{reason and f': {reason}'}"
        raise BoardError(f"the board did not {what}", why=why)

    def _filled(self, empty: Any, content: bytes) -> Any:
        """Fill a request with as many bytes of the content as fit into the board's buffer."""
        _, size = self._client.get_max_cbor_and_data_size(empty)
        if size < 1:
            raise LinkError("the upload failed", why="the buffer that the board reports is too small")
        values = {name: getattr(empty, name) for name in type(empty).model_fields if name not in _SMP_FIELDS}
        return type(empty)(**{**values, "data": content[empty.off : empty.off + min(size, _CHUNK)]})


@asynccontextmanager
async def open_board(line: SmpLine) -> AsyncIterator[SmpBoard]:
    """Open the link to a board, and close it at the end of the block.

    Raises:
        LinkError: the port cannot be opened, or the board does not answer.
        UsageError: the address does not belong to this machine or to a private network.
    """
    transport: SMPTransport = SMPSerialTransport(baudrate=line.speed, write_timeout=line.answer, exclusive=True)
    address = line.port
    if address.startswith("udp:"):
        address, number = udp_address(address)
        transport = _UdpTransport(number)
    client = SMPClient(transport, address, timeout_s=line.answer)

    try:
        with _translated(f"cannot reach the board at {line.port}"):
            await client.connect()
        yield SmpBoard(client, line)
    finally:
        # A UDP client that was never connected has no transport to close.
        with suppress(OSError, SMPClientException, AttributeError):
            await client.disconnect()


def udp_address(port: str) -> tuple[str, int]:
    """Return the IP address and the port number of ``udp:ADDRESS:PORT``.

    Only addresses of this machine and of private networks are accepted, because SMP has no authentication.

    Raises:
        UsageError: the text does not have the form ``udp:ADDRESS:PORT``, or the address is not accepted.
    """
    try:
        place = urlsplit(port.replace("udp:", "//", 1))
        host = ip_address(place.hostname or "")
        number = place.port or UDP_PORT
    except ValueError as error:
        raise UsageError(
            f"the port {port:.60} cannot be used",
            why="it is not udp:ADDRESS or udp:ADDRESS:PORT with an IP address",
            remedy="write the port in the form udp:127.0.0.1:1337",
        ) from error

    if not (host.is_loopback or host.is_private) or host.is_unspecified:
        raise UsageError(
            f"the port {port:.60} cannot be used",
            why="SMP has no authentication, and the address is neither on this machine nor in a private network",
            remedy="connect to the board through a tunnel, and give its address in the tunnel",
        )
    return str(host), number


class _UdpTransport(SMPUDPTransport):
    """The transport for SMP over UDP at a given port, with requests that fit into the board's buffer."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._buffer: int | None = None

    def initialize(self, smp_server_transport_buffer_size: int) -> None:
        """Store the size of the board's buffer, which smpclient's transport for UDP ignores."""
        self._buffer = smp_server_transport_buffer_size

    @property
    def max_unencoded_size(self) -> int:
        """The maximum size of a request in bytes."""
        size = int(super().max_unencoded_size)
        return size if self._buffer is None else min(size, self._buffer)

    async def connect(self, address: str, timeout_s: float, port: int = 0) -> None:
        await super().connect(address, timeout_s, port or self._port)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except SMPUploadError as error:
        raise BoardError(what, why=plain(str(error))[:200]) from error
    except _FOREIGN as error:
        why = "it does not answer in time" if isinstance(error, TimeoutError) else plain(str(error))[:200]
        raise LinkError(
            what,
            why=why or type(error).__name__,
            remedy="connect the board, check that its program supports SMP, and end other programs that use the port",
        ) from error
