"""What is erased and written, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import ImageError
from firmware_host.chips import Chip, find_chip
from firmware_host.flash_plan import FlashPlan, plan, without
from firmware_host.image import FirmwareImage

KIB = 1024
BASE = 0x0800_0000
FLASH_SIZE = 64 * KIB


def chip(product_id: int = 0x410) -> Chip:
    """The table's row, which must be there."""
    found = find_chip(product_id)
    assert found is not None
    return found


def code(size: int, *, at: int = BASE) -> FirmwareImage:
    """An image of a size."""
    return FirmwareImage(bytes(index % 251 for index in range(size)), at, "bin")


def planned(image: FirmwareImage) -> FlashPlan:
    """The plan for an STM32F103C8."""
    return plan(chip(), image, flash_size=FLASH_SIZE)


def test_only_the_units_of_the_image_are_erased() -> None:
    """Two pages and a byte take three pages, and the rest of the third is preserved."""
    found = planned(code(2 * KIB + 1, at=BASE + 4 * KIB))
    assert [unit.number for unit in found.units] == [4, 5, 6]
    assert found.preserved == (range(BASE + 6 * KIB + 1, BASE + 7 * KIB),)


def test_the_vector_table_is_erased_first_and_written_last() -> None:
    """The first unit comes first in the one order and last in the other, its first words by themselves."""
    found = planned(code(3 * KIB))
    assert found.units[0].address == BASE
    assert [block.start for block in found.blocks[-4:]] == [BASE + 0x300, BASE + 0x200, BASE + 0x100, BASE + 8]
    assert found.seal == range(BASE, BASE + 8)


@given(start=st.integers(0, FLASH_SIZE - 1), size=st.integers(1, FLASH_SIZE))
@settings(max_examples=60, deadline=None)
def test_every_address_of_the_units_is_written_once(start: int, size: int) -> None:
    """Blocks and seal tile the erased units: aligned, at most 256 bytes, none twice, none beyond."""
    found = planned(code(min(size, FLASH_SIZE - start), at=BASE + start))
    blocks = (*found.blocks, found.seal)
    assert sorted(address for block in blocks for address in block) == list(found.span)
    assert all(block.start % 4 == 0 and len(block) % 4 == 0 and len(block) <= 256 for block in blocks)
    covered = {address for span in (found.image.span, *found.preserved) for address in span}
    assert covered == set(found.span)


def test_sectors_of_unequal_size_are_planned_whole() -> None:
    """An image that reaches into a sector of 64 KiB erases it, and preserves what it does not need."""
    found = plan(chip(0x413), code(65 * KIB), flash_size=1024 * KIB)
    assert [unit.size // KIB for unit in found.units] == [16, 16, 16, 16, 64]
    assert found.preserved == (range(BASE + 65 * KIB, BASE + 128 * KIB),)


@pytest.mark.parametrize(("at", "size"), [(BASE - 4, 8), (BASE + FLASH_SIZE - 4, 8), (BASE + FLASH_SIZE, 4), (0, 4)])
def test_an_image_beside_the_flash_is_refused(at: int, size: int) -> None:
    """Nothing is planned that does not lie within the flash that the board has."""
    with pytest.raises(ImageError, match="within the board's flash"):
        planned(code(size, at=at))


def test_a_hole_can_be_cut_out_of_a_range() -> None:
    """What is left is in order, and never empty."""
    assert without(range(10), range(3, 5)) == (range(3), range(5, 10))
    assert without(range(10), range(10)) == ()
    assert without(range(4, 10), range(8)) == (range(8, 10),)
    assert without(range(4), range(6, 8)) == (range(4),)
