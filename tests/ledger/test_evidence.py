"""The search for evidence in an anchored log: two installations of one release on one device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.errors import RefusedError
from blockota.formats.tlog import TreeHead, is_included, leaf_hash, tree_of
from blockota.ledger.evidence import find_evidence, proven_entry
from blockota.model.receipt import EntryKind
from blockota.model.release import Version
from tests.support.receipts import DEVICE, IMAGE, RELEASE, MemoryLog, install

REPAIR = install(kind=EntryKind.REINSTALL)
ENTRIES = [
    one.encode()
    for one in (
        install(),
        install(device=DEVICE + 1),
        REPAIR,
        install(device=0),
        install(device=0),
        install(release=replace(RELEASE, version=Version(1, 2, 0))),
        install(image=IMAGE[::-1]),
        install(device=DEVICE + 1),
    )
]
TREES = [tree_of(map(leaf_hash, ENTRIES[:size])) for size in range(len(ENTRIES) + 1)]


def undecided(_device: int, _release: bytes) -> int:
    """Return 0, because before any decision all entries from index 0 on are evidence."""
    return 0


@pytest.mark.parametrize(("size", "expected"), [(6, None), (7, (0, 6)), (8, (0, 6))])
def test_the_first_two_installations_are_evidence(size: int, expected: tuple[int, int] | None) -> None:
    """The first two installations of one release on one device are evidence; repairs and other entries are not."""
    found = find_evidence(MemoryLog(ENTRIES).reader, TREES[size], decided=undecided)
    assert (found and (found[0].index, found[1].index)) == expected
    for one in found or ():
        assert is_included(leaf_hash(one.data), one.index, TREES[size], one.path)


def test_decided_entries_are_not_evidence() -> None:
    """After a decision about a device and a release, only later entries are evidence against the log."""
    asked = list[tuple[int, bytes]]()

    def decided(device: int, release: bytes) -> int:
        asked.append((device, release))
        return 7  # the index of the last entry

    found = find_evidence(MemoryLog(ENTRIES).reader, TREES[8], decided=decided)
    assert found
    assert (found[0].index, found[1].index) == (1, 7)
    assert asked == [(DEVICE, RELEASE.digest), (DEVICE + 1, RELEASE.digest)]


def test_another_log_shows_nothing() -> None:
    """A log that differs from the anchored log is refused, with and without evidence in it."""
    honest = MemoryLog([REPAIR.encode() for _ in ENTRIES]).reader
    with pytest.raises(RefusedError, match=r"not the anchored log.*at size 7"):
        find_evidence(honest, TREES[7], decided=undecided)
    with pytest.raises(RefusedError, match=r"not the anchored log.*entry 0"):
        find_evidence(MemoryLog(ENTRIES).reader, TreeHead(7, bytes(32)), decided=undecided)
    with pytest.raises(RefusedError, match="entry 7 is not anchored"):
        proven_entry(honest, TREES[7], 7)
