"""A run interrupted by power, cable, a lost answer or the operator is completed from its journal."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.errors import BlockOTAError, BoardError, RefusedError
from blockota.formats.firmware_image import FirmwareImage
from blockota.model.facts import Consent
from blockota.model.release import Version
from firmware_host.bench.session import ClearedBoard
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.journal import FlashJournal
from firmware_host.flashing.plan import Finished, Programmed
from firmware_host.simulator import Faults, SimulatedBoard
from tests.firmware_host.flash_scene import BASE, RunningLink, bench_on, code, known, proven
from tests.firmware_host.scripted_board import KIB
from tests.support.sampling import sampled

FULL = code(2 * KIB + 300, seed=7)
NEW = FirmwareImage(FULL.data[:KIB] + b"\xff" * 700 + FULL.data[KIB + 700 :], BASE, "bin")
"""The image to install: three pages, of which the second is mostly blank and the last is not full."""
OLD = code(2 * KIB + 200, seed=3)
BESIDE = b"\xff" * 40 + bytes(range(1, 200))
AT = 2 * KIB + 500
CONTENTS = OLD.data.ljust(AT, b"\xff") + BESIDE.ljust(64 * KIB - AT, b"\x11")
WANTED, BEFORE = proven(NEW), proven(OLD, version=Version(1, 0, 0))
PROOFS = [Proof.NO_STUB, Proof.STUB]


def cleared(board: SimulatedBoard, folder: Path, *, proof: Proof) -> ClearedBoard:
    """Connect the board, and return it after checks 6 to 9."""
    bench = bench_on(RunningLink(board))
    journal = FlashJournal(folder, bench.identity.unique_id or "", operator="technician", now=lambda: 1_800_000_000)
    releases = known(WANTED.release, BEFORE.release)
    return bench.examine(WANTED, known=releases, journal=journal, proof=proof).clear(Consent())


def flash(board: SimulatedBoard, folder: Path, *, proof: Proof) -> Finished:
    """Flash the image, and return the result after check 10."""
    ready = cleared(board, folder, proof=proof)
    *_, end = ready.flash()
    assert isinstance(end, Finished)
    assert ready.prove_flash(end).number == 10
    return end


def whole(board: SimulatedBoard) -> bool:
    """Return whether the flash contains the image and the original bytes beside it."""
    return board.flash == NEW.data + CONTENTS[len(NEW.data) :]


def outcome(faults: Faults, folder: Path, *, proof: Proof) -> str:
    """Flash a board with a fault; if flashing fails, check the state in the error, and resume the run."""
    board = SimulatedBoard(flash=CONTENTS, faults=faults)
    try:
        flash(board, folder, proof=proof)
    except BoardError as error:
        message = str(error)
    else:
        assert whole(board)
        assert not list(folder.iterdir())
        return "done"
    left = board.flash
    was_changed = "No bootloader" not in message and left != CONTENTS
    assert list(folder.iterdir()) or not was_changed
    assert "complete the run" in message or not was_changed
    # Reconnect the cable and press reset, as the error advises.
    board.connect()
    board.reset()
    flash(board, folder, proof=proof)
    assert whole(board), message
    assert not list(folder.iterdir())
    return _state(left, message)


def _state(left: bytes, message: str) -> str:
    """Return the state that the error reports, after comparing it with the flash."""
    states = {
        "nothing was changed": left == CONTENTS,
        "what the board will start": left[KIB:] == CONTENTS[KIB:],
        "will not start a half written image": left[:8] == b"\xff" * 8,
        "whether those are written is unknown": left[8 : len(NEW.data)] == NEW.data[8:],
        "its first words are not proven": left[: len(NEW.data)] == NEW.data,
        "proven to contain the image": left[: len(NEW.data)] == NEW.data,
    }
    stated = [words for words in states if words in message]
    assert len(stated) == 1 or left == CONTENTS, message
    assert all(states[words] for words in stated), message
    return stated[0] if stated else "nothing was changed"


def ladder(name: str, *, step: int = 1, folder: Path, proof: Proof) -> Counter[str]:
    """Run with a fault at each position in turn, until a run ends before its fault; count the outcomes."""
    outcomes: Counter[str] = Counter()
    first = sampled(range(1, step + 1), one_in=step)[0]
    for number in itertools.count(first, step):
        outcomes[outcome(Faults(**{name: number}, seed=number), folder, proof=proof)] += 1
        if outcomes["done"]:
            return outcomes
    raise AssertionError


@pytest.mark.sampled
@pytest.mark.parametrize("proof", PROOFS, ids=["read-back", "stub"])
def test_a_power_cut_within_every_erase_is_resumed(proof: Proof, tmp_path: Path) -> None:
    """A run whose power is cut in any of its three page erases can be resumed."""
    outcomes = ladder("power_cut_in_erase", folder=tmp_path, proof=proof)
    assert outcomes == {"what the board will start": 1, "will not start a half written image": 2, "done": 1}


@pytest.mark.sampled
@pytest.mark.parametrize("fault", ["power_cut_before_program", "power_cut_in_program"])
@pytest.mark.parametrize("proof", PROOFS, ids=["read-back", "stub"])
def test_a_power_cut_at_every_block_is_resumed(fault: str, proof: Proof, tmp_path: Path) -> None:
    """A run whose power is cut before or within the programming of a half-word can be resumed."""
    outcomes = ladder(fault, step=151, folder=tmp_path, proof=proof)
    assert outcomes["will not start a half written image"] > 6
    assert set(outcomes) <= {"will not start a half written image", "whether those are written is unknown", "done"}


@pytest.mark.parametrize("fault", ["power_cut_before_program", "power_cut_in_program"])
@pytest.mark.parametrize("number", range(4))
def test_a_power_cut_in_the_first_words_is_resumed(fault: str, number: int, tmp_path: Path) -> None:
    """A run whose power is cut in one of the last four half-words can be resumed."""
    last = _programs() - number
    message = outcome(Faults(**{fault: last}), tmp_path, proof=Proof.STUB)
    assert message == "whether those are written is unknown"


def _programs() -> int:
    """Return the number of half-words that the run programs; blank blocks are not programmed."""
    pages = [CONTENTS[at : at + 256] for at in range(0, 3 * KIB, 256)]
    wanted = NEW.data + CONTENTS[len(NEW.data) : 3 * KIB]
    blocks = [wanted[at : at + 256] for at in range(0, len(wanted), 256)]
    assert len(pages) == len(blocks)
    return sum(len(block) // 2 for block in blocks if block.strip(b"\xff"))


@pytest.mark.sampled
@pytest.mark.parametrize("fault", ["power_cut_after", "silent_after", "unplug_after_sent"])
@pytest.mark.parametrize("proof", PROOFS, ids=["read-back", "stub"])
def test_a_run_that_is_cut_anywhere_is_resumed(fault: str, proof: Proof, tmp_path: Path) -> None:
    """A run that loses power or its cable at any byte can be resumed."""
    # A board that is hashed on the chip sends only 130 to 150 bytes while its image is half written.
    step = 31 if fault == "unplug_after_sent" and proof is Proof.STUB else 401
    outcomes = ladder(fault, step=step, folder=tmp_path, proof=proof)
    assert outcomes["will not start a half written image"] > 3


@pytest.mark.sampled
@pytest.mark.parametrize("proof", PROOFS, ids=["read-back", "stub"])
def test_every_lost_acknowledgement_is_resumed(proof: Proof, tmp_path: Path) -> None:
    """A run that loses any single acknowledgement can be resumed."""
    every = range(1, _answers(proof))
    numbers = sampled(every, one_in=9)
    outcomes = Counter(outcome(Faults(lost_ack=number), tmp_path, proof=proof) for number in numbers)
    states = {
        "nothing was changed",
        "what the board will start",
        "will not start a half written image",
        "whether those are written is unknown",
        "its first words are not proven",
    }
    assert states >= set(outcomes) - {"done", "proven to contain the image"}
    assert set(outcomes) >= states or len(numbers) < len(every)


def _answers(proof: Proof) -> int:
    """Return an upper bound for the number of acknowledgements in a run."""

    class Counting(RunningLink):
        """A link that counts the acknowledgements that the sent frames need."""

        frames = 16

        def write(self, data: bytes, /) -> None:
            """Count the frame's acknowledgements, and send the frame."""
            self.frames += 1 + (data == b"\x02\xfd")
            super().write(data)

    link = Counting(SimulatedBoard(flash=CONTENTS))
    releases = known(WANTED.release, BEFORE.release)
    assert list(bench_on(link).examine(WANTED, known=releases, proof=proof).clear(Consent()).flash())
    return link.frames


