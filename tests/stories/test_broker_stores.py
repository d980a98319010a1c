"""A broker recovers from lost, corrupt and wrong copies, and from crashes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.bindings.block_ota import publish_call, revoke_call
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.formats.cid import CID, dag
from blockota.model.release import Release, Status, Version
from blockota.repository.tokens import new_token
from tests.stories import large_images
from tests.stories.brokers import OPTIONS, agree, announcements, blocks, copies, is_kept, offer, sync, vendor_of, verbs
from tests.stories.conftest import PRODUCT, Workshop, publish_first
from tests.stories.repositories import serving
from tests.stories.test_bad_input import REFUSED, refused
from tests.stories.test_repository import decide, image
from tests.support import forks, hostile_gateway
from tests.support.networks import post, stand_in
from tests.support.sampling import sampled

UNREACHABLE = 5
_KILLED_AT = """
import os, signal, sqlite3, sys
left = int(sys.argv.pop(1))
def count(statement):
    global left
    left -= statement.lstrip().startswith(("INSERT", "DELETE"))
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
class Counted(sqlite3.Connection):
    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        self.set_trace_callback(count)
connect = sqlite3.connect
sqlite3.connect = lambda *words, **options: connect(*words, factory=Counted, **options)
from blockota.cli.main import main
main()
"""
"""Python program that runs a command and kills it before its n-th write to the state file."""


@pytest.fixture
def agreed(workshop: Workshop) -> Workshop:
    """Return a test workshop in which the vendor accepted that the broker serves release 1.0.0."""
    return workshop.after(agree)


@pytest.fixture
def vendor_url(agreed: Workshop) -> Iterator[str]:
    """Run the vendor's repository in a process, and yield its URL."""
    with vendor_of(agreed) as url:
        yield url


def killed_until_done(workshop: Workshop, *options: str) -> int:
    """Kill each round after a larger number of writes to the state file; return the number of killed rounds."""
    # Every round makes the first writes, so a kill before them is always tested.
    for number, count in enumerate(sorted({1, 5, *sampled(range(1, 100), one_in=20), 1000})):
        words = ["-c", _KILLED_AT, str(count), "broker", "sync", *OPTIONS, *options]
        done = forks.run(words, folder=workshop.folder)
        if done.returncode == 0:
            return number
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError("it never ended")


@pytest.mark.sampled
def test_killed_before_whatever_it_remembers_it_goes_on(agreed: Workshop, vendor_url: str) -> None:
    """A broker that is killed at any write to its state file loses nothing, and announces its URL only once."""
    assert killed_until_done(agreed, "--vendor-source", vendor_url) > 1
    assert is_kept(agreed)
    assert announcements(agreed) == 1
    decide(agreed, "terminate")
    assert killed_until_done(agreed) > 0
    assert (blocks(agreed), copies(agreed).pins(), announcements(agreed)) == ([], set(), 1)


def test_copies_that_are_lost_are_fetched_again(agreed: Workshop, vendor_url: str) -> None:
    """A broker fetches and pins lost copies again, but does not announce its URL again."""
    sync(agreed, vendor_url)
    shutil.rmtree("copies")
    assert sorted(verbs(sync(agreed, vendor_url))) == ["fetched", "fetched", "missed", "missed", "pinned", "pinned"]
    assert (is_kept(agreed), announcements(agreed)) == (True, 1)


def test_a_lost_state_file_costs_no_second_announcement(agreed: Workshop, vendor_url: str) -> None:
    """A broker without its state file verifies its copies again, but does not announce its URL again."""
    sync(agreed, vendor_url)
    Path("broker.sqlite").unlink()
    assert sorted(verbs(sync(agreed, vendor_url))) == ["fetched", "fetched", "pinned", "pinned"]
    Path("broker.sqlite").unlink()
    assert sorted(verbs(sync(agreed))) == ["fetched", "fetched", "pinned", "pinned"]
    decide(agreed, "terminate")
    assert verbs(sync(agreed)) == ["dropped", "dropped"]
    assert (is_kept(agreed), announcements(agreed)) == (True, 1)


