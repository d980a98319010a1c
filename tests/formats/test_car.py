"""Tests of reading and writing CARs, with interoperability and limits."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import ContentError
from blockota.formats.car import MAX_BLOCK_SIZE, join_car, overhead, read_car
from blockota.formats.cid import CHUNK_SIZE, CID, RAW, Block, cid_of, dag
from tests.support.car_samples import (
    Tree,
    balanced,
    car,
    header,
    leaf,
    node,
    section,
    sections,
    unpack_car,
    varint,
    write_car,
)

MEMORY_LIMIT = 8 << 20
TREES = {
    "empty": leaf(b""),
    "one block": leaf(b"hello"),
    "two levels": balanced([b"first", b"second", b"third"], width=3),
    "four levels": balanced([bytes((number,)) * 3 for number in range(11)], width=2),
    "repeated leaf": balanced([b"\xff\xff", b"code", b"\xff\xff", b"\xff\xff"], width=4),
    "repeated subtree": balanced([b"aa", b"bb"] * 4, width=2),
}
CASES = pytest.mark.parametrize("tree", TREES.values(), ids=list(TREES))
REPEAT = pytest.mark.parametrize("repeat", [True, False], ids=["dups=y", "dups=n"])
leaf_lists = st.lists(st.sampled_from([b"a", b"bb", b"\xff" * 9]) | st.binary(min_size=1, max_size=40), min_size=1)


def unpack(stream: bytes, tree: Tree, *, size: int | None = None, cut: int = 7) -> bytes:
    """Read the file from a CAR stream that is split into parts of `cut` bytes."""
    parts = (stream[start : start + cut] for start in range(0, len(stream), cut))
    limit = len(tree.data) if size is None else size
    return b"".join(unpack_car(parts, tree.root, size=limit))


@CASES
def test_the_encoding_is_that_of_the_specification(tree: Tree) -> None:
    """The output of `join_car` equals the output of this test file's own CAR encoder."""
    blocks = [Block(cid, tree.blocks[cid]) for cid in tree.order]
    assert b"".join(join_car([tree.root], blocks)) == car(tree)


@CASES
@REPEAT
@pytest.mark.parametrize("cut", [1, 7, 1 << 16])
def test_what_was_written_is_read(tree: Tree, cut: int, *, repeat: bool) -> None:
    """A CAR is read in parts of any size, whether or not the CAR repeats blocks."""
    assert unpack(car(tree, repeat=repeat), tree, cut=cut) == tree.data


@settings(max_examples=200, deadline=None)
@given(leaves=leaf_lists, width=st.integers(2, 5), repeat=st.booleans(), cut=st.integers(1, 99))
def test_any_tree_comes_back(leaves: list[bytes], width: int, cut: int, *, repeat: bool) -> None:
    """Trees of any shape, with repeated leaves, are read back from a CAR."""
    tree = balanced(leaves, width=width)
    assert unpack(car(tree, repeat=repeat), tree, cut=cut) == tree.data


def test_an_image_of_many_chunks_comes_back() -> None:
    """An image of several chunks, two of them equal, is read back from a CAR."""
    data = b"\xff" * CHUNK_SIZE + hashlib.shake_128(b"image").digest(CHUNK_SIZE) + b"\xff" * CHUNK_SIZE + b"end"
    blocks = {block.cid: block.data for block in dag(io.BytesIO(data))}
    root = cid_of(io.BytesIO(data))
    for repeat in (True, False):
        stream = write_car(root, blocks.__getitem__, repeat=repeat)
        assert b"".join(unpack_car(stream, root, size=len(data))) == data


def test_all_blocks_are_yielded_in_order() -> None:
    """`read_car` also yields inner blocks; each inner block comes before its children."""
    tree = TREES["four levels"]
    blocks = list(read_car([car(tree)], tree.root, size=len(tree.data), earlier=lambda _: None))
    assert blocks == [Block(cid, tree.blocks[cid]) for cid in tree.order]


def test_blocks_come_before_the_stream_ends() -> None:
    """A block is yielded as soon as it has arrived, before the end of the stream."""
    tree = TREES["two levels"]
    parts = sections(tree, repeat=True)

    def stream() -> Iterator[bytes]:
        yield header(tree.root)
        yield from parts[:2]
        raise TimeoutError

    blocks = read_car(stream(), tree.root, size=99, earlier=lambda _: None)
    assert [next(blocks).cid, next(blocks).cid] == list(tree.order[:2])
    with pytest.raises(TimeoutError):
        next(blocks)


def test_roots_in_the_header_are_ignored() -> None:
    """The CAR reader reads the file of the requested root, whatever roots the header lists."""
    tree = TREES["two levels"]
    none = b"\xa2\x65roots\x80\x67version\x01"
    body = b"".join(sections(tree, repeat=True))
    assert unpack(header(CID.of(RAW, b"other")) + body, tree) == tree.data
    assert unpack(varint(len(none)) + none + body, tree) == tree.data


