"""What a board says of itself, and what is left unknown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from blockota.errors import BoardProtocolError, RefusedError
from blockota.formats.firmware_image import FirmwareImage
from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.flasher import carry_out
from firmware_host.flashing.plan import plan
from firmware_host.line.link import open_link
from firmware_host.simulator import PROFILES, STM32F103C8, BoardProfile, Faults, SimulatedBoard, serve_tcp

KIB = 1024
BASE = 0x0800_0000
FLASH_SIZE = 64 * KIB


def chip(product_id: int = 0x410) -> Chip:
    """The table's row, which must be there."""
    found = find_chip(product_id)
    assert found is not None
    return found


@contextmanager
def connected(board: SimulatedBoard) -> Iterator[Bootloader]:
    """A client that has found the board."""
    with serve_tcp(board) as url:
        bootloader = Bootloader(open_link(url))
        bootloader.connect()
        try:
            yield bootloader
        finally:
            bootloader.link.close()


def test_a_board_is_identified() -> None:
    """Product id, bootloader, flash size, unique id and protection are read from the board itself."""
    with connected(SimulatedBoard(unique_id=bytes(range(12)))) as bootloader:
        identity = identify(bootloader)
    assert (identity.product_id, identity.bootloader_version, identity.chip) == (0x410, "2.2", chip())
    assert (identity.flash_size, identity.unique_id) == (FLASH_SIZE, bytes(range(12)).hex())
    assert (identity.readout_protected, identity.write_protected) == (False, ())


@pytest.mark.parametrize("double_nack", [0, 1])
def test_a_readout_protected_board_tells_no_more(double_nack: int) -> None:
    """What cannot be read is unknown, and not guessed; a board that refuses twice is no different."""
    board = SimulatedBoard(faults=Faults(double_nack=double_nack))
    board.protect(readout=True)
    with connected(board) as bootloader:
        identity = identify(bootloader)
        assert bootloader.product_id() == 0x410
    assert (identity.chip, identity.readout_protected) == (chip(), True)
    assert (identity.flash_size, identity.unique_id, identity.write_protected) == (None, None, None)


def test_write_protected_pages_are_ranges_of_addresses() -> None:
    """Neighbouring protected pages are one range."""
    board = SimulatedBoard()
    board.protect(pages=[0, 5, 60])
    with connected(board) as bootloader:
        identity = identify(bootloader)
    assert identity.write_protected_pages == tuple(sorted(board.protected_pages))
    assert identity.write_protected == (range(BASE, BASE + 8 * KIB), range(BASE + 60 * KIB, BASE + 64 * KIB))


def test_an_unknown_product_id_is_told_and_nothing_is_guessed() -> None:
    """The answer names the id; no address is sent to a chip that is not in the table."""
    with connected(SimulatedBoard(replace(STM32F103C8, product_id=0x499))) as bootloader:
        identity = identify(bootloader)
        with pytest.raises(RefusedError, match="chip is not known"):
            bootloader.read(BASE, 4)
    assert (identity.product_id, identity.chip, identity.readout_protected) == (0x499, None, None)
    assert identity.write_protected is None


def test_an_impossible_flash_size_is_refused() -> None:
    """A register that says more than the family's largest is a copy's, or damaged."""
    board = SimulatedBoard(replace(STM32F103C8, flash_size=256 * KIB))
    with (
        connected(board) as bootloader,
        pytest.raises(BoardProtocolError, match="says 256 KiB, the largest of the family has 128"),
    ):
        identify(bootloader)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_every_simulated_chip_is_known_and_flashed_to_its_last_byte(profile: BoardProfile) -> None:
    """The table's pages and the flash size are the board's own: an image at the very end goes in."""
    board, data = SimulatedBoard(profile), bytes(range(1, 251)) * 9
    with connected(board) as bootloader:
        identity = identify(bootloader)
        assert (identity.product_id, identity.flash_size) == (profile.product_id, profile.flash_size)
        assert identity.chip is not None
        image = FirmwareImage(data, BASE + profile.flash_size - len(data), "bin")
        assert list(carry_out(plan(identity.chip, image, flash_size=profile.flash_size), bootloader))
    assert board.flash == data.rjust(profile.flash_size, profile.erased)
