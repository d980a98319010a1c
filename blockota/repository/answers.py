"""HTTP responses with content: their headers, and the pieces of a block or a CAR."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from blockota.formats.cid import CID, varint
from blockota.repository.request import Wanted
from blockota.repository.tree import TreeBlock, blocks_for_bytes

PROBE = "bafkqaaa"
"""The content address of empty content. Clients request it to detect a gateway (Trustless Gateway specification)."""
PROBE_CAR = b"\x19\xa2\x65roots\x81\xd8\x2a\x45\x00\x01\x55\x00\x00\x67version\x01"
"""A CAR with the root `PROBE` and without sections."""
_CID_SIZE = 36
_YEAR = 29_030_400
"""Seconds in the Cache-Control header that the Trustless Gateway specification recommends for immutable content."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a block: the bytes from offset `first` up to, but not including, offset `stop`."""

    block: TreeBlock
    first: int
    stop: int


@dataclass(frozen=True)
class HttpAnswer:
    """The HTTP response to one request.

    Attributes:
        status: HTTP status.
        headers: all headers except ``Date`` and ``Connection``.
        pieces: the pieces of the body; not sent in response to HEAD.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Sequence[bytes | Piece] = ()


def content_headers(cid: CID | str, wanted: Wanted, *, etag: str, is_private: bool) -> dict[str, str]:
    """Return the headers for content under its address. Shared caches may store only public content."""
    extension, ranges = ("car", "none") if wanted.is_car else ("bin", "bytes")
    caches = "private" if is_private else "public"

    headers = {
        "Content-Type": wanted.content_type,
        "Content-Disposition": disposition(f"{cid}.{extension}"),
        "Cache-Control": f"{caches}, max-age={_YEAR}, immutable",
        "ETag": etag,
        "Accept-Ranges": ranges,
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{cid}",
        "X-Ipfs-Roots": str(cid),
    }

    if not wanted.is_named and isinstance(cid, CID):
        headers |= {"Content-Location": wanted.location(cid), "Vary": "Accept"}
    return headers


def disposition(filename: str) -> str:
    """Return the ``Content-Disposition`` header that gives a download its file name (RFC 6266, encoded by RFC 8187)."""
    encoded = quote(filename, safe="")
    # The name for clients that do not read filename*, without separators, quotes and control characters.
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def text_response(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """Return a plain-text response of one sentence. Caches must not store the response."""
    body = f"{sentence}\n".encode()
    fixed = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
    fixed |= {"X-Content-Type-Options": "nosniff", "Content-Length": str(len(body))}
    return HttpAnswer(status, {**fixed, **(headers or {})}, (body,))


def car_blocks(blocks: tuple[TreeBlock, ...], wanted: Wanted) -> list[TreeBlock]:
    """Return the requested blocks in the order of sending. `blocks` has the root and all blocks below it."""
    if wanted.scope == "block":
        return [blocks[0]]
    if wanted.span:
        length = blocks[0].stop - blocks[0].start
        first, end = wanted.span
        last = length - 1 if end is None else end
        # IPIP-402: a negative offset counts from the end.
        first = max(first + length, 0) if first < 0 else first
        last = last + length if last < 0 else last
        blocks = blocks_for_bytes(blocks, first=first, last=last)
    return list(blocks) if wanted.repeat else list({block.cid: block for block in blocks}.values())


def car_length(blocks: list[TreeBlock], root: CID) -> int:
    """Return the length of a CAR in bytes."""
    return len(_header(root)) + sum(len(_section(block)) + block.size for block in blocks)


def car_pieces(blocks: list[TreeBlock], root: CID) -> list[bytes | Piece]:
    """Return the pieces of a CAR: the header, and a section for each block (CARv1 specification)."""
    pieces: list[bytes | Piece] = [_header(root)]
    for block in blocks:
        pieces += [_section(block), Piece(block, 0, block.size)]
    return pieces


def _header(root: CID) -> bytes:
    body = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + bytes(root) + b"\x67version\x01"
    return varint(len(body)) + body


def _section(block: TreeBlock) -> bytes:
    return varint(_CID_SIZE + block.size) + bytes(block.cid)
