"""The difference of two images, compared with a byte-by-byte count."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.model.difference import PAGE_SIZE, Difference, Placed, compare
from tests.support.samples import FLASH

ERASED = 0xFF
MIB = 1 << 20
START = FLASH.start
starts = st.sampled_from([0, 1, PAGE_SIZE - 1, PAGE_SIZE, 3 * PAGE_SIZE + 5, 40 * PAGE_SIZE])
flash_bytes = st.sampled_from([b"\0", b"\xff", b"\xa5"])
blocks = st.builds(lambda byte, count: byte * count, flash_bytes, st.integers(0, 2 * PAGE_SIZE))
images = st.builds(Placed, st.lists(blocks, max_size=4).map(b"".join), starts)


def naive(new: Placed, old: Placed) -> Difference:
    """Compute the difference byte by byte, from a map of addresses to bytes for each image."""
    now, before = ({image.start + n: byte for n, byte in enumerate(image.data[:])} for image in (new, old))
    touched = now.keys() | before.keys()
    differing = sorted(a for a in touched if now.get(a, ERASED) != before.get(a, ERASED))
    return Difference(
        pages=len({address // PAGE_SIZE for address in touched}),
        changed_pages=len({address // PAGE_SIZE for address in differing}),
        changed_bytes=len(differing),
        first=differing[0] if differing else None,
        last=differing[-1] if differing else None,
        old_size=len(old.data),
        new_size=len(new.data),
    )


@settings(max_examples=150, deadline=None)
@given(images, images)
def test_the_difference_is_what_a_count_of_bytes_finds(new: Placed, old: Placed) -> None:
    """The difference of any two images equals a byte-by-byte count, even if they do not overlap or are empty."""
    assert compare(new, old) == naive(new, old)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=1, max_size=3000), start=starts, changes=st.data())
def test_single_bytes_are_found(data: bytes, start: int, changes: st.DataObject) -> None:
    """Single changed bytes are counted at their addresses, even if the images begin at different addresses."""
    changed = bytearray(data)
    for place in changes.draw(st.lists(st.integers(0, len(data) - 1), max_size=5)):
        changed[place] ^= changes.draw(st.integers(0, 255))
    shift = changes.draw(st.sampled_from([0, 0, 1, PAGE_SIZE]))
    new, old = Placed(bytes(changed), start + shift), Placed(data, start)
    assert compare(new, old) == naive(new, old)


@settings(max_examples=60, deadline=None)
@given(images, st.integers(0, 6 * PAGE_SIZE), st.integers(0, 3 * PAGE_SIZE))
def test_a_part_of_flash_is_the_image_and_erased_bytes_around_it(image: Placed, start: int, size: int) -> None:
    """A read of any address range returns the image's bytes in the range, and erased bytes elsewhere."""
    held = {image.start + n: byte for n, byte in enumerate(image.data[:])}
    expected = bytes(held.get(address, ERASED) for address in range(start, start + size))
    assert image.part(start, start + size) == expected


def test_nothing_differs_between_equal_images() -> None:
    """Equal images are printed as "nothing differs", with both sizes."""
    image = Placed(b"\x01" * 1500, START)
    assert str(compare(image, image)) == "nothing differs, 1,500 → 1,500 bytes"


def test_erased_bytes_are_not_a_change() -> None:
    """Trailing erased bytes of an image are not a difference."""
    longer, shorter = Placed(b"\x01" * 10 + b"\xff" * 5000, START), Placed(b"\x01" * 10, START)
    assert str(compare(longer, shorter)) == "nothing differs, 10 → 5,010 bytes"


def test_the_line_counts_pages_and_bytes_and_names_where() -> None:
    """The text of a difference has the number of changed pages and bytes, and the first and last address."""
    old = bytes(2 * PAGE_SIZE + 10)
    new = b"\x01" + old[1:-1] + b"\x02"
    assert str(compare(Placed(new, START), Placed(old, START))) == (
        "2 of 3 pages of 1024 bytes, 2 bytes between 0x08000000 and 0x08000809, 2,058 → 2,058 bytes"
    )


def test_an_image_elsewhere_shares_no_page() -> None:
    """All bytes of two images count as changed if the images share no page."""
    found = compare(Placed(b"\x01" * 100, START + (1 << 20)), Placed(b"\x02" * 100, START))
    assert (found.pages, found.changed_pages, found.changed_bytes) == (2, 2, 200)
    assert (found.first, found.last) == (START, START + (1 << 20) + 99)


def test_differences_are_found_at_every_chunk_boundary() -> None:
    """Changed bytes around each boundary between comparison steps are found in large, shifted images."""
    size = 3 * MIB + 5
    edges = [0, MIB - 1, MIB, MIB + 1, 2 * MIB - 6, 2 * MIB - 5, 3 * MIB, size - 1]
    changed = bytearray(size)
    for place in edges:
        changed[place] = 1
    progress: list[int] = []
    found = compare(Placed(bytes(changed), START + 5), Placed(bytes(size), START + 5), on_progress=progress.append)
    assert (found.changed_bytes, found.changed_pages) == (len(edges), 5)
    assert (found.first, found.last) == (START + 5, START + 5 + size - 1)
    assert (found.pages, progress) == (3 * 1024 + 1, [MIB, 2 * MIB, 3 * MIB, 3 * MIB + PAGE_SIZE])


@pytest.mark.parametrize("start", [START, START + 5])
def test_empty_images_touch_nothing(start: int) -> None:
    """The number of pages of an empty image is 0, even if its address lies inside a page."""
    assert compare(Placed(b"", start), Placed(b"", START)) == Difference(0, 0, 0, None, None, 0, 0)


LARGE = {"all bytes": b"\x01", "a byte in each page": b"\x01" + bytes(PAGE_SIZE - 1)}


@pytest.mark.parametrize("pattern", LARGE.values(), ids=LARGE)
def test_large_images_are_compared(pattern: bytes) -> None:
    """Differences of images larger than one comparison step (1 MiB) are counted in full."""
    size = 4 * MIB
    new, old = Placed(pattern * (size // len(pattern)), START), Placed(bytes(size), START)
    found = compare(new, old)
    assert found.changed_pages == size // PAGE_SIZE
    assert found.changed_bytes == size // len(pattern)
