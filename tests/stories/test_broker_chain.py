"""A broker acts only on confirmed blocks, and follows chain reorganisations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stories.brokers import (
    ALL_DONE,
    URL,
    agree,
    announcements,
    blocks,
    copies,
    is_kept,
    running,
    sync,
    vendor_of,
    verbs,
)
from tests.stories.conftest import Outcome, Workshop
from tests.stories.repositories import WAIT_SECONDS
from tests.stories.test_replication import listed
from tests.stories.test_repository import decide
from tests.support.networks import rpc
from tests.support.waiting import eventually

DEPTH = 3


@pytest.fixture
def agreed(workshop: Workshop) -> Workshop:
    """Return a test workshop in which the vendor accepted that the broker serves release 1.0.0."""
    agree(workshop)  # not from a saved chain, of which anvil lacks the state of older blocks
    return workshop


@pytest.fixture
def vendor_url(agreed: Workshop) -> Iterator[str]:
    """Run the vendor's repository in a process, and yield its URL."""
    with vendor_of(agreed) as url:
        yield url


@contextmanager
def mining(workshop: Workshop) -> Iterator[None]:
    """Mine a block per second, as on a public chain, instead of a block per transaction."""
    rpc(workshop.chain, "evm_setIntervalMining", 1)
    try:
        yield
    finally:
        rpc(workshop.chain, "evm_setIntervalMining", 0)
        rpc(workshop.chain, "evm_setAutomine", True)  # noqa: FBT003 - JSON-RPC has no names


def require_confirmations(workshop: Workshop) -> None:
    """Require DEPTH confirmations in the settings, as for a public chain."""
    with Path("blockota.toml").open("a") as settings:
        settings.write(f"confirmations = {DEPTH}\n")
    assert workshop.run("release", "list").status == 0


def states(outcome: Outcome) -> list[str]:
    """Return the state of each agreement in the output of ``broker sync``."""
    return [one["state"] for one in outcome.json["agreements"]]


def test_an_agreement_counts_when_it_is_confirmed(agreed: Workshop, vendor_url: str) -> None:
    """A broker reacts to the acceptance of an agreement only after the confirmation of the acceptance.

    The same is true for the end of an agreement.
    """
    require_confirmations(agreed)
    assert states(sync(agreed)) == []
    rpc(agreed.chain, "anvil_mine", DEPTH - 1)
    early = sync(agreed)
    assert (early.status, states(early), verbs(early)) == (0, ["unconfirmed"], [])
    rpc(agreed.chain, "anvil_mine", 1)
    with mining(agreed):
        assert sorted(verbs(sync(agreed, vendor_url))) == sorted(ALL_DONE)
    decide(agreed, "terminate")
    assert (verbs(sync(agreed)), is_kept(agreed)) == ([], True)
    rpc(agreed.chain, "anvil_mine", DEPTH)
    assert verbs(sync(agreed)) == ["dropped", "dropped"]


def test_killed_while_an_announcement_waits_for_blocks_it_sends_no_second_one(
    agreed: Workshop, vendor_url: str
) -> None:
    """A broker that was killed after sending an announcement waits for this transaction.

    The broker sends no second transaction.
    """
    require_confirmations(agreed)
    rpc(agreed.chain, "anvil_mine", DEPTH)
    with running(agreed, "--vendor-source", vendor_url) as broker:
        eventually(lambda: announcements(agreed), what="the announcement")
        broker.process.kill()
        assert broker.process.wait(WAIT_SECONDS) < 0
    with mining(agreed):
        assert verbs(sync(agreed, vendor_url)) == ["announced"]
    assert (announcements(agreed), listed(agreed)) == (1, [(1, "accepted", URL)])


def test_a_reorganisation_that_takes_the_announcement_back_is_mended(agreed: Workshop, vendor_url: str) -> None:
    """If a reorganisation removes an announcement, the broker announces its URL again, but fetches nothing."""
    sync(agreed, vendor_url)
    assert listed(agreed) == [(1, "accepted", URL)]
    rpc(agreed.chain, "anvil_reorg", 1, [])
    assert listed(agreed, "--all") == [(1, "accepted", "")]
    assert verbs(sync(agreed, vendor_url)) == ["announced"]
    assert (announcements(agreed), listed(agreed)) == (1, [(1, "accepted", URL)])


def test_a_reorganisation_that_changes_nothing_drops_nothing(agreed: Workshop, vendor_url: str) -> None:
    """After a reorganisation that changes no agreement, the broker reads the chain again and keeps its copies."""
    sync(agreed, vendor_url)
    rpc(agreed.chain, "anvil_mine", 2)
    assert verbs(sync(agreed, vendor_url)) == []
    rpc(agreed.chain, "anvil_reorg", 1, [])
    assert verbs(sync(agreed, vendor_url)) == ["re-read"]
    assert (is_kept(agreed), announcements(agreed)) == (True, 1)


def test_a_reorganisation_that_takes_the_release_back_is_followed(agreed: Workshop, vendor_url: str) -> None:
    """After a reorganisation removed the release and the agreement, the broker drops its copies."""
    sync(agreed, vendor_url)
    rpc(agreed.chain, "anvil_reorg", 4, [])
    outcome = sync(agreed, vendor_url)
    assert (verbs(outcome), states(outcome)) == (["re-read", "dropped", "dropped"], [])
    assert (blocks(agreed), copies(agreed).pins()) == ([], set())


def test_a_chain_that_began_anew_is_another_one(agreed: Workshop, vendor_url: str) -> None:
    """If a development chain is reverted to a snapshot, the broker announces its URL again."""
    rpc(agreed.chain, "evm_snapshot")
    sync(agreed, vendor_url)
    rpc(agreed.chain, "evm_revert", "0x0")
    rpc(agreed.chain, "anvil_mine", 3)
    assert verbs(sync(agreed, vendor_url))[-1:] == ["announced"]
    assert (is_kept(agreed), announcements(agreed)) == (True, 1)
