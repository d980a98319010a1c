"""Answers of a repository: their headers, and the bytes of a CAR piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from blockota.cid import CID, varint
from blockota.errors import ContentError
from blockota.repository.blocks import Blocks
from blockota.repository.request import Wanted
from blockota.repository.tree import Entry, within

PROBE = "bafkqaaa"
"""The address of nothing, by which a client finds out that it talks to a trustless gateway."""
PROBE_CAR = b"\x19\xa2\x65roots\x81\xd8\x2a\x45\x00\x01\x55\x00\x00\x67version\x01"
"""A CAR whose root is `PROBE`, without sections."""
_CID_SIZE = 36
_YEAR = 29_030_400


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


async def car_parts(entries: list[Entry], root: CID, *, blocks: Blocks) -> AsyncIterator[bytes]:
    """The bytes of a CAR, a block at a time; while one is sent the next one is read.

    Raises:
        StoreError: the store does not give a block.
        ContentError: what it gives is another.
    """
    yield _header(root)
    for number, entry in enumerate(entries):
        data = await whole(entry, blocks)
        if number + 1 < len(entries):
            blocks.prefetch(entries[number + 1].cid)
        yield _section(entry)
        yield data


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
