"""The basic test of the published system: one sensor, one gateway, one validator and the cloud, on a real ledger."""

from __future__ import annotations

from pathlib import Path

from tests.peers.city.script import run_city
from tests.peers.city.tools import find_obstacles


def test_a_city_of_one_gateway(tmp_path: Path) -> None:
    """The whole script of the city passes with one gateway and one validator."""
    obstacles = find_obstacles()
    assert not obstacles, obstacles
    figures = run_city(tmp_path, 1, print)
    assert figures["sent_packets"] > figures["lost_packets"] == 0
    assert figures["readings"] > 0
