"""A journal records an interrupted run, and decides whether the flash can be the result of this run."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import Action, RefusedError
from blockota.model.release import Version
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.journal import (
    Changes,
    FlashJournal,
    FoundUnit,
    JournaledRun,
    JournalEntry,
    UnitChange,
    boards,
    restore,
)
from firmware_host.flashing.plan import Preserved
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.flash_scene import BASE, code, connected, planned, proven
from tests.firmware_host.scripted_board import KIB

BOARD = "424c4f434b4f544100000001"
RELEASE = proven(code(KIB)).release
UNITS = tuple(EraseUnit(number, BASE + number * KIB, KIB) for number in range(4))
OLD, NEW, ODD = 0x1111, 0x2222, 0x3333
CHANGES = Changes(
    units=tuple(UnitChange(unit.address, unit.size, OLD, NEW) for unit in UNITS),
    at_once=False,
    preserved=(Preserved(BASE + 4 * KIB - 8, b"neighbor"),),
    damaged=(Preserved(BASE + 4 * KIB - 8, b"neighbos"),),
)


BLANK = zlib.crc32(b"\xff" * KIB)


def found(*checksums: int) -> list[FoundUnit]:
    """Return pages with these checksums."""
    return [FoundUnit(unit, one, one == BLANK) for unit, one in zip(UNITS, checksums, strict=False)]


def journal(folder: Path) -> FlashJournal:
    """Return the journal of the board."""
    return FlashJournal(folder, BOARD, operator="technician", now=lambda: 1_800_000_000.9)


def find(folder: Path, unique_id: str) -> JournalEntry | None:
    """Return the interrupted run of a board, or None."""
    return FlashJournal(folder, unique_id).entry()


def entry(changes: Changes = CHANGES) -> JournalEntry:
    """Return the journal entry of a run with these changes."""
    return JournalEntry(BOARD, RELEASE.product, RELEASE.version, RELEASE.sha256, changes, "technician", 1_800_000_000)


def test_what_is_written_down_is_found_again(tmp_path: Path) -> None:
    """A journal is stored under the board's unique id with mode 0600, and deleted when the run ends."""
    folder = tmp_path / "boards" / "journals"
    assert find(folder, BOARD) is None
    run = JournaledRun(journal(folder), RELEASE, Version(1, 0, 9))
    run.start(CHANGES)
    assert find(folder, BOARD) == replace(entry(), replaced=Version(1, 0, 9))
    assert boards(folder) == [BOARD]
    assert (folder / f"{BOARD}.json").stat().st_mode & 0o777 == 0o600
    assert find(folder, "00") is None
    run.end()
    assert boards(folder) == []
    run.end()


def test_a_second_run_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """A board has one journal, which records its last run."""
    JournaledRun(journal(tmp_path), RELEASE).start(CHANGES)
    other = Changes((UnitChange(BASE, KIB, ODD, NEW),), at_once=True, preserved=())
    JournaledRun(journal(tmp_path), RELEASE).start(other)
    assert find(tmp_path, BOARD) == entry(other)


def test_a_second_attempt_keeps_what_the_first_one_found(tmp_path: Path) -> None:
    """If a second attempt installs the same release, the journal keeps the checksums of the original pages."""
    repeated = replace(CHANGES, units=tuple(replace(unit, before=None) for unit in CHANGES.units))
    JournaledRun(journal(tmp_path), RELEASE).start(CHANGES)
    JournaledRun(journal(tmp_path), RELEASE).start(repeated)
    assert find(tmp_path, BOARD) == entry()
    JournaledRun(journal(tmp_path), replace(RELEASE, sha256=b"\x01" * 32)).start(repeated)
    last = find(tmp_path, BOARD)
    assert last is not None
    assert last.changes == repeated


@pytest.mark.parametrize(
    ("checksums", "at_once", "explained"),
    [
        ([BLANK, OLD, NEW, OLD], False, True),
        ([ODD, OLD, NEW, BLANK], False, True),
        ([BLANK, BLANK, ODD, OLD], False, True),
        ([BLANK, ODD, ODD, OLD], False, False),
        ([ODD, ODD, OLD, OLD], False, False),
        ([BLANK, ODD, ODD, ODD], True, True),
        ([ODD, ODD, ODD, ODD], True, False),
        ([ODD, BLANK, ODD, ODD], True, False),
    ],
    ids=["mixture", "first", "one", "two", "first two", "at once", "at once and first", "first and others"],
)
def test_a_mixture_of_before_and_after_is_explained(checksums: list[int], at_once: object, explained: object) -> None:
    """A flash matches an interrupted page-by-page run if all pages, or all but one, are old, new or blank.

    After a mass erase, the first page must be blank, and the other pages may have any contents.
    """
    changes = Changes(CHANGES.units, at_once=bool(at_once), preserved=())
    assert entry(changes).explains(found(*checksums), is_sealed=False) is explained