def test_rotten_blocks_are_found_when_the_state_file_is_lost(agreed: Workshop, vendor_url: str) -> None:
    """If the broker lost its state file, the next round finds and replaces the corrupt blocks in its store."""
    assert sync(agreed, vendor_url).status == 0
    sound = {path: path.read_bytes() for path in blocks(agreed)}
    for path in sound:
        path.write_bytes(b"rotten")
    Path("broker.sqlite").unlink()
    assert sync(agreed, vendor_url).status == 0
    assert {path: path.read_bytes() for path in blocks(agreed)} == sound


def test_a_spoilt_copy_is_found_and_repaired(agreed: Workshop, vendor_url: str) -> None:
    """A corrupt copy on disk is found by ``--verify``, and by the regular check of ``--verify-every``.

    Only the corrupt copy is fetched again.
    """
    sync(agreed, vendor_url)
    sound = {path: path.read_bytes() for path in blocks(agreed)}
    largest = max(sound, key=lambda path: len(sound[path]))
    for option in ("--verify", "--verify-every=1m"):
        largest.write_bytes(b"decayed")
        assert verbs(sync(agreed, vendor_url)) == []  # the copies were verified less than a week ago
        with sqlite3.connect("broker.sqlite") as state:
            state.execute("UPDATE verifications SET time = time - 60")
        words = ("broker", "sync", option, "--vendor-source", vendor_url, *OPTIONS)
        assert sorted(verbs(agreed.run(*words))) == ["corrupt", "fetched", "pinned", "verified"]
        assert {path: path.read_bytes() for path in blocks(agreed)} == sound
        assert verbs(agreed.run(*words)) == (["verified"] * 2 if option == "--verify" else [])
    assert announcements(agreed) == 1


def test_a_spoilt_copy_is_named_with_the_command_that_repairs_it(agreed: Workshop) -> None:
    """A broker's repository names the command that repairs a corrupt copy."""
    for path in Path(".blockota/store/blocks").rglob("*"):
        if path.is_file():
            path.write_bytes(b"decayed")
    with serving(agreed.folder, "--as", "broker", "--broker", agreed.cast.broker.address) as served:
        missing = served.get("/health").json()["missing"]
        refusal = served.block(dict(blocks_of("1.0.0")).popitem()[0])
    assert missing
    assert all("CID. `blockota broker sync --verify` verifies all copies" in why for why in missing.values())
    assert "is not served yet: parts of the file are missing or corrupt" in refusal.text


def test_a_repository_that_was_mended_is_asked_when_it_is_forgiven(agreed: Workshop) -> None:
    """A source that served wrong blocks is banned for some time.

    The option ``--forgive`` ends the ban early.
    """
    held = dict(blocks_of("1.0.0"))
    with hostile_gateway.serving(held, hostile_gateway.flips_bit(0.5)) as vendor:
        first = sync(agreed, vendor.url)
        assert (first.status, verbs(first)[0]) == (UNREACHABLE, "left out")
        assert "until 20" in first.json["steps"][0]["detail"]
        assert "--vendor-source" in first.json["steps"][1]["error"]
        vendor.vice = hostile_gateway.honest
        unforgiven = sync(agreed, vendor.url)
        [error] = [step["error"] for step in unforgiven.json["steps"] if step["subject"] == f"{PRODUCT} 1.0.0"]
        assert (f"{vendor.url} until 20" in error, "--forgive" in error) == (True, True)
        assert "left out" in verbs(unforgiven)
        agreed.run("broker", "sync", "--vendor-source", vendor.url, "--forgive", *OPTIONS)
    assert is_kept(agreed)


def test_a_vendor_that_wants_a_token_is_shown_one(agreed: Workshop) -> None:
    """A broker with the vendor's access token in its settings fetches from a repository that requires the token."""
    token, line = new_token("broker")
    Path("tokens").write_text(line)
    settings = Path("blockota.toml").read_text()
    with serving(agreed.folder, "--tokens", "tokens") as served, pytest.MonkeyPatch.context() as environment:
        assert sync(agreed, served.url).status == UNREACHABLE
        Path("blockota.toml").write_text(f'{settings}\n[tokens]\n"{served.url}" = "env:VENDOR_TOKEN"\n')
        environment.setenv("VENDOR_TOKEN", token)
        assert sync(agreed, served.url).status == 0
    assert is_kept(agreed)


