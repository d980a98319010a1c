"""Append-only logs: the hashes, proofs and tiles of a Merkle tree. Pure.

The tree is defined by RFC 6962, section 2.1, with SHA-256. The proofs are defined by RFC 9162, sections 2.1.3 and
2.1.4. A log is published in files of 256 hashes (tiles) or 256 entries (entry bundles), and a full file never changes
(C2SP tlog-tiles). The module `blockota.formats.notes` reads and writes the signed checkpoints.

The functions that create proofs call a `ReadNode`, which returns the hash of a complete subtree. `read_from_tiles`
converts a function that reads tiles to a `ReadNode`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, islice
from struct import Struct
from typing import Self

HASH_SIZE = 32
TILE_WIDTH = 256
"""The number of hashes of a full tile, and the number of entries of a full bundle."""
_TILE_HEIGHT = 8
_MAX_LEVEL = 63
MAX_ENTRY_SIZE = (1 << 16) - 1
"""Largest size of an entry in bytes. A bundle stores the size in two bytes."""
_LENGTH = Struct(">H")
_TILE_PATH = re.compile(r"tile/(entries|\d{1,2})/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)

ReadNode = Callable[[int, int], bytes]
"""Returns the hash of a complete subtree. The arguments are the subtree's height and its position among the subtrees of
this height."""


@dataclass(frozen=True, slots=True)
class TreeHead:
    """The size and the root of a tree.

    Attributes:
        size: the number of entries.
        root: the hash of the tree, 32 bytes.
    """

    size: int
    root: bytes


EMPTY_TREE = TreeHead(0, sha256().digest())


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry: SHA-256 of a zero byte and the entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node: SHA-256 of the byte 1 and the hashes of its children."""
    return sha256(b"\x01" + left + right).digest()


# Proofs.


def tree_head(read_node: ReadNode, size: int) -> TreeHead:
    """Return size and root of the tree of the first `size` entries."""
    return TreeHead(size, _range_hash(read_node, 0, size)) if size else EMPTY_TREE


def prove_inclusion(read_node: ReadNode, index: int, size: int) -> list[bytes]:
    """Return the inclusion proof of an entry in the tree of the first `size` entries (RFC 9162, section 2.1.3.1).

    Raises:
        ValueError: the tree has no such entry.
    """
    if not 0 <= index < size:
        raise ValueError(f"a log of {size} entries has no entry {index}")

    # From the root down to the entry; the proof lists the siblings from the entry up.
    path, begin, end = [], 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range_hash(read_node, middle, end))
            end = middle
        else:
            path.append(_range_hash(read_node, begin, middle))
            begin = middle
    return path[::-1]


def prove_consistency(read_node: ReadNode, earlier: int, size: int) -> list[bytes]:
    """Return the consistency proof between the trees of the first `earlier` and of the first `size` entries.

    Source: RFC 9162, section 2.1.4.1.

    Raises:
        ValueError: the earlier tree is larger.
    """
    if not 0 <= earlier <= size:
        raise ValueError(f"a log of {size} entries does not continue a log of {earlier} entries")
    if earlier in (0, size):
        return []

    # From the root down to the node that ends at the end of the earlier tree.
    proof, begin, end = [], 0, size
    while end != earlier:
        middle = begin + _split(end - begin)
        if earlier <= middle:
            proof.append(_range_hash(read_node, middle, end))
            end = middle
        else:
            proof.append(_range_hash(read_node, begin, middle))
            begin = middle

    if begin:  # otherwise, the node is the whole earlier tree, whose root the verifier knows
        proof.append(_range_hash(read_node, begin, end))
    return proof[::-1]


def is_included(leaf: bytes, index: int, head: TreeHead, path: Sequence[bytes]) -> bool:
    """Whether an inclusion proof shows that an entry has this index in a tree (RFC 9162, section 2.1.3.2).

    Args:
        leaf: the hash of the entry.
        index: the position of the entry, from 0.
        head: the tree.
        path: the proof.
    """
    if not 0 <= index < head.size:
        return False

    node, last, hashed = index, head.size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            hashed = node_hash(sibling, hashed)
            node, last = _skip_left_edges(node, last)
        else:
            hashed = node_hash(hashed, sibling)
        node, last = node >> 1, last >> 1

    return last == 0 and hashed == head.root


