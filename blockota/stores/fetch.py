"""FileFetch one file from many sources at once, none of which is believed.

One thread a source asks for block after block; the plan deals them out. A source that serves a bad block, stalls,
redirects where it may not or breaks off too often is left out, and the report says so. A single source is asked for a
CAR first, which is one request; when that breaks, the blocks that came stay, and the rest is asked for one by one.

A source can be slow on purpose, and never so slow that it is left out. So nobody is waited for: whenever those at work
bring too little, others join them, first those that waited for a place, then the next stage of the search.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from blockota.errors import StoreError
from blockota.formats.cid import CID, RAW, Block
from blockota.stores.fetch_plan import Destination, FetchPlan
from blockota.stores.gateway import TrustlessClient
from blockota.stores.local import LocalStore
from blockota.stores.source import BAD, Limits, Source, SourceError, SourceReport, Verdict

MAX_SOURCES = 8
"""Sources that are asked at the same time; others take the place of those that were left out."""
MAX_SLOW_SOURCES = 32
"""Sources that are asked at the same time where they are slow."""
FAST_ENOUGH = 1 << 20
"""Bytes that sources bring together within `Limits.joining`, or others join them: one block."""
_TICK = 0.1
_FAREWELL = 1.0


@dataclass(frozen=True)
class FetchReport:
    """What every source did, in the order in which they were named."""

    sources: tuple[SourceReport, ...]

    @property
    def bad(self) -> tuple[SourceReport, ...]:
        """Those that were left out."""
        return tuple(source for source in self.sources if source.is_bad)


class UnservedError(StoreError):
    """No source is left, and the file is not whole."""


def no_more_sources() -> Iterable[Source] | None:
    """The sources that join a fetch which has no others."""
    return None


def fetch(
    cid: CID,
    sources: Sequence[Source],
    *,
    size: int,
    into: Destination,
    on_progress: Callable[[int], object] = lambda _: None,
) -> FetchReport:
    """FileFetch a file, each block checked before it is kept, with the usual limits; see `FileFetch` for others.

    Args:
        cid: the file's content address.
        sources: who may have it, the preferred ones first.
        size: its exact size in bytes.
        into: where to put it: `FileDestination` or `StoreDestination` of `destinations`.
        on_progress: is told the bytes of the file that were added.

    Raises:
        UnservedError: no source is left, and the file is not whole; every source's verdict is in the sentence.
        StoreError: the destination cannot keep it.
        ContentError: the blocks are right, and are not a file of this size.
    """
    return FileFetch(cid, sources, size=size, into=into).run(on_progress)


class FileFetch:
    """One fetch of one file; `report` tells of the sources also when it failed.

    Args:
        cid: the file's content address.
        sources: who may have it, the preferred ones first.
        size: its exact size in bytes.
        into: where to put it.
        limits: what a source may cost.
    """

    def __init__(
        self, cid: CID, sources: Sequence[Source], *, size: int, into: Destination, limits: Limits | None = None
    ) -> None:
        """Prepare; nothing is asked for yet."""
        self._cid, self._size = cid, size
        self._limits = limits or Limits()
        self._into = into
        self._workers: dict[str, Worker] = {}
        self._waiting: deque[Worker] = deque()
        self._invite(sources)

    def report(self) -> FetchReport:
        """What every source did so far."""
        return FetchReport(tuple(worker.report() for worker in self._workers.values()))

    def run(
        self,
        on_progress: Callable[[int], object] = lambda _: None,
        *,
        more: Callable[[], Iterable[Source] | None] = no_more_sources,
    ) -> FetchReport:
        """FileFetch the file.

        Args:
            on_progress: is told the bytes of the file that were added, in this thread.
            more: is called, in this thread, when those at work bring too little, or nobody is left: the sources that
                join them, or `None` when there are no others. Who was asked already is not asked again.

        Raises:
            UnservedError: no source is left, and the file is not whole.
            StoreError: the destination cannot keep it.
            ContentError: the blocks are right, and are not a file of this size.
        """
        plan = FetchPlan(self._cid, size=self._size, destination=self._into)
        plan.take_what_is_held()
        try:
            told = self._supervise(plan, on_progress, more=more)
            _tell(on_progress, placed=plan.placed, told=told)
        finally:
            plan.stop()
            self._dismiss()
        if plan.error is not None:
            raise plan.error
        if not plan.is_whole:
            raise self._failure()
        return self.report()

    def _supervise(
        self, plan: FetchPlan, on_progress: Callable[[int], object], *, more: Callable[[], Iterable[Source] | None]
    ) -> int:
        """Keep sources at work until all is over, and tell of the progress; the bytes told of are returned."""
        told, pace = 0, _Pace(self._limits.joining, placed=plan.placed)
        while not plan.is_over and self._staff(plan, is_slow=pace.is_slow(plan.placed), more=more):
            with plan.changed:
                if not plan.is_over:
                    plan.changed.wait(_TICK)
            told = _tell(on_progress, placed=plan.placed, told=told)
        return told

    def _staff(self, plan: FetchPlan, *, is_slow: bool, more: Callable[[], Iterable[Source] | None]) -> bool:
        """Let others join where they are needed, and say whether anybody is at work."""
        busy = [worker for worker in self._workers.values() if worker.is_busy]
        are_needed = is_slow or not (busy or self._waiting)
        while are_needed and (others := more()) is not None:
            are_needed = not self._invite(others)
        room = min(len(busy) + MAX_SOURCES, MAX_SLOW_SOURCES) if is_slow else MAX_SOURCES
        joining = [self._waiting.popleft() for _ in range(min(len(self._waiting), room - len(busy)))]
        for worker in (*busy, *joining):
            worker.is_alone = len(busy) + len(joining) == 1
        for worker in joining:
            worker.start(plan)
        return bool(busy or joining)

    def _invite(self, sources: Iterable[Source]) -> bool:
        """Let sources wait for a place; whether one of them is new."""
        new = {source.url.rstrip("/"): source for source in reversed(list(sources))}
        joining = {url: Worker(new[url], self._limits) for url in reversed(new) if url not in self._workers}
        self._workers |= joining
        self._waiting += joining.values()
        return bool(joining)

    def _dismiss(self) -> None:
        """Break off what still goes on; a thread that waits for a name is left behind, and changes nothing."""
        for worker in self._workers.values():
            worker.dismiss()
        until = time.monotonic() + _FAREWELL
        for worker in self._workers.values():
            worker.join(until - time.monotonic())

    def _failure(self) -> UnservedError:
        verdicts = "; ".join(str(source) for source in self.report().sources)
        return UnservedError(
            f"{self._cid} could not be fetched",
            why=verdicts or "there is no source to ask",
            remedy="name another source, or try again later: blocks that are in the store are not fetched again",
        )


class _Pace:
    """How fast the file comes, in one span of time after the other."""

    def __init__(self, span: float, *, placed: int) -> None:
        self._span, self._placed = span, placed
        self._since = time.monotonic()

    def is_slow(self, placed: int) -> bool:
        """Whether a span has ended in which too little came."""
        now = time.monotonic()
        if now - self._since < self._span:
            return False
        came = placed - self._placed
        self._since, self._placed = now, placed
        return came < FAST_ENOUGH


def _tell(on_progress: Callable[[int], object], *, placed: int, told: int) -> int:
    if placed > told:
        on_progress(placed - told)
    return placed


_TICK = 0.1
_BACKOFF = 0.2


@dataclass
class _Record:
    """What a worker has to tell; written by its thread, read by others."""

    size: int = 0
    blocks: int = 0
    seconds: float = 0.0
    asked_since: float | None = None
    verdict: Verdict = Verdict.UNUSED
    reason: str = ""
    failure: SourceError | None = None

    def served(self, block: Block) -> None:
        self.size += len(block.data)
        self.blocks += 1
        self.verdict = Verdict.SERVED

    def begin(self) -> None:
        self.asked_since = time.monotonic()

    def end(self) -> None:
        self.seconds += time.monotonic() - (self.asked_since or time.monotonic())
        self.asked_since = None


@dataclass(eq=False)
class Worker:
    """A source, and the thread that asks it.

    Attributes:
        source: the source.
        limits: what it may cost.
        is_alone: whether nobody else is at work: then it is asked for a CAR.
        record: what it did; written by the thread.
    """

    source: Source
    limits: Limits
    is_alone: bool = False
    record: _Record = field(default_factory=_Record)
    _thread: threading.Thread | None = None
    _client: TrustlessClient | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, plan: FetchPlan) -> None:
        """Work on a plan until it is over, or the source is left out."""
        self._client = TrustlessClient(self.source, self.limits)
        # A daemon, for no time limit holds while the system looks up a name.
        self._thread = threading.Thread(target=self._run, args=(plan, self._client), daemon=True)
        self._thread.start()

    def dismiss(self) -> None:
        """Break off what still goes on; a source that brought nothing is called by what is known of it."""
        since, record = self.record.asked_since, self.record
        if record.verdict == Verdict.UNUSED and record.failure is not None:
            record.verdict, record.reason = record.failure.verdict, record.failure.why
        elif record.verdict == Verdict.UNUSED and since and time.monotonic() - since > self.limits.duplicate_after:
            record.verdict, record.reason = Verdict.LATE, "the others were ready before it answered"
        if self._client is not None:
            self._client.abort()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))

    def report(self) -> SourceReport:
        """What the source did so far."""
        record = self.record
        return SourceReport(self.source.url, record.size, record.seconds, record.verdict, record.reason)

    def _run(self, plan: FetchPlan, client: TrustlessClient) -> None:
        try:
            with client:
                if self.is_alone and plan.root.codec != RAW and plan.is_untouched:
                    self._take_all(plan, client)
                self._take_blocks(plan, client)
        except BaseException as error:  # noqa: BLE001 - what a thread cannot handle is raised where the fetch was called
            plan.stop(error)

    def _take_all(self, plan: FetchPlan, client: TrustlessClient) -> None:
        """Ask for a CAR; where there is none, or it breaks off, the blocks are asked for one by one."""
        self.record.begin()
        try:
            for block in client.blocks(plan.root, size=plan.size, earlier=plan.held):
                plan.arrived(block)
                self.record.served(block)
                if plan.is_over or not self.is_alone:  # two must not send the same blocks
                    return
        except SourceError as error:
            if error.verdict != Verdict.GONE:
                self._leave(error, plan)
        finally:
            self.record.end()

    def _take_blocks(self, plan: FetchPlan, client: TrustlessClient) -> None:
        failures = 0
        while (
            self.record.verdict not in BAD
            and (cid := plan.take(self, duplicate_after=self._overdue_after())) is not None
        ):
            self.record.begin()
            try:
                block = client.block(cid, limit=plan.largest(cid))
                plan.arrived(block)
                self.record.served(block)
                failures = 0
            except SourceError as error:
                failures += 1
                self._note(error, plan)
                plan.give_back(self)
                if error.again is None or failures >= self.limits.attempts:
                    self._leave(error, plan)
                else:
                    plan.pause(error.again + _BACKOFF * (failures - 1))
            finally:
                self.record.end()

    def _note(self, error: SourceError, plan: FetchPlan) -> None:
        """Remember a failure that is the source's own: what breaks when all is over was broken off by us."""
        if not plan.is_over:
            self.record.failure = error

    def _leave(self, error: SourceError, plan: FetchPlan) -> None:
        if error.verdict == Verdict.WRONG or not plan.is_over:
            self.record.verdict, self.record.reason = error.verdict, error.why

    def _overdue_after(self) -> float:
        """Twice the time that this source takes for a block: what others need longer for, it has sooner."""
        own = 2 * self.record.seconds / self.record.blocks if self.record.blocks else self.limits.duplicate_after
        return min(max(own, _TICK), self.limits.duplicate_after)


