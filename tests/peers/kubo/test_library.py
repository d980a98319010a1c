"""The programs of docs/library.md with a Kubo node as the store."""

from __future__ import annotations

import json
from pathlib import Path

from tests.peers.kubo.node import Node
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.test_library_page import after_page


def test_the_programs_upload_images_to_ipfs(workshop: Workshop, node: Node) -> None:
    """All programs run, and the node pins every image under the CID that the chain records."""
    settings = Path("blockota.toml")
    settings.write_text(f'store = "kubo:{node.api}"\n{settings.read_text()}')
    after_page(workshop)
    listed = json.loads(workshop.run("release", "list", "--product", PRODUCT, "--json").out)["releases"]
    assert len(listed) == 2
    assert all(node.pins()[release["cid"]] == "recursive" for release in listed)
