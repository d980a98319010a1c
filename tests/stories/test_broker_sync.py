"""A broker fetches, verifies, pins and announces accepted releases, and finally drops them."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from pathlib import Path

import pytest

from blockota.bindings.block_ota import revoke_call
from blockota.broker.state import BrokerState
from blockota.model.release import Version
from tests.stories.brokers import (
    ALL_DONE,
    BROKER,
    OPTIONS,
    URL,
    agree,
    announcements,
    blocks,
    copies,
    is_kept,
    offer,
    publish,
    sync,
    vendor_of,
    verbs,
)
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.repositories import serving
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_replication import listed, propose
from tests.stories.test_repository import address, decide, image
from tests.support import forks, hostile_gateway
from tests.support.networks import rpc
from tests.support.sampling import sampled

UNREACHABLE = 5
_KILLED_AT = """
import os, signal, sys
left = int(sys.argv.pop(1))
def hook(event, arguments):
    global left
    if event in {"os.rename", "os.remove", "tempfile.mkstemp", "fcntl.flock", "socket.connect"}:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from blockota.cli.main import main
main()
"""


@pytest.fixture
def agreed(workshop: Workshop) -> Workshop:
    """Return a test workshop in which the vendor accepted that the broker serves release 1.0.0."""
    return workshop.after(agree)


@pytest.fixture
def vendor_url(agreed: Workshop) -> Iterator[str]:
    """Run the vendor's repository in a process, and yield its URL."""
    with vendor_of(agreed) as url:
        yield url


def test_a_broker_keeps_announces_and_drops(agreed: Workshop, vendor_url: str) -> None:
    """A broker fetches and announces a release once, and drops its copies after the agreement was terminated."""
    assert sorted(verbs(sync(agreed, vendor_url))) == sorted(ALL_DONE)
    assert is_kept(agreed)
    assert listed(agreed) == [(1, "accepted", URL)]
    assert sync(agreed, vendor_url).json == {
        "block": agreed.chain.head().number,
        "agreements": [{"number": 1, "release": f"{PRODUCT} 1.0.0", "state": "announced", "url": URL}],
        "steps": [],
        "left": 0,
    }
    decide(agreed, "terminate")
    assert verbs(sync(agreed, vendor_url)) == ["dropped", "dropped"]
    assert (blocks(agreed), copies(agreed).pins(), announcements(agreed)) == ([], set(), 1)


def test_a_revoked_release_is_dropped(agreed: Workshop, vendor_url: str) -> None:
    """The broker removes its copies of a revoked release."""
    sync(agreed, vendor_url)
    agreed.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="recalled"))
    assert verbs(sync(agreed, vendor_url)) == ["dropped", "dropped"]
    assert blocks(agreed) == []


def test_an_expired_agreement_is_dropped_and_a_new_one_fetched(agreed: Workshop, vendor_url: str) -> None:
    """The broker drops the copies of an expired agreement without a transaction.

    For a new agreement, the broker fetches the copies again.
    """
    sync(agreed, vendor_url)
    rpc(agreed.chain, "evm_increaseTime", 1801)
    rpc(agreed.chain, "evm_mine")
    assert verbs(sync(agreed, vendor_url)) == ["dropped", "dropped"]
    offer(agreed, number=2)
    assert sorted(verbs(sync(agreed, vendor_url))) == sorted(ALL_DONE)
    assert is_kept(agreed)


def test_a_reorganisation_that_takes_the_acceptance_back_is_followed(workshop: Workshop) -> None:
    """If a reorganisation removes the acceptance, the broker drops its copies.

    After a new acceptance, the broker fetches the copies again.
    """
    agree(workshop)  # not from a saved chain, of which anvil lacks the state of older blocks
    with vendor_of(workshop) as vendor_url:
        sync(workshop, vendor_url)
        rpc(workshop.chain, "anvil_reorg", 2, [])
        assert listed(workshop, "--all") == [(1, "proposed", "")]
        assert verbs(sync(workshop, vendor_url)) == ["re-read", "dropped", "dropped"]
        decide(workshop, "accept")
        assert sorted(verbs(sync(workshop, vendor_url))) == sorted(ALL_DONE)
    assert listed(workshop) == [(1, "accepted", URL)]


