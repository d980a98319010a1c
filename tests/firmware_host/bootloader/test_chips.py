"""The chip table agrees with ST's documents."""

from __future__ import annotations

from itertools import pairwise

import pytest

from blockota.cli.board_identify import UNVERIFIED
from firmware_host.bootloader.chips import FLASH_BASE, Chip, chips, chips_named, find_chip
from tests.firmware_host.scripted_board import KIB, chip

BLUE_PILL = 0x410
every_row = pytest.mark.parametrize("row", chips(), ids=lambda row: f"{row.product_id:#05x}")


def option_bytes(*write_protection: int) -> bytes:
    """Return the sixteen option bytes of an STM32F1 with the four given write-protection bytes."""
    pairs = (0xA5, 0xFF, 0xFF, 0xFF, *write_protection)
    return b"".join(bytes((value, value ^ 0xFF)) for value in pairs)


def test_the_blue_pill_matches_its_data_sheet() -> None:
    """The row of the STM32F103 matches DS5319 and AN2606: 1 KiB pages, 20 KiB of RAM, 512 bytes reserved."""
    found = chip(BLUE_PILL)
    assert found.ram == (range(0x2000_0000, 0x2000_5000),)
    assert found.bootloader_ram == range(0x2000_0200, 0x2000_5000)
    assert found.system_memory == range(0x1FFF_F000, 0x1FFF_F800)
    units = found.erase_units(64 * KIB)
    assert len(units) == 64
    assert (units[63].number, units[63].span) == (63, range(0x0800_FC00, 0x0801_0000))


def test_product_ids_are_unique() -> None:
    """Each product id occurs in one row only, and `find_chip` returns that row."""
    assert len({each.product_id for each in chips()}) == len(chips())
    assert all(find_chip(each.product_id) is each for each in chips())


def test_an_unknown_product_id_is_not_guessed() -> None:
    """`find_chip` returns None for an unknown product id."""
    assert find_chip(0x499) is None


@every_row
def test_every_unverified_field_has_a_text(row: Chip) -> None:
    """For each field of the chip table that can be unverified, `board identify` has a text."""
    assert set(row.unverified) <= set(UNVERIFIED)


@every_row
def test_erase_units_tile_the_largest_flash(row: Chip) -> None:
    """The pages or sectors of a chip are numbered from 0 and fill its flash without gap or overlap."""
    units = row.erase_units(row.flash_limit)
    assert [unit.number for unit in units] == list(range(len(units)))
    assert units[0].address == FLASH_BASE
    assert all(one.span.stop == other.address for one, other in pairwise(units))
    assert units[-1].span.stop == row.flash(row.flash_limit).stop


@every_row
def test_the_identity_block_can_be_read_at_once(row: Chip) -> None:
    """The identity block contains flash size and unique id, and fits into one Read Memory command."""
    if (block := row.identity) is None:
        assert row.family == "W"
        return
    assert len(block.span) <= 256
    words = {at + byte for at in block.unique_id for byte in range(4)}
    assert len(words) == 12
    assert words | {block.flash_size, block.flash_size + 1} <= set(block.span)


@every_row
def test_units_are_multiples_of_the_write_alignment(row: Chip) -> None:
    """The size of every page and of a 256-byte block is a multiple of the chip's write alignment."""
    assert all(unit.size % row.write_alignment == 0 for unit in row.erase_units(row.flash_limit))
    assert 256 % row.write_alignment == 0


def test_sectors_of_unequal_size_follow_the_reference_manual() -> None:
    """An STM32F407 has four sectors of 16 KiB, one of 64 KiB and seven of 128 KiB (RM0090)."""
    sizes = [unit.size // KIB for unit in chip(0x413).erase_units(1024 * KIB)]
    assert sizes == [16] * 4 + [64] + [128] * 7


def test_a_second_bank_begins_with_small_sectors_again() -> None:
    """The second flash bank of an STM32F427 begins with a 16 KiB sector, which has number 12 (RM0090)."""
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
    """Write-protected pages are decoded from the option bytes as PM0075 specifies.

    A bit with the value 0 protects its pages; bit 31 protects all pages after the pages of bit 30. A byte that differs
    from its inverted complement counts as 0xFF.
    """
    assert chip(product_id).write_protected_units(options, kib * KIB) == protected


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("STM32G071RBT6", {0x460}),
        ("f105", {0x418}),  # a row of its own decides against the pattern F10x
        ("STM32F103", {0x410, 0x412, 0x414, 0x430, 0x641}),
        ("STM32F103C8T6", {0x410}),  # the part number has the flash size: 8 is 64 KiB
        ("stm32f103rc", {0x414}),
        ("STM32F030", {0x440, 0x442, 0x444}),
        ("STM32F030C8", {0x440}),
        ("STM32F417", {0x413}),
        ("STM32F303RE", {0x446}),
        ("STM32L152", {0x416, 0x427, 0x429, 0x436, 0x437}),
        ("STM32L152RBT6", {0x416}),
        ("STM32L152RBT6A", {0x429}),
        ("STM32W108", {0x9A8, 0x9B0}),
        ("STM32F10x low-density", {0x412}),
        ("STM32", set()),
        ("ESP32", set()),
        ("", set()),
    ],
)
def test_a_chip_is_found_by_its_part_number(name: str, ids: set[int]) -> None:
    """A part number selects all rows of the chip table that fit the part.

    A row's full name selects this row, and an unknown name selects no row.
    """
    assert {row.product_id for row in chips_named(name)} == ids


def test_every_row_is_found_by_its_own_name() -> None:
    """The name of each row of the chip table selects exactly this row."""
    assert all(chips_named(row.name) == (row,) for row in chips())
