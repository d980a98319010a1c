"""One HTTP/1.1 connection of a client, with limits on the client's use of time and memory.

h11 parses requests and frames responses (RFC 9112). This module reads and waits within these limits:

1. A request's line and headers must arrive within `header_seconds`, in at most `MAX_HEADER_SIZE` bytes and
   `MAX_HEADERS` fields.
2. A request's body is read only by a server that asks for it, and must arrive within a further `header_seconds`. If the
   body is not read, the connection is closed after the response.
3. The server produces a part of a response only after the kernel has accepted the previous part. A client that stops
   reading therefore occupies memory for only one part. A client that acknowledges fewer than `slowest` bytes per second
   is disconnected.
4. Between two requests, a connection may be idle for `idle_seconds`.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import sys
import termios
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

import h11

from blockota.repository.answers import HttpAnswer
from blockota.repository.request import HttpRequest

MAX_HEADER_SIZE = 1 << 15
"""The maximum size of a request's line and headers, in bytes."""
MAX_HEADERS = 100
"""The maximum number of header fields of a request."""
READ_SIZE = 1 << 12
"""Bytes that are read at once. A request may exceed the size limit by this number before it is refused."""
_BODY_READ_SIZE = 1 << 16
_DISCARD_SECONDS, _MAX_DISCARDED = 2.0, 1 << 20
"""The time and the number of bytes for which an unread body is discarded before the connection is closed."""
_VERSIONS = (b"1.0", b"1.1")


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of one connection.

    Attributes:
        header_seconds: time for a request's line and headers, and then for its body.
        idle_seconds: time between a response and the next request.
        stall_seconds: the time over which the speed of a client is measured.
        slowest: the minimum rate at which a client must acknowledge data, in bytes per second.
    """

    header_seconds: float = 10.0
    idle_seconds: float = 15.0
    stall_seconds: float = 60.0
    slowest: float = 256.0


class HttpConnection:
    """A connection on which requests are received and answered one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: ConnectionLimits) -> None:
        self._reader, self._writer, self._limits = reader, writer, limits
        self._http = h11.Connection(h11.SERVER)
        self._head = b""
        self._next: type[h11.NEED_DATA | h11.PAUSED] | h11.Event | None = None
        self._body_end, self._is_head = 0.0, False
        self._written = 0
        self._is_new, self._is_closed = True, False
        writer.transport.set_write_buffer_limits(high=1, low=0)  # drain() waits until the kernel has taken all

    @property
    def peer(self) -> str:
        """The client's IP address; empty if the client has already disconnected."""
        name = self._writer.get_extra_info("peername")
        return str(name[0]) if name else ""

    async def receive(self) -> HttpRequest | None:
        """Receive the next request.

        Returns:
            The request; None if the client closed the connection.

        Raises:
            RemoteProtocolError: the received data is not HTTP, or exceeds a limit.
            TimeoutError: the request did not arrive in time.
            ConnectionError: the connection was lost.
        """
        # Each request has its own h11 connection. This way, empty lines before a request can be skipped (RFC 9112
        # section 2.2), which h11 would refuse. What arrived after the previous request is kept.
        received = self._http.trailing_data[0]
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_SIZE)
        self._next, self._is_head = None, False
        limits, clock = self._limits, asyncio.get_running_loop().time
        async with asyncio.timeout(limits.header_seconds if self._is_new else limits.idle_seconds) as limit:
            self._is_new = False
            # Limit 4: wait for the first byte of a request.
            while not (unread := received.lstrip(b"\r\n")):
                received = await self._reader.read(READ_SIZE)
                if not received:
                    return None
            # Limit 1: receive the rest of the request.
            limit.reschedule(clock() + limits.header_seconds)
            self._http.receive_data(unread)
            while (event := self._http.next_event()) is h11.NEED_DATA:
                received = await self._reader.read(READ_SIZE)
                if not received:
                    return None
                self._http.receive_data(received)

        if not isinstance(event, h11.Request):
            raise h11.RemoteProtocolError("the received data is not a request")
        request = _request(event, self.peer)
        self._next = self._http.next_event()  # the end of the request, unless a body follows
        self._body_end, self._is_head = clock() + limits.header_seconds, request.method == "HEAD"
        return request

    async def receive_part(self) -> bytes:
        """Receive the next part of the request's body.

        Returns:
            The part; empty at the end of the body.

        Raises:
            RemoteProtocolError: the received data is not HTTP.
            TimeoutError: the body did not arrive in time.
            ConnectionError: the connection was lost, or the client closed it.
        """
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        async with asyncio.timeout_at(self._body_end):
            while self._next is h11.NEED_DATA:
                received = await self._reader.read(_BODY_READ_SIZE)
                if not received:
                    raise ConnectionError("the client closed the connection")
                self._http.receive_data(received)
                self._next = self._http.next_event()
        if not isinstance(self._next, h11.Data):
            return b""
        part = bytes(self._next.data)
        self._next = self._http.next_event()
        return part

    async def wait_until_left(self) -> None:
        """Wait until the client closes the connection or is lost. A request that arrives in this time is kept."""
        with suppress(OSError):
            while received := await self._reader.read(READ_SIZE):
                self._http.receive_data(received)
                if len(self._http.trailing_data[0]) > MAX_HEADER_SIZE:
                    await asyncio.Event().wait()  # stop reading

    async def send(self, response: HttpAnswer, parts: AsyncIterator[bytes], *, is_last: bool) -> None:
        """Send a response.

        Args:
            response: the status and headers of the response, including the length.
            parts: the parts of the body.
            is_last: whether the connection is closed after the response.

        Raises:
            LocalProtocolError: the body is shorter or longer than announced.
            TimeoutError: the client stopped reading.
            ConnectionError: the connection was lost.
        """
        headers = [(name.encode(), value.encode("latin-1")) for name, value in response.headers.items()]
        self.begin(response.status, headers, is_last=is_last)
        async for part in parts:
            await self.write(part)
        await self.end()

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], *, is_last: bool) -> None:
        """Begin a response. Its head is sent with the first part of the body, in one packet.

        Args:
            status: the HTTP status.
            headers: all headers except ``Date``.
            is_last: whether the connection is closed after the response.

        Raises:
            LocalProtocolError: a header is malformed.
        """
        added = [(b"Date", formatdate(usegmt=True).encode())]
        # The request is incomplete if it has an unread body or offers another protocol (RFC 9110 section 7.8).
        if is_last or self._http.their_state is not h11.DONE:
            added.append((b"Connection", b"close"))
        reason = HTTPStatus(status).phrase.encode()
        self._head = self._http.send(h11.Response(status_code=status, headers=[*headers, *added], reason=reason)) or b""

    async def write(self, part: bytes) -> None:
        """Send the next part of the body; for HEAD, send only the response's head. The errors are those of `send`."""
        if not self._is_head:
            await self._send_event(h11.Data(data=part))
        elif self._head:
            head, self._head = self._head, b""
            self._write(head)
            await self._drain()

    async def end(self) -> None:
        """End the response. The errors are those of `send`."""
        await self._send_event(h11.EndOfMessage())

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow on the connection."""
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def close(self) -> None:
        """Close the connection after all written data is sent.

        The server first reads and discards the rest of the request's body, up to a limit. If a socket is closed before
        its data are read, the system also discards the response that is not sent yet.

        Raises:
            ConnectionError: the connection was lost.
        """
        size = 0
        with suppress(TimeoutError, h11.RemoteProtocolError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while size < _MAX_DISCARDED and (part := await self.receive_part()):
                    size += len(part)
        self._writer.close()
        await self._writer.wait_closed()
        self._is_closed = True

    def abort(self) -> None:
        """Close the connection immediately, and discard the data that is not sent yet."""
        if not self._is_closed:
            self._writer.transport.abort()

    async def _send_event(self, event: h11.Event) -> None:
        head, self._head = self._head, b""
        self._write(head + (self._http.send(event) or b""))
        await self._drain()

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        self._writer.write(data)

    async def _drain(self) -> None:
        """Wait until the kernel has accepted all written data. Raises a TimeoutError if the client reads too slowly."""
        limits, acknowledged = self._limits, self._acknowledged()
        while True:
            try:
                async with asyncio.timeout(limits.stall_seconds):
                    await self._writer.drain()
            except TimeoutError:
                before, acknowledged = acknowledged, self._acknowledged()
                if acknowledged - before < limits.slowest * limits.stall_seconds:
                    text = f"the client acknowledged {acknowledged - before} bytes in {limits.stall_seconds:g} s"
                    raise TimeoutError(text) from None
            else:
                return

    def _acknowledged(self) -> int:
        """Count the bytes that the client acknowledged (on Linux), or that the kernel accepted (on other systems).

        The kernel accepts new data only when a third of its send buffer is free. The buffer has up to 4 MiB, so a slow
        client can take minutes to free this space. Until the space is free, only the length of the send queue (tcp(7),
        SIOCOUTQ) shows that the client still reads.
        """
        return self._written - queued_bytes(self._writer.transport)


def queued_bytes(transport: asyncio.WriteTransport) -> int:
    """Count the written bytes that the client (on Linux) or the kernel (on other systems) has not acknowledged."""
    queued = transport.get_write_buffer_size()
    if sys.platform == "linux" and not transport.is_closing():
        descriptor = transport.get_extra_info("socket").fileno()
        queued += struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
    return queued


def _request(event: h11.Request, peer: str) -> HttpRequest:
    # h11 limits only a request that arrives in several reads.
    fields = event.headers.raw_items()
    size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in fields)
    if size > MAX_HEADER_SIZE or len(fields) > MAX_HEADERS or event.http_version not in _VERSIONS:
        raise h11.RemoteProtocolError("the request is too large, or its HTTP version is not supported")
    headers: dict[str, str] = {}
    for name, value in event.headers:
        # RFC 9110 section 5.3: fields of the same name form one list.
        text, known = value.decode("latin-1"), headers.get(name.decode("ascii"))
        headers[name.decode("ascii")] = text if known is None else f"{known}, {text}"
    return HttpRequest(event.method.decode("ascii"), event.target.decode("latin-1"), headers, peer)
