"""Fixtures with a vendor's folder on a fresh Clique network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockota.chain import Chain
from scripts.install_geth import find
from tests.conftest import Cast
from tests.peers.clique.network import CHAIN_ID, CliqueNetwork, clique_network
from tests.stories.conftest import Workshop
from tests.support.consortium import Consortium, furnish, pair


@dataclass(frozen=True)
class CliqueConsortium(Consortium):
    """A vendor on a network of three Clique sealers."""

    network: CliqueNetwork


@pytest.fixture
def geth() -> Path:
    """The path of the ``geth`` that `make clique` built."""
    program = find()
    assert program, "geth not found: build it with `make clique`"
    return program


@pytest.fixture
def consortium(
    geth: Path, tmp_path: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CliqueConsortium]:
    """A vendor with a Safe, both contracts and one paired product on a fresh network."""
    folder = tmp_path / "vendor"
    with clique_network(geth, tmp_path / "network") as network:
        chain = Chain(network.sealers[0].url, chain_id=CHAIN_ID)
        furnish(folder, chain, cast=cast, monkeypatch=monkeypatch)
        vendor = CliqueConsortium(Workshop(folder, chain, cast, capsys), network)
        pair(vendor)
        yield vendor
