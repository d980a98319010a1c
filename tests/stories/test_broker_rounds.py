"""A broker that syncs repeatedly follows the chain, tolerates failures, and stops on a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockota.chain.local import free_port
from tests.stories.brokers import (
    ALL_DONE,
    SyncProcess,
    agree,
    announcements,
    blocks,
    copies,
    is_kept,
    publish,
    running,
    sync,
    vendor_of,
    verbs,
)
from tests.stories.conftest import Workshop
from tests.stories.repositories import WAIT_SECONDS, serving
from tests.stories.test_replication import propose
from tests.stories.test_repository import address, decide, image
from tests.support import hostile_gateway
from tests.support.hostile_gateway import Gateway, Handler, honest
from tests.support.networks import line_to, rpc
from tests.support.waiting import eventually

DONE, INTERRUPTED = 0, 130
OFTEN, SELDOM = ("--every", "1"), ("--every", "3600")
KINDS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def agreed(workshop: Workshop) -> Workshop:
    """Return a test workshop in which the vendor accepted that the broker serves release 1.0.0."""
    return workshop.after(agree)


@pytest.fixture
def vendor_url(agreed: Workshop) -> Iterator[str]:
    """Run the vendor's repository in a process, and yield its URL."""
    with vendor_of(agreed) as url:
        yield url


def until(broker: SyncProcess, condition: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """Return the output of the first round that meets a condition."""
    return next(found for _ in range(int(WAIT_SECONDS)) if condition(found := broker.line()))


def did(line: dict[str, object], *names: str) -> bool:
    """Return whether a round took exactly these steps, in any order."""
    steps = line["steps"]
    assert isinstance(steps, list)
    return sorted(step["did"] for step in steps if not step["error"]) == sorted(names)


def test_an_agreement_that_is_made_later_is_followed_in_a_later_round(workshop: Workshop) -> None:
    """A running broker waits until its offer is accepted, then serves the release, and drops it after termination."""
    publish(workshop)
    with vendor_of(workshop) as url, running(workshop, *OFTEN, "--vendor-source", url) as broker:
        assert broker.line()["agreements"] == []
        assert propose(workshop).status == 0
        waiting = until(broker, lambda line: bool(line["agreements"]))
        assert (waiting["agreements"], waiting["steps"]) == (
            [{"number": 1, "release": "acme-thermo2 1.0.0", "state": "proposed", "url": ""}],
            [],
        )
        decide(workshop, "accept")
        until(broker, lambda line: did(line, *ALL_DONE))
        decide(workshop, "terminate")
        until(broker, lambda line: did(line, "dropped", "dropped"))
        assert broker.stop()[0] == DONE
    assert (blocks(workshop), copies(workshop).pins(), announcements(workshop)) == ([], set(), 1)


def test_a_failed_round_is_reported_and_the_next_one_tries_again(agreed: Workshop) -> None:
    """A round that fails because a source or the node is unreachable is reported, and a later round succeeds."""
    port = free_port()
    with line_to(agreed.chain) as line:
        Path("blockota.toml").write_text(f'[networks.local]\nurl = "{line.url}"\n')
        with running(agreed, *OFTEN, "--vendor-source", f"http://127.0.0.1:{port}") as broker:
            assert "Connection refused" in str(broker.line()["errors"])
            with serving(agreed.folder, "--listen", f"127.0.0.1:{port}"):
                until(broker, lambda line: did(line, *ALL_DONE))
                line.cut_before = "eth_call"
                until(broker, lambda line: line["block"] is None and bool(line["errors"]))
                line.mend()
                until(broker, lambda line: not line["errors"])
            assert broker.stop()[0] == DONE
    assert is_kept(agreed)


def test_a_node_that_falls_behind_is_waited_for(agreed: Workshop, vendor_url: str) -> None:
    """While the node lags behind, the broker reports the lag and drops nothing."""
    assert sync(agreed, vendor_url).status == 0
    with running(agreed, *OFTEN, "--vendor-source", vendor_url) as broker:
        assert broker.line()["steps"] == []
        rpc(agreed.chain, "anvil_rollback", 1)
        until(broker, lambda line: "the node is behind" in str(line["errors"]))
        assert is_kept(agreed)
        rpc(agreed.chain, "anvil_mine", 4)
        until(broker, lambda line: not line["errors"])
        assert broker.stop()[0] == DONE
    assert is_kept(agreed)


@pytest.mark.parametrize("kind", KINDS, ids=("TERM", "INT"))
def test_a_signal_between_two_rounds_ends_it_at_once(agreed: Workshop, vendor_url: str, kind: int) -> None:
    """A signal between two rounds ends the broker immediately with status 0."""
    with running(agreed, *SELDOM, "--vendor-source", vendor_url) as broker:
        assert did(broker.line(), *ALL_DONE)
        assert broker.stop(kind) == (DONE, "")
    assert sync(agreed, vendor_url).json["steps"] == []


@pytest.mark.parametrize(("kind", "every"), zip(KINDS, [(), SELDOM], strict=True), ids=("TERM-once", "INT-every"))
def test_a_signal_in_a_round_lets_the_step_end(
    agreed: Workshop, vendor_url: str, kind: int, every: tuple[str, ...]
) -> None:
    """After a signal during a round, the broker finishes the current step.

    The next run does the remaining steps.
    """
    with slow_vendor() as (gateway, gate), running(agreed, *every, "--vendor-source", gateway.url) as broker:
        await_request(gateway)
        broker.process.send_signal(kind)
        gate.set()
        status, printed = broker.stop(0)
        assert status == (DONE if every else INTERRUPTED)
        assert '"fetched"' in printed
        assert "Traceback" not in printed
        assert every or "4 steps of the round are left" in printed
    assert copies(agreed).pins() == set()
    assert sorted(verbs(sync(agreed, vendor_url))) == ["announced", "fetched", "pinned", "pinned"]
    assert is_kept(agreed)


@pytest.mark.parametrize("every", [(), SELDOM], ids=("once", "every"))
def test_a_second_signal_breaks_the_step_off(agreed: Workshop, vendor_url: str, every: tuple[str, ...]) -> None:
    """A second signal aborts the current step, and the exit status is 130.

    The next run does the remaining work.
    """
    with slow_vendor() as (gateway, gate), running(agreed, *every, "--vendor-source", gateway.url) as broker:
        await_request(gateway)
        status, printed = broker.stop(signal.SIGTERM, signal.SIGINT)
        gate.set()
    assert (status, printed.strip()) == (INTERRUPTED, "Stopped.")
    assert sorted(verbs(sync(agreed, vendor_url))) == sorted(ALL_DONE)
    assert announcements(agreed) == 1


@contextmanager
def slow_vendor() -> Iterator[tuple[Gateway, threading.Event]]:
    """Serve the image of release 1.0.0 from a source that waits until an event is set."""
    gate = threading.Event()

    def waits(handler: Handler, data: bytes) -> None:
        gate.wait(WAIT_SECONDS)
        honest(handler, data)

    with hostile_gateway.serving({address("1.0.0"): image("1.0.0").read_bytes()}, waits) as gateway:
        yield gateway, gate


def await_request(gateway: Gateway) -> None:
    """Wait until the source receives a request."""
    eventually(lambda: gateway.asked, what="a request")
