"""Open a log by its place.

The place is a folder of this machine, or a URL from which the log is served.
"""

from __future__ import annotations

import threading
from pathlib import Path

from blockota.formats.tlog import MAX_ENTRY_SIZE, TILE_WIDTH
from blockota.ledger.log import TileLog
from blockota.ledger.reader import LogReader
from blockota.stores.http import AbsentError, HttpClient
from blockota.stores.source import Limits, Source
from blockota.url_secrets import shown_url

_SCHEMES = ("http://", "https://")
_MAX_FILE_SIZE = TILE_WIDTH * (MAX_ENTRY_SIZE + 2)
"""The size in bytes of a bundle whose entries all have the maximum size."""


class _Client(threading.local):
    """The HTTP client of a thread. Each thread needs its own client, because a client has only one connection."""

    def __init__(self, source: Source) -> None:
        self.http = HttpClient(source, Limits())


def published_log(place: str) -> LogReader:
    """Return a reader of the log in a folder or behind a URL. Several threads may use the reader.

    Raises:
        UsageError: the URL is not valid.
    """
    if not place.lower().startswith(_SCHEMES):
        return TileLog(Path(place)).published
    client = _Client(Source(place))

    def read_file(path: str) -> bytes | None:
        try:
            return client.http.get(f"/{path}", accept="*/*", limit=_MAX_FILE_SIZE).body()
        except AbsentError:
            return None

    return LogReader(shown_url(place), read_file)
