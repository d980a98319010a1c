"""Hostile trees are refused, although every block matches its CID."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import ContentError
from blockota.formats.cid import CHUNK_SIZE, CID, DAG_PB, MAX_LINKS, RAW, read_file
from tests.support.car_samples import varint

Child = tuple[CID, int, int]
"""A link to a child: ⟨CID, total size of the child's blocks, size of the file data⟩."""
LEAVES = (b"first", b"second leaf")
CHILDREN = [(CID.of(RAW, leaf), len(leaf), len(leaf)) for leaf in LEAVES]


def field(tag: int, value: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return bytes((tag,)) + varint(len(value)) + value


def link(cid: CID, total: int, name: bytes = b"") -> bytes:
    """Encode a PBLink of the DAG-PB specification."""
    return field(0x12, field(0x0A, bytes(cid)) + field(0x12, name) + b"\x18" + varint(total))


def unixfs(sizes: Sequence[int], *, kind: int = 2, total: int | None = None) -> bytes:
    """Encode the Data field of an inner block: type, file size, sizes of the children."""
    whole = sum(sizes) if total is None else total
    return field(0x0A, bytes((0x08, kind, 0x18)) + varint(whole) + b"".join(b"\x20" + varint(s) for s in sizes))


def inner(children: Sequence[Child]) -> bytes:
    """Encode an inner block of the profile, independently of the package."""
    return b"".join(link(cid, total) for cid, total, _ in children) + unixfs([size for _, _, size in children])


def read(root: bytes, *others: bytes) -> bytes:
    """Read the file whose root is an inner block, from a store with all leaves and the given inner blocks."""
    held = {CID.of(RAW, leaf): leaf for leaf in LEAVES} | {CID.of(DAG_PB, block): block for block in (root, *others)}
    return b"".join(read_file(CID.of(DAG_PB, root), held.__getitem__))


def chain_of(depth: int) -> list[bytes]:
    """Return inner blocks of one child each, the deepest first."""
    blocks = [inner(CHILDREN[:1])]
    for _ in range(depth - 1):
        child = (CID.of(DAG_PB, blocks[-1]), len(blocks[-1]) + len(LEAVES[0]), len(LEAVES[0]))
        blocks.append(inner([child]))
    return blocks


def changed_links() -> Iterator[bytes]:
    """Yield inner blocks that are not in the canonical form of the profile."""
    right = inner(CHILDREN)
    links, data = b"".join(link(cid, total) for cid, total, _ in CHILDREN), unixfs([len(leaf) for leaf in LEAVES])
    yield from (b"", right[:-1], right + b"\0", data + links, links, data, links + data + data)
    yield links + unixfs([5, 11], kind=1)
    yield links + unixfs([5, 11], total=17)
    yield links + unixfs([5])
    yield links + unixfs([5, 11, 0])
    yield link(*CHILDREN[0][:2], name=b"a") + link(*CHILDREN[1][:2]) + data
    yield right.replace(b"\x18\x05", b"\x18\x85\x00", 1)
    yield field(0x12, field(0x0A, b"\x12\x20" + bytes(32))) + unixfs([5])
    yield field(0x12, b"\x18\x05") + unixfs([5])
    yield b"\x12" + b"\xff" * 12
    yield b"\x12\x7f"
    yield b"\xff" * 9 + b"\x01"


def test_the_profile_s_own_form_is_read() -> None:
    """`read_file` accepts the inner blocks of the encoder in this test file."""
    assert read(inner(CHILDREN)) == b"".join(LEAVES)


@pytest.mark.parametrize("root", changed_links())
def test_other_forms_of_an_inner_block_are_refused(root: bytes) -> None:
    """Inner blocks with trailing bytes, another field order, padded varints, names or wrong sums are refused."""
    with pytest.raises(ContentError):
        read(root)


def test_every_flipped_bit_of_an_inner_block_is_refused() -> None:
    """Every flipped bit of an inner block in the store is detected."""
    right = inner(CHILDREN)
    for _, changed in flips(right):
        with pytest.raises(ContentError, match="corrupt"):
            list(read_file(CID.of(DAG_PB, right), {CID.of(DAG_PB, right): changed}.__getitem__))


def test_every_flipped_bit_of_a_made_up_root_is_refused() -> None:
    """A root with a flipped bit and a matching CID is refused because of its encoding or of a missing child."""
    for position, changed in flips(inner(CHILDREN)):
        if not is_total_size(position):
            with pytest.raises((ContentError, KeyError)):
                read(changed)


def flips(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each copy of a block with one flipped bit, with the position of the changed byte."""
    for bit in range(8 * len(block)):
        changed = bytearray(block)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(changed)


def is_total_size(position: int) -> bool:
    """Whether a byte position belongs to a link's total size, which the reader does not check."""
    ends = itertools.accumulate(len(link(cid, total)) for cid, total, _ in CHILDREN)
    return position + 1 in ends


@pytest.mark.parametrize("sizes", [(4, 12), (6, 10), (16, 0), (0, 16), (1 << 40, 11)])
def test_wrong_sizes_are_refused(sizes: tuple[int, int]) -> None:
    """An inner block with wrong sizes of its children is refused, even if the sum of the sizes is right."""
    children = [(cid, total, size) for (cid, total, _), size in zip(CHILDREN, sizes, strict=True)]
    with pytest.raises(ContentError, match="is not a readable file"):
        read(inner(children))


def test_a_tree_may_be_eight_deep_and_no_deeper() -> None:
    """A tree of eight levels is read, and a tree of nine levels is refused."""
    eight, nine = chain_of(8), chain_of(9)
    assert read(eight[-1], *eight) == LEAVES[0]
    with pytest.raises(ContentError, match="deeper than 8"):
        read(nine[-1], *nine)


def test_a_tree_of_empty_children_is_refused_at_once() -> None:
    """A tree of eight levels with 1024 empty children each is refused without visiting all children."""
    held: dict[CID, bytes] = {CID.of(RAW, b""): b""}
    child = CID.of(RAW, b"")
    for _ in range(8):
        block = inner([(child, 0, 0)] * MAX_LINKS)
        child = CID.of(DAG_PB, block)
        held[child] = block
    with pytest.raises(ContentError, match="not in the profile's form"):
        list(read_file(child, held.__getitem__))


def test_an_inner_block_larger_than_any_is_refused() -> None:
    """An inner block above the maximum size is refused before it is parsed."""
    child = (CID.of(RAW, bytes(CHUNK_SIZE)), CHUNK_SIZE, CHUNK_SIZE)
    with pytest.raises(ContentError, match="larger than the profile allows"):
        read(inner([child] * 3 * MAX_LINKS))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused_as_an_inner_block(noise: bytes) -> None:
    """Random bytes in place of a root block are refused."""
    with pytest.raises(ContentError):
        read(noise)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 3))
def test_damaged_inner_blocks_are_refused_or_read_right(position: int, value: int, cut: int) -> None:
    """Reading a file with a changed and truncated inner block fails or returns the exact file."""
    right = inner(CHILDREN)
    damaged = bytearray(right)
    damaged[position % len(right)] = value
    try:
        found = read(bytes(damaged)[: len(right) - cut])
    except (ContentError, KeyError):
        return
    assert found == b"".join(LEAVES)


def test_an_exception_of_the_store_is_propagated() -> None:
    """An exception of `fetch` is propagated unchanged."""
    nothing: dict[CID, bytes] = {}
    with pytest.raises(KeyError):
        list(read_file(CID.of(RAW, b"nowhere"), nothing.__getitem__))
