"""Damaged and hostile CARs are refused, or yield the exact file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import ContentError
from tests.support.car_samples import Tree, balanced, car, flips, header, section, sections, unpack_car
from tests.support.sampling import sampled

TREE = balanced([b"vector table", b"\xff\xff", b"code", b"\xff\xff", b"data"], width=3)
HEADER = header(TREE.root)
Change = Callable[[list[bytes]], None]


def is_safe(stream: bytes, tree: Tree = TREE) -> bool:
    """Return whether a stream is refused; all yielded bytes are asserted to be the file's bytes."""
    found = b""
    try:
        for data in unpack_car([stream], tree.root, size=len(tree.data)):
            found += data
    except ContentError:
        assert tree.data.startswith(found)
        return True
    assert found == tree.data
    return False


@pytest.mark.parametrize("repeat", [True, False], ids=["dups=y", "dups=n"])
def test_every_flipped_bit_is_refused(*, repeat: bool) -> None:
    """A CAR with one flipped bit is refused, unless the bit belongs to the header's roots, which the reader ignores."""
    right = car(TREE, repeat=repeat)
    taken = [place for place, changed in flips(right) if not is_safe(changed)]
    roots = range(HEADER.index(b"roots") + 5, HEADER.index(b"\x67version"))
    assert set(taken) == set(roots)


@pytest.mark.parametrize("repeat", [True, False], ids=["dups=y", "dups=n"])
def test_every_truncation_is_refused(*, repeat: bool) -> None:
    """A truncated CAR stream is refused at every length."""
    right = car(TREE, repeat=repeat)
    assert all(is_safe(right[:size]) for size in range(len(right)))


@pytest.mark.sampled
@settings(max_examples=len(sampled(range(500), one_in=4)), deadline=None)
@given(noise=st.binary(max_size=300), has_header=st.booleans())
def test_noise_is_refused(noise: bytes, *, has_header: bool) -> None:
    """Random bytes are refused, alone or after a valid header."""
    assert is_safe(HEADER + noise if has_header else noise)


@pytest.mark.sampled
@settings(max_examples=len(sampled(range(500), one_in=4)), deadline=None)
@given(start=st.integers(0, 2000), length=st.integers(0, 80), other=st.binary(max_size=80), repeat=st.booleans())
def test_bytes_that_were_exchanged_are_refused(start: int, length: int, other: bytes, *, repeat: bool) -> None:
    """Reading a CAR stream with a replaced part fails or returns the exact file."""
    right = car(TREE, repeat=repeat)
    start %= len(right)
    is_safe(right[:start] + other + right[start + length :])


def spoilt(data: st.DataObject, parts: list[bytes]) -> Iterator[bytes]:
    """Yield the sections reordered, repeated or removed, with foreign sections inserted."""
    strange = st.builds(section, st.sampled_from(list(TREE.blocks)), st.binary(max_size=20))
    for part in data.draw(st.permutations(parts) | st.just(parts)):
        if data.draw(st.integers(0, 9)) == 0:
            yield data.draw(strange)
        for _ in range(data.draw(st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2]))):
            yield part


@pytest.mark.sampled
@settings(max_examples=len(sampled(range(400), one_in=4)), deadline=None)
@given(data=st.data(), repeat=st.booleans())
def test_sections_in_disorder_are_refused(data: st.DataObject, *, repeat: bool) -> None:
    """A CAR with valid blocks in another order is refused."""
    parts = sections(TREE, repeat=repeat)
    stream = list(spoilt(data, parts))
    refused = is_safe(HEADER + b"".join(stream))
    assert refused == (stream not in (sections(TREE, repeat=True), sections(TREE, repeat=False)) and not mixed(stream))


def mixed(stream: list[bytes]) -> bool:
    """Whether a stream is the CAR of the file; the stream may leave out repetitions of blocks."""
    wanted = sections(TREE, repeat=True)
    seen: list[bytes] = []
    for part in wanted:
        if stream[:1] == [part]:
            stream = stream[1:]
        elif part not in seen:
            return False
        seen.append(part)
    return not stream


@settings(max_examples=200, deadline=None)
@given(tree=st.lists(st.binary(min_size=1, max_size=9), min_size=2, max_size=9).map(lambda x: balanced(x, width=2)))
def test_another_file_is_refused(tree: Tree) -> None:
    """A valid CAR of another file is refused."""
    if tree.root != TREE.root:
        assert is_safe(car(tree))
