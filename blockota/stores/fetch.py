"""Fetch one file from many untrusted sources concurrently.

Each source has a thread, which requests blocks of the shared `FetchPlan`, one after the other. A source that serves a
wrong block, stalls, redirects to a forbidden address or fails too often is reported and not asked again. If only one
source is active, the fetch first requests the whole file from that source as a CAR. If the connection breaks before the
end of the CAR, the missing blocks are requested one by one.

A malicious source can delay a fetch by sending slowly, but just within the limits. A fetch therefore never depends on a
single source. If all active sources together are too slow, the fetch activates the waiting sources, and after them the
sources of the next search stage.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Self

from blockota.errors import Action, StoreError, shortened
from blockota.formats.cid import CID, RAW, Block
from blockota.stores.fetch_plan import Destination, FetchPlan
from blockota.stores.gateway import TrustlessClient
from blockota.stores.local import LocalStore
from blockota.stores.source import BAD, Limits, Source, SourceError, SourceReport, Verdict

MAX_SOURCES = 8
"""The maximum number of sources that are asked concurrently. When a source is given up, another replaces it."""
MAX_SLOW_SOURCES = 32
"""Maximum number of sources that are asked concurrently if they are slow."""
FAST_ENOUGH = 1 << 20
"""The number of bytes that the active sources must together deliver within `Limits.joining`: one block. If they deliver
less, more sources join."""
_TICK = 0.1
_JOIN_SECONDS = 1.0
_BACKOFF = 0.2


@dataclass(frozen=True)
class FetchReport:
    """The results of all sources, in the order in which the sources were given."""

    sources: tuple[SourceReport, ...]

    @property
    def bad(self) -> tuple[SourceReport, ...]:
        """The results of the sources that are excluded from the fetch because of their verdict (`BAD`)."""
        return tuple(source for source in self.sources if source.verdict in BAD)


class UnservedError(StoreError):
    """All sources have failed, and blocks of the file are missing."""


class FileFetch:
    """A fetch of one file. Each block is verified before it is stored. `report` can also be called after a failure.

    Args:
        cid: the file's content address.
        sources: the sources, the preferred ones first.
        size: the file's exact size in bytes.
        into: a `FileDestination` or `StoreDestination`.
        limits: the limits; None for the default limits.
    """

    def __init__(
        self, cid: CID, sources: Sequence[Source], *, size: int, into: Destination, limits: Limits | None = None
    ) -> None:
        self._cid, self._size, self._into = cid, size, into
        self._limits = limits or Limits()
        self._workers: dict[str, Worker] = {}
        self._waiting: deque[Worker] = deque()
        self._invite(sources)

    def report(self) -> FetchReport:
        """Return the results of all sources so far."""
        return FetchReport(tuple(worker.report() for worker in self._workers.values()))

    def run(
        self,
        on_progress: Callable[[int], object] = lambda _: None,
        *,
        more: Callable[[], Iterable[Source] | None] = lambda: None,
    ) -> FetchReport:
        """Fetch the file.

        Args:
            on_progress: called in this thread with the number of bytes that were just added to the file.
            more: returns further sources, or None if none are left. `more` is called in this thread if no source is
                active, or if the active sources are too slow. If `more` returns a source twice, the source is used
                once.

        Raises:
            UnservedError: no source is left, and the file is incomplete.
            StoreError: the destination cannot store the file.
            ContentError: the blocks match their CIDs, but do not form a file of this size.
        """
        plan = FetchPlan(self._cid, size=self._size, destination=self._into)
        plan.take_kept()
        pace, reported = _Pace(self._limits.joining, placed=plan.placed), 0

        try:
            while not plan.is_over and self._staff(plan, is_slow=pace.is_slow(plan.placed), more=more):
                with plan.changed:
                    if not plan.is_over:
                        plan.changed.wait(_TICK)
                if (placed := plan.placed) > reported:
                    on_progress(placed - reported)
                    reported = placed
        finally:
            # Abort all requests. A name lookup cannot be aborted, so its thread is left running; it has no effect.
            plan.stop()
            for worker in self._workers.values():
                worker.dismiss()
            until = time.monotonic() + _JOIN_SECONDS
            for worker in self._workers.values():
                worker.join(until - time.monotonic())

        if plan.placed > reported:
            on_progress(plan.placed - reported)
        if plan.error is not None:
            raise plan.error
        if not plan.is_whole:
            verdicts = shortened(self.report().sources, "; ")
            raise UnservedError(
                f"{self._cid} could not be fetched",
                why=verdicts or "no source to ask",
                remedy="try again later (stored blocks are not fetched again), or name another source",
                action=Action.NAME_SOURCE,
            )
        return self.report()

    def _staff(self, plan: FetchPlan, *, is_slow: bool, more: Callable[[], Iterable[Source] | None]) -> bool:
        """Activate more sources if needed. Returns whether any source is active."""
        # (1) Ask for other sources until a source is new, or none are left.
        busy = [worker for worker in self._workers.values() if worker.is_busy]
        needed = is_slow or not (busy or self._waiting)
        while needed and (others := more()) is not None:
            needed = not self._invite(others)
        # (2) Let waiting sources join. Slow sources must not take up all places, so the limit is then higher.
        room = min(len(busy) + MAX_SOURCES, MAX_SLOW_SOURCES) if is_slow else MAX_SOURCES
        joining = [self._waiting.popleft() for _ in range(min(len(self._waiting), room - len(busy)))]
        # (3) Request a CAR only while one source is active, because two sources would send the same blocks.
        for worker in (*busy, *joining):
            worker.is_only = len(busy) + len(joining) == 1
        for worker in joining:
            worker.start(plan)
        return bool(busy or joining)

    def _invite(self, sources: Iterable[Source]) -> bool:
        """Append the sources with new URLs to the queue. Returns whether any URL was new.

        If several sources have the same URL, only the first is used.
        """
        new = {source.url.rstrip("/"): source for source in reversed(list(sources))}
        joining = {url: Worker(new[url], self._limits) for url in reversed(new) if url not in self._workers}
        self._workers |= joining
        self._waiting += joining.values()
        return bool(joining)


class _Pace:
    """Measures how many bytes of the file arrive in each interval of `span` seconds."""

    def __init__(self, span: float, *, placed: int) -> None:
        self._span, self._placed = span, placed
        self._since = time.monotonic()

    def is_slow(self, placed: int) -> bool:
        """Whether an interval has just ended in which fewer than `FAST_ENOUGH` bytes arrived."""
        now = time.monotonic()
        if now - self._since < self._span:
            return False
        arrived = placed - self._placed
        self._since, self._placed = now, placed
        return arrived < FAST_ENOUGH


@dataclass(eq=False)
class Worker:
    """A source and its thread. The thread writes the attributes from `size` on, and other threads read them.

    Attributes:
        source: the source.
        limits: the limits of the source.
        is_only: whether this source is the only active source, and can therefore be asked for a CAR.
        size: size in bytes of the valid blocks that the source served.
        blocks: number of the valid blocks that the source served.
        seconds: time during which a request to the source was pending.
        asked_since: start of the current request, by `time.monotonic`; None between two requests.
        verdict: the outcome.
        reason: why the source is not asked again.
        failure: the last failure of the source.
    """

    source: Source
    limits: Limits
    is_only: bool = False
    size: int = 0
    blocks: int = 0
    seconds: float = 0.0
    asked_since: float | None = None
    verdict: Verdict = Verdict.UNUSED
    reason: str = ""
    failure: SourceError | None = None
    _thread: threading.Thread | None = None
    _client: TrustlessClient | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the worker's thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, plan: FetchPlan) -> None:
        """Start a thread that fetches blocks until the fetch ends or the source fails."""
        self._client = TrustlessClient(self.source, self.limits)
        # A daemon thread, because a name lookup cannot be interrupted.
        self._thread = threading.Thread(target=self._run, args=(plan, self._client), daemon=True)
        self._thread.start()

    def dismiss(self) -> None:
        """Abort the request.

        A source that served no block gets the verdict of its last failure. A source without a block and without a
        failure gets the verdict `LATE` if its current request has been pending for more than `duplicate_after` seconds.
        """
        since = self.asked_since
        if self.verdict == Verdict.UNUSED and self.failure is not None:
            self.verdict, self.reason = self.failure.verdict, self.failure.why
        elif self.verdict == Verdict.UNUSED and since and time.monotonic() - since > self.limits.duplicate_after:
            self.verdict, self.reason = Verdict.LATE, "other sources served the whole file before it answered"
        if self._client is not None:
            self._client.abort()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))

    def report(self) -> SourceReport:
        """Return the result of the source so far."""
        return SourceReport(self.source.url, self.size, self.seconds, self.verdict, self.reason)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Measure the time of a request."""
        self.asked_since = began = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - began
            self.asked_since = None

    def _arrived(self, block: Block, plan: FetchPlan) -> None:
        plan.arrived(block)
        self.size += len(block.data)
        self.blocks += 1
        self.verdict = Verdict.SERVED

    def _run(self, plan: FetchPlan, client: TrustlessClient) -> None:
        try:
            with client:
                if self.is_only and plan.root.codec != RAW and plan.is_untouched:
                    self._fetch_car(plan, client)
                self._fetch_blocks(plan, client)
        except BaseException as error:  # noqa: BLE001 - raised again by `FileFetch.run`
            plan.stop(error)

    def _fetch_car(self, plan: FetchPlan, client: TrustlessClient) -> None:
        """Request a CAR. `_fetch_blocks` later fetches the blocks that the CAR does not deliver."""
        try:
            with self._asking():
                for block in client.blocks(plan.root, size=plan.size, earlier=plan.known):
                    self._arrived(block, plan)
                    # End the CAR if another source has joined, because both would send the same blocks.
                    if plan.is_over or not self.is_only:
                        return
        except SourceError as error:
            if error.verdict not in (Verdict.ABSENT, Verdict.FAILED):
                self._give_up(error, plan)

    def _fetch_blocks(self, plan: FetchPlan, client: TrustlessClient) -> None:
        failures = 0
        while self.verdict not in BAD:
            cid = plan.take(self, duplicate_after=self._duplicate_after())
            if cid is None:
                return

            try:
                with self._asking():
                    block = client.block(cid, limit=plan.largest(cid))
                    self._arrived(block, plan)
                failures = 0
            except SourceError as error:
                failures += 1
                # After the end of the fetch, `dismiss` aborts the request: the source did not fail.
                if not plan.is_over:
                    self.failure = error
                plan.give_back(self)
                if error.again is None or failures >= self.limits.attempts:
                    self._give_up(error, plan)
                else:
                    plan.pause(error.again + _BACKOFF * (failures - 1))

    def _give_up(self, error: SourceError, plan: FetchPlan) -> None:
        if error.verdict == Verdict.WRONG or not plan.is_over:
            self.verdict, self.reason = error.verdict, error.why

    def _duplicate_after(self) -> float:
        """Return the seconds after which this source also requests a block that another source has not delivered.

        The result is twice this source's mean time per block, but at most `Limits.duplicate_after`.
        """
        longest = self.limits.duplicate_after
        own = 2 * self.seconds / self.blocks if self.blocks else longest
        return min(max(own, _TICK), longest)


