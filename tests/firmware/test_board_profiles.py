"""Each chip that can be simulated answers and behaves as its profile says."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_host.board import PROFILES, BoardProfile, SimulatedBoard
from firmware_host.board.profile import STM32F103RC

IMAGE = Path(__file__).parents[2] / "examples" / "bluepill" / "images" / "bluepill-1.0.0.bin"

every_chip = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


@every_chip
def test_the_rom_tells_the_chips_product_id(profile: BoardProfile) -> None:
    """Get ID answers the profile's id."""
    answer = SimulatedBoard(profile).feed(b"\x7f\x02\xfd")
    assert answer[3:5] == profile.product_id.to_bytes(2, "big")


@every_chip
def test_the_last_page_can_be_erased_and_no_other_is(profile: BoardProfile) -> None:
    """Pages have the profile's size."""
    last = profile.page_count - 1
    board = SimulatedBoard(profile, flash=bytes(profile.flash_size))
    board.feed(b"\x7f\x43\xbc" + bytes((0, last, last)))
    assert board.flash == bytes(last * profile.page_size) + b"\xff" * profile.page_size


@every_chip
def test_the_firmware_reads_the_chips_flash_size(profile: BoardProfile) -> None:
    """The example boots on every F103, and prints the factory's flash-size register."""
    board = SimulatedBoard(profile, flash=IMAGE.read_bytes())
    board.boot0 = False
    board.reset()
    # The stack of the example lies at the end of 20 KiB of RAM.
    fits = profile.ram_size >= 20 * 1024
    assert (b"(%d KiB flash" % (profile.flash_size // 1024) in board.run(0.01)) == fits


def test_the_last_protection_bit_of_a_high_density_chip_covers_the_rest() -> None:
    """Bit 31 protects everything from page 62 on (RM0008)."""
    board = SimulatedBoard(STM32F103RC)
    board.protect(pages=[0, 62])
    assert board.protected_pages == {0, 1, *range(62, 128)}
