"""A connection that does not wait for ever: neither for a request's headers, nor for a client that reads no more."""

from __future__ import annotations

import asyncio
import socket
from io import FileIO
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_SIZE = 1 << 15
"""The most bytes that a request's line and headers may have."""
MAX_HEADERS = 100
"""The most headers."""
_CORK: int | None = getattr(socket, "TCP_CORK", None)


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's connection with the limits that it leaves to a proxy.

    Attributes:
        header_seconds: the longest that a client may take to send a request's headers.
        stall_seconds: the longest that a client may take for one block.
        drain_seconds: the longest that it may take nothing of what is left when the answer is complete.
    """

    header_seconds: ClassVar[float] = 10.0
    stall_seconds: ClassVar[float] = 60.0
    drain_seconds: ClassVar[float] = 20.0
    _deadline: asyncio.TimerHandle | None = None
    _received = 0
    _unsent = -1
    _unread: bytearray

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        self._unread = bytearray()
        super().connection_made(transport)
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

    @property
    def sends_files(self) -> bool:
        """Whether the system can send a file by itself: not where its bytes have to be encrypted first."""
        return self.scheme == "http" and isinstance(self.loop, asyncio.SelectorEventLoop)

    def hold(self, *, is_held: bool) -> None:
        """Let the system wait with segments that are not full, or let it send what is left.

        Each block of a CAR has a few bytes before it; on their own they would cost as much time as the block.
        """
        if self.sends_files and _CORK is not None and not self.is_closed:
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _CORK, int(is_held))

    async def send_file(self, file: FileIO, *, offset: int, count: int) -> None:
        """Send a part of a file, in the midst of an answer whose length was announced.

        Raises:
            ConnectionError: the client went away.
            TimeoutError: the client takes nothing.
        """
        async with asyncio.timeout(self.stall_seconds):
            await self.flow.drain()
            sent = await self.loop.sendfile(self.transport, file, offset, count)
        if sent != count:
            raise ConnectionAbortedError("the file became shorter while it was sent")
        self.cycle.expected_content_length -= count

    def abort(self) -> None:
        """End the connection at once, whatever was not sent yet."""
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle; one on which a client still reads is given time while it does."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
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
