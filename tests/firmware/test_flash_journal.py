"""The journal of a board: what is written down, what it explains, and files that cannot be believed."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import RefusedError
from firmware_host.chips import EraseUnit
from firmware_host.flash_journal import Changes, FlashJournal, JournaledRun, JournalEntry, UnitChange, entries, find
from firmware_host.flash_memory import Preserved
from tests.firmware.flashing import BASE, KIB, code, proven

BOARD = "424c4f434b4f544100000001"
RELEASE = proven(code(KIB)).release
UNITS = tuple(EraseUnit(number, BASE + number * KIB, KIB) for number in range(4))
OLD, NEW, ODD = 0x1111, 0x2222, 0x3333
CHANGES = Changes(
    units=tuple(UnitChange(unit.address, unit.size, OLD, NEW) for unit in UNITS),
    at_once=False,
    preserved=(Preserved(BASE + 4 * KIB - 8, b"neighbor"),),
)


def blank(size: int) -> int:
    """The sum of so many erased bytes."""
    return zlib.crc32(b"\xff" * size)


BLANK = blank(KIB)


def journal(folder: Path) -> FlashJournal:
    """The board's journal."""
    return FlashJournal(folder, BOARD, operator="technician", now=lambda: 1_800_000_000.9)


def entry(changes: Changes = CHANGES) -> JournalEntry:
    """What a run with those changes leaves."""
    return JournalEntry(BOARD, RELEASE.product, RELEASE.version, RELEASE.sha256, changes, "technician", 1_800_000_000)


def test_what_is_written_down_is_found_again(tmp_path: Path) -> None:
    """In a folder that is made for it, under the board's unique id, for its owner alone."""
    folder = tmp_path / "boards" / "journals"
    assert find(folder, BOARD) is None
    run = JournaledRun(journal(folder), RELEASE)
    run.begin(CHANGES)
    assert find(folder, BOARD) == journal(folder).entry() == entry()
    assert entries(folder) == [entry()]
    assert (folder / f"{BOARD}.json").stat().st_mode & 0o777 == 0o600
    assert find(folder, "00") is None
    run.end()
    assert entries(folder) == []
    run.end()


def test_a_second_run_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """A board has one journal, of what was begun last."""
    journal(tmp_path).begin(RELEASE, CHANGES)
    repeated = Changes((UnitChange(BASE, KIB, None, NEW),), at_once=True, preserved=())
    journal(tmp_path).begin(RELEASE, repeated)
    assert entries(tmp_path) == [entry(repeated)]


@pytest.mark.parametrize(
    ("checksums", "at_once", "explained"),
    [
        ([BLANK, OLD, NEW, OLD], False, True),
        ([ODD, OLD, OLD, OLD], False, True),
        ([BLANK, BLANK, ODD, OLD], False, True),
        ([BLANK, ODD, ODD, OLD], False, False),
        ([ODD, ODD, OLD, OLD], False, False),
        ([BLANK, ODD, ODD, ODD], True, True),
        ([ODD, ODD, ODD, ODD], True, False),
        ([ODD, OLD, OLD, OLD], True, True),
    ],
    ids=["mixture", "first", "one", "two", "first two", "at once", "at once and first", "only first"],
)
def test_a_mixture_of_before_and_after_is_explained(checksums: list[int], at_once: object, explained: object) -> None:
    """One page may be in between; where all were erased by one command, all but the first."""
    changes = Changes(CHANGES.units, at_once=bool(at_once), preserved=())
    assert entry(changes).explains(UNITS, checksums=checksums, blank=blank) is explained


def test_after_a_repeated_run_every_page_may_hold_anything() -> None:
    """It was repeated because something was wrong."""
    units = tuple(UnitChange(unit.address, unit.size, None, NEW) for unit in UNITS)
    changes = Changes(units, at_once=False, preserved=())
    assert entry(changes).explains(UNITS, checksums=[ODD] * 4, blank=blank)


def test_a_page_that_the_run_did_not_touch_is_not_explained() -> None:
    """Unless it is blank."""
    changes = Changes(CHANGES.units[:3], at_once=False, preserved=())
    assert entry(changes).explains(UNITS, checksums=[OLD, OLD, NEW, BLANK], blank=blank)
    assert not entry(changes).explains(UNITS, checksums=[OLD, OLD, NEW, OLD], blank=blank)


def written(folder: Path, **changes: Any) -> None:
    """Write a journal with other fields."""
    fields = {name: value for name, value in (entry().fields | changes).items() if value != "absent"}
    (folder / f"{BOARD}.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"uniqueId": "00"},
        {"product": 1},
        {"version": "1.x"},
        {"sha256": "00"},
        {"started": -1},
        {"atOnce": "yes"},
        {"units": "none"},
        {"units": [{"address": 1, "size": 2, "before": "x", "wanted": 3}]},
        {"units": [{"address": 1, "size": 2, "wanted": 3}]},
        {"preserved": [{"address": 1, "data": "0"}]},
        {"preserved": "absent"},
        {"operator": None},
    ],
    ids=[
        *("format", "board", "product", "version", "sha256", "started", "at-once", "units", "before", "no-before"),
        *("odd-hex", "no-preserved", "operator"),
    ],
)
def test_a_journal_that_cannot_be_believed_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """Nobody knows then what was being done, and the error says what follows from that."""
    written(tmp_path)
    assert find(tmp_path, BOARD) == entry()
    written(tmp_path, **changes)
    with pytest.raises(RefusedError, match="cannot be read, so nobody knows") as refused:
        find(tmp_path, BOARD)
    assert "--replace-unknown" in refused.value.remedy
    assert refused.value.why


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100, b"[]"], ids=["none", "cut", "text", "deep", "list"]
)
def test_a_file_that_is_no_journal_is_refused(content: bytes, tmp_path: Path) -> None:
    """A torn or foreign file ends in a sentence."""
    (tmp_path / f"{BOARD}.json").write_bytes(content)
    with pytest.raises(RefusedError, match="nobody knows what was being done"):
        journal(tmp_path).entry()


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_erased(tmp_path: Path) -> None:
    """The board stays as it is."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RefusedError, match=r"not flashed, because .* nothing was changed"):
        journal(tmp_path / "file").begin(RELEASE, CHANGES)
