"""Fetches one file from many sources at once, none of which is trusted.

Each source has a thread that asks it for block after block of a shared `FetchPlan`. A source that serves a wrong
block, stalls, redirects where it may not or fails too often is reported and not asked again. A single source is asked
for a CAR first, which is one request; if that breaks off, the received blocks stay, and the rest is fetched one by one.

A source can be slow on purpose without ever being slow enough to be given up. So a fetch never depends on one: when
the sources at work together deliver too little, others join them, first those that wait for a place, then the next
stage of the search.
"""

from __future__ import annotations

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
"""Sources that are asked at the same time; others take the place of those that are given up."""
MAX_SLOW_SOURCES = 32
"""Sources that are asked at the same time if they are slow."""
FAST_ENOUGH = 1 << 20
"""Bytes that sources deliver together within `Limits.joining`, or others join them: one block."""
_TICK = 0.1
_JOIN_SECONDS = 1.0
_BACKOFF = 0.2


@dataclass(frozen=True)
class FetchReport:
    """The results of all sources, in the order given."""

    sources: tuple[SourceReport, ...]

    @property
    def bad(self) -> tuple[SourceReport, ...]:
        """The sources that are not asked again."""
        return tuple(source for source in self.sources if source.verdict in BAD)


class UnservedError(StoreError):
    """All sources have failed, and blocks of the file are missing."""


def fetch(
    cid: CID,
    sources: Sequence[Source],
    *,
    size: int,
    into: Destination,
    on_progress: Callable[[int], object] = lambda _: None,
) -> FetchReport:
    """Fetch a file with the default limits; each block is checked before it is kept. See `FileFetch` for other limits.

    Args:
        cid: the file's content address.
        sources: the sources, the preferred ones first.
        size: the file's exact size in bytes.
        into: a `FileDestination` or `StoreDestination`.
        on_progress: takes the number of bytes of the file that were added.

    Raises:
        UnservedError: no source is left, and the file is not whole; the error lists the verdict on every source.
        StoreError: the destination cannot keep the file.
        ContentError: the blocks have the right addresses, but are not a file of this size.
    """
    return FileFetch(cid, sources, size=size, into=into).run(on_progress)


