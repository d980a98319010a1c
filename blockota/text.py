"""Text from elsewhere, made safe to show."""

from __future__ import annotations


def plain(value: object) -> str:
    """A value as text in which nothing can move the cursor, change colours or reverse the direction."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(value))
