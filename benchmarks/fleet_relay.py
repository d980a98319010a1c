"""Relays between a device and the gateway that inject network faults.

`TcpRelay` resets connections. `UdpRelay` loses, duplicates and corrupts datagrams.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

_PART = 1 << 16


class TcpRelay:
    """Forwards the connections of one device to a port of this machine.

    Attributes:
        port: the port of the relay.
    """

    def __init__(self, target: int) -> None:
        self._target, self.port = target, 0
        self._writers: set[asyncio.StreamWriter] = set()

    @classmethod
    @asynccontextmanager
    async def opened(cls, target: int) -> AsyncIterator[TcpRelay]:
        """Run a relay in front of a port."""
        relay = cls(target)
        server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()
            relay.reset()

    def reset(self) -> None:
        """Reset all connections: both peers get RST."""
        for writer in list(self._writers):
            with suppress(OSError, AttributeError):  # it may be closed already
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, other}
        passing = [_pass(reader, other), _pass(other_reader, writer)]
        with suppress(asyncio.CancelledError):  # the campaign is over
            await asyncio.wait([asyncio.ensure_future(one) for one in passing])
        self._writers -= {writer, other}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_PART):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


class UdpRelay(asyncio.DatagramProtocol):
    """Forwards the datagrams of one device to a port of this machine.

    Attributes:
        port: the port of the relay.
        lost, doubled, spoiled: the number of following datagrams that the relay loses, sends twice, or precedes with a
            corrupted copy.
    """

    def __init__(self, seed: int) -> None:
        self.port = self.lost = self.doubled = self.spoiled = 0
        self._draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
        self._near: Any = None
        self._far: Any = None
        self._device: Any = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, target: int, *, seed: int) -> AsyncIterator[UdpRelay]:
        """Run a relay in front of a port."""
        relay, loop = cls(seed), asyncio.get_running_loop()
        relay._near, _ = await loop.create_datagram_endpoint(lambda: relay, local_addr=("127.0.0.1", 0))
        relay.port = relay._near.get_extra_info("sockname")[1]
        back = _Back(relay)
        relay._far, _ = await loop.create_datagram_endpoint(lambda: back, remote_addr=("127.0.0.1", target))
        try:
            yield relay
        finally:
            relay._near.close()
            relay._far.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Forward a datagram of the device."""
        self._device = addr
        for one in self._treated(data):
            self._far.sendto(one)

    def error_received(self, exc: Exception) -> None:
        """Ignore that the gateway is not running."""

    def answered(self, data: bytes) -> None:
        """Forward a datagram of the gateway."""
        for one in self._treated(data):
            self._near.sendto(one, self._device)

    def _treated(self, data: bytes) -> list[bytes]:
        if self.lost:
            self.lost -= 1
            return []
        if self.spoiled:
            self.spoiled -= 1
            # CoAP has no checksum of its own, and UDP's drops most errors: here, only the head of a copy is wrong.
            head = bytes((data[0] ^ 1 << self._draw.randrange(6, 8),))
            return [head + self._draw.randbytes(len(data) - 1), data]
        if self.doubled:
            self.doubled -= 1
            return [data, data]
        return [data]


class _Back(asyncio.DatagramProtocol):
    def __init__(self, relay: UdpRelay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002 - asyncio's method
        self._relay.answered(data)

    def error_received(self, exc: Exception) -> None:
        """Ignore that the gateway is not running."""