class FileDestination:
    """Writes a file's leaves at their offsets. The methods are thread-safe.

    The context manager locks the store, so that other processes cannot remove the file's blocks before the file is
    pinned. A missing store is created only when the first block arrives.

    Args:
        file: an empty, seekable file, open for reading and writing.
        store: a store in which the blocks are also stored, so that a later fetch can resume. A failure of the store
            does not end the fetch.

    Attributes:
        store_error: the error of the store; None while the store is in use.
    """

    def __init__(self, file: BinaryIO, *, store: LocalStore | None = None) -> None:
        self._file, self._store = file, store
        self.store_error: StoreError | None = None
        self._places: dict[CID, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._store_locks, self._is_store_locked = ExitStack(), False

    def __enter__(self) -> Self:
        """Lock the store if it exists."""
        if self._store and os.path.lexists(self._store.folder):
            self._use_store(lambda _: None)
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock the store."""
        self._store_locks.close()

    def kept(self, cid: CID) -> bytes | None:
        """Return a leaf that was written to the file, or a readable block of the store.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock, _translated():
            if cid in self._places:
                offset, size = self._places[cid]
                self._file.seek(offset)
                return self._file.read(size)
        try:
            return StoreDestination(self._store).kept(cid) if self._store and self._is_store_locked else None
        except StoreError:
            return None

    def keep(self, block: Block, offsets: Sequence[int]) -> None:
        """Write a leaf at all of its offsets, and store the block in the store.

        Raises:
            StoreError: the file cannot be written.
        """
        self._use_store(lambda store: store.write_block(block))
        with self._lock, _translated():
            for offset in offsets:
                self._file.seek(offset)
                self._file.write(block.data)
                self._places[block.cid] = offset, len(block.data)

    def pin(self, cid: CID) -> None:
        """Protect the file in the store from garbage collection."""
        self._use_store(lambda store: store.pin(cid))

    def _use_store(self, action: Callable[[LocalStore], None]) -> None:
        """Lock the store, and run an action on the store. After the first error, the store is not used again."""
        if self._store is None or self.store_error:
            return
        try:
            with self._lock:
                if not self._is_store_locked:
                    self._store_locks.enter_context(self._store.locked(exclusive=False))
                    self._is_store_locked = True
            action(self._store)
        except StoreError as error:
            self.store_error = error


class StoreDestination:
    """Stores a file's blocks in the local store. After the fetch, `LocalStore.open` yields the file."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def kept(self, cid: CID) -> bytes | None:
        """Return a block of the store, or None."""
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
