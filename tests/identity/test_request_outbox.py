"""The outbox sends all items in order, and repeats a request under the same name until its delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blockota.errors import RefusedError, UnreachableError
from blockota.identity.request_outbox import RequestCourier, RequestOutbox
from blockota.identity.sending import RequestReply, RequestSigner
from blockota.model.request import MAX_SIZE, Fault, read_request

RECEIVER, SENDER = UUID(int=13, version=4), UUID(int=11, version=4)
SIGNER = RequestSigner(SENDER, "ES256", lambda _: bytes(64))
NOW = 1_800_000_000


class ScriptedRoute:
    """A route that returns the prepared replies, one reply for each request."""

    def __init__(self, *replies: RequestReply | None) -> None:
        self.replies, self.sent = list(replies), list[tuple[str, dict[str, Any]]]()

    def send(self, raw: bytes) -> RequestReply:
        """Record the name and the data of a request, and return the next reply; None is a lost answer."""
        read = read_request(raw)
        self.sent.append((read.name, dict(read.data)))
        reply = self.replies.pop(0)
        if reply is None:
            raise UnreachableError("the receiver does not answer", why="the connection was lost")
        return reply


def courier(outbox: RequestOutbox, route: ScriptedRoute, *, now: int = NOW) -> RequestCourier:
    """Return a courier that sends to the receiver."""
    return RequestCourier(outbox, RECEIVER, SIGNER, route, clock=lambda: now)


DONE = RequestReply({})
SEEN = RequestReply(None, Fault.SEEN.code, "seen", fault=Fault.SEEN.name)
STALE = RequestReply(None, Fault.NOT_FRESH.code, "too old", fault=Fault.NOT_FRESH.name)
BANNED = RequestReply(None, Fault.BANNED.code, "Gateway is banned", fault=Fault.BANNED.name)
IMPOSSIBLE = RequestReply(None, Fault.NOT_POSSIBLE.code, "no such thing", fault=Fault.NOT_POSSIBLE.name)


def test_items_travel_together_and_in_order(tmp_path: Path) -> None:
    """Items of the same data member are sent in one request, in the order in which they were added."""
    route = ScriptedRoute(DONE)
    with RequestOutbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.put(RECEIVER, "submit", [{"value": 1}, {"value": 2}], member="readings")
        outbox.put(RECEIVER, "submit", [{"value": 3}], member="readings")
        assert courier(outbox, route).send_next() == ""
        assert (outbox.waiting(), courier(outbox, route).send_next()) == (0, None)
    assert [data for _, data in route.sent] == [{"readings": [{"value": 1}, {"value": 2}, {"value": 3}]}]


@pytest.mark.parametrize("reply", [None, STALE, BANNED], ids=["lost", "stale", "banned"])
def test_a_request_keeps_its_name_and_its_items_until_it_is_delivered(
    tmp_path: Path, reply: RequestReply | None
) -> None:
    """A repeated request has the same name and items, even after a restart.

    Items that are added in the meantime are sent in the next request.
    The answer SEEN counts as a delivery.
    """
    route, path = ScriptedRoute(reply, SEEN, DONE), tmp_path / "outbox.sqlite"
    with RequestOutbox(path) as outbox:
        outbox.put(RECEIVER, "submit", [{"value": 1}], member="readings")
        assert courier(outbox, route).send_next()
        outbox.put(RECEIVER, "submit", [{"value": 2}], member="readings")
    with RequestOutbox(path) as outbox:
        assert [courier(outbox, route).send_next() for _ in range(3)] == ["", "", None]
    (first, one), (second, two), (third, three) = route.sent
    assert (first, one) == (second, two)
    assert three == {"readings": [{"value": 2}]}
    assert third != first


def test_a_request_that_is_refused_for_good_lets_the_next_one_pass(tmp_path: Path) -> None:
    """If the receiver cannot carry out a request, the refusal and its reason are recorded.

    The courier then sends the next request.
    """
    route = ScriptedRoute(IMPOSSIBLE, DONE)
    with RequestOutbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.put(RECEIVER, "command", [{"id": 1}, {"id": 2}])
        assert [courier(outbox, route).send_next() for _ in range(2)] == ["", ""]
        assert outbox.refused() == [(str(RECEIVER), "no such thing", NOW)]
    assert [data for _, data in route.sent] == [{"id": 1}, {"id": 2}]


def test_an_expired_command_is_not_sent(tmp_path: Path) -> None:
    """A request is not sent after its deadline."""
    route = ScriptedRoute()
    with RequestOutbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.put(RECEIVER, "command", [{"id": 1}], expires=NOW - 1)
        assert courier(outbox, route).send_next() == ""
        assert (outbox.waiting(), len(outbox.refused()), route.sent) == (0, 1, [])


def test_each_request_is_small_enough_for_its_receiver(tmp_path: Path) -> None:
    """Many items are split into several requests; an item too large for one request is refused."""
    route = ScriptedRoute(*[DONE] * 50)
    with RequestOutbox(tmp_path / "outbox.sqlite") as outbox:
        items = [{"text": '\u20ac"' * 1000, "number": number} for number in range(50)]
        outbox.put(RECEIVER, "submit", items, member="readings")
        while courier(outbox, route).send_next() is not None:
            pass  # `read_request` of the route refuses a request that is too large
        with pytest.raises(RefusedError, match="cannot be sent"):
            outbox.put(RECEIVER, "submit", ["x" * MAX_SIZE], member="readings")
    assert [item for _, data in route.sent for item in data["readings"]] == items
    assert len(route.sent) < len(items)


def test_one_process_sends_the_requests_of_an_outbox(tmp_path: Path) -> None:
    """Only one process can open the outbox for sending.

    Other processes can open the outbox for reading.
    """
    path = tmp_path / "outbox.sqlite"
    with RequestOutbox(path) as outbox:
        outbox.put(RECEIVER, "submit", [{}])
        with pytest.raises(RefusedError, match="in use"):
            RequestOutbox(path)
        with RequestOutbox(path, is_owner=False) as view:
            assert (view.waiting(), view.receivers()) == (1, [RECEIVER])
