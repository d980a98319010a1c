"""A board's flash is searched for known releases, by reading it or by hashing on the chip."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.model.release import Release, Version
from firmware_host.bench.session import FlashFindings
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.flash_scene import BASE, EXAMPLES, RunningLink, bench_on, code
from tests.support.samples import release_of

LOADER, PROGRAM = code(600), code(700, at=BASE + 0x1000, seed=2)
LARGE = (EXAMPLES / "bluepill-1.2.0.bin").read_bytes()
KNOWN = [
    release_of(LOADER.data, product="loader"),
    release_of(code(600, seed=3).data, product="loader", version=Version(2, 0, 0)),
    release_of(PROGRAM.data, product="program", load_address=BASE + 0x1000),
    release_of(LARGE, product="large"),
]


def search(flash: bytes, known: list[Release]) -> FlashFindings | None:
    """Search the flash of a simulated board with these contents."""
    return bench_on(RunningLink(SimulatedBoard(flash=flash))).search(known)


@pytest.mark.parametrize(
    ("flash", "found"),
    [
        (LOADER.data.ljust(0x1000, b"\xff") + PROGRAM.data, ["loader", "program"]),
        (bytes(0x1000) + PROGRAM.data, ["program"]),
        (LARGE, ["large"]),
        (bytes(600), []),
        (b"", []),
    ],
    ids=["two", "behind", "large", "unknown", "blank"],
)
def test_a_search_finds_the_releases_in_a_flash(flash: bytes, found: list[str]) -> None:
    """All releases are found, each at its address. A flash without a release is reported as blank or not blank."""
    seen = search(flash, KNOWN)
    assert seen is not None
    assert ([one.product for one in seen.releases], seen.is_blank) == (found, not flash)


def test_a_board_is_not_read_for_releases_that_cannot_be_on_it() -> None:
    """The search leaves out releases for another chip, and releases that end beyond the flash."""
    elsewhere = [replace(KNOWN[0], chip_id=0x413), replace(KNOWN[0], load_address=BASE + 0x1_0000)]
    assert search(LOADER.data, elsewhere) is None
