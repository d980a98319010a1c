"""The HTTP response with a proven image, or with a range of it."""

from __future__ import annotations

import os
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from blockota.gateway.core import DeviceOffer
from blockota.gateway.faces.ddi_documents import read_range

_PART = 1 << 18
"""Bytes that are read and sent at once. The file is in the page cache, so that reading does not wait."""


class ImageResponse(Response):
    """The image of an offer, or the range that the request asks for.

    An interrupted download is resumed by ``Range``. The header ``If-Range`` with another entity tag gets the whole
    image, so that two images are never joined.
    """

    def __init__(self, request: Request, offer: DeviceOffer) -> None:
        self._path, self._is_head = offer.path, request.method == "HEAD"
        self.start, self.stop = 0, offer.size
        tag = f'"{offer.image.hex()}"'
        headers = {"Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "no-store"}
        status = HTTPStatus.OK
        asked = request.headers.get("range")
        if asked and request.headers.get("if-range", tag) == tag:
            try:
                part = read_range(asked, offer.size)
            except ValueError:
                status, self.start, self.stop = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
                headers["Content-Range"] = f"bytes */{offer.size}"
            else:
                if part:
                    status, (self.start, self.stop) = HTTPStatus.PARTIAL_CONTENT, part
                    headers["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{offer.size}"
        super().__init__(status_code=status, headers=headers, media_type="application/octet-stream")
        self.headers["content-length"] = str(self.stop - self.start)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the interface
        """Send the response; a client that reads slowly is waited for."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not self._is_head:
            with self._path.open("rb") as file:
                place = self.start
                while place < self.stop:
                    part = os.pread(file.fileno(), min(_PART, self.stop - place), place)
                    if not part:
                        raise EOFError(f"{self._path} is shorter than its image")
                    place += len(part)
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
