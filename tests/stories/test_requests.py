"""The number of requests to a node does not grow with the number of agreements."""

from __future__ import annotations

from pathlib import Path

from benchmarks.requests import scene


def test_commands_ask_a_node_little(tmp_path: Path) -> None:
    """With 120 agreements on the chain, each command sends at most 16 requests to the node."""
    with scene(tmp_path, releases=40) as found:
        assert found.requests_of(*found.sync()) <= 16
        assert found.requests_of("replica", "list") <= 9
        assert found.requests_of("contract", "show") <= 4
        assert found.serve() <= 12