@pytest.mark.parametrize(
    ("checksums", "explained"),
    [
        ([OLD, OLD, OLD, OLD], True),
        ([NEW, NEW, NEW, NEW], True),
        ([ODD, OLD, OLD, OLD], True),
        ([ODD, NEW, NEW, NEW], True),
        ([OLD, OLD, NEW, OLD], False),
        ([OLD, OLD, ODD, OLD], False),
        ([ODD, OLD, OLD, BLANK], False),
        ([ODD], False),
        ([OLD], True),
    ],
    ids=["before", "after", "torn", "torn at the end", "mixture", "odd", "blank", "alone", "alone as before"],
)
@pytest.mark.parametrize("at_once", [False, True], ids=["one-by-one", "at-once"])
def test_with_its_first_words_only_the_first_page_may_be_odd(
    checksums: list[int], explained: object, at_once: object
) -> None:
    """If the first words of the image are written, a flash matches only if its other pages are all old or all new.

    A flash that does not match may contain a program from another source.
    """
    changes = Changes(CHANGES.units, at_once=bool(at_once), preserved=())
    assert entry(changes).explains(found(*checksums), is_sealed=True) is explained


def test_an_odd_first_page_before_blank_ones_is_not_explained() -> None:
    """A flash with an unknown first page and blank further pages does not match: it may contain a short program."""
    units = tuple(replace(unit, before=BLANK) for unit in CHANGES.units)
    assert not entry(replace(CHANGES, units=units)).explains(found(ODD, *[BLANK] * 3), is_sealed=True)


@pytest.mark.parametrize("is_sealed", [False, True], ids=["blank", "sealed"])
def test_unknown_sums_explain_nothing(is_sealed: object) -> None:
    """A journal without checksums of the original pages matches only the new contents."""
    units = tuple(replace(unit, before=None) for unit in CHANGES.units)
    unknown = entry(replace(CHANGES, units=units))
    assert not unknown.explains(found(ODD, ODD, ODD, ODD), is_sealed=bool(is_sealed))
    assert unknown.explains(found(NEW, NEW, NEW, NEW), is_sealed=bool(is_sealed))


def test_a_page_that_the_run_did_not_touch_is_not_explained() -> None:
    """A flash does not match if a page outside the interrupted run has contents, or if the start address differs."""
    changes = Changes(CHANGES.units[:3], at_once=False, preserved=())
    assert entry(changes).explains(found(OLD, OLD, NEW, BLANK), is_sealed=False)
    assert not entry(changes).explains(found(OLD, OLD, NEW, OLD), is_sealed=False)
    assert not entry(changes).explains(found(OLD, OLD, NEW)[1:], is_sealed=False)


def written(folder: Path, **changes: Any) -> None:
    """Write a journal with changed fields."""
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
        {"damaged": [{"address": 1}]},
        {"operator": None},
        {"replaced": 1},
    ],
    ids=[
        *("format", "board", "product", "version", "sha256", "started", "at-once", "units", "before", "no-before"),
        *("odd-hex", "no-preserved", "damaged", "operator", "replaced"),
    ],
)
def test_a_journal_that_cannot_be_believed_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """A journal with an invalid field is refused, and the error gives the reason."""
    for older in ({}, {"replaced": "absent"}):
        written(tmp_path, **older)
        assert find(tmp_path, BOARD) == entry()
    written(tmp_path, damaged="absent")
    assert find(tmp_path, BOARD) == entry(replace(CHANGES, damaged=()))
    written(tmp_path, **changes)
    with pytest.raises(RefusedError, match="cannot be read, so the board's interrupted run is unknown") as refused:
        find(tmp_path, BOARD)
    assert refused.value.action is Action.REPLACE_UNKNOWN
    assert refused.value.why


