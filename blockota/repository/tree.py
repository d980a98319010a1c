"""The blocks of a file in the order in which they are sent; their lengths are known before any leaf is read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blockota.errors import ContentError
from blockota.formats.cid import CHUNK_SIZE, CID, RAW, Block, DagLink, check_block, read_links

_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class TreeBlock:
    """One block of a file.

    Attributes:
        cid: its content address.
        size: its length in bytes.
        start: offset in the file, in bytes, of the content below the block.
        stop: offset of the end of that content.
    """

    cid: CID
    size: int
    start: int
    stop: int


def read_tree(root: CID, read_block: Callable[[CID], bytes], *, size: int) -> tuple[TreeBlock, ...]:
    """List all blocks of a file, depth first. Only the root and inner blocks are read, and verified.

    Args:
        root: the file's content address.
        read_block: returns the alleged bytes of a block.
        size: the greatest size of the file in bytes.

    Raises:
        ContentError: a block is corrupt, or the file is larger or has more blocks than a file of this size.
    """
    most = 2 * (size // CHUNK_SIZE) + 2 * _MAX_DEPTH
    blocks: list[TreeBlock] = []
    for block in _walk(DagLink(root, 0, -1), read_block, start=0, depth=0):
        blocks.append(block)
        if block.stop > size or len(blocks) > most:
            raise ContentError(
                f"{root} is not served", why=f"it is larger than the recorded {size} bytes, or has too many blocks"
            )
    return tuple(blocks)


def subtree(blocks: tuple[TreeBlock, ...], index: int) -> tuple[TreeBlock, ...]:
    """One block and all blocks below it."""
    top = blocks[index]
    if top.cid.codec == RAW:
        return (top,)
    end = next((i for i in range(index + 1, len(blocks)) if blocks[i].start >= top.stop), len(blocks))
    return blocks[index:end]


def blocks_for_bytes(blocks: tuple[TreeBlock, ...], *, first: int, last: int) -> tuple[TreeBlock, ...]:
    """The root of a subtree, and its blocks that prove some bytes of its content (IPIP-402, ``entity-bytes``).

    `first` and `last` are offsets in this content.
    """
    base = blocks[0].start
    inside = (block for block in blocks[1:] if block.start - base <= last and first < block.stop - base)
    return (blocks[0], *inside)


def _walk(link: DagLink, read_block: Callable[[CID], bytes], *, start: int, depth: int) -> Iterator[TreeBlock]:
    # A leaf's size is in its parent: it is not read here.
    if link.cid.codec == RAW and link.file_size >= 0:
        yield TreeBlock(link.cid, link.file_size, start, start + link.file_size)
        return

    data = check_block(link.cid, read_block(link.cid))
    children = [] if link.cid.codec == RAW else read_links(Block(link.cid, data))
    length = sum(child.file_size for child in children) if children else len(data)
    if depth > _MAX_DEPTH or link.file_size not in (-1, length):
        raise ContentError(f"{link.cid} is not served", why="it is not a file: its tree is too deep or inconsistent")
    yield TreeBlock(link.cid, len(data), start, start + length)
    for child in children:
        yield from _walk(child, read_block, start=start, depth=depth + 1)
        start += child.file_size