def is_consistent(earlier: TreeHead, head: TreeHead, proof: Sequence[bytes]) -> bool:
    """Whether a consistency proof shows that a tree continues an earlier tree (RFC 9162, section 2.1.4.2).

    Every tree continues the empty tree, and every tree continues itself. An empty proof shows both.
    """
    if earlier.size == head.size:
        return earlier == head and not proof
    if earlier.size == 0:
        return earlier == EMPTY_TREE and not proof
    if earlier.size > head.size or not proof:
        return False
    node, last = earlier.size - 1, head.size - 1
    while node & 1:
        node, last = node >> 1, last >> 1

    # A complete earlier tree is a node of the tree, so the proof does not repeat its hash.
    first, *others = [earlier.root, *proof] if node == 0 else proof
    was, now = first, first
    for sibling in others:
        if last == 0:
            return False
        if node & 1 or node == last:
            was, now = node_hash(sibling, was), node_hash(sibling, now)
            node, last = _skip_left_edges(node, last)
        else:
            now = node_hash(now, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and (was, now) == (earlier.root, head.root)


def _skip_left_edges(node: int, last: int) -> tuple[int, int]:
    """Move up from a node until the node has a left sibling, or is at the left edge of the tree."""
    while node and not node & 1:
        node, last = node >> 1, last >> 1
    return node, last


def _split(size: int) -> int:
    """Return the largest power of two smaller than a size: the size of the left subtree."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hash(read_node: ReadNode, begin: int, end: int) -> bytes:
    """Return the hash of the subtree over a range of entries.

    The subtree is split recursively, and the left part is always a complete subtree.
    """
    size = end - begin
    if size & (size - 1) == 0:
        height = size.bit_length() - 1
        return read_node(height, begin >> height)
    middle = begin + _split(size)
    return node_hash(_range_hash(read_node, begin, middle), _range_hash(read_node, middle, end))


# Tiles.


@dataclass(frozen=True, slots=True)
class Tile:
    """The name of a tile or of an entry bundle.

    Attributes:
        level: 0 for hashes of entries; 1 for hashes of the full tiles of level 0, and so on; None for an entry bundle.
        index: the position of the tile in its level.
        width: the number of hashes or entries in the file, 1 to 256.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """The path of the file below the log's prefix, such as ``tile/0/x001/067.p/12``."""
        digits = f"{self.index:03}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
        number = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        suffix = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level is None else self.level}/{number}{suffix}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Return the tile that has a path.

        Raises:
            ValueError: no tile has this path.
        """
        found = _TILE_PATH.fullmatch(path)
        if found:
            level, number, width = found.groups()
            tile = cls(
                None if level == "entries" else int(level),
                int(number.replace("x", "").replace("/", "")),
                int(width or TILE_WIDTH),
            )
            if tile.path == path and (tile.level or 0) <= _MAX_LEVEL:
                return tile

        raise ValueError(f"{path!r:.100} is not the path of a tile")


ReadTile = Callable[[Tile], bytes]
"""Returns the content of a tile."""


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Yield the tiles and bundles that a tree adds after its first `since` entries, bundles first."""
    for level in (None, *range(_MAX_LEVEL + 1)):
        shift = _TILE_HEIGHT * (level or 0)
        before, now = since >> shift, size >> shift
        if now == before:
            if not now:
                return
            continue

        for index in range(before // TILE_WIDTH, now // TILE_WIDTH):
            yield Tile(level, index)
        if width := now % TILE_WIDTH:
            yield Tile(level, now // TILE_WIDTH, width)


def read_from_tiles(read_tile: ReadTile, size: int) -> ReadNode:
    """Return a function that reads the nodes of a tree of `size` entries from tiles.

    Each tile is read once.
    """
    known: dict[Tile, bytes] = {}

    def read_node(height: int, position: int) -> bytes:
        level, inner = divmod(height, _TILE_HEIGHT)
        begin, count = position << inner, 1 << inner
        index = begin // TILE_WIDTH
        tile = Tile(level, index, min((size >> (_TILE_HEIGHT * level)) - index * TILE_WIDTH, TILE_WIDTH))
        content = known.get(tile)
        if content is None:
            content = known[tile] = read_tile(tile)
        start = (begin % TILE_WIDTH) * HASH_SIZE
        return _complete_hash(split_hashes(content[start : start + count * HASH_SIZE]))

    return read_node


def split_hashes(content: bytes) -> list[bytes]:
    """Return the hashes of a tile."""
    return [content[place : place + HASH_SIZE] for place in range(0, len(content), HASH_SIZE)]


def join_entries(entries: Iterable[bytes]) -> bytes:
    """Encode entries as an entry bundle.

    Two bytes with the length of the entry precede each entry.

    Raises:
        struct.error: an entry is larger than `MAX_ENTRY_SIZE`.
    """
    parts = list(entries)
    return b"".join(chain.from_iterable(zip(map(_LENGTH.pack, map(len, parts)), parts, strict=True)))


def split_entries(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        ValueError: the bundle ends inside an entry.
    """
    entries, place = list[bytes](), 0
    while place < len(bundle) - 1:
        begin = place + _LENGTH.size
        place = begin + (bundle[place] << 8 | bundle[place + 1])
        entries.append(bundle[begin:place])
    if place != len(bundle):
        raise ValueError("the entry bundle ends inside an entry")
    return entries


@dataclass(slots=True)
class TreeEdge:
    """The right edge of a growing tree: the hashes of its partial tiles, from level 0 upwards.

    Attributes:
        size: the number of entries of the tree.
        levels: for each level, the hashes in its partial tile. The list is empty at a level that ends with a full tile.
    """

    size: int = 0
    levels: list[list[bytes]] = field(default_factory=list)

    @classmethod
    def read(cls, read_tile: ReadTile, size: int) -> Self:
        """Read the edge of a tree of `size` entries from its partial tiles."""
        levels: list[list[bytes]] = []
        while rest := size >> (_TILE_HEIGHT * len(levels)):
            index, width = divmod(rest, TILE_WIDTH)
            levels.append(split_hashes(read_tile(Tile(len(levels), index, width))) if width else [])
        return cls(size, levels)

    def grow(self, leaves: Iterable[bytes]) -> Iterator[tuple[Tile, bytes]]:
        """Add the hashes of new entries.

        Yields each tile that becomes full, and at the end the partial tiles that changed.
        """
        before, waiting = self.size, iter(leaves)
        while added := list(islice(waiting, TILE_WIDTH - len(self._level(0)))):
            self._level(0).extend(added)
            self.size += len(added)

            level = 0
            while len(hashes := self._level(level)) == TILE_WIDTH:
                yield Tile(level, (self.size >> (_TILE_HEIGHT * (level + 1))) - 1), b"".join(hashes)
                self._level(level + 1).append(_complete_hash(hashes))
                hashes.clear()
                level += 1

        for tile in tiles_of(self.size, since=before):
            if tile.level is not None and tile.width < TILE_WIDTH:
                yield tile, b"".join(self.levels[tile.level])

    def head(self) -> TreeHead:
        """Return size and root of the tree."""
        root = b""
        for hashes in self.levels:
            end = len(hashes)
            while end:  # from the smallest complete subtree on the right to the largest on the left
                begin = end & (end - 1)
                left = _complete_hash(hashes[begin:end])
                root = node_hash(left, root) if root else left
                end = begin
        return TreeHead(self.size, root) if root else EMPTY_TREE

    def _level(self, level: int) -> list[bytes]:
        if level == len(self.levels):
            self.levels.append([])
        return self.levels[level]


def tree_of(leaves: Iterable[bytes]) -> TreeHead:
    """Return the size and the root of the tree whose leaves are the given hashes."""
    edge = TreeEdge()
    for _ in edge.grow(leaves):
        pass
    return edge.head()


def _complete_hash(hashes: list[bytes]) -> bytes:
    """Return the hash of a complete subtree from the hashes of one of its levels."""
    while len(hashes) > 1:
        hashes = [*map(node_hash, hashes[::2], hashes[1::2])]
    return hashes[0]
