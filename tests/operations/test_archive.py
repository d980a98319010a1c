"""Two chain readers, for the city and for the vendors, can add events of the same chain to the archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.operations.archive import Happening, RoomArchive
from blockota.operations.city_reading import CityChain
from blockota.operations.notices import NoticeOutbox
from blockota.operations.vendor_reading import VendorChain

CHAIN, NOW = 1337, 1_795_000_000
ORDER, RELEASE = "OrderPlaced", "ReleasePublished"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[RoomArchive]:
    """An empty archive."""
    with RoomArchive(tmp_path / "operations.sqlite") as found:
        yield found


@pytest.fixture
def outbox(archive: RoomArchive) -> NoticeOutbox:
    """The notices of the room."""
    return NoticeOutbox(archive, lambda: NOW, has_broker=True, has_log=False)


def event(contract: str, name: str, block: int) -> Happening:
    """Return an event of a block."""
    return Happening(CHAIN, block << 32, block, NOW, contract, name, "a subject", "in words", bytes(32))


def test_an_older_event_of_the_other_reader_is_announced(archive: RoomArchive, outbox: NoticeOutbox) -> None:
    """If one reader has added an order of block 33, a release of block 27 is still announced, and only once."""
    archive.add_happenings([event("UpdateOrders", ORDER, 33)], outbox.add_happenings)
    releases = [event("BlockOTA", RELEASE, 27), event("BlockOTA", RELEASE, 34)]
    archive.add_happenings(releases, outbox.add_happenings)
    archive.add_happenings(releases, outbox.add_happenings)
    assert [kind for _, kind, _ in outbox.notices()] == ["order", "release", "release"]


def test_an_event_of_a_contract_admitted_later_is_announced(archive: RoomArchive, outbox: NoticeOutbox) -> None:
    """A release of block 30 is announced, even if its producer is admitted after blocks 20 and 40 were read."""
    archive.add_happenings([event("BlockOTA", RELEASE, block) for block in (20, 40)], outbox.add_happenings)
    late = [event("BlockOTA", RELEASE, block) for block in (20, 30, 40, 50)]
    archive.add_happenings(late, outbox.add_happenings)
    assert '"block": 30' in outbox.notices()[2][2]
    assert len(outbox.notices()) == 4


def test_a_reorganisation_keeps_the_events_of_the_other_reader(archive: RoomArchive) -> None:
    """Deleting the events of the city's contracts after a reorganisation keeps the events of the vendor's contracts."""
    archive.add_happenings([event("BlockOTA", RELEASE, 27), event("UpdateOrders", ORDER, 33)])
    archive.drop_happenings(CHAIN, 20, VendorChain.CONTRACTS)
    archive.add_happenings([event("BlockOTA", RELEASE, 28)])
    archive.drop_happenings(CHAIN, 20, CityChain.CONTRACTS)
    assert archive.rows("SELECT name, block FROM happening") == [(RELEASE, 28)]


def test_the_readers_share_no_contract() -> None:
    """Each contract is read by only one of the two readers.

    Two readers would delete each other's events.
    """
    assert not set(VendorChain.CONTRACTS) & set(CityChain.CONTRACTS)
