"""A broker's day: what is accepted is fetched, proven, kept, announced once, and dropped when it ends (S3.3)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from blockota.bindings import revoke_call
from blockota.release import Version
from blockota.replication import accept_call, terminate_call
from blockota.stores.local import LocalStore
from tests import hostile_gateway
from tests.conftest import ROOT
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.repositories import serving
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_replication import listed, rpc
from tests.stories.test_repository import address, decide, image

UNREACHABLE = 5
URL = "https://broker.example"
BROKER = ("--key", "dev:4")
OPTIONS = (*BROKER, "--announce", URL, "--state", "broker.sqlite", "--store", "file:copies", "--json")
ALL_DONE = ["fetched", "pinned", "fetched", "pinned", "announced"]
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
    """A workshop in which the vendor accepted that the broker serves 1.0.0."""
    Path("notes.md").write_text("The first release.")
    words = ("--product", PRODUCT, "--version", "1.0.0", "--notes", "notes.md", "-o", "first.json")
    for command in (
        ("release", "publish", str(image("1.0.0")), *words),
        ("proposal", "sign", "first.json", "--key", "dev:1", "--yes"),
        ("proposal", "sign", "first.json", "--key", "dev:2", "--yes"),
        ("proposal", "execute", "first.json", "--key", "dev:0"),
    ):
        outcome = workshop.run(*command)
        assert outcome.status == 0, outcome.err
    offer(workshop)
    return workshop


@pytest.fixture
def vendor_url(agreed: Workshop) -> Iterator[str]:
    """The vendor's repository, a command of its own."""
    with serving(agreed.folder) as served:
        yield served.url


def offer(workshop: Workshop, *, number: int = 1, key: str = "dev:4") -> None:
    """Have a broker offer to serve 1.0.0 for half an hour, and the vendor accept."""
    words = ("replica", "propose", "--product", PRODUCT, "--version", "1.0.0", "--expires-in", "30m", "--key", key)
    assert workshop.run(*words).status == 0
    decide(workshop, accept_call(number))


def sync(workshop: Workshop, *sources: str) -> Outcome:
    """One round."""
    named = (word for source in sources for word in ("--vendor-source", source))
    return workshop.run("broker", "sync", *named, *OPTIONS)


def verbs(outcome: Outcome) -> list[str]:
    """What a round did, without what failed."""
    return [step["did"] for step in outcome.json["steps"] if not step["error"]]


def copies(workshop: Workshop) -> LocalStore:
    """The broker's store."""
    return LocalStore(workshop.folder / "copies")


def is_kept(workshop: Workshop) -> bool:
    """Whether the broker has the image, pinned."""
    store, cid = copies(workshop), address("1.0.0")
    return cid in store.pins() and b"".join(store.open(cid)) == image("1.0.0").read_bytes()


def blocks(workshop: Workshop) -> list[Path]:
    """All files among the broker's blocks."""
    return [path for path in (workshop.folder / "copies" / "blocks").rglob("*") if path.is_file()]


def announcements(workshop: Workshop) -> int:
    """How often the broker sent something since its proposal."""
    return workshop.chain.count(workshop.cast.broker.address) - 1


def test_a_broker_keeps_announces_and_drops(agreed: Workshop, vendor_url: str) -> None:
    """The second round has nothing to do; after the vendor ended the agreement no block is left."""
    assert sorted(verbs(sync(agreed, vendor_url))) == sorted(ALL_DONE)
    assert is_kept(agreed)
    assert listed(agreed) == [(1, "accepted", URL)]
    assert sync(agreed, vendor_url).json == {"steps": []}
    decide(agreed, terminate_call(1))
    assert verbs(sync(agreed, vendor_url)) == ["dropped", "dropped"]
    assert (blocks(agreed), copies(agreed).pins(), announcements(agreed)) == ([], set(), 1)


def test_a_revoked_release_is_dropped(agreed: Workshop, vendor_url: str) -> None:
    """A recall takes the copies away as well."""
    sync(agreed, vendor_url)
    agreed.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="recalled"))
    assert verbs(sync(agreed, vendor_url)) == ["dropped", "dropped"]
    assert blocks(agreed) == []


def test_an_expired_agreement_is_dropped_and_a_new_one_fetched(agreed: Workshop, vendor_url: str) -> None:
    """Expiry needs no transaction, and what was dropped can come again."""
    sync(agreed, vendor_url)
    rpc(agreed.chain.url, "evm_increaseTime", 1801)
    rpc(agreed.chain.url, "evm_mine")
    assert verbs(sync(agreed, vendor_url)) == ["dropped", "dropped"]
    offer(agreed, number=2)
    assert sorted(verbs(sync(agreed, vendor_url))) == sorted(ALL_DONE)
    assert is_kept(agreed)


def test_a_reorganisation_that_takes_the_acceptance_back_is_followed(agreed: Workshop, vendor_url: str) -> None:
    """The round says that the chain was rewritten, drops the copies, and announces again when it is accepted again."""
    sync(agreed, vendor_url)
    rpc(agreed.chain.url, "anvil_reorg", 2, [])
    assert listed(agreed, "--all") == [(1, "proposed", "")]
    assert verbs(sync(agreed, vendor_url)) == ["re-read", "dropped", "dropped"]
    decide(agreed, accept_call(1))
    assert sorted(verbs(sync(agreed, vendor_url))) == sorted(ALL_DONE)
    assert listed(agreed) == [(1, "accepted", URL)]


