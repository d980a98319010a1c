"""Answers of a repository: their headers, and the bytes of a CAR piece by piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from io import FileIO
from typing import Any

from starlette.responses import Response
from starlette.types import Scope, Send

from blockota.errors import ContentError
from blockota.formats.cid import CID, varint
from blockota.repository.blocks import Blocks
from blockota.repository.connection import PART_SIZE
from blockota.repository.request import Wanted
from blockota.repository.tree import Entry, within

PROBE = "bafkqaaa"
"""The address of nothing, by which a client finds out that it talks to a trustless gateway."""
PROBE_CAR = b"\x19\xa2\x65roots\x81\xd8\x2a\x45\x00\x01\x55\x00\x00\x67version\x01"
"""A CAR whose root is `PROBE`, without sections."""
_CID_SIZE = 36
_YEAR = 29_030_400


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a block: from the byte `first` to the one before `stop`."""

    entry: Entry
    first: int
    stop: int


def content_headers(cid: CID | str, wanted: Wanted, *, etag: str, is_private: bool) -> dict[str, str]:
    """The headers of content, which never changes under its address.

    Args:
        cid: the address.
        wanted: the form.
        etag: its validator.
        is_private: whether caches that serve several people must not keep it.
    """
    headers = {
        "Content-Type": wanted.content_type,
        "Content-Disposition": f'attachment; filename="{cid}.{"car" if wanted.is_car else "bin"}"',
        "Cache-Control": f"{'private' if is_private else 'public'}, max-age={_YEAR}, immutable",
        "ETag": etag,
        "Accept-Ranges": "none" if wanted.is_car else "bytes",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{cid}",
        "X-Ipfs-Roots": str(cid),
    }
    if not wanted.is_named and isinstance(cid, CID):
        headers |= {"Content-Location": wanted.location(cid), "Vary": "Accept"}
    return headers


def chosen(entries: tuple[Entry, ...], wanted: Wanted) -> list[Entry]:
    """The blocks that a CAR of some form has, in its order."""
    if wanted.scope == "block":
        return [entries[0]]
    if wanted.span:
        first, last = _absolute(wanted.span, entries[0].stop - entries[0].start)
        entries = within(entries, first=first, last=last)
    return list(entries) if wanted.repeat else list({entry.cid: entry for entry in entries}.values())


def car_length(entries: list[Entry], root: CID) -> int:
    """Bytes of a CAR."""
    return len(_header(root)) + sum(len(_section(entry)) + entry.size for entry in entries)


def car_pieces(entries: list[Entry], root: CID) -> list[bytes | Piece]:
    """What a CAR is made of."""
    pieces: list[bytes | Piece] = [_header(root)]
    for entry in entries:
        pieces += [_section(entry), Piece(entry, 0, entry.size)]
    return pieces


class PiecesResponse(Response):
    """An answer of bytes and blocks; what is sent is at most a block ahead of what the client takes.

    Args:
        status: of HTTP.
        headers: with the length.
        pieces: what is sent.
        blocks: where the blocks come from.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], *, pieces: Sequence[bytes | Piece], blocks: Blocks
    ) -> None:
        """Nothing is sent yet."""
        super().__init__(None, status, headers)
        self._pieces, self._blocks = pieces, blocks

    async def __call__(self, scope: Scope, *channels: Any) -> None:
        """Send it.

        Raises:
            StoreError: the store does not give a block.
            ContentError: what it gives is another.
            ConnectionError: the client went away.
        """
        send: Send = channels[1]
        await self._prepare(0)
        connection = scope.get("extensions", {}).get("blockota.connection")
        if connection:
            connection.hold(is_held=True)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for number, piece in enumerate(self._pieces):
            if isinstance(piece, bytes):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            else:
                self._prefetch(number + 1)
                await self._send_block(piece, scope, send=send)
        if connection:
            connection.hold(is_held=False)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _prepare(self, number: int) -> None:
        """Have the first block at hand, while the status can still tell that it is not there."""
        first = next((piece for piece in self._pieces[number:] if isinstance(piece, Piece)), None)
        if first:
            with self._blocks.file(first.entry.cid, size=first.entry.size) or nullcontext() as file:
                if file is None:
                    await whole(first.entry, self._blocks)

    def _prefetch(self, number: int) -> None:
        following = next((piece for piece in self._pieces[number : number + 2] if isinstance(piece, Piece)), None)
        if following:
            self._blocks.prefetch(following.entry.cid)

    async def _send_block(self, piece: Piece, scope: Scope, *, send: Send) -> None:
        connection = scope.get("extensions", {}).get("blockota.connection")
        if connection and connection.is_closed:
            raise ConnectionResetError
        file = await self._file(piece.entry) if connection else None
        if file is None:
            data = await whole(piece.entry, self._blocks)
            for first in range(piece.first, piece.stop, PART_SIZE):
                part = data[first : min(first + PART_SIZE, piece.stop)]
                await send({"type": "http.response.body", "body": part, "more_body": True})
            return
        with file:
            await connection.send_file(file, offset=piece.first, count=piece.stop - piece.first)
        scope["blockota.from_files"] = scope.get("blockota.from_files", 0) + piece.stop - piece.first

    async def _file(self, entry: Entry) -> FileIO | None:
        """The block's file, checked now if it was not before, so that a slow client holds no memory."""
        file = self._blocks.file(entry.cid, size=entry.size)
        if file is None and self._blocks.are_files:
            await whole(entry, self._blocks)
            file = self._blocks.file(entry.cid, size=entry.size)
        return file


async def whole(entry: Entry, blocks: Blocks) -> bytes:
    """The bytes of one block, as many as its parent says, since the length was announced already.

    Raises:
        StoreError: the store does not give it.
        ContentError: what it gives is another.
    """
    data = await blocks.get(entry.cid)
    if len(data) != entry.size:
        raise ContentError(f"{entry.cid} is not served", why=f"it has {len(data)} bytes, not {entry.size} as named")
    return data


def problem(sentence: str, extra: Mapping[str, str] | None = None) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an answer that is no content."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
    return f"{sentence}\n".encode(), {**headers, "X-Content-Type-Options": "nosniff", **(extra or {})}


def _absolute(span: tuple[int, int | None], length: int) -> tuple[int, int]:
    first, last = span[0], length - 1 if span[1] is None else span[1]
    return (max(first + length, 0) if first < 0 else first), (last + length if last < 0 else last)


def _header(root: CID) -> bytes:
    body = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + bytes(root) + b"\x67version\x01"
    return varint(len(body)) + body


def _section(entry: Entry) -> bytes:
    return varint(_CID_SIZE + entry.size) + bytes(entry.cid)
