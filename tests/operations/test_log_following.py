"""The operations room verifies logs as they grow, and reports a log that contradicts its keys, anchors or history."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from blockota.errors import RefusedError
from blockota.formats.tlog import TreeHead
from blockota.ledger.log import TileLog
from blockota.model.anchored_log import AnchoredLog, LogState
from blockota.model.receipt import EntryKind, LogEntry
from blockota.operations.archive import RoomArchive
from blockota.operations.log_following import FollowedLog, LogFollower
from tests.support.logs import note_signer

KEEPER = UUID("21b678da-28f7-5ce7-bc02-28b5567c1cd7")
SIGNER = note_signer(f"city.example/gateway/{KEEPER.hex}")
KEYS = (SIGNER.key.key,)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[RoomArchive]:
    """An empty archive."""
    with RoomArchive(tmp_path / "room.sqlite") as found:
        yield found


def write(folder: Path, start: int, stop: int, *, text: str = "event") -> TileLog:
    """Append events to a log, and publish them."""
    log = TileLog(folder)
    log.append(
        LogEntry(EntryKind.EVENT, 1_795_000_000 + one, gateway=KEEPER, source=f"{text} {one}").encode()
        for one in range(start, stop)
    )
    log.publish(SIGNER)
    return log


def follow(log: TileLog, archive: RoomArchive, anchored: AnchoredLog | None = None) -> FollowedLog:
    """Read a log once, and return its state."""
    follower = LogFollower(KEEPER, log.published, archive)
    follower.update(KEYS, anchored, clock=lambda: 1_795_100_000)
    return follower.state


def anchor_of(head: TreeHead) -> AnchoredLog:
    """Return an anchor."""
    return AnchoredLog(KEEPER, head.root, head.size, 1_795_000_000, LogState.GROWING, None)


def count(archive: RoomArchive) -> int:
    """Return the number of entries in the archive."""
    number: int = archive.rows("SELECT count(*) FROM entry")[0][0]
    return number


def test_a_growing_log_is_read_step_by_step(tmp_path: Path, archive: RoomArchive) -> None:
    """Each update archives exactly the new entries, even when the log grows across a full tile (256 entries)."""
    for start, stop in ((0, 1), (1, 255), (255, 256), (256, 257), (257, 700)):
        log = write(tmp_path / "log", start, stop)
        state = follow(log, archive)
        assert (state.trouble, state.head, count(archive)) == ("", log.published.head(), stop)


def test_a_log_need_not_keep_its_earlier_partial_tiles(tmp_path: Path, archive: RoomArchive) -> None:
    """A log is verified even if the partial tiles of its earlier sizes were removed, which C2SP permits."""
    assert not follow(write(tmp_path / "log", 0, 44), archive).trouble
    log = write(tmp_path / "log", 44, 144)
    for path in [*(tmp_path / "log").rglob("*.p/44")]:
        path.unlink()
    assert not follow(log, archive).trouble
    assert count(archive) == 144


def test_a_log_signed_by_another_key_is_not_read(tmp_path: Path, archive: RoomArchive) -> None:
    """A log is reported as a lie if no key of the registry signed its checkpoint."""
    log = write(tmp_path / "log", 0, 3)
    follower = LogFollower(KEEPER, log.published, archive)
    follower.update((b"\1" * 32,), None, clock=lambda: 0)
    assert follower.state.is_lie
    assert "does not belong to" in follower.state.trouble
    assert count(archive) == 0


def test_a_log_of_an_identity_that_is_not_enrolled_is_not_a_lie(tmp_path: Path, archive: RoomArchive) -> None:
    """If the registry has no key for a log, the log is not read, and is not reported as a lie."""
    follower = LogFollower(KEEPER, write(tmp_path / "log", 0, 3).published, archive)
    follower.update((), None, clock=lambda: 0)
    assert (follower.state.is_lie, count(archive)) == (False, 0)
    assert follower.state.trouble.endswith("the identity is not enrolled, or has no log key")


def test_a_rewritten_log_is_reported(tmp_path: Path, archive: RoomArchive) -> None:
    """A log with a changed history, or with fewer entries than before, is reported as a lie.

    The entries that were archived before remain.
    """
    assert not follow(write(tmp_path / "log", 0, 300), archive).trouble
    other = write(tmp_path / "other", 0, 400, text="rewritten")
    state = follow(other, archive)
    assert state.is_lie
    assert "not those that it had before" in state.trouble
    shorter = follow(write(tmp_path / "shorter", 0, 100), archive)
    assert shorter.is_lie
    assert "it had 300 entries before" in shorter.trouble
    assert count(archive) == 300


def test_a_changed_entry_is_reported(tmp_path: Path, archive: RoomArchive) -> None:
    """If one byte of a new entry is wrong, the update archives no entry."""
    log = write(tmp_path / "log", 0, 40)
    [bundle] = (tmp_path / "log" / "tile" / "entries").rglob("*.p/*")
    raw = bytearray(bundle.read_bytes())
    raw[len(raw) // 2] ^= 1
    bundle.write_bytes(raw)
    state = follow(log, archive)
    assert "do not belong to its checkpoint" in state.trouble
    assert count(archive) == 0


def test_a_log_that_is_not_the_anchored_one_is_reported(tmp_path: Path, archive: RoomArchive) -> None:
    """A log is reported if its root differs from the anchored root, or if it is shorter than the anchored log."""
    log = write(tmp_path / "log", 0, 20)
    assert not follow(log, archive, anchor_of(log.published.head_at(7))).trouble
    wrong = follow(log, archive, anchor_of(TreeHead(7, b"\1" * 32)))
    assert wrong.is_lie
    assert "not the anchored root" in wrong.trouble
    ahead = follow(log, archive, anchor_of(TreeHead(21, b"\1" * 32)))
    assert "21 entries were anchored, and it shows 20" in ahead.trouble


def test_a_log_that_is_gone_keeps_its_entries(tmp_path: Path, archive: RoomArchive) -> None:
    """While files of the log are missing, the room reports trouble, and its archive keeps the entries.

    When the files are back, the trouble ends.
    """
    log = write(tmp_path / "log", 0, 20)
    assert not follow(log, archive).trouble
    write(tmp_path / "log", 20, 30)
    shutil.move(tmp_path / "log" / "tile", tmp_path / "away")
    assert follow(log, archive).trouble
    assert count(archive) == 20
    shutil.move(tmp_path / "away", tmp_path / "log" / "tile")
    assert not follow(log, archive).trouble
    assert count(archive) == 30


def test_bytes_that_are_no_entry_are_shown_as_such(tmp_path: Path, archive: RoomArchive) -> None:
    """Bytes of a verified log that are not a valid entry are archived and shown as unreadable."""
    log = TileLog(tmp_path / "log")
    log.append([b"anything", b"\x91"])
    log.publish(SIGNER)
    assert not follow(log, archive).trouble
    assert archive.rows("SELECT text FROM entry") == [("not an entry that the room can read",)] * 2


def test_an_archive_of_another_program_is_refused(tmp_path: Path) -> None:
    """A file that another program wrote is refused as the archive."""
    foreign = tmp_path / "foreign.sqlite"
    with RoomArchive(foreign) as archive, archive.changing() as database:
        database.execute("PRAGMA application_id = 1")
    with pytest.raises(RefusedError, match="another program wrote it"):
        RoomArchive(foreign)
