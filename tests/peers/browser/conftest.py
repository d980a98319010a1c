"""Fixtures with a running operations room, and with a browser that opens its pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.operations.conftest import scene, url
from tests.support.browser import Browser, running_browser

__all__ = ["scene", "url"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running browser."""
    with running_browser() as found:
        yield found
