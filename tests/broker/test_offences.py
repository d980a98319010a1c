"""A broker sends no requests to a source for some time after the source has served wrong blocks."""

from __future__ import annotations

import pytest

from blockota.broker.offences import Offence, skipped_until
from blockota.formats.cid import CID, RAW

SOURCE, OTHER = "https://vendor.example", "https://other.example"
FILES = [CID.of(RAW, bytes([number])) for number in range(12)]
NOW = 1_000_000.0


def test_one_wrong_block_leaves_out_one_file() -> None:
    """After one wrong block of a file, a source gets no requests for this file for a minute."""
    found = [Offence(SOURCE, FILES[0], NOW)]
    assert skipped_until(found, SOURCE, FILES[0]) == NOW + 60
    assert skipped_until(found, SOURCE, FILES[1]) == 0
    assert skipped_until(found, OTHER, FILES[0]) == 0
    assert skipped_until([], SOURCE, FILES[0]) == 0


@pytest.mark.parametrize(("count", "minutes"), [(1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (20, 60)])
def test_the_pause_doubles_up_to_an_hour(count: int, minutes: int) -> None:
    """Each further wrong block doubles the pause, up to an hour; the pause begins at the newest wrong block."""
    found = [Offence(SOURCE, FILES[0], NOW + number) for number in range(count)]
    assert skipped_until(found, SOURCE, FILES[0]) == NOW + count - 1 + 60 * minutes
    assert skipped_until(found, SOURCE, FILES[1]) == 0


@pytest.mark.parametrize(("count", "minutes"), [(2, 0), (3, 1), (4, 2), (5, 4), (9, 60), (11, 60)])
def test_three_files_within_an_hour_leave_out_the_source(count: int, minutes: int) -> None:
    """After wrong blocks of three files within an hour, a source gets no requests for any file."""
    found = [Offence(SOURCE, cid, NOW + number) for number, cid in enumerate(FILES[:count])]
    expected = NOW + count - 1 + 60 * minutes if minutes else 0
    assert skipped_until(found, SOURCE, FILES[-1]) == expected
    assert skipped_until(reversed(found), SOURCE, FILES[-1]) == expected


def test_wrong_blocks_of_another_hour_do_not_count() -> None:
    """A source whose wrong blocks of three files spread over an hour still gets requests for the third file."""
    found = [Offence(SOURCE, cid, NOW + 1800.0 * number) for number, cid in enumerate(FILES[:3])]
    assert skipped_until(found, SOURCE, FILES[-1]) == 0
