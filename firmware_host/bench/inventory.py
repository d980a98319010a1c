"""List the releases installed on boards, according to bench logs. A pure function: no board is contacted.

Each log line updates the release that is listed for its board:

1. If the line has a proven release (`after`), that release is listed.
2. If the line has no proven release, the release found before the work (`before`) is listed, because the board may
   still have that release.
3. If the board had a release of another product, a proven release replaces the entry of that product.
4. If the flash was found blank, unknown or half written, and no release is proven, the product's entry is removed.

A log line with neither `before` nor `after`, such as the line of a board that stopped answering, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blockota.errors import UsageError
from blockota.model.release import Version
from firmware_host.bench.log import BenchEntry

_Place = tuple[str, int, str, str]
"""The board, chain id, contract and product of an installed release."""


@dataclass(frozen=True)
class Sighting:
    """The newest log line that shows which release a board has, or had before a failed run."""

    log: str
    number: int
    entry: BenchEntry
    product: str
    version: Version


def held_releases(lines: Iterable[tuple[str, int, BenchEntry]]) -> list[Sighting]:
    """Determine which releases each board has, from the lines of all logs: name of the log, line number, and entry.

    The result has one sighting for each board and product, sorted by board. A board without a readable unique id cannot
    be recognised again, so each of its log lines counts as a separate board.
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
    """Parse `before`, such as ``1.0.0``, or ``acme-lamp 3.2.1`` for another product, into product and version."""
    other, _, word = entry.before.rpartition(" ")
    version = _version(word)
    return (other if other and version else entry.product), version


def _version(word: str) -> Version | None:
    """Parse a version; None for a word that is not a version, such as ``blank`` or ``unknown``."""
    try:
        return Version.parse(word)
    except UsageError:
        return None
