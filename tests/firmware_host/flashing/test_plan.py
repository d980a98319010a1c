"""A flash plan contains the pages to erase, the blocks to write, and their order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import ImageError
from firmware_host.flashing.plan import UnitState, blocks, common, plan, without, work
from tests.firmware_host.flash_scene import BASE, FLASH_SIZE, code, planned
from tests.firmware_host.scripted_board import KIB, chip


def test_only_the_units_of_the_image_are_erased() -> None:
    """Only pages that contain a part of the image are erased, and the other bytes of the last page are preserved."""
    found = planned(code(2 * KIB + 1, at=BASE + 4 * KIB))
    assert [unit.number for unit in found.units] == [4, 5, 6]
    assert found.beside == (range(BASE + 6 * KIB + 1, BASE + 7 * KIB),)


def test_the_vector_table_is_erased_first_and_written_last() -> None:
    """The page with the vector table is erased first, and its first eight bytes are written last."""
    found = planned(code(3 * KIB))
    assert found.units[0].address == BASE
    starts = [block.start for block in blocks(found, found.units)[-5:]]
    assert starts == [BASE + 0x300, BASE + 0x200, BASE + 0x100, BASE + 8, BASE]
    assert found.seal == range(BASE, BASE + 8)


@given(start=st.integers(0, FLASH_SIZE - 1), size=st.integers(1, FLASH_SIZE))
@settings(max_examples=60, deadline=None)
def test_every_address_of_the_units_is_written_once(start: int, size: int) -> None:
    """Blocks cover each erased address exactly once, are aligned, and have at most 256 bytes."""
    found = planned(code(min(size, FLASH_SIZE - start), at=BASE + start))
    order = blocks(found, found.units)
    assert sorted(address for block in order for address in block) == list(found.span)
    assert all(block.start % 4 == 0 and len(block) % 4 == 0 and len(block) <= 256 for block in order)
    covered = {address for span in (found.image.span, *found.beside) for address in span}
    assert covered == set(found.span)


def test_sectors_of_unequal_size_are_planned_whole() -> None:
    """A sector that the image fills partly is erased, and the sector's other bytes are preserved."""
    found = plan(chip(0x413), code(65 * KIB), flash_size=1024 * KIB)
    assert [unit.size // KIB for unit in found.units] == [16, 16, 16, 16, 64]
    assert found.beside == (range(BASE + 65 * KIB, BASE + 128 * KIB),)


@pytest.mark.parametrize(("at", "size"), [(BASE - 4, 8), (BASE + FLASH_SIZE - 4, 8), (BASE + FLASH_SIZE, 4), (0, 4)])
def test_an_image_beside_the_flash_is_refused(at: int, size: int) -> None:
    """An image that is not within the board's flash is refused."""
    with pytest.raises(ImageError, match="within the board's flash"):
        planned(code(size, at=at))


def test_a_hole_can_be_cut_out_of_a_range() -> None:
    """`without` returns the parts of a range outside another range, in order and without empty parts."""
    assert without(range(10), range(3, 5)) == (range(3), range(5, 10))
    assert without(range(10), range(10)) == ()
    assert without(range(4, 10), range(8)) == (range(8, 10),)
    assert without(range(4), range(6, 8)) == (range(4),)


AS_WANTED, BLANK, OTHER = (
    UnitState(as_wanted=True, blank=False),
    UnitState(as_wanted=False, blank=True),
    UnitState(as_wanted=False, blank=False),
)


@pytest.mark.parametrize(
    ("found", "erased", "written"),
    [
        ([AS_WANTED] * 4, [], []),
        ([AS_WANTED, AS_WANTED, OTHER, AS_WANTED], [0, 2], [0, 2]),
        ([OTHER, AS_WANTED, AS_WANTED, AS_WANTED], [0], [0]),
        ([BLANK, AS_WANTED, BLANK, OTHER], [3], [0, 2, 3]),
        ([BLANK] * 4, [], [0, 1, 2, 3]),
        ([UnitState(as_wanted=True, blank=True), OTHER, AS_WANTED, AS_WANTED], [1], [0, 1]),
    ],
    ids=["same", "one", "first", "half", "blank", "blank start"],
)
def test_units_with_the_wanted_contents_stay(found: list[UnitState], erased: list[int], written: list[int]) -> None:
    """Pages with the right contents are not erased; the first page is erased if another page changes."""
    todo = work(planned(code(4 * KIB)), found)
    assert ([unit.number for unit in todo.erase], [unit.number for unit in todo.write]) == (erased, written)
    assert [unit.number for unit in todo.identical] == [number for number in range(4) if number not in written]
    assert not todo.at_once


@pytest.mark.parametrize(
    ("found", "at_once"),
    [
        ([OTHER] * 64, True),
        ([AS_WANTED] + [OTHER] * 63, True),
        ([OTHER] * 32 + [BLANK] * 31 + [UnitState(as_wanted=True, blank=True)], True),
        ([OTHER] * 63 + [AS_WANTED], False),
        ([OTHER] * 2 + [BLANK] * 62, False),
        ([BLANK] * 64, False),
    ],
    ids=["all", "first as wanted", "rest blank", "last stays", "only two", "blank"],
)
def test_all_are_erased_at_once_only_where_nothing_stays(found: list[UnitState], at_once: object) -> None:
    """Mass erase is used only if every page changes, and at least a minimum number of pages must be erased."""
    assert work(planned(code(64 * KIB), may_erase_all=True), found).at_once is at_once


def test_not_all_are_erased_at_once_where_the_image_leaves_a_page() -> None:
    """Mass erase is not used if the image leaves out a page of the flash."""
    assert not work(planned(code(63 * KIB), may_erase_all=True), [OTHER] * 63).at_once


def test_not_all_are_erased_at_once_where_the_chip_may_have_more_than_it_reports() -> None:
    """Mass erase is not used if the chip may have more flash than it reports."""
    assert not work(planned(code(64 * KIB)), [OTHER] * 64).at_once
    whole = plan(chip(), code(128 * KIB), flash_size=128 * KIB)
    assert work(whole, [OTHER] * 128).at_once


def test_not_all_are_erased_at_once_where_no_command_does_it() -> None:
    """Mass erase is not used for an STM32L05, which lacks the command."""
    found = plan(chip(0x417), code(64 * KIB), flash_size=64 * KIB)
    assert not work(found, [OTHER] * len(found.units)).at_once


def test_what_two_ranges_have_in_common() -> None:
    """`common` returns the intersection of two ranges, which is empty for adjacent ranges."""
    assert common(range(2, 8), range(5, 20)) == range(5, 8)
    assert not common(range(2, 8), range(8, 20))
