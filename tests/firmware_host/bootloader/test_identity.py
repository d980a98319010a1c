"""Simulated boards are identified by product id, flash size, unique id and protection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.errors import BoardError, BoardProtocolError, RefusedError
from blockota.formats.firmware_image import FirmwareImage
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.flasher import carry_out
from firmware_host.flashing.plan import plan
from firmware_host.simulator import PROFILES, STM32F103C8, BoardProfile, Faults, SimulatedBoard
from tests.firmware_host.flash_scene import BASE, FLASH_SIZE, connected
from tests.firmware_host.scripted_board import KIB, chip
from tests.support.sampling import sampled


def test_a_board_is_identified() -> None:
    """Product id, bootloader, flash size, unique id and protection are read from the board."""
    identity = identify(connected(SimulatedBoard(unique_id=bytes(range(12)))))
    assert (identity.product_id, identity.bootloader_version, identity.chip) == (0x410, "2.2", chip())
    assert (identity.flash_size, identity.unique_id) == (FLASH_SIZE, bytes(range(12)).hex())
    assert (identity.readout_protected, identity.write_protected) == (False, ())


@pytest.mark.parametrize("double_nack", [0, 1])
def test_of_a_readout_protected_board_nothing_else_is_known(double_nack: int) -> None:
    """The identity of a readout-protected board contains only the product id, even if the board sends NACK twice."""
    board = SimulatedBoard(faults=Faults(double_nack=double_nack))
    board.protect(readout=True)
    bootloader = connected(board)
    identity = identify(bootloader)
    assert bootloader.product_id() == 0x410
    assert (identity.chip, identity.readout_protected) == (chip(), True)
    assert (identity.flash_size, identity.unique_id, identity.write_protected) == (None, None, None)


def test_write_protected_pages_are_ranges_of_addresses() -> None:
    """Adjacent write-protected pages are merged into one address range."""
    board = SimulatedBoard()
    board.protect(pages=[0, 5, 60])
    identity = identify(connected(board))
    assert identity.write_protected_pages == tuple(sorted(board.protected_pages))
    assert identity.write_protected == (range(BASE, BASE + 8 * KIB), range(BASE + 60 * KIB, BASE + 64 * KIB))


def test_of_an_unknown_chip_only_the_product_id_is_known() -> None:
    """The client sends no address to a chip that is not in the chip table."""
    bootloader = connected(SimulatedBoard(replace(STM32F103C8, product_id=0x499)))
    identity = identify(bootloader)
    with pytest.raises(RefusedError, match="chip is not identified yet"):
        bootloader.read(BASE, 4)
    assert (identity.product_id, identity.chip, identity.readout_protected) == (0x499, None, None)
    assert identity.write_protected is None


def test_noise_never_changes_the_identity() -> None:
    """If one bit of any answer flips, the result is an error or the right chip, size, unique id and protection."""
    right = identify(connected(SimulatedBoard()))
    outcomes: set[type] = set()
    for number in range(20, 120):
        try:
            found = identify(connected(SimulatedBoard(faults=Faults(flip_sent=number, seed=number))))
        except BoardError as error:
            outcomes.add(type(error))
        else:
            assert found == replace(right, bootloader_version=found.bootloader_version)
            outcomes.add(type(found))
    assert outcomes >= {BoardProtocolError, type(right)}


def test_an_impossible_flash_size_is_refused() -> None:
    """A flash size above the chip family's maximum is refused as a sign of a counterfeit or damaged chip."""
    bootloader = connected(SimulatedBoard(replace(STM32F103C8, flash_size=256 * KIB)))
    with pytest.raises(BoardProtocolError, match="reads 256 KiB, but the largest chip of the family has 128"):
        identify(bootloader)


@pytest.mark.sampled
@pytest.mark.parametrize("profile", sampled(list(PROFILES.values()), one_in=8), ids=lambda profile: profile.name)
def test_every_simulated_chip_is_identified_and_flashed_to_its_last_byte(profile: BoardProfile) -> None:
    """Every simulated chip is identified, and an image is written to the end of its flash."""
    board, data = SimulatedBoard(profile), bytes(range(1, 251)) * 9
    bootloader = connected(board)
    identity = identify(bootloader)
    assert (identity.product_id, identity.flash_size) == (profile.product_id, profile.flash_size)
    assert identity.chip is not None
    image = FirmwareImage(data, BASE + profile.flash_size - len(data), "bin")
    assert list(carry_out(plan(identity.chip, image, flash_size=profile.flash_size), bootloader))
    assert board.flash == data.rjust(profile.flash_size, profile.erased)
