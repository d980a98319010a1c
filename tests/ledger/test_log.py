"""A log in a folder: appending, publishing, a writer that is stopped at any write, and damage."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blockota.errors import ContentError, RefusedError, StoreError, UsageError
from blockota.file_locks import exclusive_lock
from blockota.formats.notes import Checkpoint, Note, NoteAlgorithm
from blockota.formats.tlog import (
    EMPTY_TREE,
    ReadNode,
    TreeHead,
    is_consistent,
    is_included,
    leaf_hash,
    tree_head,
    tree_of,
)
from blockota.ledger.fsck import check_log
from blockota.ledger.log import LogDisk, TileLog
from blockota.ledger.reader import LogReader
from tests.support.logs import ORIGIN, entries_of, files_of, note_signer
from tests.support.sampling import sampled
from tests.support.witness import cosign

KEY = note_signer()


def head_of(entries: list[bytes]) -> TreeHead:
    """Return the tree head of the given entries."""
    return tree_of(map(leaf_hash, entries))


def published(folder: Path, *sizes: int) -> TileLog:
    """Return a log that published checkpoints at the given sizes."""
    log = TileLog(folder)
    for size in sizes:
        log.append(entries_of(len(log), size))
        log.publish(KEY)
    return log


def test_appended_entries_are_published_and_proven(tmp_path: Path) -> None:
    """An entry gets its index when it is appended.

    After a checkpoint, the entries are part of the published tree, and their proofs are valid.
    """
    log = TileLog(tmp_path / "log")
    assert (len(log), log.published.head(), list(log.entries())) == (0, EMPTY_TREE, [])
    assert log.append(entries_of(0, 3)) == [0, 1, 2]
    assert log.append(entries_of(3, 700)) == list(range(3, 700))
    assert (len(log), log.published.head()) == (700, EMPTY_TREE)
    assert list(log.entries(650)) == entries_of(650, 700)

    note = log.publish(KEY)
    assert note.is_signed_by(KEY.key)
    assert Checkpoint.parse(note.text) == Checkpoint(ORIGIN, head_of(entries_of(0, 700)))
    assert log.published.note() == note
    log.append(entries_of(700, 701))
    assert list(log.entries()) == entries_of(0, 701)
    assert list(log.entries(255))[:3] == entries_of(255, 258)
    for index in (0, 255, 256, 699):
        proof = log.published.prove_inclusion(index)
        assert (proof.index, proof.entry, proof.checkpoint) == (index, *entries_of(index, index + 1), note)
        assert is_included(leaf_hash(proof.entry), index, log.published.head(), proof.path)
    with pytest.raises(RefusedError, match="not published the entry 700"):
        log.published.prove_inclusion(700)


@pytest.mark.parametrize("sizes", [(1,), (255, 256, 257), (100, 300, 300, 513), (0, 5)])
def test_earlier_trees_of_a_log_stay_provable(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """For every earlier size, a log returns the root and the consistency proof to the newest size."""
    log = published(tmp_path, *sizes)
    entries = entries_of(0, sizes[-1])
    assert log.published.head() == head_of(entries)
    for size in {0, 1, sizes[-1] // 2, sizes[-1] - 1, *sizes} - {-1}:
        earlier = head_of(entries[:size])
        assert log.published.head_at(size) == earlier
        assert is_consistent(earlier, head_of(entries), log.published.prove_consistency(size, sizes[-1]))
    with pytest.raises(RefusedError, match="does not continue"):
        log.published.prove_consistency(sizes[-1] + 1, sizes[-1])
    with pytest.raises(RefusedError, match="has not published"):
        log.published.head_at(sizes[-1] + 1)


def test_an_entry_is_not_appended_twice(tmp_path: Path) -> None:
    """Repeating an append, before or after a checkpoint, returns the same indices."""
    log = TileLog(tmp_path)
    assert log.append([b"a", b"b", b"a"]) == [0, 1, 0]
    assert log.append([b"b", b"c"]) == [1, 2]
    log.publish(KEY)
    assert log.append([b"c", b"d"]) == [2, 3]
    assert len(log) == 4
    # The comparison is with the newest 256 entries, or with as many as a call has.
    assert log.append(entries_of(0, 300)) == list(range(4, 304))
    assert log.append(entries_of(0, 300)) == list(range(4, 304))
    assert log.append([b"d", *entries_of(299, 300)]) == [304, 303]


def test_the_folder_has_the_files_of_the_specification(tmp_path: Path) -> None:
    """After a checkpoint, the folder has the tiles of every published size, the checkpoint, and no temporary files."""
    published(tmp_path, 3, 256, 258)
    found = set(files_of(tmp_path))
    assert found == {
        *("checkpoint", "lock", "tile/entries/000", "tile/0/000", "tile/1/000.p/1"),
        *("tile/entries/001.p/2", "tile/0/001.p/2"),
    }


def test_a_partial_tile_that_became_full_is_still_read(tmp_path: Path) -> None:
    """A reader of an earlier checkpoint still gets its entries and proofs, from the full tiles."""
    log = published(tmp_path, 5)
    before = (tmp_path / "checkpoint").read_bytes()
    log.append(entries_of(5, 300))
    log.publish(KEY)
    assert not (tmp_path / "tile/0/000.p").exists()
    reader = LogReader("earlier", lambda path: before if path == "checkpoint" else log.read_file(path))
    assert list(reader.entries(0, 5)) == entries_of(0, 5)
    assert is_included(leaf_hash(b"entry 0 "), 0, head_of(entries_of(0, 5)), reader.prove_inclusion(0).path)


def test_a_checkpoint_without_new_entries_stays(tmp_path: Path) -> None:
    """A second publication changes the log only if the log has a new key.

    With a new key, the same tree is signed again.
    """
    log = published(tmp_path, 5)
    before = files_of(tmp_path)
    log.publish(KEY)
    assert files_of(tmp_path) == before
    other = note_signer(seed=2)
    note = log.publish(other)
    assert note.is_signed_by(other.key)
    assert not note.is_signed_by(KEY.key)
    assert log.published.head() == head_of(entries_of(0, 5))


def test_witnesses_see_a_tree_that_is_on_the_disk(tmp_path: Path) -> None:
    """The witnesses get a request after the tiles were written; their signatures are in the published checkpoint."""
    log, witness = TileLog(tmp_path), note_signer("w.example", NoteAlgorithm.COSIGNATURE, seed=3)
    asked = []

    def ask(note: Note, read_node: ReadNode) -> Note:
        asked.append(log.published.head().size)
        assert tree_head(read_node, 9) == head_of(entries_of(0, 9)) == Checkpoint.parse(note.text).head
        return note.with_signatures(cosign(note.text, witness, time=77))

    log.append(entries_of(0, 9))
    log.publish(KEY, cosign=ask)
    note = log.published.note()
    assert note
    assert (asked, note.is_signed_by(KEY.key), note.cosigned_at(witness.key)) == ([0], True, 77)


def test_entries_are_appended_while_a_witness_is_asked(tmp_path: Path) -> None:
    """While a log waits for a slow witness, other threads can use the log.

    Entries that they append or publish meanwhile remain in the log.
    """
    log, other = TileLog(tmp_path), TileLog(tmp_path, timeout=0.1)
    log.append(entries_of(0, 300))

    def ask(note: Note, _: ReadNode) -> Note:
        assert other.append(entries_of(300, 305)) == list(range(300, 305))
        return note

    assert Checkpoint.parse(log.publish(KEY, cosign=ask).text).head == head_of(entries_of(0, 300))
    assert (log.published.head().size, list(log.entries())) == (300, entries_of(0, 305))

    def ask_of_faster(note: Note, _: ReadNode) -> Note:
        other.append(entries_of(305, 306))
        other.publish(KEY)
        return note

    assert Checkpoint.parse(log.publish(KEY, cosign=ask_of_faster).text).head == head_of(entries_of(0, 306))
    assert check_log(log.published, [KEY.key]).signer == KEY.key


def test_a_tree_that_a_witness_refuses_is_not_published(tmp_path: Path) -> None:
    """If a witness refuses, the published checkpoint does not change, and the appended entries remain in the log."""
    log = published(tmp_path, 3)
    before = log.published.note()

    def refuse(*_: object) -> Note:
        raise RefusedError("another history")

    log.append(entries_of(3, 9))
    with pytest.raises(RefusedError, match="another history"):
        log.publish(KEY, cosign=refuse)
    assert (log.published.note(), list(log.entries())) == (before, entries_of(0, 9))
    log.publish(KEY)
    assert log.published.head() == head_of(entries_of(0, 9))


@dataclass
class StoppingDisk(LogDisk):
    """A log's disk whose writer is stopped before a given step. A step is a write, a rename or a removal."""

    folder: Path
    stop_at: int
    steps: int = 0
    _changed: set[Path] = field(default_factory=set)

    def write(self, path: str, data: bytes) -> None:
        """Write a file, or stop when its temporary file has half of the data."""
        self._step(lambda: (self.folder / "new" / "half").write_bytes(data[: len(data) // 2]))
        super().write(path, data)

    def sync(self) -> None:
        """Flush the names to the disk, or stop before the flush."""
        self._step(lambda: None)
        super().sync()

    def remove(self, path: str) -> None:
        """Remove a file or folder, or stop when a part of the folder is removed."""
        found = sorted((self.folder / path).glob("*"))
        self._step(found[0].unlink if found else lambda: None)
        super().remove(path)

    def _step(self, leave: Callable[[], object]) -> None:
        if self.steps == self.stop_at:
            leave()
            raise KeyboardInterrupt
        self.steps += 1


BATCHES = (3, 250, 7, 300)
"""Sizes of batches. With them, the log crosses a full tile and ends inside a tile."""


def write_log(folder: Path, disk: LogDisk) -> None:
    """Write the log of `BATCHES`, with a checkpoint after every second batch, or continue a log that was stopped."""
    log, stop = TileLog(folder, disk=disk), 0
    for number, count in enumerate(BATCHES):
        start, stop = stop, stop + count
        if len(log) <= stop:  # a caller that was stopped repeats its last call
            assert log.append(entries_of(start, stop)) == list(range(start, stop))
        if len(log) == stop and number % 2:
            log.publish(KEY)


def steps_of_a_log(folder: Path) -> int:
    """Return the number of steps at which a writer of the log can be stopped."""
    disk = StoppingDisk(folder, stop_at=-1)
    write_log(folder, disk)
    return disk.steps


@pytest.mark.sampled
def test_a_writer_stopped_at_any_step_continues(tmp_path: Path) -> None:
    """A writer is stopped before each write and removal.

    After the stop, the next writer produces the same files as without a stop. After the stop, a reader sees a
    checkpoint, and all files of its tree are in the folder.
    """
    count = steps_of_a_log(tmp_path / "whole")
    whole = files_of(tmp_path / "whole")
    assert count > 25
    for stop in sampled(range(count), one_in=5):
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            write_log(folder, StoppingDisk(folder, stop_at=stop))
        reader = TileLog(folder).published
        size = reader.head().size
        assert reader.head() == head_of(entries_of(0, size))
        assert list(reader.entries(0, size)) == entries_of(0, size)

        write_log(folder, LogDisk(folder))
        assert files_of(folder) == whole, stop


def test_several_writers_take_turns(tmp_path: Path) -> None:
    """All entries of several concurrent writers are appended, each at the index that its writer was given."""
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(TileLog(tmp_path).append, entries_of(10 * n, 10 * n + 10)) for n in range(8)]
        given = [job.result() for job in jobs]
    stored = list(TileLog(tmp_path).entries())
    assert len(stored) == 80
    for number, indices in enumerate(given):
        assert [stored[index] for index in indices] == entries_of(10 * number, 10 * number + 10)


def test_entries_are_read_while_they_are_published(tmp_path: Path) -> None:
    """Although a publisher moves the entries meanwhile, a reader gets each entry once and in order."""
    log = published(tmp_path, 300)
    log.append(entries_of(300, 310))
    reading = TileLog(tmp_path).entries(298)
    begin = [next(reading) for _ in range(2)]
    log.publish(KEY)  # the reader knew the tree of 300 entries
    log.append(entries_of(310, 320))
    begin.append(next(reading))
    log.append(entries_of(320, 330))
    begin += [next(reading) for _ in range(10)]
    log.publish(KEY)  # the reader has listed the files of pending entries
    log.append(entries_of(330, 331))
    assert [*begin, *reading] == entries_of(298, 331)


def test_a_second_writer_does_not_wait_for_ever(tmp_path: Path) -> None:
    """If another process keeps a log locked, a writer gets an error, and readers are not affected."""
    log = published(tmp_path, 5)
    with exclusive_lock(tmp_path / "lock"), pytest.raises(StoreError, match="in use"):
        TileLog(tmp_path, timeout=0).append([b"x"])
    assert log.published.head().size == 5


def test_entries_that_are_too_large_are_refused(tmp_path: Path) -> None:
    """An entry has at most 65,535 bytes. If one entry is larger than 65,535 bytes, no entry of the call is appended."""
    log = TileLog(tmp_path)
    with pytest.raises(UsageError, match=r"65,536 bytes"):
        log.append([b"x", bytes(65_536)])
    assert len(log) == 0
    assert log.append([bytes(65_535)]) == [0]
    log.publish(KEY)
    assert log.published.prove_inclusion(0).entry == bytes(65_535)


def test_another_log_is_not_signed(tmp_path: Path) -> None:
    """The folder of a log belongs to one origin. A key with another name than the origin cannot sign the log."""
    log = published(tmp_path, 5)
    before = files_of(tmp_path)
    with pytest.raises(RefusedError, match=r"log.example/7.*other.example"):
        log.publish(note_signer("other.example"))
    assert files_of(tmp_path) == before


def flip(path: Path, place: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: flip(folder / "tile/0/001.p/44", 40), "do not belong to the root"),
        (lambda folder: flip(folder / "tile/1/000.p/1", 4), "do not belong to the root"),
        (lambda folder: (folder / "tile/0/001.p/44").unlink(), r"tile/0/001.p/44 is missing"),
        (lambda folder: (folder / "tile/0/001.p/44").write_bytes(b"x" * 32), "does not have 44"),
        (lambda folder: (folder / "tile/entries/001.p/44").write_bytes(b"\xff\xffx"), "inside an entry"),
        (lambda folder: flip(folder / "tile/entries/001.p/44", 5), "entries from 256 to 299 do not belong"),
        (lambda folder: (folder / "checkpoint").write_bytes(b"x"), "not a signed note"),
        (lambda folder: flip(folder / "checkpoint", -10), "base64|does not belong"),
        (lambda folder: (folder / "checkpoint").unlink(), "expected next"),
        (lambda folder: (folder / f"pending/{300:015}-5").rename(folder / f"pending/{302:015}-5"), "expected next"),
        (lambda folder: (folder / f"pending/{300:015}-5").write_bytes(b""), "has 0 entries"),
        (lambda folder: (folder / f"pending/{300:015}-5").write_bytes(b"\1"), "inside an entry"),
    ],
)
def test_a_damaged_log_is_not_signed(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    """A log with inconsistent files gets no new checkpoint. The error for inconsistent files names the fault."""
    log = published(tmp_path, 300)
    log.append(entries_of(300, 305))
    spoil(tmp_path)
    before = files_of(tmp_path)
    with pytest.raises(ContentError, match=words):
        log.publish(KEY)
    assert files_of(tmp_path) == before


def test_a_log_without_its_checkpoint_does_not_begin_again(tmp_path: Path) -> None:
    """A log whose checkpoint was lost is refused, because a new checkpoint would begin a second history."""
    log = published(tmp_path, 5)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(ContentError, match="neither a checkpoint"):
        log.append([b"first"])


def test_a_damaged_entry_is_not_proven(tmp_path: Path) -> None:
    """A changed entry in a bundle, or a changed tile, is detected before a proof is returned."""
    log = published(tmp_path, 300)
    flip(tmp_path / "tile/entries/000", 5)
    with pytest.raises(ContentError, match="does not belong"):
        log.published.prove_inclusion(0)
    flip(tmp_path / "tile/0/000", 5)
    with pytest.raises(ContentError, match=r"do not belong together|does not belong"):
        log.published.prove_consistency(100, 300)


def test_a_folder_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    """A file in place of the log's folder raises a StoreError."""
    (tmp_path / "log").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        TileLog(tmp_path / "log").append([b"x"])