def test_a_node_that_is_behind_drops_nothing(agreed: Workshop, vendor_url: str) -> None:
    """A node that lags behind the last read block does not make the broker drop its copies."""
    sync(agreed, vendor_url)
    assert sync(agreed, vendor_url).status == 0
    rpc(agreed.chain, "anvil_rollback", 1)
    refused(sync(agreed, vendor_url), UNREACHABLE, "the node is behind")
    assert is_kept(agreed)


def test_a_lying_source_is_named_and_omitted(agreed: Workshop, vendor_url: str) -> None:
    """The image is fetched from an honest source, and a source that served a wrong block is recorded."""
    cid = address("1.0.0")
    with hostile_gateway.serving({cid: image("1.0.0").read_bytes()}, hostile_gateway.flips_bit(0.5)) as liar:
        outcome = sync(agreed, liar.url, vendor_url)
        assert (outcome.status, "left out" in verbs(outcome)) == (0, True)
    with sqlite3.connect("broker.sqlite") as database:
        [(url, why)] = database.execute("SELECT url, why FROM offences").fetchall()
    assert (url, str(cid) in why) == (liar.url, True)
    assert is_kept(agreed)


def test_a_source_of_wrong_blocks_without_others_gives_nothing(agreed: Workshop) -> None:
    """If the only source serves wrong blocks, nothing is pinned, and a later round uses an honest source."""
    with hostile_gateway.serving({address("1.0.0"): image("1.0.0").read_bytes()}, hostile_gateway.flips_bit(0)) as liar:
        assert sync(agreed, liar.url).status == UNREACHABLE
    assert (announcements(agreed), copies(agreed).pins()) == (0, set())
    with serving(agreed.folder) as served:
        assert sync(agreed, liar.url, served.url).status == 0
    assert is_kept(agreed)


@pytest.mark.sampled
def test_killed_anywhere_it_goes_on(agreed: Workshop, vendor_url: str) -> None:
    """A broker killed at any file operation loses nothing, and announces its URL only once."""
    assert killed_until_done(agreed, vendor_url) > 1
    assert is_kept(agreed)
    assert announcements(agreed) == 1
    assert listed(agreed) == [(1, "accepted", URL)]
    decide(agreed, "terminate")
    assert killed_until_done(agreed, vendor_url) > 0
    assert (blocks(agreed), copies(agreed).pins(), announcements(agreed)) == ([], set(), 1)
    assert not list(Path(".blockota/transactions").rglob("*.json"))


def killed_until_done(workshop: Workshop, vendor_url: str) -> int:
    """Kill each round at a later file operation until a round succeeds; return the number of killed rounds."""
    # Every round makes the first operations, so a kill before them is always tested.
    for number, count in enumerate(sorted({1, 5, *sampled(range(1, 60), one_in=15), 1000})):
        words = ["-c", _KILLED_AT, str(count), "broker", "sync", "--vendor-source", vendor_url]
        done = forks.run([*words, *OPTIONS], folder=workshop.folder)
        if done.returncode == 0:
            return number
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError("it never ended")


def test_mistakes_are_refused(agreed: Workshop) -> None:
    """Each mistake in the options of ``broker sync`` has its own error and exit status."""
    run = agreed.run
    refused(run("broker", "sync"), USAGE, "--broker")
    refused(run("broker", "sync", *BROKER, "--once", "--every", "5"), USAGE, "--once")
    refused(run("broker", "sync", *BROKER, "--announce", "ftp://x.example"), USAGE, "http")
    refused(run("broker", "sync", *BROKER, "--broker", agreed.cast.mallory.address), USAGE, "name different brokers")
    refused(run("broker", "sync", *BROKER, "--store", "https://x.example"), USAGE, "gateway")
    assert sync(agreed).status == UNREACHABLE
    refused(run("broker", "sync", "--key", "dev:5", *OPTIONS[2:-1]), REFUSED, "another broker")
    with BrokerState(Path("other.sqlite"), {}):
        second = run("broker", "sync", *BROKER, "--state", "other.sqlite")
        refused(second, REFUSED, "another round is running", "Wait until it ends, stop it, or use another file")


