"""Hashes, proofs, tiles and bundles of logs, compared with test vectors of Go's tlog and with a plain recursion."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.formats.tlog import (
    EMPTY_TREE,
    HASH_SIZE,
    TILE_WIDTH,
    Tile,
    TreeEdge,
    TreeHead,
    is_consistent,
    is_included,
    join_entries,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    read_from_tiles,
    split_entries,
    tiles_of,
    tree_head,
)

VECTORS = Path(__file__).parents[1] / "contracts" / "tlog_vectors.json"


def vectors() -> Any:
    """Return valid and damaged proofs of Go's golang.org/x/mod/sumdb/tlog, with Go's verdicts."""
    return json.loads(VECTORS.read_text())


def data(text: str) -> bytes:
    """Return the bytes in a field of a test vector."""
    return bytes.fromhex(text.removeprefix("0x"))


def root_of(leaves: list[bytes]) -> bytes:
    """Return the root of a tree as RFC 6962, section 2.1, defines it."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def leaves_of(size: int) -> list[bytes]:
    """Return the hashes of example entries."""
    return [leaf_hash(b"%d" % number) for number in range(size)]


def tiles_by_path(size: int, *, steps: tuple[int, ...] = ()) -> dict[str, bytes]:
    """Let a tree grow in steps, and return the tiles of all steps by their paths."""
    edge, found = TreeEdge(), dict[str, bytes]()
    for step in (*steps, size):
        found |= {tile.path: content for tile, content in edge.grow(leaves_of(size)[edge.size : step])}
    return found


def test_proofs_of_go_get_gos_verdict() -> None:
    """Every inclusion and consistency proof of the test vectors, valid or damaged, gets the verdict of Go's tlog."""
    for one in vectors()["inclusion"]:
        head = TreeHead(one["size"], data(one["root"]))
        path = [data(text) for text in one["path"]]
        assert leaf_hash(data(one["entry"])) == data(one["leaf"])
        assert is_included(data(one["leaf"]), one["index"], head, path) is one["ok"], one
    for one in vectors()["consistency"]:
        earlier = TreeHead(one["earlier"], data(one["earlierRoot"]))
        head, proof = TreeHead(one["size"], data(one["root"])), [data(text) for text in one["proof"]]
        assert is_consistent(earlier, head, proof) is one["ok"], one


def test_proofs_are_those_of_go() -> None:
    """Our proofs and roots for the log of the test vectors equal those of Go."""
    # The log of the vectors: entry i has 33 + i % 40 bytes, of which the first 8 are i.
    leaves = [leaf_hash(i.to_bytes(8) + bytes(25 + i % 40)) for i in range(300)]
    edge, tiles, compared = TreeEdge(), dict[Tile, bytes](), 0
    for size in sorted({one["size"] for one in vectors()["consistency"] if one["size"] <= len(leaves)}):
        tiles |= dict(edge.grow(leaves[edge.size : size]))
        read, root = read_from_tiles(tiles.__getitem__, size), edge.head().root
        assert edge.head() == tree_head(read, size)
        # A damaged vector can be a good one of another size, whose root differs.
        for one in vectors()["inclusion"]:
            if one["ok"] and (one["size"], data(one["root"])) == (size, root):
                assert prove_inclusion(read, one["index"], size) == [data(text) for text in one["path"]]
                compared += 1
        for one in vectors()["consistency"]:
            if one["ok"] and (one["size"], data(one["root"])) == (size, root):
                assert prove_consistency(read, one["earlier"], size) == [data(text) for text in one["proof"]]
                compared += 1
    assert compared > 100


@given(size=st.integers(1, 900), steps=st.sets(st.integers(1, 900), max_size=4), number=st.integers(0, 899))
@settings(max_examples=30, deadline=None)
def test_a_tree_grown_in_steps_is_the_tree_of_rfc_6962(size: int, steps: set[int], number: int) -> None:
    """Tiles, roots and proofs are equal for all ways in which a log can grow; the root is that of RFC 6962."""
    index, leaves = number % size, leaves_of(size)
    before = tuple(step for step in sorted(steps) if step < size)
    found = tiles_by_path(size, steps=before)
    read = read_from_tiles(lambda tile: found[tile.path], size)
    head = TreeHead(size, root_of(leaves))
    assert tree_head(read, size) == head
    assert is_included(leaves[index], index, head, prove_inclusion(read, index, size))
    assert is_consistent(
        TreeHead(index + 1, root_of(leaves[: index + 1])), head, prove_consistency(read, index + 1, size)
    )

    # The whole edge can be read again, and goes on from there.
    again = TreeEdge.read(lambda tile: found[tile.path], size)
    assert again.head() == head
    list(again.grow([leaf_hash(b"next")]))
    assert again.head().root == root_of([*leaves, leaf_hash(b"next")])


