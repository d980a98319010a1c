"""A board's own image is written before the program.

After an interruption at any point, the flash lacks only bytes that the error names.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from blockota.errors import BlockOTAError, BoardError, RefusedError
from blockota.model.facts import Consent
from blockota.model.release import Region, Version
from blockota.shutdown import Stop
from firmware_host.bench.board_images import BoardImageJob, BoardImages, ImageState
from firmware_host.bench.image_command import ImageCommand
from firmware_host.bench.session import ClearedBoard
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.journal import FlashJournal
from firmware_host.simulator import Faults, SimulatedBoard
from tests.firmware_host.flash_scene import BASE, RunningLink, bench_on, code, known, proven
from tests.firmware_host.scripted_board import KIB
from tests.support.samples import PRODUCT
from tests.support.sampling import sampled

pytestmark = pytest.mark.sampled

OLD, NEW = code(2 * KIB + 200, seed=3), code(2 * KIB + 300, seed=7)
WANTED, BEFORE = proven(NEW), proven(OLD, version=Version(1, 0, 0))
KEYS = replace(PRODUCT, name="acme-keys", region=Region(BASE + 60 * KIB, 2 * KIB))
OFFSET = KEYS.region.start - BASE
IMAGE = hashlib.sha512(b"a board").digest() * 18
"""The image of the board: it fills the first page of its region, and a part of the second."""
UNIQUE_ID = "424c4f434b4f544100000001"
FAULTS = [
    *(Faults(power_cut_in_erase=number) for number in range(1, 5)),
    *(Faults(power_cut_in_program=number) for number in range(1, 1900, 31)),
    *(Faults(power_cut_after=number) for number in range(200, 9000, 173)),
    *(Faults(lost_ack=number) for number in range(8, 120, 7)),
    *(Faults(flip_sent=number) for number in range(300, 6000, 211)),
]


@dataclass
class Maker:
    """A bench that runs in the process of the test; its command prints a fixed image for the board.

    Attributes:
        folder: the folder of the journals and records.
        notes: the sentences for the operator.
    """

    folder: Path
    notes: list[str] = field(default_factory=list)

    def images(self, *, may_make_new: bool = False) -> BoardImages:
        """Return the board images as a new process would load them."""
        (self.folder / "image").write_bytes(IMAGE)
        program = f"import sys; sys.stdout.buffer.write(open({str(self.folder / 'image')!r}, 'rb').read())"
        command = ImageCommand((sys.executable, "-S", "-c", program))
        return BoardImages(self.folder / "records", command, may_make_new=may_make_new)

    def cleared(self, board: SimulatedBoard) -> ClearedBoard:
        """Connect the board, and return it after checks 6 to 9."""
        bench = bench_on(RunningLink(board))
        journal = FlashJournal(self.folder / "journals", UNIQUE_ID, operator="technician", now=lambda: 1_800_000_000)
        releases = known(WANTED.release, BEFORE.release)
        return bench.examine(WANTED, known=releases, journal=journal, proof=Proof.NO_STUB).clear(Consent())

    def flash(self, board: SimulatedBoard, images: BoardImages) -> None:
        """Write the board's own image and the program."""
        ready = self.cleared(board)
        BoardImageJob(images, ready, KEYS, Proof.NO_STUB, self.notes.append, print, Stop()).run()
        list(ready.flash())
        images.complete(UNIQUE_ID, WANTED.release)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Return a bench in a temporary folder."""
    return Maker(tmp_path)


def has_image(board: SimulatedBoard) -> bool:
    """Return whether the flash contains the board's own image."""
    return board.flash[OFFSET : OFFSET + len(IMAGE)] == IMAGE


def has_program(board: SimulatedBoard) -> bool:
    """Return whether the flash contains the new program."""
    return board.flash.startswith(NEW.data)


def reasons(error: BaseException | None) -> Iterator[str]:
    """Yield the text of an error and the texts of its causes."""
    while error:
        yield str(error)
        error = error.__cause__


@pytest.mark.parametrize("faults", sampled(FAULTS, one_in=12), ids=str)
def test_an_interruption_at_any_point_is_completed(maker: Maker, faults: Faults) -> None:
    """After any fault, a board that contains the new program also contains its own image.

    The next run completes the image and the program, or reports why it cannot.
    """
    board = SimulatedBoard(flash=OLD.data, faults=faults)
    error: BlockOTAError | None = None
    images = maker.images()
    try:
        maker.flash(board, images)
    except (RefusedError, BoardError) as failure:
        error = failure
    # Reconnect the cable and press reset, as the error advises.
    board.connect()
    board.reset()
    record = maker.images().find(UNIQUE_ID, KEYS.name)
    assert has_image(board) or not has_program(board)
    assert record or set(board.flash[OFFSET:]) == {0xFF}
    if error is None:
        assert (has_image(board), has_program(board)) == (True, True)
        assert record
        assert record.state is ImageState.COMPLETE
        assert not images.made
        return

    assert not any(IMAGE[at : at + 4].hex() in text for text in reasons(error) for at in range(0, len(IMAGE), 4))
    if record and record.state is ImageState.WRITTEN:
        assert has_image(board)
    if record and not has_image(board):
        assert not has_program(board)
        with pytest.raises(RefusedError, match="image that was made for this board is lost"):
            maker.flash(board, maker.images())
        assert board.flash.startswith(OLD.data)
    maker.flash(board, maker.images(may_make_new=not has_image(board)))
    assert (has_image(board), has_program(board)) == (True, True)
    kept = [path for path in maker.folder.rglob("*.json") if IMAGE[:8].hex() in path.read_text()]
    assert not kept


