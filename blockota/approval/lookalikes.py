"""Names that can be taken for one another, by Unicode's table of confusable characters (UTS #39). Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

_DIGIT = re.compile(r"\d")


def find_lookalike(name: str, others: list[str]) -> str:
    """The first of other names that resembles a name; empty if none does.

    Two names resemble each other if they consist of confusable characters (``l`` and ``1``, ``rn`` and ``m``), or if
    they are one character apart. Digits that differ do not count, because models of one series are numbered.
    """
    for other in others:
        letters, other_letters = (_DIGIT.sub("", text.casefold()) for text in (name, other))
        if name != other and (_skeleton(name) == _skeleton(other) or _is_one_apart(letters, other_letters)):
            return other
    return ""


def _is_one_apart(one: str, other: str) -> bool:
    """Whether one character is replaced, added or missing."""
    if len(one) == len(other):
        return sum(a != b for a, b in zip(one, other, strict=True)) == 1
    short, long = sorted((one, other), key=len)
    return any(long[:place] + long[place + 1 :] == short for place in range(len(long)))


def _skeleton(name: str) -> str:
    """The name with one member for each class of confusable texts. Case is folded last: ``I`` resembles ``l``."""
    table = _representatives()
    for sequence in sorted(table, key=len, reverse=True):
        name = name.replace(sequence, table[sequence])
    return name.casefold()


@functools.cache
def _representatives() -> Mapping[str, str]:
    """The representative of each printable ASCII text that has confusable ones; the contract accepts no others."""
    # The library reads a table of 900 KB, which takes 0.2 s, and only pairing needs it.
    from confusable_homoglyphs.confusables import confusables_data

    table: dict[str, str] = {}
    for text, homoglyphs in confusables_data.items():
        group = {one for one in (text, *(homoglyph["c"] for homoglyph in homoglyphs)) if one.isascii()}
        # The table lists all members at one of them, and at the others only that one: its greatest letter is in both.
        best = max(group, key=lambda one: (len(one) == 1, one.isalpha(), one), default="")
        table |= dict.fromkeys(group - {best}, best)
    return table
