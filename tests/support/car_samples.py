"""DAGs of small blocks and their CARs, encoded independently of `blockota.formats.car`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from blockota.formats.car import join_car, read_car
from blockota.formats.cid import CID, DAG_PB, RAW, Block, walk


@dataclass(frozen=True)
class Tree:
    """A file as a DAG of blocks.

    Attributes:
        root: the file's CID.
        blocks: every block, by CID.
        order: the CIDs depth first, including repetitions.
        data: the file's contents.
    """

    root: CID
    blocks: dict[CID, bytes]
    order: tuple[CID, ...]
    data: bytes


def varint(number: int) -> bytes:
    """Encode a number as an unsigned varint, with 7 bits per byte."""
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7) if number > 0x7F else bytes((number,))


def leaf(data: bytes) -> Tree:
    """Return a file that is one raw block."""
    cid = CID.of(RAW, data)
    return Tree(cid, {cid: data}, (cid,), data)


def node(children: Sequence[Tree]) -> Tree:
    """Return the concatenation of files, with an inner block as its root."""
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
    """Return a balanced DAG over leaves, with at most `width` children per inner block."""
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
    """Encode the CAR sections of a DAG, depth first."""
    order = tree.order if repeat else tuple(dict.fromkeys(tree.order))
    return [section(cid, tree.blocks[cid]) for cid in order]


def car(tree: Tree, *, repeat: bool = True) -> bytes:
    """Encode the CAR of a DAG."""
    return header(tree.root) + b"".join(sections(tree, repeat=repeat))


def write_car(root: CID, read_block: Callable[[CID], bytes], *, repeat: bool = True) -> Iterator[bytes]:
    """Yield the CAR of a file, with repeated blocks (``dups=y``) or without (``dups=n``)."""
    blocks: Iterable[Block] = walk(root, read_block)
    yield from join_car([root], blocks if repeat else dict.fromkeys(blocks))


def unpack_car(parts: Iterable[bytes], root: CID, *, size: int) -> Iterator[bytes]:
    """Yield the bytes of the file in a CAR, keeping all blocks in memory."""
    known: dict[CID, bytes] = {}
    for block in read_car(parts, root, size=size, earlier=known.get):
        known[block.cid] = block.data
        if block.cid.codec == RAW:
            yield block.data


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield every byte string that differs from `data` in one bit, with the index of the changed byte."""
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
    """Return the CIDs of a CAR's blocks in order, after verifying each block."""
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