def test_other_data_in_the_pages_of_the_region_is_kept(maker: Maker) -> None:
    """Even with consent, a board's image is refused if its region begins in a page that contains other data."""
    board = SimulatedBoard(flash=OLD.data.ljust(OFFSET, b"\xff") + b"other")
    inside = replace(KEYS, region=Region(KEYS.region.start + 512, KIB))
    images = replace(maker.images(may_make_new=True), may_replace=True)
    job = BoardImageJob(images, maker.cleared(board), inside, Proof.NO_STUB, maker.notes.append, print, Stop())
    with pytest.raises(RefusedError, match=r"the page at 0x0800f000 .* contains other data"):
        job.run()
    assert board.flash[OFFSET:].startswith(b"other")


def test_a_region_may_begin_within_a_blank_page(maker: Maker) -> None:
    """If a board image's region begins within an otherwise blank page, the image is written."""
    board = SimulatedBoard(flash=OLD.data)
    inside = replace(KEYS, region=Region(KEYS.region.start + 512, 3 * KIB))
    BoardImageJob(maker.images(), maker.cleared(board), inside, Proof.NO_STUB, print, print, Stop()).run()
    assert board.flash[OFFSET + 512 :].startswith(IMAGE)


@pytest.mark.parametrize("number", range(8, 200, 6))
def test_an_interrupted_run_leaves_no_old_bytes_behind_the_image(maker: Maker, number: int) -> None:
    """If an interrupted run leaves old bytes after the board's image, the next run erases these bytes."""
    old = bytes(range(1, 200)) * 11
    flash = OLD.data.ljust(OFFSET, b"\xff") + old[: KEYS.region.size]
    board = SimulatedBoard(flash=flash, faults=Faults(lost_ack=number))
    images = replace(maker.images(), may_replace=True)
    with suppress(RefusedError, BoardError):
        maker.flash(board, images)
    board.connect()
    board.reset()
    maker.flash(board, replace(maker.images(may_make_new=not has_image(board)), may_replace=True))
    assert board.flash[OFFSET : OFFSET + KEYS.region.size] == IMAGE.ljust(KEYS.region.size, b"\xff")


def test_a_cut_off_image_is_completed_from_the_flash(maker: Maker) -> None:
    """If the flash contains the image of an interrupted run and old bytes after it, the next run keeps the image."""
    board, images = SimulatedBoard(flash=OLD.data), maker.images()
    maker.flash(board, images)
    record = images.find(UNIQUE_ID, KEYS.name)
    assert record
    images.write(replace(record, state=ImageState.MADE))
    left = SimulatedBoard(flash=board.flash[: OFFSET + len(IMAGE)] + b"an old key")
    maker.flash(left, replace(maker.images(), command=None))
    assert left.flash[OFFSET : OFFSET + KEYS.region.size] == IMAGE.ljust(KEYS.region.size, b"\xff")


def test_what_the_program_writes_behind_the_image_is_kept(maker: Maker) -> None:
    """After a complete run, the program may store data in the rest of the image's region.

    A later run does not change these data.
    """
    board = SimulatedBoard(flash=OLD.data)
    maker.flash(board, maker.images())
    used = SimulatedBoard(flash=board.flash[: OFFSET + len(IMAGE)] + b"a counter")
    maker.flash(used, maker.images())
    assert used.flash[OFFSET + len(IMAGE) :].startswith(b"a counter")


def test_a_chip_that_is_erased_as_a_whole_has_no_own_image(maker: Maker) -> None:
    """A chip whose page size is unknown is erased as a whole, so the bench refuses to write a board's own image."""
    cleared = maker.cleared(SimulatedBoard(flash=OLD.data))
    found = cleared.board.identity
    assert found.chip
    whole = replace(found.chip, layout=((1, found.chip.flash_limit),))
    cleared = replace(cleared, board=replace(cleared.board, identity=replace(found, chip=whole)))
    with pytest.raises(RefusedError, match=r"a board with this chip cannot have an image of its own.*whole flash"):
        BoardImageJob(maker.images(), cleared, KEYS, Proof.NO_STUB, print, print, Stop()).run()


def test_a_request_to_stop_before_the_command_changes_nothing(maker: Maker) -> None:
    """If the operator stops the run before the image is made, the flash is unchanged and no record is written."""
    board, stop, images = SimulatedBoard(flash=OLD.data), Stop(), maker.images()
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        BoardImageJob(images, maker.cleared(board), KEYS, Proof.NO_STUB, maker.notes.append, print, stop).run()
    assert images.find(UNIQUE_ID, KEYS.name) is None
    assert board.flash.startswith(OLD.data)


def test_a_run_without_a_command_is_refused(maker: Maker) -> None:
    """If a board needs its own image and the command for the image is missing, the board is refused."""
    images = replace(maker.images(), command=None)
    with pytest.raises(BlockOTAError, match="the command that makes the image of acme-keys for this board is missing"):
        maker.flash(SimulatedBoard(), images)
