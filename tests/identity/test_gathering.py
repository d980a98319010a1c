"""Requests that arrive together are received together, and each caller has its own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from blockota.errors import UnreachableError
from blockota.identity.gathering import MOST_GATHERED, MOST_WAITING, RequestGatherer
from blockota.identity.receiving import Received


class Gate:
    """A receiver that answers each request with its bytes, after the test has opened it."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.sizes = list[int]()

    def receive_all(self, arrivals: Sequence[tuple[bytes, str]]) -> list[Received]:
        """Wait for the test, and return the answers."""
        self.sizes.append(len(arrivals))
        self.entered.set()
        self.opened.wait()
        if any(raw == b"defect" for raw, _ in arrivals):
            raise RuntimeError
        return [Received(raw + address.encode()) for raw, address in arrivals]


def test_requests_that_arrive_meanwhile_form_one_group() -> None:
    """While one group is received, the requests that arrive are gathered into the next one."""
    gate = Gate()
    with RequestGatherer(gate.receive_all, seconds=0) as gatherer:
        first = gatherer.put(b"0", "a")
        assert gate.entered.wait()
        others = [gatherer.put(b"%d" % number, "b") for number in range(1, 101)]
        assert not first.done()
        gate.opened.set()
        assert first.result().answer == b"0a"
        assert [one.result().answer for one in others] == [b"%db" % number for number in range(1, 101)]
    assert (gate.sizes, gatherer.groups) == ([1, 100], 2)


def test_too_many_requests_are_refused_at_once() -> None:
    """A receiver that is slower than its senders refuses further requests, and goes on with the others."""
    gate = Gate()
    with RequestGatherer(gate.receive_all, seconds=0) as gatherer:
        waiting = [gatherer.put(b"first", "a")]
        assert gate.entered.wait()
        waiting += [gatherer.put(b"next", "a") for _ in range(MOST_WAITING)]
        with pytest.raises(UnreachableError, match=r"the receiver is busy.* wait"):
            gatherer.put(b"more", "a")
        gate.opened.set()
        assert {one.result().answer for one in waiting} == {b"firsta", b"nexta"}
    assert max(gate.sizes) == MOST_GATHERED


def test_a_defect_ends_neither_the_thread_nor_the_wait() -> None:
    """The callers of a group that fails get the exception, and the next group is received."""
    gate = Gate()
    gate.opened.set()
    with RequestGatherer(gate.receive_all, seconds=0) as gatherer:
        with pytest.raises(RuntimeError):
            gatherer.put(b"defect", "a").result()
        assert gatherer.put(b"good", "a").result().answer == b"gooda"


def test_a_caller_that_gave_up_does_not_disturb_the_others() -> None:
    """The answer of a cancelled request is dropped."""
    gate = Gate()
    with RequestGatherer(gate.receive_all, seconds=0) as gatherer:
        gatherer.put(b"first", "a")
        assert gate.entered.wait()
        given_up, other = gatherer.put(b"1", "a"), gatherer.put(b"2", "a")
        assert given_up.cancel()
        gate.opened.set()
        assert other.result().answer == b"2a"


def test_the_end_receives_what_waits() -> None:
    """Requests that wait when the gatherer stops are received."""
    gate = Gate()
    gate.opened.set()
    with RequestGatherer(gate.receive_all, seconds=0) as gatherer:
        done = [gatherer.put(b"%d" % number, "a") for number in range(20)]
    assert all(one.done() for one in done)