def test_another_replica_is_asked_in_a_private_network_only_where_that_is_allowed(workshop: Workshop) -> None:
    """On a public chain, a replica's URL in a private network is contacted only with ``--allow-private``."""
    workshop.after(publish_first)
    offer(workshop)
    offer(workshop, number=2, key="dev:5")
    with hostile_gateway.serving(dict(blocks_of("1.0.0"))) as other, on_another_chain(workshop) as network:
        assert workshop.run("replica", "announce", "2", other.url, "--key", "dev:5").status == 0
        words = ("broker", "sync", "--network", network, "--broker", workshop.cast.broker.address, *OPTIONS[4:])
        outcome = workshop.run(*words)
        assert (outcome.status, other.asked.total()) == (UNREACHABLE, 0)
        assert other.url in outcome.json["steps"][0]["error"]
        assert workshop.run(*words, "--allow-private").status == 0
    assert is_kept(workshop)


@contextmanager
def on_another_chain(workshop: Workshop) -> Iterator[str]:
    """Yield the name of a network whose node serves the same chain with another chain id."""
    deployed = json.loads((workshop.folder / "deployments" / f"{LOCAL_CHAIN_ID}.json").read_text())

    def answer(body: bytes) -> tuple[int, bytes]:
        return 200, post(workshop.chain.url, body).replace(b'"%s"' % hex(LOCAL_CHAIN_ID).encode(), b'"0x3e7"')

    with stand_in(answer) as url, Path("blockota.toml").open("a") as settings:
        settings.write(f'[networks.elsewhere]\nurl = "{url}"\nchain_id = {0x3E7}\nconfirmations = 0\n')
        settings.write(f'contract = "{deployed["contract"]}"\nreplication = "{deployed["replication"]}"\n')
        settings.flush()
        yield "elsewhere"


def test_right_blocks_of_the_wrong_image_are_withheld(workshop: Workshop) -> None:
    """If valid blocks form another image than the recorded image, the broker neither pins nor announces the image."""
    release, held = mismatched(workshop)
    with hostile_gateway.serving(held) as vendor:
        first = sync(workshop, vendor.url)
        refused(first, REFUSED, "could not fetch acme-linux 1.0.0")
        assert "is not the image that the chain records" in first.json["steps"][0]["error"]
        asked = vendor.asked.total()
        second = sync(workshop, vendor.url)
        assert (second.status, vendor.asked.total()) == (REFUSED, asked)
        assert "report to the vendor" in second.json["steps"][0]["error"].lower()
    assert (copies(workshop).pins(), announcements(workshop), bool(blocks(workshop))) == (set(), 0, True)
    workshop.decide(revoke_call(release.product, release.version, reason="its root is another image's"))
    assert verbs(sync(workshop)) == ["dropped"]
    assert blocks(workshop) == []


def mismatched(workshop: Workshop) -> tuple[Release, dict[CID, bytes]]:
    """Publish a release whose DAG root belongs to another image, and accept an agreement on the release.

    Returns the release and the blocks of the other image.
    """
    large_images.pair(workshop)
    product = large_images.PRODUCT
    size = large_images.MEBIBYTE + 1
    held = {block.cid: block.data for block in dag(io.BytesIO(bytes(size)))}
    root = list(held)[-1]
    digest = hashlib.sha256(b"\1" * size).digest()
    release = Release(
        product.name, Version(1, 0, 0), digest, size, product.region.start, 0, product.chip_id, Status.ACTIVE
    )
    release = replace(release, dag_root=root.digest)
    workshop.decide(publish_call([release]))
    words = ("--product", product.name, "--version", "1.0.0", "--key", "dev:4")
    assert workshop.run("replica", "propose", *words).status == 0
    decide(workshop, "accept")
    return release, held


def blocks_of(version: str) -> Iterator[tuple[CID, bytes]]:
    """Yield the CID and the bytes of each block of a release's image."""
    with image(version).open("rb") as file:
        yield from ((block.cid, block.data) for block in dag(file))
