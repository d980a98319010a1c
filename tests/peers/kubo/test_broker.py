"""A broker stores its copies in a Kubo node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.peers.kubo.node import Node, running_node
from tests.stories.brokers import OPTIONS, agree, announcements, serving_as_typed, vendor_of, verbs
from tests.stories.conftest import Workshop
from tests.stories.repositories import WAIT_SECONDS
from tests.stories.test_bad_input import refused
from tests.stories.test_broker_stores import UNREACHABLE, killed_until_done
from tests.stories.test_replication import listed
from tests.stories.test_repository import address, decide, image


@pytest.fixture
def agreed(workshop: Workshop) -> Workshop:
    """A workshop with an accepted agreement that the broker serves 1.0.0."""
    return workshop.after(agree)


@pytest.fixture
def vendor_url(agreed: Workshop) -> Iterator[str]:
    """Run the vendor's repository as a process, and yield its URL."""
    with vendor_of(agreed) as url:
        yield url


@pytest.fixture
def node(kubo: Path, tmp_path: Path) -> Iterator[Node]:
    """The Kubo node of the broker."""
    with running_node(kubo, tmp_path) as node:
        yield node


@pytest.mark.sampled
def test_a_kubo_node_keeps_the_copies(agreed: Workshop, vendor_url: str, node: Node) -> None:
    """Copies are pinned and served by the Kubo node, and a killed `broker sync` leaves no temporary files."""
    kubo = ("--store", f"kubo:{node.api}")
    before = node.pins()
    assert killed_until_done(agreed, *kubo, "--vendor-source", vendor_url) > 1
    assert (node.pins()[str(address("1.0.0"))], len(node.pins())) == ("recursive", len(before) + 2)
    assert arrivals(agreed) == []
    words = ("--as", "broker", "--broker", agreed.cast.broker.address, *kubo)
    with serving_as_typed(agreed.folder, "repository", "serve", "--listen", "127.0.0.1:0", *words) as ready:
        answer = requests.get(f"{ready.split()[-1]}/ipfs/{address('1.0.0')}?format=raw", timeout=WAIT_SECONDS)
        assert answer.content == image("1.0.0").read_bytes()
    decide(agreed, "terminate")
    assert killed_until_done(agreed, *kubo) > 0
    assert (node.pins(), announcements(agreed)) == (before, 1)


def test_an_unreachable_node_is_reported_and_nothing_is_dropped(agreed: Workshop, vendor_url: str, node: Node) -> None:
    """While the Kubo node is unreachable, `broker sync` reports it and removes no copy."""
    words = (*OPTIONS, "--store", f"kubo:{node.api}", "--vendor-source", vendor_url)
    assert agreed.run("broker", "sync", *words).status == 0
    node.kill()
    refused(agreed.run("broker", "sync", *words), UNREACHABLE, "ipfs daemon")
    assert listed(agreed) == [(1, "accepted", "https://broker.example")]


def test_a_spoilt_block_of_the_node_is_repaired(agreed: Workshop, vendor_url: str, node: Node) -> None:
    """A block that decayed on the disk of the Kubo node is found by --verify, and replaced in the node."""
    words = ("broker", "sync", *OPTIONS, "--store", f"kubo:{node.api}", "--vendor-source", vendor_url, "--json")
    assert agreed.run(*words).status == 0
    stored = {path: path.read_bytes() for path in (node.repo / "blocks").rglob("*.data")}
    block = next(path for path, data in stored.items() if data == image("1.0.0").read_bytes())
    block.write_bytes(stored[block][:-1] + b"?")
    found = agreed.run(*words, "--verify")
    assert (found.status, verbs(found)[:1]) == (0, ["corrupt"]), found.out
    assert block.read_bytes() == stored[block]
    assert node.ipfs("repo", "verify").strip().endswith("all blocks validated.")
    assert str(address("1.0.0")) in node.pins()


def arrivals(workshop: Workshop) -> list[Path]:
    """Return the temporary block files of copies that are not in the Kubo node yet."""
    return [path for path in (workshop.folder / "broker.arrivals" / "blocks").rglob("*") if path.is_file()]
