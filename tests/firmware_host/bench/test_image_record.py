"""The records of board images, which are made for single boards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.errors import RefusedError
from blockota.model.release import Version
from firmware_host.bench.board_images import BoardImages, ImageRecord, ImageState
from tests.support.samples import release_of

BOARD = "424c4f434b4f544100000001"
RECORD = ImageRecord(BOARD, "acme-keys", bytes(32), 48, ImageState.MADE, "acme-thermo2", Version(1, 1, 0))


def test_a_record_comes_back(tmp_path: Path) -> None:
    """A record is found again only for the same board and the same product."""
    records = BoardImages(tmp_path / "records")
    records.write(RECORD)
    assert records.find(BOARD, "acme-keys") == RECORD
    assert records.find(BOARD, "acme-other") is None
    assert records.find("0001", "acme-keys") is None


def test_an_incomplete_run_is_found(tmp_path: Path) -> None:
    """A run without a proof of the board's image and of the program counts as interrupted."""
    records = BoardImages(tmp_path)
    assert not records.has_interrupted()
    for state, is_interrupted in ((ImageState.MADE, True), (ImageState.WRITTEN, True), (ImageState.COMPLETE, False)):
        records.write(replace(RECORD, state=state))
        assert (records.interrupted(BOARD) is not None, records.has_interrupted()) == (is_interrupted, is_interrupted)


@pytest.mark.parametrize(
    ("state", "version", "then"),
    [
        (ImageState.WRITTEN, Version(1, 1, 0), ImageState.COMPLETE),
        (ImageState.WRITTEN, Version(1, 2, 0), ImageState.WRITTEN),
        (ImageState.MADE, Version(1, 1, 0), ImageState.MADE),
    ],
    ids=["written", "another program", "made"],
)
def test_only_the_program_of_the_run_completes_it(
    tmp_path: Path, state: ImageState, version: Version, then: ImageState
) -> None:
    """A written run counts as complete only after its own program, not another program, was proven."""
    records = BoardImages(tmp_path)
    records.write(replace(RECORD, state=state, version=version))
    records.complete(BOARD, release_of(b"program"))
    found = records.find(BOARD, "acme-keys")
    assert found
    assert found.state is then


@pytest.mark.parametrize(
    "change",
    [{"uniqueId": "0002"}, {"sha256": "ab"}, {"size": -1}, {"status": "lost"}, {"format": "another"}, {"version": "x"}],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_record_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """A record with a wrong field is refused, because its board may already have an image."""
    records = BoardImages(tmp_path)
    records.write(RECORD)
    path = tmp_path / "acme-keys" / f"{BOARD}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RefusedError, match=r"record .* cannot be read, .*; nothing was changed"):
        records.find(BOARD, "acme-keys")
    assert records.has_interrupted()


def test_a_record_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """If the record cannot be written, the run is refused before anything is erased."""
    (tmp_path / "records").touch()
    with pytest.raises(RefusedError, match=r"record of its own image cannot be written: .*; nothing was erased"):
        BoardImages(tmp_path / "records").write(RECORD)
