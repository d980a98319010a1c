"""Compute how long a broker avoids a source that served wrong blocks. Pure functions.

One wrong block does not ban a source, because the source may have one damaged file among hundreds of good files.

1. After a wrong block, the broker does not request the block's file from the source for 1 minute. Each further wrong
   block of the file doubles this pause, up to 60 minutes.
2. After wrong blocks of three files within an hour, the broker does not request any file from the source for 1 minute.
   Each further file with a wrong block doubles this pause, up to 60 minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blockota.formats.cid import CID

_WINDOW = 3600.0
"""Seconds within which wrong blocks of different files are counted together."""
_ADDRESSES = 3
"""The number of files with wrong blocks after which the broker does not request any file from the source."""
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
    """Return the Unix time in seconds until which a file must not be fetched from a source; 0 if it may be fetched now.

    Args:
        offences: the offences of all sources.
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
