"""A repository whose blocks lie in a Kubo node."""

from __future__ import annotations

import io
from pathlib import Path

from blockota.stores.destinations import InFile
from blockota.stores.fetching import fetch
from blockota.stores.source import Source
from tests.ipfs.node import Node
from tests.units.fetch_samples import IMAGE, ROOT, SMALL, SMALL_ROOT
from tests.units.repository_process import SECRET, running


def test_a_repository_serves_from_kubo(node: Node, tmp_path: Path) -> None:
    """What the chain allows comes from the node, block by block checked, and what else it holds does not."""
    for data in (IMAGE, SMALL):
        node.store.put(io.BytesIO(data))
    secret = node.store.put(io.BytesIO(SECRET))
    with running(tmp_path, store=f"kubo:{node.store.url}") as repository:
        with (tmp_path / "image").open("w+b") as file:
            fetch(ROOT, [Source(repository.url)], size=len(IMAGE), into=InFile(file))
        assert (tmp_path / "image").read_bytes() == IMAGE
        assert repository.get(f"/ipfs/{SMALL_ROOT}?format=raw").content == SMALL
        assert repository.get(f"/ipfs/{secret}?format=raw").status_code == 404
        assert len(repository.get("/health").json()["missing"]) == 1
