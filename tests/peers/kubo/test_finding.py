"""Finding an image where the store is a Kubo node that lacks it, refuses, or has it from others."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from blockota.errors import StoreError
from blockota.stores.kubo import KuboStore
from blockota.stores.search import SearchObserver, SearchStage, find_image
from blockota.stores.source import Source
from tests.peers.kubo.node import Kind, Node, running_node
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT
from tests.support.hostile_gateway import Gateway, serving
from tests.support.samples import release_of

LARGE = release_of(IMAGE, dag_root=ROOT.digest)
ONLINE = Kind(is_online=True)


def found(store: KuboStore, *gateways: Gateway) -> tuple[bytes, list[str]]:
    """The image, and what was told of the search."""
    file, notes = io.BytesIO(), list[str]()
    stage = SearchStage("somebody", lambda: [Source(gateway.url) for gateway in gateways])
    find_image(LARGE, store, stages=[stage], into=file, observer=SearchObserver(notes.append))
    return file.getvalue(), notes


def test_a_node_that_lacks_the_image_does_not_look_for_it_first(kubo: Path, tmp_path: Path) -> None:
    """A node that is online would look on the network for minutes; whoever announced the image has it at once."""
    began = time.monotonic()
    with running_node(kubo, tmp_path, kind=ONLINE) as node, serving(BLOCKS) as gateway:
        began = time.monotonic()
        assert found(node.store, gateway) == (IMAGE, ["Asking somebody for the image (1 source)."])
        assert time.monotonic() - began < 5


def test_the_network_is_asked_when_nobody_else_serves(kubo: Path, tmp_path: Path) -> None:
    """Another node has it, which no URL says."""
    for name in ("vendor", "technician"):
        (tmp_path / name).mkdir()
    with (
        running_node(kubo, tmp_path / "vendor", kind=ONLINE) as vendor,
        running_node(kubo, tmp_path / "technician", kind=ONLINE) as technician,
        serving({}) as empty,
    ):
        vendor.store.put(io.BytesIO(IMAGE))
        technician.ipfs("swarm", "connect", json.loads(vendor.ipfs("id"))["Addresses"][0])
        data, notes = found(technician.store, empty)
    assert data == IMAGE
    assert [note.partition(" ")[0] for note in notes] == ["Asking", "Not", "Asking"]
    assert "through the Kubo node" in notes[-1]


def test_a_node_that_looks_in_vain_is_told(kubo: Path, tmp_path: Path) -> None:
    """Nobody has it: the sentence begins with the store, as with any other, and the network is told of."""
    with running_node(kubo, tmp_path, kind=ONLINE) as node, serving({}) as empty:
        store = KuboStore(node.api, timeout=0.5)
        with pytest.raises(
            StoreError, match=r"was not found: .*does not have .* gone: .*the IPFS network, through that"
        ):
            found(store, empty)


def test_a_refusal_is_told(node: Node) -> None:
    """The gateway's address in the place of the API's: the image comes from elsewhere, and the mistake is told."""
    with serving(BLOCKS) as gateway:
        data, notes = found(KuboStore(node.gateway), gateway)
    assert data == IMAGE
    assert notes[0].startswith(f"Not taken from the store: {node.gateway} is not the RPC API of a Kubo node, ")
