"""What boards hold, according to bench logs. Pure: the logs are evidence, the boards themselves are not asked.

A line changes what is known of its board like this:

1. A proven release (`after`) is what the board holds of the product from then on.
2. Without one, the board was left as it was found (`before`), or the run was interrupted. A release that was found is
   still listed then, because the board may hold it.
3. A release of another product that was found there is replaced by a proven one.
4. Found blank, unknown or half written: nothing is known to be held.

A line without anything found or proven, such as one of a board that fell silent, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blockota.errors import UsageError
from blockota.model.release import Version
from firmware_host.bench.log import BenchEntry

_Place = tuple[str, int, str, str]
"""A board, and the chain, contract and product of what it holds."""


@dataclass(frozen=True)
class Sighting:
    """The line that is the newest evidence of what a board holds.

    Attributes:
        log: the name of the log.
        number: the number of the line.
        entry: the line.
        product: what the board holds, or held before a run that failed.
        version: its version.
    """

    log: str
    number: int
    entry: BenchEntry
    product: str
    version: Version


def held_releases(lines: Iterable[tuple[str, int, BenchEntry]]) -> list[Sighting]:
    """Determine what each board holds.

    Args:
        lines: of all logs, each with the name of its log and its number.

    Returns:
        One sighting for each board and product, by board. A board without a readable unique id cannot be recognised
        again, so each of its lines counts as a board.
    """
    held: dict[_Place, Sighting] = {}
    for log, number, entry in sorted(lines, key=lambda line: line[2].time):
        board = entry.board or f"{log} {number}"
        product, version = _found(entry)
        if entry.after or entry.before:  # (3) and (4)
            held.pop(_place(board, entry, product), None)
            held.pop(_place(board, entry, entry.product), None)
        if entry.after:  # (1), otherwise (2)
            product, version = entry.product, _version(entry.after)
        if version is not None:
            held[_place(board, entry, product)] = Sighting(log, number, entry, product, version)
    return [held[place] for place in sorted(held)]


def _place(board: str, entry: BenchEntry, product: str) -> _Place:
    return board, entry.chain_id, entry.contract, product


def _found(entry: BenchEntry) -> tuple[str, Version | None]:
    """The release that a board held before the work: ``1.0.0``, or ``acme-lamp 3.2.1`` of another product."""
    other, _, word = entry.before.rpartition(" ")
    version = _version(word)
    return (other if other and version else entry.product), version


def _version(word: str) -> Version | None:
    """The version that a word of a line is; None for ``blank``, ``unknown`` and the like."""
    try:
        return Version.parse(word)
    except UsageError:
        return None
