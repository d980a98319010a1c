"""Another board replaces the first board at the port in the middle of a flash run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from blockota.errors import Action, BoardError, FlashProofError
from blockota.model.facts import Consent
from blockota.model.release import Version
from firmware_host.bench.session import ClearedBoard
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.journal import FlashJournal
from firmware_host.flashing.plan import Event, Finished, Programmed, Repeated
from firmware_host.simulator import PROFILES, SimulatedBoard
from tests.firmware_host.flash_scene import OLD, RunningLink, bench_on, code, known, proven
from tests.firmware_host.scripted_board import KIB

IMAGE, BEFORE = code(6 * KIB + 100), code(6 * KIB, seed=5)
FIRST, SECOND = bytes(11) + b"\xda", bytes(11) + b"\xdb"
GO = b"\x21\xde"
IDENTITY = 20
"""Length of the identity block in bytes."""
QUESTIONS = {b"\x7f", b"\x00\xff", b"\x02\xfd", b"\x11\xee", b"\x1f\xff\xf7\xe0\xf7", b"\x13\xec"}
"""The frames that the replacement board may receive: synchronisation, Get, Get ID, reads of its identity block."""


class Bed(RunningLink):
    """A link whose board can be replaced by another board during the test.

    Attributes:
        second: the replacement board.
        swap_at: the number of the Go command, counted from 1, after which the replacement board is connected; with 0,
            the test calls `swap`.
        heard: the frames sent to the replacement board.
        garbles: whether the next read of the identity block returns a wrong bit.
        awake: whether the bootloader of the replacement board is already synchronised when the board is connected.
    """

    def __init__(self, board: SimulatedBoard, second: SimulatedBoard) -> None:
        """Connect the first board."""
        super().__init__(board)
        self.second, self.swap_at, self.garbles, self.awake = second, 0, False, False
        self.heard: list[bytes] = []
        self._gos, self._is_swapped = 0, False

    def swap(self) -> None:
        """Connect the replacement board."""
        self._board, self._is_swapped, self.swap_at = self.second, True, 0
        self._received = self.second.connect()
        if self.awake:
            self.second.feed(b"\x7f")

    def write(self, data: bytes, /) -> None:
        """Send a frame to the connected board."""
        if self._is_swapped:
            self.heard.append(data)
        self._gos += data == GO
        super().write(data)
        if self.swap_at and self._gos == self.swap_at and len(data) == 5 and not self._is_swapped:
            acknowledged = super().read(1, timeout=1)
            self.swap()
            self._received = acknowledged + self._received

    def read(self, count: int, /, *, timeout: float) -> bytes:
        """Return the board's answer; if `garbles` is set, flip one bit of the identity block."""
        data = super().read(count, timeout=timeout)
        if self.garbles and count == IDENTITY:
            self.garbles = False
            return bytes((*data[:-1], data[-1] ^ 1))
        return data

    def restore(self, board: SimulatedBoard) -> None:
        """Reconnect the first board, and reset it."""
        self._board, self._is_swapped = board, False
        self._received = b""
        board.reset()


def boards(second: SimulatedBoard | None = None) -> tuple[SimulatedBoard, SimulatedBoard]:
    """Return a board with the older release, and a replacement board with other contents."""
    return SimulatedBoard(flash=BEFORE.data, unique_id=FIRST), second or SimulatedBoard(flash=OLD, unique_id=SECOND)


def cleared(bed: Bed, folder: Path, *, proof: Proof = Proof.STUB) -> ClearedBoard:
    """Return the board after it has passed checks 6 to 9."""
    before = proven(BEFORE, version=Version(1, 0, 0)).release
    journal = FlashJournal(folder, FIRST.hex())
    return bench_on(bed).examine(proven(IMAGE), known=known(before), journal=journal, proof=proof).clear(Consent())


def assert_identified_only(bed: Bed) -> None:
    """Assert that the replacement board received only identification requests."""
    assert bed.heard
    assert set(bed.heard) <= QUESTIONS


def completes(bed: Bed, board: SimulatedBoard, folder: Path) -> None:
    """Connect the first board again, and assert that a new run completes from the board's journal."""
    assert [*folder.iterdir()]
    bed.restore(board)
    assert isinstance([*cleared(bed, folder).flash()][-1], Finished)
    assert board.flash[: len(IMAGE.data)] == IMAGE.data


