"""The trustless gateway protocol, as its client: blocks one by one, or all of a file as a CAR.

Source: Trustless Gateway specification (specs.ipfs.tech/http-gateways/trustless-gateway).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import BinaryIO, NoReturn, Self

from blockota.errors import ContentError, UsageError
from blockota.formats.car import MAX_BLOCK_SIZE, overhead, read_car
from blockota.formats.cid import CID, Block, read_file
from blockota.stores.http import HttpClient
from blockota.stores.source import Limits, Source, SourceError, Verdict

RAW_TYPE = "application/vnd.ipld.raw"
"""Media type of one block."""
CAR_TYPE = "application/vnd.ipld.car"
"""Media type of a CAR."""
CAR_REQUEST = f"{CAR_TYPE}; version=1; order=dfs; dups=y"
"""The CAR that is asked for: depth first, with repeated blocks."""
_CAR_EXTRA = 1 << 16


class TrustlessClient:
    """One source and the connection to it; what comes is checked here. `abort` may come from any thread.

    Args:
        source: the source.
        limits: what it may cost.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        """Remember; the first request connects."""
        self.source = source
        self._session = HttpClient(source, limits)

    def __enter__(self) -> Self:
        """Nothing is opened."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._session.close()

    def block(self, cid: CID, *, limit: int = MAX_BLOCK_SIZE) -> Block:
        """One block.

        Args:
            cid: its address.
            limit: bytes that it can have; see `blockota.formats.car.largest_block`.

        Raises:
            SourceError: it does not come, or is another (`Verdict.LIED`).
        """
        with self._closing():
            answer = self._session.get(f"/ipfs/{cid}?format=raw", accept=RAW_TYPE, limit=limit)
            data = answer.body()
            if CID.of(cid.codec, data) != cid:
                raise self._lied(f"block {cid} has another hash")
            return Block(cid, data)

    def blocks(self, cid: CID, *, size: int, earlier: Callable[[CID], bytes | None]) -> Iterator[Block]:
        """All blocks of a file, depth first, by one request; nothing where the source has no CAR in that order.

        Args:
            cid: the file's content address.
            size: the largest file, in bytes, that is taken.
            earlier: as for `read_car`.

        Raises:
            SourceError: the stream breaks, or is not what it says (`Verdict.LIED`).
        """
        path = f"/ipfs/{cid}?format=car&dag-scope=entity&car-order=dfs&car-dups=y"
        with self._closing():
            answer = self._session.get(path, accept=CAR_REQUEST, limit=size + 2 * overhead(size) + _CAR_EXTRA)
            if not is_depth_first(answer.header("Content-Type")):
                return
            with ReadAhead(answer.parts(), stop=self._session.abort_request) as ahead:
                parts = _Parts(ahead)
                try:
                    yield from read_car(parts, cid, size=size, earlier=earlier)
                except ContentError as error:
                    raise self._blamed(error, ended=parts.ended) from error

    def has(self, cid: CID) -> bool:
        """Whether the source says that it has a block.

        Raises:
            SourceError: it does not answer.
        """
        with self._closing():
            return self._session.has(f"/ipfs/{cid}?format=raw", accept=RAW_TYPE)

    def abort(self) -> None:
        """Break off whatever goes on, now and later."""
        self._session.abort()

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """A connection on which something went wrong is not used again."""
        try:
            yield
        except BaseException:
            self._session.close()
            raise

    def _blamed(self, error: ContentError, *, ended: bool) -> SourceError:
        if ended:  # A server that fails in the middle can only stop; the blocks so far were good.
            return SourceError(self.source.url, Verdict.GONE, why="its answer ends too early", again=0.0)
        return self._lied(f"{error.what}, {error.why}")

    def _lied(self, why: str) -> SourceError:
        return SourceError(self.source.url, Verdict.LIED, why=why)


class _Parts:
    """An iterator that remembers whether it came to its end."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts
        self.ended = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        self.ended = True


def is_depth_first(content_type: str) -> bool:
    """Whether an answer's Content-Type promises a CARv1 in depth-first order."""
    kind, *parameters = (part.strip().replace('"', "") for part in content_type.lower().split(";"))
    return kind == CAR_TYPE and "order=dfs" in parameters and "version=1" in parameters


PARTS_AHEAD = 4
"""Parts that are read before anybody takes them."""


class ReadAhead:
    """Parts that a thread of its own reads, a few before they are taken; leave the block to end it.

    Args:
        parts: what is read; what it raises is raised where the parts are taken.
        stop: makes it end soon; called where not all of it was taken.
    """

    def __init__(self, parts: Iterator[bytes], *, stop: Callable[[], object]) -> None:
        """Nothing is read yet."""
        self._parts, self._stop = parts, stop
        self._read: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(PARTS_AHEAD)
        self._is_over = self._is_left = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let nobody read any more."""
        self._is_left = True
        if not self._is_over:
            self._stop()
        self._room.release()
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        """The parts, once."""
        while isinstance(part := self._read.get(), bytes):
            self._room.release()
            yield part
        self._is_over = True
        if part is not None:
            raise part

    def _run(self) -> None:
        try:
            for part in self._parts:
                self._room.acquire()
                if self._is_left:
                    return
                self._read.put(part)
            self._read.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the parts are taken
            self._read.put(error)


class GatewayStore:
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
