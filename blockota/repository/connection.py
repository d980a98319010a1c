"""A connection that does not wait for ever: neither for a request's headers, nor for a client that reads no more."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_SIZE = 1 << 15
"""The most bytes that a request's line and headers may have."""
MAX_HEADERS = 100
"""The most headers."""
PART_SIZE = 1 << 16
"""Bytes that wait in memory at a time for a client to take them, where the system does not send a file by itself."""
_CORK: int | None = getattr(socket, "TCP_CORK", None)
_ACKED = slice(120, 128)
"""Where Linux has the bytes that the other end confirmed (tcpi_bytes_acked in struct tcp_info, since 4.1)."""
_LOOKS = 16
"""How often is looked for that while a client may take nothing."""


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's connection with the limits that it leaves to a proxy.

    Attributes:
        header_seconds: the longest that a client may take to send a request's headers.
        stall_seconds: the longest that a client may take next to nothing of an answer.
        slowest: bytes a second that are more than next to nothing.
        drain_seconds: the longest that it may take nothing of what is left when the answer is complete.
    """

    header_seconds: ClassVar[float] = 10.0
    stall_seconds: ClassVar[float] = 60.0
    slowest: ClassVar[float] = 256.0
    drain_seconds: ClassVar[float] = 20.0
    _deadline: asyncio.TimerHandle | None = None
    _received = 0
    _seen = -1
    _unread: bytearray
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        self._unread = bytearray()
        super().connection_made(transport)
        self._sends_files = self.scheme == "http" and isinstance(self.loop, asyncio.SelectorEventLoop)
        transport.set_write_buffer_limits(PART_SIZE)  # TLS has eight times as much
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Keep what came, and read as far as the end of a request; the next one is read when this one is answered."""
        self._unread += data
        self._read_on()

    def on_message_begin(self) -> None:
        """Let the application reach the connection."""
        super().on_message_begin()
        extensions: Any = {"blockota.connection": self}
        self.scope["extensions"] = extensions

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless there are too many."""
        if len(self.headers) >= MAX_HEADERS:
            raise ValueError("too many headers")  # which the parser answers with 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Answer."""
        self._stop_waiting()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Go on with what came in the meantime."""
        super().on_response_complete()
        self._read_on()

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.transport.is_closing()

    def hold(self, *, is_held: bool) -> None:
        """Let the system wait with segments that are not full, or let it send what is left.

        Each block of a CAR has a few bytes before it; on their own they would cost as much time as the block.
        """
        if self._sends_files and _CORK is not None and not self.is_closed:
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _CORK, int(is_held))

    async def writable(self) -> None:
        """Wait until the client took enough of what was sent.

        Raises:
            TimeoutError: it takes next to nothing.
        """
        if self.flow.write_paused:
            async with self._while_taken():
                await self.flow.drain()

    async def send_file(self, file: FileIO, *, offset: int, count: int) -> None:
        """Send a part of a file, in the midst of an answer whose length was announced.

        Raises:
            ConnectionError: the client went away.
            TimeoutError: the client takes next to nothing.
        """
        sent = await (self._send_by_system if self._sends_files else self._send_parts)(file, offset, count=count)
        if sent != count:
            raise ConnectionAbortedError("the file became shorter while it was sent")
        self.cycle.expected_content_length -= count

    async def _send_by_system(self, file: FileIO, offset: int, *, count: int) -> int:
        async with self._while_taken():
            await self.flow.drain()
            return await self.loop.sendfile(self.transport, file, offset, count)

    async def _send_parts(self, file: FileIO, offset: int, *, count: int) -> int:
        """What TLS sends has to be encrypted here; no more of it is read than the client takes."""
        for first in range(offset, offset + count, PART_SIZE):
            await self.writable()
            if self.is_closed:
                raise ConnectionResetError
            part = os.pread(file.fileno(), min(PART_SIZE, offset + count - first), first)
            self.transport.write(part)
            if not part:
                return first - offset
        return count

    @asynccontextmanager
    async def _while_taken(self) -> AsyncIterator[None]:
        """Go on for as long as the client takes more than next to nothing."""
        async with asyncio.timeout(self.stall_seconds) as limit:
            self._extend(limit, self._taken)
            try:
                yield
            finally:
                if self._watch:
                    self._watch.cancel()

    def _extend(self, limit: asyncio.Timeout, taken: int) -> None:
        now_taken = self._taken
        if now_taken - taken >= self.slowest * self.stall_seconds:
            limit.reschedule(self.loop.time() + self.stall_seconds)
            taken = now_taken
        self._watch = self.loop.call_later(self.stall_seconds / _LOOKS, self._extend, limit, taken)

    @property
    def _taken(self) -> int:
        """Bytes that the client's system has confirmed; where ours does not tell, what left our memory."""
        if sys.platform == "linux":
            facts = self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.stop)
            if len(facts) == _ACKED.stop:
                return int.from_bytes(facts[_ACKED], sys.byteorder)
        return -self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection at once, whatever was not sent yet."""
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle; one on which a client still reads is given time while it does."""
        taken = self._taken
        if self.transport.get_write_buffer_size() and taken != self._seen:
            self._seen = taken
            self.timeout_keep_alive_task = self.loop.call_later(self.drain_seconds, self.timeout_keep_alive_handler)
        else:
            self.transport.abort()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _read_on(self) -> None:
        """Read a request, a line at a time, since it ends with one and the parser does not tell where."""
        while self._unread and not self._is_answering and not self.is_closed:
            if self._deadline is None:
                self._await_headers()
            line = bytes(self._unread[: self._unread.find(b"\n") + 1 or None])
            del self._unread[: len(line)]
            self._received += len(line)
            if self._received > MAX_HEADER_SIZE:
                self.send_400_response("The request's headers are too large.")
            else:
                super().data_received(line)
        if self._is_answering:
            self._read_later()

    def _read_later(self) -> None:
        """Take no more until the answer is over; not even then after a body, since nothing here takes any."""
        self.flow.pause_reading()
        if self.cycle.more_body or self.parser.should_upgrade() or len(self._unread) > MAX_HEADER_SIZE:
            self.cycle.keep_alive = False
            self._unread.clear()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        self._received = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
