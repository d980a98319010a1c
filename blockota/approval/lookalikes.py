"""Finds names that can be mistaken for one another, with Unicode's table of confusable characters (UTS #39).

Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

_DIGIT = re.compile(r"\d")


def find_lookalike(name: str, others: list[str]) -> str:
    """Return the first of `others` that a reader could mistake for `name`; empty if all of them are distinct.

    Two names are similar if they differ only in confusable characters (``l`` and ``1``, ``rn`` and ``m``), or in one
    replaced, added or missing character. Digits are omitted from the second comparison, because vendors number the
    models of a series.
    """
    for other in others:
        letters, other_letters = (_DIGIT.sub("", text.casefold()) for text in (name, other))
        if name != other and (_skeleton(name) == _skeleton(other) or _is_one_apart(letters, other_letters)):
            return other
    return ""


def _is_one_apart(one: str, other: str) -> bool:
    """Return whether two names differ by exactly one replaced, added or missing character."""
    if len(one) == len(other):
        return sum(a != b for a, b in zip(one, other, strict=True)) == 1
    short, long = sorted((one, other), key=len)
    return any(long[:place] + long[place + 1 :] == short for place in range(len(long)))


def _skeleton(name: str) -> str:
    """Replace each confusable character by the representative of its class, and then convert the name to lower case.

    The conversion comes last, because the upper-case ``I`` resembles ``l``.
    """
    table = _representatives()
    for sequence in sorted(table, key=len, reverse=True):
        name = name.replace(sequence, table[sequence])
    return name.casefold()


@functools.cache
def _representatives() -> Mapping[str, str]:
    """Map each confusable ASCII text to the representative of its class. The contract accepts only ASCII in names."""
    # Imported here, because the library reads a table of 900 KB (0.2 s), and only the review of a pairing needs it.
    from confusable_homoglyphs.confusables import confusables_data

    table: dict[str, str] = {}
    for text, homoglyphs in confusables_data.items():
        group = {one for one in (text, *(homoglyph["c"] for homoglyph in homoglyphs)) if one.isascii()}
        # For one member of a class, the table lists all members; for every other member, only that first member. The
        # greatest letter of the class is in each of these groups, so it represents the class.
        best = max(group, key=lambda one: (len(one) == 1, one.isalpha(), one), default="")
        table |= dict.fromkeys(group - {best}, best)
    return table
