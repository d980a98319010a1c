"""A receiver remembers request names over a restart, and answers only after the effect of a request is on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from blockota.bindings.identities import IdentitiesContract, enrolment_argument
from blockota.errors import RefusedError, StoreError
from blockota.formats.public_key import read_pem
from blockota.identity.receiving import Keep, Outcome, Received, ReceiverParts, RequestReceiver
from blockota.identity.registry import IdentityReader
from blockota.identity.request_state import KEPT_SECONDS, RequestState
from blockota.identity.validator import METHODS
from blockota.identity.warnings import WarningMaker
from blockota.model.identity import Enrolment, IdentityKind, Keys
from blockota.model.request import WINDOW, Fault, Receiver, SignedRequest
from tests.support.city import City
from tests.support.foreign_requests import ForeignSender
from tests.support.validators import VALIDATOR

SENDER, NOW = ForeignSender("Ed25519", number=40), 1_800_000_000


@pytest.fixture(scope="module", autouse=True)
def _enrolled(city: City) -> None:
    """Enrol the sender."""
    enrolment = Enrolment(SENDER.uuid, IdentityKind.GATEWAY, Keys(read_pem(SENDER.pem.decode())))
    city.decide("identities", "enrol", enrolment_argument(enrolment))


def keep_all(requests: Sequence[SignedRequest]) -> list[Outcome]:
    """Carry out all requests."""
    return [{}] * len(requests)


def fail(_: Sequence[SignedRequest]) -> list[Outcome]:
    """Fail for all requests."""
    raise StoreError("the disk is full")


def receiver_of(city: City, state: RequestState, keep: Keep = keep_all, *, now: int = NOW) -> RequestReceiver:
    """Return a receiver."""
    registry = IdentityReader(lambda: IdentitiesContract(city.chain, city.deployment.registries["identities"]))
    parts = ReceiverParts(registry, state, WarningMaker(VALIDATOR), lambda: now)
    return RequestReceiver(Receiver(VALIDATOR, METHODS, max_age=1 << 40), parts, keep=keep)


def test_the_replay_window_lasts_over_a_restart(city: City, tmp_path: Path) -> None:
    """After a restart, a recorded request is still refused as SEEN, as long as its time would be accepted."""
    raw = SENDER.request(iat=NOW + WINDOW)
    path = tmp_path / "state.sqlite"
    with RequestState(path) as state:
        assert receiver_of(city, state).receive(raw, address="").fault is None
    for later in (1, WINDOW, 2 * WINDOW):
        with RequestState(path) as state:
            assert receiver_of(city, state, now=NOW + later).receive(raw, address="").fault is Fault.SEEN
    with RequestState(path) as state:
        assert receiver_of(city, state, now=NOW + 2 * WINDOW + 1).receive(raw, address="").fault is Fault.NOT_FRESH


def test_names_are_forgotten_after_two_windows(city: City, tmp_path: Path) -> None:
    """The state file forgets the name of a request after two time windows, even if the receiver restarts."""
    path, request = tmp_path / "state.sqlite", SENDER.request(iat=NOW)
    with RequestState(path) as state:
        receiver_of(city, state).receive(request, address="")
        state.commit((), (), now=NOW + KEPT_SECONDS)
    with RequestState(path) as state:
        (name,) = state.names()
        assert name in state
        state.commit((), (), now=NOW + KEPT_SECONDS + 1)
        assert name not in state
    with RequestState(path) as state:
        assert list(state.names()) == []


def test_a_failure_is_not_remembered(city: City, tmp_path: Path) -> None:
    """A request that failed is accepted when it is sent again.

    If a batch contains a failing request twice, both copies fail, and neither copy is refused as SEEN.
    """
    raw = SENDER.request(iat=NOW)
    with RequestState(tmp_path / "state.sqlite") as state:
        broken = receiver_of(city, state, fail)
        double = [broken.read(raw, address="") for _ in range(2)]
        assert [one.fault for one in broken.receive_all(double)] == [Fault.FAILED, Fault.FAILED]
        assert state.waiting() == 0
        again = receiver_of(city, state).receive(raw, address="")
        assert (again.fault, again.request and again.request.raw) == (None, raw)


def test_of_two_equal_requests_one_is_carried_out(city: City, tmp_path: Path) -> None:
    """Of two requests with the same name in one batch, the second is refused as SEEN."""
    kept: list[SignedRequest] = []

    def keep(requests: Sequence[SignedRequest]) -> list[Outcome]:
        kept.extend(requests)
        return keep_all(requests)

    with RequestState(tmp_path / "state.sqlite") as state:
        receiver = receiver_of(city, state, keep)
        raw, other = SENDER.request(iat=NOW), SENDER.request(iat=NOW)
        arrivals = [receiver.read(one, address="") for one in (raw, other, raw)]
        found: list[Received] = receiver.receive_all(arrivals)
    assert [one.fault for one in found] == [None, None, Fault.SEEN]
    assert [one.raw for one in kept] == [raw, other]


def test_a_request_that_cannot_be_carried_out_is_proven_and_remembered(city: City, tmp_path: Path) -> None:
    """A request that cannot be carried out is refused with the reason.

    If the same request is sent again, it is refused as SEEN.
    """
    raw = SENDER.request(iat=NOW)
    with RequestState(tmp_path / "state.sqlite") as state:
        refusing = receiver_of(city, state, lambda some: [RefusedError("no such device", why="it left")] * len(some))
        found = refusing.receive(raw, address="")
        assert (found.fault, found.detail) == (Fault.NOT_POSSIBLE, "no such device: it left.")
        assert b'"code":-32000' in found.answer
        assert refusing.receive(raw, address="").fault is Fault.SEEN
