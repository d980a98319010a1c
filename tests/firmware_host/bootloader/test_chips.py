"""The chip table against ST's documents."""

from __future__ import annotations

from itertools import pairwise

import pytest

from firmware_host.bootloader.chips import CHIPS, FLASH_BASE, Chip, find_chip
from tests.firmware_host.scripted_board import KIB, chip

BLUE_PILL = 0x410


def option_bytes(*write_protection: int) -> bytes:
    """The sixteen option bytes of an STM32F1 with these four write-protection bytes."""
    pairs = (0xA5, 0xFF, 0xFF, 0xFF, *write_protection)
    return b"".join(bytes((value, value ^ 0xFF)) for value in pairs)


def test_the_blue_pill_matches_its_data_sheet() -> None:
    """DS5319 and AN2606: pages of 1 KiB, 20 KiB RAM of which the bootloader keeps 512 bytes."""
    found = chip(BLUE_PILL)
    assert found.ram == range(0x2000_0000, 0x2000_5000)
    assert found.bootloader_ram == range(0x2000_0200, 0x2000_5000)
    assert found.system_memory == range(0x1FFF_F000, 0x1FFF_F800)
    units = found.erase_units(64 * KIB)
    assert len(units) == 64
    assert (units[63].number, units[63].span) == (63, range(0x0800_FC00, 0x0801_0000))


def test_product_ids_are_unique() -> None:
    """Each product id has one row, under which it is found."""
    assert len({each.product_id for each in CHIPS}) == len(CHIPS)
    assert all(find_chip(each.product_id) is each for each in CHIPS)


def test_an_unknown_product_id_is_not_guessed() -> None:
    """An unknown product id has no row."""
    assert find_chip(0x499) is None


@pytest.mark.parametrize("row", CHIPS, ids=lambda row: row.name)
def test_erase_units_tile_the_largest_flash(row: Chip) -> None:
    """Units follow each other without gap or overlap, are numbered from 0, and fill the flash."""
    units = row.erase_units(row.flash_limit)
    assert [unit.number for unit in units] == list(range(len(units)))
    assert units[0].address == FLASH_BASE
    assert all(one.span.stop == other.address for one, other in pairwise(units))
    assert units[-1].span.stop == row.flash(row.flash_limit).stop


@pytest.mark.parametrize("row", CHIPS, ids=lambda row: row.name)
def test_the_identity_block_can_be_read_at_once(row: Chip) -> None:
    """Flash size and unique id lie inside the block, which is no longer than one read."""
    block = row.identity
    assert len(block.span) <= 256
    assert {block.flash_size, block.flash_size + 1, block.unique_id, block.unique_id + 11} <= set(block.span)


@pytest.mark.parametrize("row", CHIPS, ids=lambda row: row.name)
def test_units_are_multiples_of_the_write_alignment(row: Chip) -> None:
    """Blocks cut from a unit are therefore aligned, and so is each block of 256 bytes."""
    assert all(unit.size % row.write_alignment == 0 for unit in row.erase_units(row.flash_limit))
    assert 256 % row.write_alignment == 0


def test_sectors_of_unequal_size_follow_the_reference_manual() -> None:
    """RM0090: an STM32F407 has four sectors of 16 KiB, one of 64 and seven of 128."""
    sizes = [unit.size // KIB for unit in chip(0x413).erase_units(1024 * KIB)]
    assert sizes == [16] * 4 + [64] + [128] * 7


def test_a_second_bank_begins_with_small_sectors_again() -> None:
    """RM0090: sector 12 of an STM32F427 with 2 MiB is the second bank's first, of 16 KiB."""
    units = chip(0x419).erase_units(2048 * KIB)
    assert (len(units), units[12].size, units[12].address) == (24, 16 * KIB, 0x0810_0000)


@pytest.mark.parametrize(
    ("product_id", "kib", "options", "protected"),
    [
        (BLUE_PILL, 64, option_bytes(0xFF, 0xFF, 0xFF, 0xFF), ()),
        (BLUE_PILL, 64, option_bytes(0xFE, 0x7F, 0xFF, 0xFF), (0, 1, 2, 3, 60, 61, 62, 63)),
        (0x414, 512, option_bytes(0xFF, 0xFF, 0xFF, 0x7F), tuple(range(62, 256))),
        (BLUE_PILL, 64, b"\xff" * 16, ()),
        (BLUE_PILL, 64, bytes(16), ()),
        (0x413, 1024, bytes(16), None),
    ],
    ids=["factory", "four pages a bit", "last bit", "erased", "wrong complements", "unknown format"],
)
def test_write_protection_is_read(product_id: int, kib: int, options: bytes, protected: tuple[int, ...] | None) -> None:
    """PM0075: a clear bit protects; bit 31 covers the rest; a byte unlike its complement counts as 0xFF."""
    assert chip(product_id).write_protected_units(options, kib * KIB) == protected
