"""Ganache, a second local chain, on which the figures of a paper were measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.test_funds import check_empty_account
from tests.conftest import Cast
from tests.stories.conftest import Workshop, board_url, furnish
from tests.stories.test_road import travel_the_road
from tests.support.ganache import ganache

__all__ = ["board_url"]


@pytest.fixture
def ganache_workshop(
    tmp_path: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Workshop]:
    """Yield a test workshop on a fresh ganache chain."""
    monkeypatch.chdir(tmp_path)
    with ganache() as chain:
        furnish(tmp_path, chain, cast=cast)
        yield Workshop(tmp_path, chain, cast, capsys)


def test_an_image_travels_the_whole_road(ganache_workshop: Workshop, board_url: str) -> None:
    """An image published by a 2-of-3 Safe on ganache is verified, flashed and booted, and so is its successor."""
    travel_the_road(ganache_workshop, board_url)


def test_an_empty_account_on_ganache() -> None:
    """BlockOTA refuses to send a transaction of an empty account, and recognises ganache's own rejection."""
    with ganache() as chain:
        check_empty_account(chain)
