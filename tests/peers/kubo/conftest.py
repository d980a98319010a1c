"""Fixtures with a Kubo node that the tests share; each test stores its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.install_kubo import find
from tests.peers.kubo.node import Node, running_node


@pytest.fixture(scope="session")
def kubo() -> Path:
    """The path of the program ``ipfs`` on PATH, or of the one that `make kubo` built."""
    program = find()
    assert program, "Kubo not found: build it with `make kubo`"
    return program


@pytest.fixture(scope="session")
def node(kubo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A running Kubo node with default settings."""
    with running_node(kubo, tmp_path_factory.mktemp("kubo")) as node:
        yield node
