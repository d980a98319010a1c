"""The trustless gateway protocol, as its client: blocks one by one, or all of a file as a CAR.

Source: Trustless Gateway specification (specs.ipfs.tech/http-gateways/trustless-gateway).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from blockota.errors import ContentError
from blockota.formats.car import MAX_BLOCK_SIZE, overhead, read_car
from blockota.formats.cid import CID, Block
from blockota.stores.ahead import ReadingAhead
from blockota.stores.http_connection import Session
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
        self._session = Session(source, limits)

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
            if not is_depth_first(answer.headers.get("Content-Type", "")):
                return
            with ReadingAhead(answer.parts(), stop=self._session.abort_request) as ahead:
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