def test_a_resumed_run_that_is_cut_is_resumed_as_well(tmp_path: Path) -> None:
    """A run that is interrupted three times can be resumed."""
    for first, third in itertools.product((1, 2, 3), (5, 300, 500)):
        left = cut_short(CONTENTS, Faults(power_cut_in_erase=first, seed=first), tmp_path)
        left = cut_short(left, Faults(power_cut_in_erase=1, seed=third), tmp_path)
        left = cut_short(left, Faults(power_cut_in_program=third), tmp_path)
        board = SimulatedBoard(flash=left)
        flash(board, tmp_path, proof=Proof.STUB)
        assert whole(board)


def cut_short(contents: bytes, faults: Faults, folder: Path) -> bytes:
    """Return the flash that a run leaves when a fault interrupts it."""
    board = SimulatedBoard(flash=contents, faults=faults)
    with pytest.raises(BoardError):
        flash(board, folder, proof=Proof.STUB)
    return board.flash


def interruptions(board: SimulatedBoard, folder: Path) -> Iterator[str]:
    """Flash repeatedly, and press Ctrl-C one event later in each run; yield the texts of the errors."""
    for count in itertools.count():
        events = cleared(board, folder, proof=Proof.STUB).flash()
        if isinstance(next(itertools.islice(events, count, None), None), (Finished, type(None))):
            return
        try:
            events.throw(KeyboardInterrupt())
        except BoardError as error:
            yield str(error)


