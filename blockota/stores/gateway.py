"""A client for trustless gateways, and a read-only store that uses the client.

Trustless gateways serve single blocks, or a file as a CAR. Source: Trustless Gateway specification
(specs.ipfs.tech/http-gateways/trustless-gateway).
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import BinaryIO, Self

from blockota.errors import Action, ContentError, HashMismatchError, UsageError
from blockota.formats.car import MAX_BLOCK_SIZE, overhead, read_car
from blockota.formats.cid import CID, Block, read_file
from blockota.stores.http import HttpClient
from blockota.stores.source import Limits, Source, SourceError, Verdict
from blockota.url_secrets import shown_url

RAW_TYPE = "application/vnd.ipld.raw"
"""Media type of one block."""
CAR_TYPE = "application/vnd.ipld.car"
"""Media type of a CAR."""
CAR_REQUEST = f"{CAR_TYPE}; version=1; order=dfs; dups=y"
"""Accept header for a CAR in depth-first order with repeated blocks."""
_CAR_EXTRA = 1 << 16
PARTS_AHEAD = 8
"""The maximum number of parts of a response that are read ahead of their verification."""


class TrustlessClient:
    """Requests blocks from one source and verifies them. Any thread may call `abort`."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self._http = HttpClient(source, limits)

    def __enter__(self) -> Self:
        """Return the client; the first request opens the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._http.close()

    def block(self, cid: CID, *, limit: int = MAX_BLOCK_SIZE) -> Block:
        """Fetch one block (``format=raw``).

        Args:
            cid: CID of the block.
            limit: maximum size of the block in bytes; see `blockota.formats.car.largest_block`.

        Raises:
            SourceError: the source does not serve the block, serves another block (`Verdict.WRONG`), or serves other
                content, such as a login page (`Verdict.UNUSABLE`).
        """
        with self._closing():
            response = self._http.get(f"/ipfs/{cid}?format=raw", accept=RAW_TYPE, limit=limit)
            data = response.body()
            if CID.of(cid.codec, data) == cid:
                return Block(cid, data)
            kind = response.header("Content-Type").partition(";")[0].strip().lower()
            if kind != RAW_TYPE:
                why = f"a block was requested, and it answers with {kind[:60] or 'no media type'}"
                raise SourceError(self.source.url, Verdict.UNUSABLE, why=why)
            raise SourceError(self.source.url, Verdict.WRONG, why=f"block {cid} has another hash")

    def blocks(self, cid: CID, *, size: int, earlier: Callable[[CID], bytes | None]) -> Iterator[Block]:
        """Fetch all blocks of a file with one request for a depth-first CAR.

        Yields no block if the source does not serve a depth-first CAR.

        Args:
            cid: the file's content address.
            size: the largest accepted file, in bytes.
            earlier: returns the bytes of a block that was yielded before, or None; see `read_car`.

        Raises:
            SourceError: the stream breaks off, has a block with a wrong hash (`Verdict.WRONG`), or is not a CAR of this
                file (`Verdict.UNUSABLE`).
        """
        # dag-scope=entity means the whole file. car-order and car-dups repeat the Accept header, because some gateways
        # read only one of the two.
        path = f"/ipfs/{cid}?format=car&dag-scope=entity&car-order=dfs&car-dups=y"
        with self._closing():
            response = self._http.get(path, accept=CAR_REQUEST, limit=size + 2 * overhead(size) + _CAR_EXTRA)
            if not is_depth_first(response.header("Content-Type")):
                return

            with ReadAhead(response.parts(), stop=self._http.abort_request) as ahead:
                try:
                    yield from read_car(ahead, cid, size=size, earlier=earlier)
                except ContentError as error:
                    if not ahead.ended:
                        verdict = Verdict.WRONG if isinstance(error, HashMismatchError) else Verdict.UNUSABLE
                        raise SourceError(self.source.url, verdict, why=f"{error.what}, {error.why}") from error
                    # A server that fails in the middle can only end the stream. The blocks before that were valid.
                    raise SourceError(
                        self.source.url, Verdict.FAILED, why="the response ends too early", again=0.0
                    ) from error

    def has(self, cid: CID) -> bool:
        """Whether the source claims to have a block.

        Raises:
            SourceError: the source does not answer.
        """
        with self._closing():
            return self._http.has(f"/ipfs/{cid}?format=raw", accept=RAW_TYPE)

    def abort(self) -> None:
        """Abort the current request and all later requests."""
        self._http.abort()

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Close the connection after an error, because the state of the connection is unknown."""
        try:
            yield
        except BaseException:
            self._http.close()
            raise


