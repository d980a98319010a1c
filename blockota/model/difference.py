"""What a new image changes in flash against the one before it, in pages and bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

PAGE_SIZE = 1024
"""Bytes of a page, as the smallest STM32F1 parts erase them (RM0008 section 3.3.3)."""
_ERASED = b"\xff"
_STEP = 1024 * PAGE_SIZE
"""Bytes of flash that are looked at in one go."""


class Contents(Protocol):
    """An image's bytes, wherever they are: parts of them are asked for in order, and never all of them at once."""

    def __len__(self) -> int:
        """How many bytes it has."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Some of them."""


@dataclass(frozen=True)
class Placed:
    """An image and the address of its first byte."""

    data: Contents
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


def compare(new: Placed, old: Placed, *, on_progress: Callable[[int], object] = lambda _: None) -> Difference:
    """Compare two images by the addresses that they go to, a megabyte at a time.

    Args:
        new: the new image.
        old: the one before it.
        on_progress: is told how many bytes of flash have been compared.
    """
    touched, changes, done = _touched(new, old), _Changes(), 0
    for start, end in _steps(touched):
        changes.add(start, now=new.part(start, end), before=old.part(start, end))
        done += end - start
        on_progress(done)
    return Difference(
        pages=sum(map(len, touched)),
        changed_pages=changes.pages,
        changed_bytes=changes.bytes,
        first=changes.first,
        last=changes.last,
        old_size=len(old.data),
        new_size=len(new.data),
    )


class _Changes:
    """Counts what differs, in order of address."""

    def __init__(self) -> None:
        self.pages = self.bytes = 0
        self.first: int | None = None
        self.last: int | None = None

    def add(self, start: int, *, now: bytes, before: bytes) -> None:
        """Count in whole pages from an address on."""
        if now == before:
            return
        for place in range(0, len(now), PAGE_SIZE):
            page = slice(place, place + PAGE_SIZE)
            if now[page] != before[page]:
                self._add_page(start + place, _differing(now[page], before[page]))

    def _add_page(self, start: int, differs: bytes) -> None:
        self.pages += 1
        self.bytes += PAGE_SIZE - differs.count(0)
        if self.first is None:
            self.first = start + PAGE_SIZE - len(differs.lstrip(b"\0"))
        self.last = start + len(differs.rstrip(b"\0")) - 1


def _differing(now: bytes, before: bytes) -> bytes:
    """Zero where two pages agree; by one large number, for bytes one by one take seconds in a large image."""
    return (int.from_bytes(now) ^ int.from_bytes(before)).to_bytes(len(now))


def _touched(new: Placed, old: Placed) -> tuple[range, ...]:
    """The pages that either image touches, in order and each once."""
    lower, upper = sorted((_pages(new), _pages(old)), key=lambda pages: (pages.start, pages.stop))
    if upper.start <= lower.stop:
        return (range(lower.start, max(lower.stop, upper.stop)),)
    return lower, upper


def _steps(touched: tuple[range, ...]) -> Iterator[tuple[int, int]]:
    for pages in touched:
        end = pages.stop * PAGE_SIZE
        for start in range(pages.start * PAGE_SIZE, end, _STEP):
            yield start, min(start + _STEP, end)


def _pages(image: Placed) -> range:
    first = image.start // PAGE_SIZE
    return range(first, -(-image.end // PAGE_SIZE) if image.data else first)
