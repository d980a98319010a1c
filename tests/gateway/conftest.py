"""Fixture of the gateway tests: a city on the chain of a test worker."""

from __future__ import annotations

import pytest

from blockota.chain import Chain
from tests.conftest import Cast
from tests.support.city import City, found_city


@pytest.fixture(scope="module")
def city(anvil: Chain, cast: Cast) -> City:
    """Return a new city for each test file."""
    return found_city(anvil, cast)