def test_the_old_bytes_of_an_only_page_are_read_back(tmp_path: Path) -> None:
    """If an image has only one page, the old bytes of this page are read back from the journal.

    Journals of earlier versions lack these old bytes.
    """
    sampled = replace(CHANGES, sample=Preserved(BASE, b"old bytes"))
    written(tmp_path, sample=entry(sampled).fields["sample"])
    assert find(tmp_path, BOARD) == entry(sampled)
    written(tmp_path, sample="absent")
    assert find(tmp_path, BOARD) == entry()


@pytest.mark.parametrize(
    ("found", "is_explained"),
    [(b"old bytes", False), (b"\xff" * 9, True), (b"\x7fld b\xffte\x7f", True), (b"new bytes", False)],
)
def test_a_half_erased_only_page_is_explained_by_its_old_bytes(found: bytes, is_explained: object) -> None:
    """If an image has only one page, contents match that a partial erase of the old bytes can leave in this page."""
    sampled = entry(replace(CHANGES, sample=Preserved(BASE, b"old bytes")))
    assert sampled.explains_only_unit(lambda _: found, wanted=b"", blank=0xFF) is is_explained
    assert not entry().explains_only_unit(lambda _: found, wanted=b"", blank=0xFF)


def test_the_error_about_a_journal_does_not_print_its_bytes(tmp_path: Path) -> None:
    """The error about an invalid journal contains the address of the invalid bytes, but not the bytes."""
    written(tmp_path, preserved=[{"address": BASE, "data": "ab" * 500 + "c"}])
    with pytest.raises(RefusedError, match="data of the bytes at 0x08000000 is not hex text") as refused:
        find(tmp_path, BOARD)
    assert "abab" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100, b"[]"], ids=["none", "cut", "text", "deep", "list"]
)
def test_a_file_that_is_not_a_journal_is_refused(content: bytes, tmp_path: Path) -> None:
    """A journal file that is empty, truncated or not a JSON object is refused."""
    (tmp_path / f"{BOARD}.json").write_bytes(content)
    with pytest.raises(RefusedError, match="interrupted run is unknown"):
        journal(tmp_path).entry()


def test_a_journal_of_another_board_is_not_read(tmp_path: Path) -> None:
    """An invalid journal of another board does not prevent reading the journal of this board."""
    written(tmp_path)
    (tmp_path / "00.json").write_bytes(b"{")
    assert boards(tmp_path) == ["00", BOARD]
    assert find(tmp_path, BOARD) == entry()


def test_a_folder_that_cannot_be_created_is_reported_before_the_erase(tmp_path: Path) -> None:
    """If the journal's folder cannot be created, flashing is refused before the first erase."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RefusedError, match=r"not flashed, because .* nothing was changed"):
        JournaledRun(journal(tmp_path / "file"), RELEASE).start(CHANGES)


KEPT = bytes(range(1, 101)) + b"\xff" * 300
DAMAGED = [
    KEPT[:40] + b"\x79" + KEPT[40:256],
    KEPT[:40] + KEPT[41:100] + b"\x12",
    KEPT[:40] + b"\x7f\x81" + b"\x80" * 214,
]


@pytest.mark.parametrize("found", DAMAGED, ids=["a stray byte", "a lost byte", "fed bytes"])
def test_a_block_that_the_line_damaged_is_restored(found: bytes) -> None:
    """Bytes beside the image are restored if a line fault changed one of their blocks while it was written."""
    assert restored(found) == KEPT


@pytest.mark.parametrize(
    "found", [b"newer" + KEPT[5:], KEPT[:60] + b"newer", bytes(range(101, 201)), b"\x80" * 300], ids=list("abcd")
)
def test_newer_bytes_are_not_restored(found: bytes) -> None:
    """Newer bytes beside the image are not overwritten with the bytes in the journal."""
    assert not restored(found)


def restored(found: bytes) -> bytes:
    """Return the bytes that a run restores if the flash has `found` where the journal recorded `KEPT`."""
    start = BASE + KIB
    board = SimulatedBoard(flash=b"\xff" * KIB + found[: len(KEPT)])
    bootloader = connected(board)
    identify(bootloader)
    changes = replace(CHANGES, preserved=(Preserved(start, KEPT),))
    kept = restore(planned(code(KIB + 10, at=BASE)), entry(changes), bootloader=bootloader).kept
    return b"".join(one.data for one in kept)
