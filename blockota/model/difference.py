"""Counts the pages and bytes of flash in which a new image differs from the previous image. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

PAGE_SIZE = 1024
"""Size in bytes of a page, as on the smallest STM32F1 parts (RM0008, section 3.3.3)."""
_ERASED = b"\xff"
_STEP = 1024 * PAGE_SIZE
"""Bytes of flash that are compared at once."""


class Contents(Protocol):
    """The bytes of an image in memory or in a file, read in parts by ascending offset."""

    def __len__(self) -> int:
        """The size in bytes."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Read a range of bytes."""


@dataclass(frozen=True)
class Placed:
    """An image with its load address.

    Attributes:
        data: the bytes.
        start: flash address of the first byte.
    """

    data: Contents
    start: int

    @property
    def end(self) -> int:
        """The first address after the image."""
        return self.start + len(self.data)

    def part(self, start: int, end: int) -> bytes:
        """Return the flash contents of an address range: the bytes of the image, and erased bytes outside the image."""
        inside = self.data[max(start - self.start, 0) : max(end - self.start, 0)]
        before = _ERASED * min(max(self.start - start, 0), end - start)
        return (before + inside).ljust(end - start, _ERASED)


@dataclass(frozen=True)
class Difference:
    """The difference between two images in flash.

    Attributes:
        pages: number of pages of `PAGE_SIZE` bytes in the range of either image.
        changed_pages: number of pages that differ.
        changed_bytes: number of bytes that differ. Flash outside an image counts as erased.
        first: address of the first byte that differs; None if the images are equal.
        last: address of the last byte that differs; None if the images are equal.
        old_size: size of the previous image, in bytes.
        new_size: size of the new image, in bytes.
    """

    pages: int
    changed_pages: int
    changed_bytes: int
    first: int | None
    last: int | None
    old_size: int
    new_size: int

    def __str__(self) -> str:
        """The difference as one line of text."""
        sizes = f"{self.old_size:,} → {self.new_size:,} bytes"
        if self.first is None or self.last is None:
            return f"nothing differs, {sizes}"
        where = f"0x{self.first:08x} and 0x{self.last:08x}"
        return (
            f"{self.changed_pages} of {self.pages} pages of {PAGE_SIZE} bytes, {self.changed_bytes:,} bytes "
            f"between {where}, {sizes}"
        )


def compare(new: Placed, old: Placed, *, on_progress: Callable[[int], object] = lambda _: None) -> Difference:
    """Compare two images by flash address.

    Args:
        new: the new image.
        old: the previous image.
        on_progress: called with the number of bytes of flash that have been compared.
    """
    touched = _touched(new, old)
    changed_pages = changed_bytes = done = 0
    first = last = None

    for pages in touched:
        end = pages.stop * PAGE_SIZE
        for start in range(pages.start * PAGE_SIZE, end, _STEP):
            stop = min(start + _STEP, end)
            for page, differs in _differing_pages(start, new.part(start, stop), old.part(start, stop)):
                changed_pages += 1
                changed_bytes += PAGE_SIZE - differs.count(0)
                if first is None:
                    first = page + PAGE_SIZE - len(differs.lstrip(b"\0"))
                last = page + len(differs.rstrip(b"\0")) - 1
            done += stop - start
            on_progress(done)

    return Difference(
        pages=sum(map(len, touched)),
        changed_pages=changed_pages,
        changed_bytes=changed_bytes,
        first=first,
        last=last,
        old_size=len(old.data),
        new_size=len(new.data),
    )


def _differing_pages(start: int, now: bytes, before: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the address of each page that differs, and the XOR of the old and new contents.

    `start` is the first address.
    """
    if now == before:
        return
    for place in range(0, len(now), PAGE_SIZE):
        one, other = now[place : place + PAGE_SIZE], before[place : place + PAGE_SIZE]
        if one != other:
            # The page is one large number, because an XOR of single bytes takes seconds for a large image.
            yield start + place, (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(PAGE_SIZE)


def _touched(new: Placed, old: Placed) -> tuple[range, ...]:
    """Return the pages that at least one image covers, as disjoint ranges of page numbers in ascending order."""
    lower, upper = sorted((_pages(new), _pages(old)), key=lambda pages: (pages.start, pages.stop))
    if upper.start <= lower.stop:
        return (range(lower.start, max(lower.stop, upper.stop)),)
    return lower, upper


def _pages(image: Placed) -> range:
    first = image.start // PAGE_SIZE
    return range(first, -(-image.end // PAGE_SIZE) if image.data else first)