def changed_streams() -> Iterator[tuple[str, bytes, str]]:
    """Yield streams with one error each, as ⟨name, stream, part of the expected reason⟩."""
    tree = TREES["two levels"]
    begin, parts = header(tree.root), sections(tree, repeat=True)
    body = b"".join(parts)
    stranger = section(CID.of(RAW, b"stranger"), b"stranger")
    yield "nothing", b"", "does not begin with the header"
    yield "no sections", begin, "next, and the stream ends"
    yield "no header", body, "does not begin with the header"
    yield "CARv2", bytes.fromhex("0aa16776657273696f6e02") + begin + body, "does not begin with the header"
    yield "version 2", begin[:-1] + b"\x02" + body, "does not begin with the header"
    yield "large header", varint(5000) + begin + bytes(5000), "a header of 5000 bytes"
    yield "stranger in front", begin + stranger + body, "is expected next"
    yield "stranger between", begin + parts[0] + stranger + b"".join(parts[1:]), "is expected next"
    yield "stranger behind", begin + body + stranger, "continues after"
    yield "junk behind", begin + body + b"\0", "continues after"
    yield "twice", begin + body + body, "continues after"
    yield "leaf first", begin + parts[1] + parts[0] + b"".join(parts[2:]), "is expected next"
    yield "leaves swapped", begin + parts[0] + parts[2] + parts[1] + parts[3], "is expected next"
    yield "one missing", begin + parts[0] + parts[1] + parts[3], "is expected next"
    yield "last missing", begin + b"".join(parts[:-1]), "next, and the stream ends"
    yield "cut", begin + body[:-1], "ends inside a section"
    yield "long varint", begin + parts[0] + bytes((parts[1][0] | 0x80, 0)) + parts[1][1:], "shortest form"
    yield "huge varint", begin + b"\xff\xff\xff\xff\x7f", "shortest form"
    yield "section of nothing", begin + b"\0" + body, "shorter than a CID"
    yield "section of a terabyte", begin + varint(MAX_BLOCK_SIZE + 37), "larger than any block"
    yield "CIDv0", begin + varint(44) + b"\x12\x20" + bytes(42) + body, "only CIDv1"
    yield "blake3", begin + varint(44) + b"\x01\x55\x1e\x20" + bytes(40) + body, "only CIDv1"
    yield "another block", begin + varint(41) + bytes(tree.root) + b"other", "do not hash"


STREAMS = list(changed_streams())


@pytest.mark.parametrize(("stream", "why"), [case[1:] for case in STREAMS], ids=[case[0] for case in STREAMS])
def test_a_stream_that_is_wrong_in_one_thing_is_refused(stream: bytes, why: str) -> None:
    """A CAR stream with a single error is refused, and the error contains the reason."""
    with pytest.raises(ContentError, match=why):
        unpack(stream, TREES["two levels"])


@CASES
def test_a_file_larger_than_allowed_is_refused(tree: Tree) -> None:
    """A CAR of a file above the size limit is refused."""
    if tree.data:
        with pytest.raises(ContentError, match="larger than the"):
            unpack(car(tree), tree, size=len(tree.data) - 1)


def test_a_block_larger_than_the_file_can_be_is_refused_unread() -> None:
    """A block that exceeds the expected size is refused before it is read."""
    data = bytes(MAX_BLOCK_SIZE)
    read = 0

    def stream() -> Iterator[bytes]:
        nonlocal read
        for part in (header(CID.of(RAW, data)), varint(36 + len(data)), bytes(CID.of(RAW, data)), data):
            read += len(part)
            yield part

    with pytest.raises(ContentError, match="exceed the limit for a file of the allowed size"):
        list(unpack_car(stream(), CID.of(RAW, data), size=100))
    assert read < 200


def test_a_tree_of_nothing_but_links_is_refused() -> None:
    """A tree of 10,000 one-byte leaves, made of repeated blocks, exceeds the overhead limit."""
    tree = leaf(b"\xff")
    for _ in range(2):
        tree = node([tree] * 100)
    with pytest.raises(ContentError, match="exceed the limit for a file of the allowed size"):
        unpack(car(tree, repeat=False), tree)
    assert overhead(len(tree.data)) < 100 * 100 * 36


def test_too_deep_a_tree_is_refused() -> None:
    """A CAR of a tree of nine levels is refused."""
    tree = leaf(b"deep")
    for _ in range(9):
        tree = node([tree])
    with pytest.raises(ContentError, match="deeper than 8"):
        unpack(car(tree), tree)


def peak_memory(act: Callable[[], object]) -> int:
    """Return the peak of bytes allocated by Python during a call."""
    tracemalloc.start()
    act()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def blank_image(chunks: int) -> tuple[CID, dict[CID, bytes]]:
    """Return the root and the blocks of a file with leaves of 2 MiB; every second leaf is blank."""
    blank = leaf(b"\xff" * MAX_BLOCK_SIZE)
    leaves = [
        leaf(number.to_bytes(4, "big") * (MAX_BLOCK_SIZE // 4)) if number % 2 else blank for number in range(chunks)
    ]
    tree = node(leaves)
    return tree.root, tree.blocks


@REPEAT
@pytest.mark.parametrize("cut", [1000, 1 << 16, 1 << 20])
def test_memory_stays_below_8_mib(cut: int, *, repeat: bool) -> None:
    """Reading a file with the largest blocks takes at most 8 MiB of memory, for small and large parts of the stream."""
    root, blocks = blank_image(8)
    stream = b"".join(write_car(root, blocks.__getitem__, repeat=repeat))

    def read() -> None:
        parts = (stream[start : start + cut] for start in range(0, len(stream), cut))
        for _ in read_car(parts, root, size=8 * MAX_BLOCK_SIZE, earlier=blocks.get):
            pass

    assert peak_memory(read) <= MEMORY_LIMIT


def test_memory_stays_below_8_mib_for_many_little_blocks() -> None:
    """Reading a tree of eight levels, with 1024 links in each inner block, takes at most 8 MiB of memory."""
    tree = leaf(b"last")
    little = [leaf(number.to_bytes(2, "big")) for number in range(1023)]
    for _ in range(8):
        tree = node([tree, *little])
    stream = car(tree, repeat=False)
    size = 1 << 26

    def read() -> None:
        for _ in read_car([stream], tree.root, size=size, earlier=tree.blocks.get):
            pass

    assert peak_memory(read) <= MEMORY_LIMIT