def test_a_check_names_sources_that_serve_wrong_blocks_or_do_not_answer(agreed: Workshop) -> None:
    """``replica check`` exits with status 0 if all replicas serve the image.

    The status is 5 if a replica serves nothing, and 3 if a replica serves wrong bytes.
    """
    offer(agreed, number=2, key="dev:5")
    held = {address("1.0.0"): image("1.0.0").read_bytes()}
    with ExitStack() as stack:
        good, bad = (
            stack.enter_context(hostile_gateway.serving(held, vice))
            for vice in (hostile_gateway.honest, hostile_gateway.flips_bit(0.5))
        )
        announce(agreed, 1, good.url)
        announce(agreed, 2, good.url)
        assert check_replicas(agreed) == (0, ["serves", "serves"])
        announce(agreed, 2, bad.url)
        assert check_replicas(agreed) == (REFUSED, ["lies", "serves"])
        assert str(next(iter(held))) in agreed.run("replica", "check").out
        bad.vice = hostile_gateway.shows_a_page
        assert check_replicas(agreed) == (UNREACHABLE, ["serves", "unusable"])
    assert check_replicas(agreed) == (UNREACHABLE, ["gone", "gone"])


def announce(workshop: Workshop, number: int, url: str) -> None:
    """Announce a URL as the broker of this agreement."""
    assert workshop.run("replica", "announce", str(number), url, "--key", f"dev:{number + 3}").status == 0


def check_replicas(workshop: Workshop) -> tuple[int, list[str]]:
    """Return the exit status and the findings of ``replica check``."""
    outcome = workshop.run("replica", "check", "--json")
    return outcome.status, sorted(one["standing"] for one in outcome.json["replicas"])


def test_a_broker_is_advised_about_its_next_step(workshop: Workshop) -> None:
    """``broker sync`` prints the next step while an offer, a decision or an announcement is missing."""
    words = ("broker", "sync", *BROKER)
    outcome = workshop.run(*words)
    assert (outcome.status, outcome.out, "replica propose" in outcome.err) == (0, "", True)
    publish(workshop)
    assert propose(workshop).status == 0
    outcome = workshop.run(*words)
    assert (outcome.status, outcome.out, "not decided yet" in outcome.err) == (0, "", True)
    decide(workshop, "accept")
    outcome = workshop.run(*words)
    assert (outcome.status, "is not announced" in outcome.err, "✓ pinned" in outcome.out) == (0, True, True)
    outcome = workshop.run("broker", "sync", "--broker", workshop.cast.broker.address, "--announce", f"{URL}/ipfs/")
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err.count("not announced") == 1
    assert f"blockota replica announce 1 {URL} --key URI" in outcome.err
    assert "No replica was asked" in workshop.run("replica", "check").out


def test_failed_steps_are_reported_once_each_and_counted(agreed: Workshop) -> None:
    """Each failed step of a round is reported once with its reason, and the final error counts the failures."""
    outcome = agreed.run("broker", "sync", *BROKER, "--announce", URL, "--store", "file:copies")
    refused(outcome, UNREACHABLE, "2 steps of the round failed", "could not fetch manifest of acme-thermo2 1.0.0")
    assert outcome.err.count("no repository of the vendor is given") == 2


def test_the_state_is_beside_the_settings(agreed: Workshop, vendor_url: str) -> None:
    """The broker's state file is beside the settings file, whatever the working directory is."""
    elsewhere = agreed.folder / "elsewhere"
    elsewhere.mkdir()
    with chdir(elsewhere):
        words = ("--config", "../blockota.toml", "--vendor-source", f"{vendor_url}/ipfs/")
        assert agreed.run("broker", "sync", *BROKER, *words).status == 0
    assert (agreed.folder / ".blockota" / "broker.sqlite").is_file()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "foreign", "damaged", "parent"])
def test_a_state_file_that_cannot_be_used_is_named(agreed: Workshop, kind: str) -> None:
    """An unusable state file of a broker is reported with the reason and a remedy."""
    path = Path("state") if kind != "parent" else Path("state/broker.sqlite")
    words = {"folder": "it is a folder", "parent": "exists", "foreign": "Move the file", "damaged": "Move the file"}
    if kind == "folder":
        path.mkdir()
    elif kind == "damaged":
        assert agreed.run("broker", "sync", *BROKER, "--state", str(path), "--store", "file:c").status == UNREACHABLE
        path.write_bytes(path.read_bytes()[:4096] + bytes(8192))
    else:
        Path("state").write_text("something else, which is no database at all")
    refused(agreed.run("broker", "sync", *BROKER, "--state", str(path)), UNREACHABLE, words[kind])
