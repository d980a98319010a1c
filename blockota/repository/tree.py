"""List the blocks of a file, and their lengths, in the order of sending. Leaves are not read. Pure functions."""

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
        cid: the block's content address.
        size: the block's length in bytes.
        start: offset in the file, in bytes, at which the content below the block begins.
        stop: offset in the file, in bytes, at which the content below the block ends.
    """

    cid: CID
    size: int
    start: int
    stop: int


def read_tree(root: CID, read_block: Callable[[CID], bytes], *, size: int) -> tuple[TreeBlock, ...]:
    """List all blocks of a file, depth first. Only the root and inner blocks are read and verified.

    Args:
        root: the file's content address.
        read_block: returns the unverified bytes of a block.
        size: the maximum size of the file in bytes.

    Raises:
        ContentError: a block is corrupt, or the file is larger than `size` or has too many blocks.
    """
    most = 2 * (size // CHUNK_SIZE) + 2 * _MAX_DEPTH
    blocks: list[TreeBlock] = []
    for block in _walk(DagLink(root, 0, -1), read_block, start=0, depth=0):
        blocks.append(block)
        if block.stop > size or len(blocks) > most:
            raise ContentError(
                f"{root} is not served", why=f"the file exceeds the recorded {size} bytes, or has too many blocks"
            )
    return tuple(blocks)


def subtree(blocks: tuple[TreeBlock, ...], index: int) -> tuple[TreeBlock, ...]:
    """Return one block and all blocks below it."""
    top = blocks[index]
    if top.cid.codec == RAW:
        return (top,)
    end = next((i for i in range(index + 1, len(blocks)) if blocks[i].start >= top.stop), len(blocks))
    return blocks[index:end]


def blocks_for_bytes(blocks: tuple[TreeBlock, ...], *, first: int, last: int) -> tuple[TreeBlock, ...]:
    """Select the blocks of a subtree that a client needs to verify a range of bytes (IPIP-402, ``entity-bytes``).

    The result always includes the subtree's root. `first` and `last` are offsets in bytes in the content below this
    root.
    """
    base = blocks[0].start
    inside = (block for block in blocks[1:] if block.start - base <= last and first < block.stop - base)
    return (blocks[0], *inside)


def _walk(link: DagLink, read_block: Callable[[CID], bytes], *, start: int, depth: int) -> Iterator[TreeBlock]:
    # The parent records the size of a leaf, so the leaf is not read.
    if link.cid.codec == RAW and link.file_size >= 0:
        yield TreeBlock(link.cid, link.file_size, start, start + link.file_size)
        return

    data = check_block(link.cid, read_block(link.cid))
    children = [] if link.cid.codec == RAW else read_links(Block(link.cid, data))
    length = sum(child.file_size for child in children) if children else len(data)
    if depth > _MAX_DEPTH or link.file_size not in (-1, length):
        why = "the block is not a file: its tree is too deep or inconsistent"
        raise ContentError(f"{link.cid} is not served", why=why)
    yield TreeBlock(link.cid, len(data), start, start + length)
    for child in children:
        yield from _walk(child, read_block, start=start, depth=depth + 1)
        start += child.file_size
