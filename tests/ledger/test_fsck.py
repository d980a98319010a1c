"""The check of all files of a log (`log fsck`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from blockota.errors import ContentError, RefusedError
from blockota.ledger.fsck import check_log
from blockota.ledger.log import TileLog
from tests.support.logs import ORIGIN, entries_of, note_signer
from tests.support.sampling import sampled

KEY = note_signer()
SIZE = 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a log of 300 entries, with an earlier checkpoint at 260."""
    folder = tmp_path_factory.mktemp("log")
    log = TileLog(folder)
    for size in (260, SIZE):
        log.append(entries_of(len(log), size))
        log.publish(KEY)
    return folder


def test_a_whole_log_passes(whole: Path) -> None:
    """A log that `TileLog` wrote passes the check, with and without its key."""
    checked = check_log(TileLog(whole).published, [note_signer(seed=2).key, KEY.key])
    assert (checked.origin, checked.head.size, checked.tiles, checked.signer) == (ORIGIN, SIZE, 3, KEY.key)
    assert check_log(TileLog(whole).published).signer is None


def test_other_keys_are_refused(whole: Path) -> None:
    """A log without a checkpoint, or with a checkpoint that no known key signed, is refused."""
    with pytest.raises(RefusedError, match="not signed by a known key"):
        check_log(TileLog(whole).published, [note_signer(seed=2).key])
    with pytest.raises(RefusedError, match="no checkpoint"):
        check_log(TileLog(whole / "elsewhere").published)


def spoiled_places(whole: Path) -> list[tuple[str, int]]:
    """Yield every byte of every file that the newest checkpoint needs."""
    used = [
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ]
    return [(path, place) for path in used for place in range((whole / path).stat().st_size)]


@pytest.mark.sampled
def test_a_change_of_any_byte_is_found(whole: Path, tmp_path: Path) -> None:
    """A changed byte in any of the log's files is found."""
    folder = tmp_path / "log"
    shutil.copytree(whole, folder)
    for path, place in sampled(spoiled_places(whole), one_in=499):
        data = bytearray((folder / path).read_bytes())
        data[place] ^= 1 << place % 8
        (folder / path).write_bytes(data)
        with pytest.raises((ContentError, RefusedError)):
            check_log(TileLog(folder).published, [KEY.key])
        (folder / path).write_bytes((whole / path).read_bytes())


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"])
def test_a_missing_file_is_named(whole: Path, tmp_path: Path, path: str) -> None:
    """The error for a missing file of the log names the file."""
    shutil.copytree(whole, tmp_path / "log")
    (tmp_path / "log" / path).unlink()
    with pytest.raises(ContentError, match=f"{path} is missing"):
        check_log(TileLog(tmp_path / "log").published)
