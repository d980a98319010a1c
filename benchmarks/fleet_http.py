"""A small HTTP client for a device, which can reset its connection in the middle of an answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from tests.support.tls import CERTIFICATE

_LIMIT = 1 << 20
_ANSWER = 60
_CONTEXT = ssl.create_default_context(cafile=str(CERTIFICATE))


@dataclass(frozen=True)
class FleetAnswer:
    """An answer. The answer to a request; the body is shorter than the header states if the answer was truncated."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class FleetConnection:
    """A device's only connection to the gateway, which is opened again after a loss.

    Attributes:
        port: the port on 127.0.0.1.
        headers: the header fields of all requests.
    """

    port: int
    headers: Mapping[str, str] = field(default_factory=dict)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        cut_after: int | None = None,
    ) -> FleetAnswer:
        """Send a request.

        Args:
            path: the path.
            method: the method.
            body: a JSON body, or None.
            headers: header fields of this request.
            cut_after: the number of bytes of the body after which the client resets the connection; -1 means before the
                answer.

        Raises:
            OSError: the connection was lost.
        """
        try:
            async with asyncio.timeout(_ANSWER):
                return await self._ask(path, method, body, headers or {}, cut_after)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            self.reset()
            raise OSError(str(error)) from error

    async def _ask(
        self, path: str, method: str, body: bytes | None, headers: Mapping[str, str], cut_after: int | None
    ) -> FleetAnswer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, ssl=_CONTEXT, limit=_LIMIT)
        reader, writer = self._streams
        fields = {"Host": f"127.0.0.1:{self.port}", **self.headers, **headers}
        if body is not None:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + (body or b""))
        await writer.drain()
        if cut_after == -1:
            await asyncio.sleep(0)
            self.reset()
            return FleetAnswer(0, {}, b"")
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:]) if name}
        size = int(found.get("content-length", "0"))
        content = await reader.readexactly(size if cut_after is None else min(cut_after, size))
        if cut_after is not None or found.get("connection") == "close":
            self.reset()
        return FleetAnswer(int(head[0].split()[1]), found, content)

    def reset(self) -> None:
        """Reset the connection, so that the peer gets a RST instead of a FIN."""
        if self._streams:
            _, writer = self._streams
            self._streams = None
            with suppress(OSError, AttributeError):  # it may be closed already
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
