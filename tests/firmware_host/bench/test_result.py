"""The counters of good and bad boards."""

from __future__ import annotations

from blockota.errors import BoardError
from firmware_host.bench.result import BoardResult, Counters
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.plan import Finished, Summary

GOOD = Finished(bytes(32), "read-back", Summary())
BAD = BoardError("the board fell silent")


def identity_of(unique_id: str) -> BoardIdentity:
    """Return the identity of a board with a unique id."""
    return BoardIdentity(0x410, "2.2", None, unique_id=unique_id)


def good(identity: BoardIdentity | None) -> BoardResult:
    """Return the result of a board that was flashed."""
    return BoardResult("socket://rack:1", identity, finished=GOOD)


def bad(identity: BoardIdentity | None) -> BoardResult:
    """Return the result of a board that failed."""
    return BoardResult("socket://rack:1", identity, error=BAD)


def test_boards_are_counted_as_they_end() -> None:
    """The counters are shown after each board; of a repeated board, only the newest result counts."""
    counters, one, two = Counters(), identity_of("01"), identity_of("02")
    said = [counters.add(result) for result in (good(one), bad(two), good(two), bad(None), bad(None))]
    assert said == [
        "board 1: 1 good, 0 bad",
        "board 2: 1 good, 1 bad",
        "board 2 again: 2 good, 0 bad",
        "board 3: 2 good, 1 bad",
        "board 4: 2 good, 2 bad",
    ]
    assert str(counters) == "4 boards: 2 good, 2 bad, 1 repeated"
    assert counters.fields == {"boards": 4, "good": 2, "bad": 2, "repeated": 1}


def test_a_proven_board_without_a_log_line_is_bad() -> None:
    """A board whose run could not be logged does not count as good."""
    assert not BoardResult("socket://rack:1", identity_of("01"), finished=GOOD, error=BAD).is_good
    assert str(Counters()) == "0 boards: 0 good, 0 bad"