class FileFetch:
    """One fetch of one file, with the arguments of `fetch`; `report` is valid after a failure, too."""

    def __init__(
        self, cid: CID, sources: Sequence[Source], *, size: int, into: Destination, limits: Limits | None = None
    ) -> None:
        self._cid, self._size, self._into = cid, size, into
        self._limits = limits or Limits()
        self._workers: dict[str, Worker] = {}
        self._waiting: deque[Worker] = deque()
        self._invite(sources)

    def report(self) -> FetchReport:
        """The results of all sources so far."""
        return FetchReport(tuple(worker.report() for worker in self._workers.values()))

    def run(
        self,
        on_progress: Callable[[int], object] = lambda _: None,
        *,
        more: Callable[[], Iterable[Source] | None] = lambda: None,
    ) -> FetchReport:
        """Fetch the file.

        Args:
            on_progress: takes the number of bytes of the file that were added; called in this thread.
            more: called in this thread when the sources at work deliver too little, or none is left. Returns the
                sources that join them, or None if there are no others. A source is never asked twice.

        Raises:
            UnservedError: no source is left, and the file is not whole.
            StoreError: the destination cannot keep the file.
            ContentError: the blocks have the right addresses, but are not a file of this size.
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
            # Break off all requests. A thread that still waits for a name lookup is abandoned; it changes nothing.
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
        """Let other sources join if needed; returns whether any is at work."""
        # (1) Ask for other sources, until one is new or there are no others.
        busy = [worker for worker in self._workers.values() if worker.is_busy]
        needed = is_slow or not (busy or self._waiting)
        while needed and (others := more()) is not None:
            needed = not self._invite(others)
        # (2) Let those that wait join. Slow ones must not take the places of others: there are more of them.
        room = min(len(busy) + MAX_SOURCES, MAX_SLOW_SOURCES) if is_slow else MAX_SOURCES
        joining = [self._waiting.popleft() for _ in range(min(len(self._waiting), room - len(busy)))]
        # (3) A CAR is asked of a single source only: two would send the same blocks.
        for worker in (*busy, *joining):
            worker.is_only = len(busy) + len(joining) == 1
        for worker in joining:
            worker.start(plan)
        return bool(busy or joining)

    def _invite(self, sources: Iterable[Source]) -> bool:
        """Append sources to the queue; returns whether one of them is new. The first of equal URLs counts."""
        new = {source.url.rstrip("/"): source for source in reversed(list(sources))}
        joining = {url: Worker(new[url], self._limits) for url in reversed(new) if url not in self._workers}
        self._workers |= joining
        self._waiting += joining.values()
        return bool(joining)


class _Pace:
    """Measures how much of the file arrives in each span of time."""

    def __init__(self, span: float, *, placed: int) -> None:
        self._span, self._placed = span, placed
        self._since = time.monotonic()

    def is_slow(self, placed: int) -> bool:
        """Whether a span has ended in which too little arrived."""
        now = time.monotonic()
        if now - self._since < self._span:
            return False
        arrived = placed - self._placed
        self._since, self._placed = now, placed
        return arrived < FAST_ENOUGH


@dataclass(eq=False)
class Worker:
    """A source, and the thread that asks it; what follows `is_only` is written by the thread and read by others.

    Attributes:
        source: the source.
        limits: what it may cost.
        is_only: whether no other source is at work; then it is asked for a CAR.
        size: bytes of the good blocks that it served.
        blocks: their number.
        seconds: time for which it had a request to answer.
        asked_since: when the current request began, by `time.monotonic`; None between two.
        verdict: the outcome.
        reason: why it is not asked again.
        failure: its last failure.
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
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, plan: FetchPlan) -> None:
        """Work on a plan until it is over, or the source is given up."""
        self._client = TrustlessClient(self.source, self.limits)
        # A daemon thread, because a name lookup cannot be interrupted.
        self._thread = threading.Thread(target=self._run, args=(plan, self._client), daemon=True)
        self._thread.start()

    def dismiss(self) -> None:
        """Break off the request; a source that served nothing gets the verdict that fits what is known of it."""
        since = self.asked_since
        if self.verdict == Verdict.UNUSED and self.failure is not None:
            self.verdict, self.reason = self.failure.verdict, self.failure.why
        elif self.verdict == Verdict.UNUSED and since and time.monotonic() - since > self.limits.duplicate_after:
            self.verdict, self.reason = Verdict.LATE, "the others were ready before it answered"
        if self._client is not None:
            self._client.abort()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))

    def report(self) -> SourceReport:
        """The result of the source so far."""
        return SourceReport(self.source.url, self.size, self.seconds, self.verdict, self.reason)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Count the time of a request."""
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
        """Ask for a CAR; if there is none, or it breaks off, `_fetch_blocks` fetches the rest."""
        try:
            with self._asking():
                for block in client.blocks(plan.root, size=plan.size, earlier=plan.known):
                    self._arrived(block, plan)
                    # Another source has joined: two must not send the same blocks.
                    if plan.is_over or not self.is_only:
                        return
        except SourceError as error:
            if error.verdict != Verdict.GONE:
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
                # What fails after the end was broken off by `dismiss`, and is not the source's failure.
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
        """Twice the time that this source takes for a block: it takes over blocks for which others need longer."""
        longest = self.limits.duplicate_after
        own = 2 * self.seconds / self.blocks if self.blocks else longest
        return min(max(own, _TICK), longest)


class FileDestination:
    """Writes a file's leaves at their offsets; called from several threads.

    As a context manager it locks the store, so that no other process removes blocks that are found there before they
    are pinned. A store that does not exist is created by its first block: a fetch that finds nothing leaves nothing.

    Args:
        file: an empty file, open for reading and writing, that can seek.
        store: a store that keeps the blocks as well, so that a later fetch continues this one. If it fails, the file
            is fetched all the same.

    Attributes:
        store_error: why the store keeps no more blocks.
    """

    def __init__(self, file: BinaryIO, *, store: LocalStore | None = None) -> None:
        self._file, self._store = file, store
        self.store_error: StoreError | None = None
        self._places: dict[CID, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._store_locks, self._is_store_locked = ExitStack(), False

    def __enter__(self) -> Self:
        """Lock the store if it exists."""
        if self._store and self._store.folder.exists():
            self._use_store(lambda _: None)
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock the store."""
        self._store_locks.close()

    def kept(self, cid: CID) -> bytes | None:
        """A leaf that was written to the file, or a block of the store if it can be read.

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
        """Write a leaf at all of its offsets.

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
        """Keep the whole file in the store when garbage is collected."""
        self._use_store(lambda store: store.pin(cid))

    def _use_store(self, action: Callable[[LocalStore], None]) -> None:
        """Change the store under its lock, until it fails."""
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
    """Puts a file's blocks into the local store; `LocalStore.open` yields the file when the fetch has ended."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def kept(self, cid: CID) -> bytes | None:
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
