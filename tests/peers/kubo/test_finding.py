"""An image is found even if the Kubo node lacks the image, refuses the request, or must query its peers."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from blockota.errors import StoreError
from blockota.stores.kubo import KuboStore
from blockota.stores.search import NETWORK, SearchObserver, SearchStage, find_image
from blockota.stores.source import Source
from tests.peers.kubo.node import Kind, Node, running_node
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT
from tests.support.hostile_gateway import Gateway, serving
from tests.support.samples import release_of

LARGE = release_of(IMAGE, dag_root=ROOT.digest)
ONLINE = Kind(is_online=True)


def found(store: KuboStore, *gateways: Gateway) -> tuple[bytes, list[str]]:
    """Search for the image; return its bytes and the messages of the search."""
    file, notes = io.BytesIO(), list[str]()
    stage = SearchStage("other sources", lambda: [Source(gateway.url) for gateway in gateways])
    find_image(LARGE, store, stages=[stage, NETWORK], into=file, observer=SearchObserver(notes.append))
    return file.getvalue(), notes


def test_a_node_that_lacks_the_image_does_not_search_for_it_first(kubo: Path, tmp_path: Path) -> None:
    """Known sources are queried first, because the Kubo node's search in the network may take minutes."""
    with running_node(kubo, tmp_path, kind=ONLINE) as node, serving(BLOCKS) as gateway:
        began = time.monotonic()
        assert found(node.store, gateway) == (IMAGE, ["Asking other sources for the image (1 source)."])
        assert time.monotonic() - began < 30


def test_the_network_is_searched_if_no_source_serves(kubo: Path, tmp_path: Path) -> None:
    """If no known source serves the image, the Kubo node fetches it from another node."""
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


def test_a_search_without_result_is_reported(kubo: Path, tmp_path: Path) -> None:
    """If no node has the image, the error lists the store, the sources and the IPFS network."""
    with running_node(kubo, tmp_path, kind=ONLINE) as node, serving({}) as empty:
        store = KuboStore(node.api, timeout=0.5)
        with pytest.raises(
            StoreError, match=r"was not found: .*does not have .* does not have it.*the IPFS network, through that"
        ):
            found(store, empty)


def test_a_refusal_is_reported(node: Node) -> None:
    """If the store's URL is Kubo's gateway, the error is reported and the image comes from another source."""
    with serving(BLOCKS) as gateway:
        data, notes = found(KuboStore(node.gateway), gateway)
    assert data == IMAGE
    assert notes[0].startswith(f"Not taken from the store: {node.gateway} is not the RPC API of a Kubo node, ")
