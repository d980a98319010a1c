"""A gateway used as a read-only store."""

from __future__ import annotations

import io

import pytest

from blockota.errors import BlockOTAError, ContentError, StoreError, UsageError
from blockota.stores.gateway import GatewayStore
from blockota.stores.source import Source
from blockota.stores.store import Store, open_store, read_whole
from tests.support.fetch_samples import BLOCKS, IMAGE, LIMITS, ROOT, SMALL_ROOT
from tests.support.hostile_gateway import closes_after_every_block, flips_bit, is_busy, serving, stalls


def test_an_image_is_read_from_a_url() -> None:
    """An image is read from a gateway that is opened by its URL as a store."""
    with serving(BLOCKS) as gateway:
        store = open_store(gateway.url)
        assert read_whole(store, ROOT, size=len(IMAGE)) == IMAGE
        assert store.has(ROOT)
        assert not store.has(SMALL_ROOT)
    assert not gateway.refused


def test_reading_stops_where_the_reader_stops() -> None:
    """A file that is larger than expected is refused before all of it is fetched."""
    with serving(BLOCKS) as gateway, pytest.raises(ContentError, match="too large"):
        read_whole(open_store(gateway.url), ROOT, size=100)
    assert sum(gateway.asked.values()) == 2


def test_a_broken_connection_is_made_again() -> None:
    """If the gateway closes the connection after each block, the store opens a new connection."""
    with serving(BLOCKS, closes_after_every_block) as gateway:
        assert b"".join(GatewayStore(Source(gateway.url), limits=LIMITS).open(ROOT)) == IMAGE


def test_other_bytes_are_refused() -> None:
    """A wrong block from a gateway raises a content error, not an error of the connection."""
    with serving(BLOCKS, flips_bit(0.5)) as gateway, pytest.raises(ContentError, match="has another hash"):
        list(GatewayStore(Source(gateway.url)).open(ROOT))


@pytest.mark.parametrize("vice", [stalls, is_busy])
def test_a_store_that_does_not_answer_is_out_of_reach(vice: object) -> None:
    """A gateway that stalls or is busy raises a StoreError with the gateway's URL."""
    assert callable(vice)
    with serving(BLOCKS, vice) as gateway, pytest.raises(StoreError, match=gateway.url):
        list(GatewayStore(Source(gateway.url), limits=LIMITS).open(ROOT))


def test_a_missing_image_is_out_of_reach() -> None:
    """The error for a missing image states that the gateway does not have it."""
    with serving(BLOCKS) as gateway, pytest.raises(StoreError, match="does not have"):
        list(open_store(gateway.url).open(SMALL_ROOT))


def test_nothing_is_stored_in_a_gateway() -> None:
    """Storing, pinning and unpinning are refused, because a gateway is read-only."""
    store: Store = open_store("https://gateway.example")
    for act in (lambda: store.put(io.BytesIO(b"")), lambda: store.pin(ROOT), lambda: store.unpin(ROOT)):
        with pytest.raises(UsageError, match="a gateway is read-only"):
            act()


@pytest.mark.parametrize("url", ["https:", "https://", "http://user@host", "gopher://host"])
def test_what_names_no_store_is_refused(url: str) -> None:
    """A URL of a store with an invalid form is refused."""
    with pytest.raises(BlockOTAError, match="is not the URL of a"):
        open_store(url)
