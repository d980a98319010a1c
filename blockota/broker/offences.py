"""Which sources a broker does not ask for a while, because they served wrong blocks. Pure.

One spoilt block does not shut out a source: it may have one damaged file among hundreds of good ones.

1. After a wrong block, the source is not asked for that address for 1 minute, then for 2, 4 … up to 60.
2. After wrong blocks of three addresses within an hour, it is not asked for anything for 1 minute; after a fourth
   address for 2, then for 4 … up to 60.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blockota.formats.cid import CID

_WINDOW = 3600.0
"""Seconds within which wrong blocks of several addresses count together."""
_ADDRESSES = 3
"""Number of addresses with wrong blocks after which the whole source is left out."""
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0


@dataclass(frozen=True)
class Offence:
    """A source served a wrong block of a file.

    Attributes:
        url: the source.
        cid: the file's content address.
        time: Unix time in seconds.
    """

    url: str
    cid: CID
    time: float


def skipped_until(offences: Iterable[Offence], url: str, cid: CID) -> float:
    """The Unix time in seconds until which a source is not asked for a file; 0 if it is not left out.

    Args:
        offences: of all sources.
        url: the source.
        cid: the file.
    """
    own = sorted((one for one in offences if one.url == url), key=lambda one: one.time)

    # (1) This file alone.
    times = [one.time for one in own if one.cid == cid]
    until = times[-1] + _pause(len(times)) if times else 0.0

    # (2) The whole source.
    if own:
        newest = own[-1].time
        addresses = {one.cid for one in own if newest - one.time < _WINDOW}
        if len(addresses) >= _ADDRESSES:
            until = max(until, newest + _pause(len(addresses) - _ADDRESSES + 1))
    return until


def _pause(count: int) -> float:
    return min(_FIRST_PAUSE * 2.0 ** (count - 1), _LONGEST_PAUSE)