def test_control_c_at_every_event_is_resumed(tmp_path: Path) -> None:
    """A run that is interrupted by Ctrl-C at each event in turn is completed in the end."""
    board = SimulatedBoard(flash=CONTENTS)
    messages = list(interruptions(board, tmp_path))
    assert whole(board)
    assert len(messages) > 6
    assert all("flashing was interrupted" in message for message in messages)


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_cut_in_the_erase_of_everything_is_resumed(cut: int, seed: int, tmp_path: Path) -> None:
    """A run whose power is cut in the first page erase or in the mass erase can be resumed."""
    whole_flash = proven(code(64 * KIB, seed=7))
    board = SimulatedBoard(flash=code(64 * KIB, seed=3).data, faults=Faults(power_cut_in_erase=cut, seed=seed))
    releases = known(proven(code(64 * KIB, seed=3), version=Version(1, 0, 0)).release)

    def run() -> None:
        bench = bench_on(RunningLink(board))
        journal = FlashJournal(tmp_path, bench.identity.unique_id or "")
        assert isinstance(
            [*bench.examine(whole_flash, known=releases, journal=journal).clear(Consent()).flash()][-1], Finished
        )

    with pytest.raises(BoardError, match=f"erased {cut - 1} of 64 pages"):
        run()
    run()
    assert board.flash == whole_flash.image


def test_a_half_erased_board_is_unknown_without_its_journal(tmp_path: Path) -> None:
    """If its journal is missing, a half-erased board counts as unknown contents and is refused."""
    board = SimulatedBoard(flash=CONTENTS, faults=Faults(power_cut_in_erase=3))
    with pytest.raises(BoardError):
        flash(board, tmp_path, proof=Proof.STUB)
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(RefusedError, match="has unknown contents"):
        flash(board, tmp_path, proof=Proof.STUB)


def test_the_bytes_beside_the_image_come_from_the_journal(tmp_path: Path) -> None:
    """Bytes beside the image that are already erased are restored from the journal."""
    board = SimulatedBoard(flash=CONTENTS)
    events = cleared(board, tmp_path, proof=Proof.STUB).flash()
    next(event for event in events if isinstance(event, Programmed))
    events.close()
    assert board.flash[AT : 3 * KIB] == b"\xff" * (3 * KIB - AT)
    assert flash(board, tmp_path, proof=Proof.STUB).summary.erased.units == 0 or whole(board)
    assert whole(board)


def test_nothing_is_erased_without_a_journal_on_the_disk(tmp_path: Path) -> None:
    """If the journal cannot be written, no page is erased."""
    board = SimulatedBoard(flash=CONTENTS)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlockOTAError, match="the journal of the run cannot be written") as refused:
        flash(board, tmp_path / "file", proof=Proof.STUB)
    assert refused.value.exit_status == 3
    assert board.flash == CONTENTS