class ReadOnlyStore(ABC):
    """The methods of a read-only store that refuse to store or pin files."""

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Raise a `UsageError`: the store is read-only."""
        raise self._read_only(stream, on_progress)

    def pin(self, cid: CID) -> None:
        """Raise a `UsageError`: the store is read-only."""
        raise self._read_only(cid)

    unpin = pin

    @abstractmethod
    def _read_only(self, *_: object) -> UsageError:
        """Return the error for an attempt to store or pin a file in this read-only store."""


class GatewayStore(ReadOnlyStore):
    """A gateway as a read-only store. To fetch from several gateways at once, use `blockota.stores.fetch`."""

    def __init__(self, source: Source, *, limits: Limits | None = None) -> None:
        self.source = source
        self._limits = limits or Limits()

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order. Each block is verified before it is yielded.

        Raises:
            StoreError: the gateway does not have the file, stalls, or breaks off too often.
            ContentError: the gateway serves wrong bytes.
        """
        attempts = self._limits.attempts

        def read_block(address: CID) -> bytes:
            for attempt in range(1, attempts + 1):
                try:
                    return client.block(address).data
                except SourceError as error:
                    if error.verdict == Verdict.WRONG:
                        raise ContentError(
                            f"{shown_url(self.source.url)} serves other bytes",
                            why=error.why,
                            remedy="fetch the image from another source",
                            action=Action.NAME_SOURCE,
                        ) from error

                    if error.again is None or attempt == attempts:
                        raise
                    time.sleep(error.again)
            raise AssertionError("the number of attempts is zero")

        with TrustlessClient(self.source, self._limits) as client:
            yield from read_file(cid, read_block)

    def has(self, cid: CID) -> bool:
        """Whether the gateway claims to have the root block.

        Raises:
            StoreError: the gateway does not answer.
        """
        with TrustlessClient(self.source, self._limits) as client:
            return client.has(cid)

    def _read_only(self, *_: object) -> UsageError:
        return UsageError(
            f"nothing can be stored in {shown_url(self.source.url)}",
            why="a gateway is read-only",
            remedy="name a writable store, such as file:FOLDER",
            action=Action.CHOOSE_STORE,
        )


class ReadAhead:
    """Reads a stream in a background thread, so that the next part is received while the caller hashes a part.

    Args:
        parts: the stream. Exceptions of the stream are raised again in the thread that iterates over `ReadAhead`.
        stop: called if the ``with`` block ends before the end of `parts`; it must make `parts` end early.

    Attributes:
        ended: whether all parts were yielded.
    """

    def __init__(self, parts: Iterator[bytes], *, stop: Callable[[], object]) -> None:
        self._parts, self._stop = parts, stop
        self._queue: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(PARTS_AHEAD)
        self.ended = self._left = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start the reading thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading, and wait for the thread."""
        self._left = True
        if not self.ended:
            self._stop()
        self._room.release()
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts in order. Only one iteration is possible."""
        while isinstance(part := self._queue.get(), bytes | bytearray):
            self._room.release()
            yield part
        self.ended = True
        if part is not None:
            raise part

    def _run(self) -> None:
        try:
            for part in self._parts:
                self._room.acquire()
                if self._left:
                    return
                self._queue.put(part)
            self._queue.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the parts are used
            self._queue.put(error)


def is_depth_first(content_type: str) -> bool:
    """Whether a Content-Type announces a CARv1 whose blocks are in depth-first order."""
    kind, *parameters = (part.strip().replace('"', "") for part in content_type.lower().split(";"))
    return kind == CAR_TYPE and "order=dfs" in parameters and "version=1" in parameters
