"""The HTTP response with a proven image, or with a byte range of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from blockota.gateway.faces.ddi_documents import read_range

_PART = 1 << 18
"""The number of bytes that one step reads and sends. The file is in the page cache, so reading does not block."""
_REPORT_SECONDS = 30

Report = Callable[[int], Awaitable[object]]
"""Called with the number of bytes of an image that were sent."""


class ImageResponse(Response):
    """The response with a proven file, or with the byte range that the request names.

    A client resumes an interrupted download with the header ``Range``. If the header ``If-Range`` has the entity tag of
    another file, the response is the whole file. A client therefore never joins parts of two files.

    Args:
        request: the request.
        path: the file.
        image: SHA-256 of the file.
        size: size of the file in bytes.
        report: called about twice a minute during a download. An exception from `report` ends the download.
    """

    def __init__(self, request: Request, path: Path, image: bytes, size: int, *, report: Report | None = None) -> None:
        self._path, self._is_head, self._report = path, request.method == "HEAD", report
        self.start, self.stop = 0, size
        tag = f'"{image.hex()}"'
        headers = {"Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "no-store"}
        status = HTTPStatus.OK

        # A range counts only for the file that the client has begun to download.
        asked = request.headers.get("range")
        if asked and request.headers.get("if-range", tag) == tag:
            try:
                part = read_range(asked, size)
            except ValueError:
                status, self.start, self.stop = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
                headers["Content-Range"] = f"bytes */{size}"
            else:
                if part:
                    status, (self.start, self.stop) = HTTPStatus.PARTIAL_CONTENT, part
                    headers["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{size}"

        super().__init__(status_code=status, headers=headers, media_type="application/octet-stream")
        self.headers["content-length"] = str(self.stop - self.start)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the interface
        """Send the response, at the speed at which the client reads."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not self._is_head:
            leaving = asyncio.create_task(_disconnected(receive))
            try:
                await self._send_file(send, leaving)
            finally:
                leaving.cancel()
                await asyncio.wait([leaving])  # until then, the task may still read from the connection
        await send({"type": "http.response.body", "body": b""})

    async def _send_file(self, send: Send, leaving: asyncio.Task[None]) -> None:
        clock, place = asyncio.get_running_loop().time, self.start
        due = clock() + _REPORT_SECONDS
        with self._path.open("rb") as file:
            # A send returns immediately after the client has closed the connection, and also if the client reads fast
            # enough.
            while place < self.stop and not leaving.done():
                if self._report and clock() >= due:
                    await self._report(place)
                    due = clock() + _REPORT_SECONDS
                part = os.pread(file.fileno(), min(_PART, self.stop - place), place)
                if not part:
                    raise EOFError(f"{self._path} is shorter than its image")
                place += len(part)
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(0)  # other clients are served in between


async def _disconnected(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