def test_another_board_at_the_proof_is_neither_proven_nor_written(tmp_path: Path) -> None:
    """If the board is replaced at the reset before the proof, the replacement board is not changed.

    The error contains both unique ids, and the first board can be completed later.
    """
    board, second = boards()
    bed = Bed(board, second)
    bed.swap_at = 2
    with pytest.raises(BoardError, match="another board answers on the simulated board") as swapped:
        list(cleared(bed, tmp_path).flash())
    assert FIRST.hex() in swapped.value.why
    assert SECOND.hex() in swapped.value.why
    assert "will not start a half written image" in swapped.value.why
    assert swapped.value.remedy.startswith("connect the first board again")
    assert swapped.value.action is Action.RESUME_FLASH
    assert_identified_only(bed)
    assert second.flash == OLD
    completes(bed, board, tmp_path)


def test_another_board_while_contents_are_read_is_reported(tmp_path: Path) -> None:
    """If the board is replaced while its contents are read, the run fails and writes no journal."""
    board, second = boards()
    bed = Bed(board, second)
    bed.swap_at = 1
    with pytest.raises(BoardError, match=r"another board answers .* nothing was changed") as swapped:
        cleared(bed, tmp_path)
    assert swapped.value.action is not Action.RESUME_FLASH
    assert_identified_only(bed)
    assert not [*tmp_path.iterdir()]


def test_a_board_of_another_family_is_asked_no_more(tmp_path: Path) -> None:
    """If the replacement board has another product id, the flasher does not read its identity block."""
    board, second = boards(SimulatedBoard(PROFILES["stm32f103c6"], unique_id=FIRST))
    bed = Bed(board, second)
    bed.swap_at = 2
    with pytest.raises(BoardError, match=r"the board of another family \(0x412\) answers now"):
        list(cleared(bed, tmp_path).flash())
    assert_identified_only(bed)
    assert b"\x11\xee" not in bed.heard


def test_another_board_after_a_silence_is_not_read_back(tmp_path: Path) -> None:
    """If the board is replaced during the hashing, the flasher detects this before it reads the flash back."""
    board, second = boards()
    bed = Bed(board, second)
    bed.swap_at = 2
    second.feed(b"\x7f\x11")  # the replacement waits within a frame, and refuses the first request
    with pytest.raises(BoardError, match="another board answers"):
        list(cleared(bed, tmp_path).flash())
    assert second.flash == OLD


def swapped_when(bed: Bed, ready: ClearedBoard, *, at: Callable[[Event], bool]) -> None:
    """Flash the board, and connect the synchronised replacement at the selected event."""
    bed.awake = True
    for event in ready.flash():
        if at(event):
            bed.swap()


def test_another_board_before_a_second_attempt_is_not_written(tmp_path: Path) -> None:
    """If another board answers during the proof, the run fails, and the image is not written a second time."""
    board, second = boards()
    bed = Bed(board, second)

    def at(event: Event) -> bool:
        return isinstance(event, Programmed) and event.done == event.total - 8

    with pytest.raises(BoardError, match="another board answers") as swapped:
        swapped_when(bed, cleared(bed, tmp_path, proof=Proof.READ_BACK), at=at)
    assert not isinstance(swapped.value, FlashProofError)
    assert second.flash == OLD
    completes(bed, board, tmp_path)


def test_another_board_after_the_checks_is_not_changed(tmp_path: Path) -> None:
    """If the board is replaced while the operator confirms the erase, the replacement board is not changed."""
    board, second = boards()
    bed = Bed(board, second)
    ready = cleared(bed, tmp_path)
    bed.awake = True
    bed.swap()
    with pytest.raises(BoardError, match=r"another board answers .* nothing was changed"):
        list(ready.flash())
    assert_identified_only(bed)
    assert not [*tmp_path.iterdir()]


def test_one_garbled_answer_is_not_another_board(tmp_path: Path) -> None:
    """If a line fault changes one bit of the board's identity, the identity is read again and the run continues."""
    board, second = boards()
    bed = Bed(board, second)
    ready = cleared(bed, tmp_path)
    bed.garbles = True
    kinds = {type(event) for event in ready.flash()}
    assert not bed.garbles
    assert Finished in kinds
    assert Repeated not in kinds
