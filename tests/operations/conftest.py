"""Fixtures of the operations tests: a city on the chain of a test worker, and its operations room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from blockota.chain import Chain
from tests.conftest import Cast
from tests.gateway.conftest import city
from tests.support.operations_room import RoomScene, make_scene, running_room
from tests.support.waiting import DEADLINE, eventually

__all__ = ["city"]


@pytest.fixture(scope="module")
def scene(anvil: Chain, cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> RoomScene:
    """Return a city with an operations room."""
    return make_scene(anvil, cast, tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="module")
def url(scene: RoomScene) -> Iterator[str]:
    """Return the URL of the running operations room, after it has read the logs."""
    with running_room(scene.setup) as found:
        eventually(lambda: "2 followed" in requests.get(found, timeout=DEADLINE).text, what="the logs")
        yield found