def test_a_node_that_is_behind_drops_nothing(agreed: Workshop, vendor_url: str) -> None:
    """A chain that ends before what was decided upon is not believed to have ended the agreement."""
    sync(agreed, vendor_url)
    assert sync(agreed, vendor_url).status == 0
    rpc(agreed.chain.url, "anvil_rollback", 1)
    refused(sync(agreed, vendor_url), UNREACHABLE, "the node is behind")
    assert is_kept(agreed)


def test_a_lying_source_is_named_and_left_out(agreed: Workshop, vendor_url: str) -> None:
    """The image comes from the honest one; the liar is remembered with its block."""
    cid = address("1.0.0")
    with hostile_gateway.serving({cid: image("1.0.0").read_bytes()}, hostile_gateway.flips_bit(0.5)) as liar:
        outcome = sync(agreed, liar.url, vendor_url)
        assert (outcome.status, "left out" in verbs(outcome)) == (0, True)
    with sqlite3.connect("broker.sqlite") as database:
        [(url, why)] = database.execute("SELECT url, why FROM liars").fetchall()
    assert (url, str(cid) in why) == (liar.url, True)
    assert is_kept(agreed)


def test_a_liar_alone_gives_nothing(agreed: Workshop) -> None:
    """Nothing is pinned or announced, and a later round finds an honest source."""
    with hostile_gateway.serving({address("1.0.0"): image("1.0.0").read_bytes()}, hostile_gateway.flips_bit(0)) as liar:
        assert sync(agreed, liar.url).status == UNREACHABLE
    assert (announcements(agreed), copies(agreed).pins()) == (0, set())
    with serving(agreed.folder) as served:
        assert sync(agreed, liar.url, served.url).status == 0
    assert is_kept(agreed)


def test_killed_anywhere_it_goes_on(agreed: Workshop, vendor_url: str) -> None:
    """SIGKILL at ever later file operations: nothing is lost, one announcement is sent, all is dropped in the end."""
    assert killed_until_done(agreed, vendor_url) > 3
    assert is_kept(agreed)
    assert announcements(agreed) == 1
    assert listed(agreed) == [(1, "accepted", URL)]
    decide(agreed, terminate_call(1))
    assert killed_until_done(agreed, vendor_url) > 1
    assert (blocks(agreed), copies(agreed).pins(), announcements(agreed)) == ([], set(), 1)
    assert not list(Path(".blockota/transactions").rglob("*.json"))


def killed_until_done(workshop: Workshop, vendor_url: str) -> int:
    """Run rounds that are killed at the 1st, 2nd, 3rd… operation, until one ends by itself; how many were killed."""
    for count in range(1, 60):
        words = [sys.executable, "-c", _KILLED_AT, str(count), "broker", "sync", "--vendor-source", vendor_url]
        done = subprocess.run(
            [*words, *OPTIONS],
            cwd=workshop.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return count - 1
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError("it never ended")


def test_mistakes_are_refused(agreed: Workshop) -> None:
    """Each with its sentence and exit status."""
    run = agreed.run
    refused(run("broker", "sync"), USAGE, "--broker")
    refused(run("broker", "sync", *BROKER, "--once", "--every", "5"), USAGE, "--once")
    refused(run("broker", "sync", *BROKER, "--announce", "ftp://x.example"), USAGE, "http")
    refused(run("broker", "sync", *BROKER, "--broker", agreed.cast.mallory.address), USAGE, "not the same")
    refused(run("broker", "sync", *BROKER, "--store", "https://x.example"), USAGE, "gateway")
    assert sync(agreed).status == UNREACHABLE
    refused(run("broker", "sync", "--key", "dev:5", *OPTIONS[2:-1]), REFUSED, "another broker")


def test_a_check_tells_who_serves_lies_and_is_gone(agreed: Workshop) -> None:
    """All serve: 0; one is gone: 5; one lies: 3, with the block."""
    offer(agreed, number=2, key="dev:5")
    held = {address("1.0.0"): image("1.0.0").read_bytes()}
    with ExitStack() as stack:
        good, bad = (
            stack.enter_context(hostile_gateway.serving(held, vice))
            for vice in (hostile_gateway.honest, hostile_gateway.flips_bit(0.5))
        )
        announce(agreed, 1, good.url)
        announce(agreed, 2, good.url)
        assert standings(agreed) == (0, ["serves", "serves"])
        announce(agreed, 2, bad.url)
        assert standings(agreed) == (REFUSED, ["lies", "serves"])
        assert str(next(iter(held))) in agreed.run("replica", "check").out
    assert standings(agreed) == (UNREACHABLE, ["gone", "gone"])


def announce(workshop: Workshop, number: int, url: str) -> None:
    """Announce as the broker of that number."""
    assert workshop.run("replica", "announce", str(number), url, "--key", f"dev:{number + 3}").status == 0


def standings(workshop: Workshop) -> tuple[int, list[str]]:
    """The exit status of a check, and what it found."""
    outcome = workshop.run("replica", "check", "--json")
    return outcome.status, sorted(one["standing"] for one in outcome.json["replicas"])
