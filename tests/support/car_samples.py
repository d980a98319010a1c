"""Trees of small blocks and their CARs, encoded independently, for the tests of `blockota.formats.car`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from blockota.formats.car import join_car, read_car
from blockota.formats.cid import CID, DAG_PB, RAW, Block, walk


@dataclass(frozen=True)
class Tree:
    """A file as its blocks.

    Attributes:
        root: the file's address.
        blocks: every block, by address.
        order: the addresses depth first, repeated as the tree repeats them.
        data: the file.
    """

    root: CID
    blocks: dict[CID, bytes]
    order: tuple[CID, ...]
    data: bytes


def varint(number: int) -> bytes:
    """Encode a number with 7 bits per byte."""
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7) if number > 0x7F else bytes((number,))


def leaf(data: bytes) -> Tree:
    """Return a file of one raw block."""
    cid = CID.of(RAW, data)
    return Tree(cid, {cid: data}, (cid,), data)


def node(children: Sequence[Tree]) -> Tree:
    """Return the concatenation of files as an inner block."""
    links = b"".join(_field(0x12, _link(child)) for child in children)
    sizes = b"".join(b"\x20" + varint(len(child.data)) for child in children)
    data = b"".join(child.data for child in children)
    block = links + _field(0x0A, b"\x08\x02\x18" + varint(len(data)) + sizes)
    cid = CID.of(DAG_PB, block)
    blocks = {cid: block}
    for child in children:
        blocks |= child.blocks
    order = (cid, *(cid for child in children for cid in child.order))
    return Tree(cid, blocks, order, data)


def balanced(leaves: Sequence[bytes], *, width: int) -> Tree:
    """Return a balanced tree over leaves, with at most `width` children per node."""
    level = [leaf(data) for data in leaves]
    while len(level) > 1:
        level = [node(level[start : start + width]) for start in range(0, len(level), width)]
    return level[0]


def header(root: CID) -> bytes:
    """Encode a CARv1 header with one root."""
    return b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + bytes(root) + b"\x67version\x01"


def section(cid: CID, data: bytes) -> bytes:
    """Encode a CARv1 section."""
    return varint(36 + len(data)) + bytes(cid) + data


def sections(tree: Tree, *, repeat: bool) -> list[bytes]:
    """Encode the sections of a tree, depth first."""
    order = tree.order if repeat else tuple(dict.fromkeys(tree.order))
    return [section(cid, tree.blocks[cid]) for cid in order]


def car(tree: Tree, *, repeat: bool = True) -> bytes:
    """Encode the CAR of a tree."""
    return header(tree.root) + b"".join(sections(tree, repeat=repeat))


def write_car(root: CID, read_block: Callable[[CID], bytes], *, repeat: bool = True) -> Iterator[bytes]:
    """Yield the CAR of a file, with repeated blocks (``dups=y``) or without."""
    blocks: Iterable[Block] = walk(root, read_block)
    yield from join_car(root, blocks if repeat else dict.fromkeys(blocks))


def unpack_car(parts: Iterable[bytes], root: CID, *, size: int) -> Iterator[bytes]:
    """Yield the bytes of the file in a CAR; all its blocks are kept in memory."""
    known: dict[CID, bytes] = {}
    for block in read_car(parts, root, size=size, earlier=known.get):
        known[block.cid] = block.data
        if block.cid.codec == RAW:
            yield block.data


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield every string that differs in one bit, with the index of its byte."""
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(changed)


def _link(child: Tree) -> bytes:
    total = sum(len(child.blocks[cid]) for cid in child.order)
    return _field(0x0A, bytes(child.root)) + _field(0x12, b"") + b"\x18" + varint(total)


def _field(tag: int, value: bytes) -> bytes:
    return bytes((tag,)) + varint(len(value)) + value


def block_addresses(data: bytes) -> list[CID]:
    """The addresses of the blocks of a CAR in order, after checking each block."""
    found = []
    position = data[0] + 1
    while position < len(data):
        length, shift = 0, 0
        while True:
            byte, position = data[position], position + 1
            length, shift = length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        cid = CID.decode(data[position : position + 36])
        assert CID.of(cid.codec, data[position + 36 : position + length]) == cid
        position += length
        found.append(cid)
    return found