class FileDestination:
    """Put a file's bytes where they belong in a file that is open for reading and writing and can seek.

    Args:
        file: the file, empty.
        store: a store that keeps the blocks as well, so that a later fetch goes on where this one ended. Where it
            fails, the file comes all the same.

    Attributes:
        store_error: why the store keeps nothing any more.
    """

    def __init__(self, file: BinaryIO, *, store: LocalStore | None = None) -> None:
        """Begin with what the store holds."""
        self._file, self._store = file, store
        self.store_error: StoreError | None = None
        self._places: dict[CID, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def held(self, cid: CID) -> bytes | None:
        """A leaf that was written here, or a block of the store that can be read.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock, _translated():
            if cid in self._places:
                offset, size = self._places[cid]
                self._file.seek(offset)
                return self._file.read(size)
        try:
            return StoreDestination(self._store).held(cid) if self._store else None
        except StoreError:
            return None

    def keep(self, block: Block, offsets: Sequence[int]) -> None:
        """Write a leaf at all of its places.

        Raises:
            StoreError: the file cannot be written.
        """
        if self._store and self.store_error is None:
            try:
                StoreDestination(self._store).keep(block, offsets)
            except StoreError as error:
                self.store_error = error
        with self._lock, _translated():
            for offset in offsets:
                self._file.seek(offset)
                self._file.write(block.data)
                self._places[block.cid] = offset, len(block.data)


class StoreDestination:
    """Put a file's blocks into the local store; `LocalStore.open` yields it when the fetch has ended.

    Args:
        store: the store.
    """

    def __init__(self, store: LocalStore) -> None:
        """Begin with what the store holds."""
        self._store = store

    def held(self, cid: CID) -> bytes | None:
        """A block of the store."""
        return self._store.read_block(cid) if self._store.has(cid) else None

    def keep(self, block: Block, offsets: Sequence[int]) -> None:  # noqa: ARG002 - a store has no offsets
        """Store a block."""
        self._store.write_block(block)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            "the fetched file cannot be written",
            why=error.strerror or str(error),
            remedy="check the disk's free space",
        ) from error
