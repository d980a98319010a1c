"""Recursive Length Prefix, the encoding of Ethereum's transactions and blocks: bytes to values.

Source: Ethereum Yellow Paper, appendix B. Only the one canonical encoding of a value is accepted.
"""

from __future__ import annotations

Item = bytes | list["Item"]
"""A string of bytes, or a list of items."""
_LONG = 56
"""Lengths from here on are written with a length of their own."""
_MAX_DEPTH = 16


def decode(data: bytes) -> Item:
    """The one item that the bytes encode.

    Raises:
        ValueError: they encode none, or do it in another way than the canonical one.
    """
    item, end = _item(data, 0, depth=0)
    if end != len(data):
        raise ValueError("bytes follow the item")
    return item


def number(item: Item) -> int:
    """The number that an item stands for; numbers have no leading zero.

    Raises:
        ValueError: it stands for none.
    """
    if isinstance(item, list) or item[:1] == b"\0":
        raise ValueError("a number is expected")
    return int.from_bytes(item)


def _item(data: bytes, start: int, *, depth: int) -> tuple[Item, int]:
    if start >= len(data) or depth > _MAX_DEPTH:
        raise ValueError("the bytes end too early, or lists lie too deep in lists")
    prefix = data[start]
    if prefix < 0x80:  # noqa: PLR2004 - the source's own numbers, here and below
        return data[start : start + 1], start + 1
    is_list = prefix >= 0xC0  # noqa: PLR2004
    first, size = _extent(data, start, base=0xC0 if is_list else 0x80)
    end = first + size
    if end > len(data):
        raise ValueError("the bytes end too early")
    if is_list:
        return _items(data[:end], first, depth=depth), end
    if size == 1 and data[first] < 0x80:  # noqa: PLR2004
        raise ValueError("a single byte is written in two")
    return data[first:end], end


def _extent(data: bytes, start: int, *, base: int) -> tuple[int, int]:
    """Where the payload begins, and its length."""
    short = data[start] - base
    if short < _LONG:
        return start + 1, short
    first = start + 1 + short - _LONG + 1
    size = number(data[start + 1 : first])
    if size < _LONG:
        raise ValueError("a length is written longer than it needs")
    return first, size


def _items(data: bytes, start: int, *, depth: int) -> list[Item]:
    items = []
    while start < len(data):
        item, start = _item(data, start, depth=depth + 1)
        items.append(item)
    return items
