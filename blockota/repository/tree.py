"""The blocks of a file in the order in which they are sent, so that a length is known before the first is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blockota.errors import ContentError
from blockota.formats.cid import CHUNK_SIZE, CID, RAW, Block, DagLink, check_block, read_links

_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One block of a file.

    Attributes:
        cid: its content address.
        size: its bytes.
        start: the offset in the file, in bytes, of what lies below it.
        stop: the offset behind that.
    """

    cid: CID
    size: int
    start: int
    stop: int


def read_tree(root: CID, read_block: Callable[[CID], bytes], *, size: int) -> tuple[Entry, ...]:
    """All blocks of a file, depth first; only the root and inner blocks are read, and checked.

    Args:
        root: the file's content address.
        read_block: returns the bytes that somebody claims to be the block of an address.
        size: the greatest size, in bytes, that the file may have.

    Raises:
        ContentError: the file is larger, is cut into more pieces than such a file has, or is no file.
    """
    most = 2 * (size // CHUNK_SIZE) + 2 * _MAX_DEPTH
    entries: list[Entry] = []
    for entry in _entries(DagLink(root, 0, -1), read_block, start=0, depth=0):
        entries.append(entry)
        if entry.stop > size or len(entries) > most:
            raise ContentError(
                f"{root} is not served", why=f"it is larger, or in more pieces, than the {size} bytes recorded"
            )
    return tuple(entries)


def below(entries: tuple[Entry, ...], index: int) -> tuple[Entry, ...]:
    """The blocks of the part of the file that one block stands for; it comes first."""
    top = entries[index]
    if top.cid.codec == RAW:
        return (top,)
    end = next((i for i in range(index + 1, len(entries)) if entries[i].start >= top.stop), len(entries))
    return entries[index:end]


def within(entries: tuple[Entry, ...], *, first: int, last: int) -> tuple[Entry, ...]:
    """The blocks that are needed to prove some bytes of a file, and the root in any case.

    Args:
        entries: a file's blocks.
        first: offset of the first byte, from the beginning of what the blocks are.
        last: offset of the last one.
    """
    base = entries[0].start
    inside = (entry for entry in entries[1:] if entry.start - base <= last and first < entry.stop - base)
    return (entries[0], *inside)


def _entries(link: DagLink, read_block: Callable[[CID], bytes], *, start: int, depth: int) -> Iterator[Entry]:
    if link.cid.codec == RAW and link.file_size >= 0:
        yield Entry(link.cid, link.file_size, start, start + link.file_size)
        return
    data = check_block(link.cid, read_block(link.cid))
    children = [] if link.cid.codec == RAW else read_links(Block(link.cid, data))
    length = sum(child.file_size for child in children) if children else len(data)
    if depth > _MAX_DEPTH or link.file_size not in (-1, length):
        raise ContentError(f"{link.cid} is not served", why="it is no file: its tree is too deep, or its sizes differ")
    yield Entry(link.cid, len(data), start, start + length)
    for child in children:
        yield from _entries(child, read_block, start=start, depth=depth + 1)
        start += child.file_size
