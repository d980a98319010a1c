"""What a new image changes in flash against the one before it, in pages and bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_SIZE = 1024
"""Bytes of a page, as the smallest STM32F1 parts erase them (RM0008 section 3.3.3)."""
_ERASED = b"\xff"


@dataclass(frozen=True)
class Placed:
    """An image and the address of its first byte."""

    data: bytes
    start: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + len(self.data)

    def part(self, start: int, end: int) -> bytes:
        """What flash holds in a range of addresses: the image, and erased bytes around it."""
        inside = self.data[max(start - self.start, 0) : max(end - self.start, 0)]
        before = _ERASED * min(max(self.start - start, 0), end - start)
        return (before + inside).ljust(end - start, _ERASED)


@dataclass(frozen=True)
class Difference:
    """How much of flash changes.

    Attributes:
        pages: pages of `PAGE_SIZE` bytes that either image touches.
        changed_pages: those whose contents differ.
        changed_bytes: bytes that differ; where an image has none, flash counts as erased.
        first: address of the first byte that differs; None where none does.
        last: address of the last one.
        old_size: bytes of the image before.
        new_size: bytes of the new one.
    """

    pages: int
    changed_pages: int
    changed_bytes: int
    first: int | None
    last: int | None
    old_size: int
    new_size: int

    def __str__(self) -> str:
        """One line for people."""
        sizes = f"{self.old_size:,} → {self.new_size:,} bytes"
        if self.first is None or self.last is None:
            return f"nothing differs, {sizes}"
        where = f"0x{self.first:08x} and 0x{self.last:08x}"
        return (
            f"{self.changed_pages} of {self.pages} pages of {PAGE_SIZE} bytes, {self.changed_bytes:,} bytes "
            f"between {where}, {sizes}"
        )


def compare(new: Placed, old: Placed) -> Difference:
    """Compare two images by the addresses that they go to."""
    touched = sorted({page for image in (old, new) for page in _pages(image)})
    places: list[int] = []
    changed_bytes = changed_pages = 0
    for page in touched:
        start, end = page * PAGE_SIZE, (page + 1) * PAGE_SIZE
        now, before = new.part(start, end), old.part(start, end)
        if now == before:
            continue
        differs = _differing(now, before)
        changed_pages += 1
        changed_bytes += PAGE_SIZE - differs.count(0)
        places += [end - len(differs.lstrip(b"\0")), start + len(differs.rstrip(b"\0")) - 1]
    return Difference(
        pages=len(touched),
        changed_pages=changed_pages,
        changed_bytes=changed_bytes,
        first=places[0] if places else None,
        last=places[-1] if places else None,
        old_size=len(old.data),
        new_size=len(new.data),
    )


def _differing(now: bytes, before: bytes) -> bytes:
    """Zero where two pages agree; by one large number, for bytes one by one take seconds in a large image."""
    return (int.from_bytes(now) ^ int.from_bytes(before)).to_bytes(len(now))


def _pages(image: Placed) -> range:
    first = image.start // PAGE_SIZE
    return range(first, -(-image.end // PAGE_SIZE) if image.data else first)
