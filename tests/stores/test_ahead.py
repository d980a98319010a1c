"""`ReadAhead` yields the parts of a stream in order, raises the stream's errors, and ends its thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from blockota.stores.gateway import PARTS_AHEAD, ReadAhead


def counted(asked: list[int], *, count: int) -> Iterator[bytes]:
    """Yield numbered parts, and record each number when its part is requested."""
    for number in range(count):
        asked.append(number)
        yield bytes((number,))


def test_parts_come_in_their_order() -> None:
    """`ReadAhead` yields all parts in order."""
    stops = list[str]()
    with ReadAhead(counted([], count=200), stop=lambda: stops.append("stop")) as ahead:
        assert b"".join(ahead) == bytes(range(200))
    assert not stops


def test_only_a_few_are_read_before_they_are_taken() -> None:
    """Even for a slow consumer, only a few parts are read ahead."""
    asked = list[int]()
    with ReadAhead(counted(asked, count=200), stop=lambda: None) as ahead:
        for taken, _ in enumerate(ahead, 1):
            assert len(asked) <= taken + PARTS_AHEAD + 1
    assert len(asked) == 200


def test_an_error_is_raised_where_the_parts_are_taken() -> None:
    """If the stream fails, `ReadAhead` first yields the earlier parts, and then raises the error."""

    def breaking() -> Iterator[bytes]:
        yield b"good"
        raise ConnectionResetError("gone")

    taken = list[bytes]()
    with pytest.raises(ConnectionResetError, match="gone"), ReadAhead(breaking(), stop=lambda: None) as ahead:
        taken.extend(ahead)
    assert taken == [b"good"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_leaving_early_leaves_no_thread(count: int) -> None:
    """If the consumer stops early, the reading thread ends, whether it waits for the network or for its queue."""
    gate, threads = threading.Event(), threading.active_count()

    def waiting() -> Iterator[bytes]:
        yield from (b"first", b"second", b"third")
        gate.wait(30)
        yield b"never taken"

    with ReadAhead(waiting(), stop=gate.set) as ahead:
        for _ in range(count):
            next(iter(ahead))
    assert gate.is_set()
    assert threading.active_count() == threads