def test_the_tiles_of_a_tree_are_those_of_the_specification() -> None:
    """For 70,000 entries, the number and width of the tiles at each level equal C2SP's example (tlog-tiles)."""
    tiles = [tile for tile in tiles_of(70_000) if tile.level is not None]
    assert len([one for one in tiles if one.level == 0 and one.width == TILE_WIDTH]) == 273
    rest = [one for one in tiles if one.level or one.width < TILE_WIDTH]
    assert rest == [Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(None, 0), Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(300, since=256)) == [Tile(None, 1, 44), Tile(0, 1, 44)]
    assert not list(tiles_of(0))
    assert not list(tiles_of(300, since=300))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700, 66_000])
def test_a_growing_tree_writes_exactly_its_tiles(size: int) -> None:
    """A growing tree writes exactly the tiles that the specification requires, each with the right width."""
    edge = TreeEdge()
    list(edge.grow(bytes(HASH_SIZE) for _ in range(size // 3)))
    written = dict(edge.grow(bytes(HASH_SIZE) for _ in range(size - size // 3)))
    wanted = [tile for tile in tiles_of(size, since=size // 3) if tile.level is not None]
    assert sorted(written, key=str) == sorted(wanted, key=str)
    assert all(len(content) == HASH_SIZE * tile.width for tile, content in written.items())


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(None, 5, 12), "tile/entries/005.p/12"),
        (Tile(63, 1000, 1), "tile/63/x001/000.p/1"),
    ],
)
def test_paths_of_tiles(tile: Tile, path: str) -> None:
    """A tile has exactly one path, and the path identifies the tile."""
    assert tile.path == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        *("", "tile", "tile/0/1", "tile/0/0001", "tile/00/001", "tile/64/001", "tile/x/001", "tile/0/x000/001"),
        *("tile/0/001.p/0", "tile/0/001.p/256", "tile/0/001.p/01", "tile/0/001/", "/tile/0/001", "tile/0/../001"),
        *(
            "tile/0/001/002",
            "tile/-1/001",
            "tile/entries/x001",
            "tile/0/\u0660\u0660\u0661",
            "tile/0/001\n",
            "tile/0/001.p/1.p/1",
        ),
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    """A path that differs from a tile's canonical path is refused, so requests cannot reach other files."""
    with pytest.raises(ValueError, match="path of a tile"):
        Tile.parse(path)


def test_bundles() -> None:
    """A bundle is decoded to its entries, even to empty and maximum-size entries; a truncated bundle is refused."""
    entries = [b"", b"a", bytes(65_535)]
    assert split_entries(join_entries(entries)) == entries
    with pytest.raises(struct.error):
        join_entries([bytes(65_536)])
    for cut in (1, 2, 3, 4):
        with pytest.raises(ValueError, match="inside an entry"):
            split_entries(join_entries([b"abc"])[:-cut])


def test_impossible_proofs_are_not_made() -> None:
    """A request for a proof of an entry or a tree beyond the log's size is refused."""
    read = read_from_tiles(lambda tile: bytes(HASH_SIZE * tile.width), 5)
    for index in (-1, 5):
        with pytest.raises(ValueError, match="no entry"):
            prove_inclusion(read, index, 5)
    with pytest.raises(ValueError, match="does not continue"):
        prove_consistency(read, 6, 5)


def test_every_tree_continues_the_empty_tree_and_itself() -> None:
    """An empty consistency proof is valid only if the earlier tree is empty, or if both trees are equal."""
    one, other = TreeHead(3, bytes(32)), TreeHead(3, bytes([1]) * 32)
    assert is_consistent(EMPTY_TREE, one, [])
    assert is_consistent(one, one, [])
    assert not is_consistent(one, other, [])
    assert not is_consistent(TreeHead(0, bytes(32)), one, [])
    assert not is_consistent(EMPTY_TREE, one, [bytes(32)])
    assert not is_consistent(TreeHead(4, bytes(32)), one, [])
    assert prove_consistency(read_from_tiles(lambda _: b"", 3), 0, 3) == []
