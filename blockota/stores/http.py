"""A trustless gateway as a store: somebody's repository, a public gateway, a Kubo node's. It serves; nothing is put.

Every block is checked. Fetching from many such sources at once is `fetching`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, NoReturn

from blockota.errors import ContentError, UsageError
from blockota.formats.cid import CID, read_file
from blockota.stores.gateway import TrustlessClient
from blockota.stores.source import Limits, Source, SourceError, Verdict


class HttpStore:
    """A gateway as a store that can only be read.

    Args:
        source: the gateway.
        limits: what it may cost.
    """

    def __init__(self, source: Source, *, limits: Limits | None = None) -> None:
        """Remember; nothing is asked yet."""
        self.source = source
        self._limits = limits or Limits()

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise self._read_only(stream, on_progress)

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order, block by block, each checked before it is yielded.

        Raises:
            StoreError: the gateway does not hold the file, stalls or breaks off too often.
            ContentError: it serves other bytes.
        """
        with TrustlessClient(self.source, self._limits) as client:
            yield from read_file(cid, lambda block: self._block(client, block))

    def has(self, cid: CID) -> bool:
        """Whether the gateway says that it has the root block.

        Raises:
            StoreError: it does not answer.
        """
        with TrustlessClient(self.source, self._limits) as client:
            return client.has(cid)

    def pin(self, cid: CID) -> None:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise self._read_only(cid)

    def unpin(self, cid: CID) -> None:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise self._read_only(cid)

    def _block(self, client: TrustlessClient, cid: CID) -> bytes:
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return client.block(cid).data
            except SourceError as error:
                if error.verdict == Verdict.LIED:
                    self._lied(error)
                if error.again is None or attempt == self._limits.attempts:
                    raise
                time.sleep(error.again)
        raise AssertionError("there is at least one attempt")

    def _lied(self, error: SourceError) -> NoReturn:
        raise ContentError(
            f"{self.source.url} serves other bytes", why=error.why, remedy="take the image from another source"
        ) from error

    def _read_only(self, *_: object) -> UsageError:
        return UsageError(
            f"nothing can be stored in {self.source.url}",
            why="a gateway only serves what its owner has stored",
            remedy="name a store of your own, like file:FOLDER",
        )
