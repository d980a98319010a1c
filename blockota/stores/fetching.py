"""Fetch one file from many sources at once, none of which is believed.

One thread a source asks for block after block; the plan deals them out. A source that serves a bad block, stalls,
redirects where it may not or breaks off too often is left out, and the report says so. A single source is asked for a
CAR first, which is one request; when that breaks, the blocks that came stay, and the rest is asked for one by one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from blockota.cid import CID, RAW, Block
from blockota.errors import StoreError
from blockota.stores.plan import Destination, Plan
from blockota.stores.source import BAD, Limits, Source, SourceError, SourceReport, Verdict
from blockota.stores.trustless import TrustlessClient

MAX_SOURCES = 8
"""Sources that are asked at the same time; others take the place of those that were left out."""
_TICK = 0.1
_FAREWELL = 1.0
_BACKOFF = 0.2


@dataclass(frozen=True)
class Report:
    """What every source did, in the order in which they were named."""

    sources: tuple[SourceReport, ...]

    @property
    def bad(self) -> tuple[SourceReport, ...]:
        """Those that were left out."""
        return tuple(source for source in self.sources if source.is_bad)


def fetch(
    cid: CID,
    sources: Sequence[Source],
    *,
    size: int,
    into: Destination,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Report:
    """Fetch a file, each block checked before it is kept, with the usual limits; see `Fetch` for others.

    Args:
        cid: the file's content address.
        sources: who may have it, the preferred ones first.
        size: its exact size in bytes.
        into: where to put it: `InFile` or `InStore` of `destinations`.
        on_progress: is told the bytes of the file that were added.

    Raises:
        StoreError: no source is left, and the file is not whole; every source's verdict is in the sentence.
        ContentError: the blocks are right, and are not a file of this size.
    """
    return Fetch(cid, sources, size=size, into=into).run(on_progress)


class Fetch:
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
        unique = tuple({source.url.rstrip("/"): source for source in reversed(sources)}.values())[::-1]
        self._workers = [_Worker(source, self._limits, is_alone=len(unique) == 1) for source in unique]

    def report(self) -> Report:
        """What every source did so far."""
        return Report(tuple(worker.report() for worker in self._workers))

    def run(self, on_progress: Callable[[int], object] = lambda _: None) -> Report:
        """Fetch the file.

        Args:
            on_progress: is told the bytes of the file that were added, in this thread.

        Raises:
            StoreError: no source is left, and the file is not whole.
            ContentError: the blocks are right, and are not a file of this size.
        """
        plan = Plan(self._cid, size=self._size, destination=self._into)
        plan.take_what_is_held()
        try:
            told = self._supervise(plan, on_progress)
            _tell(on_progress, placed=plan.placed, told=told)
        finally:
            plan.stop()
            self._dismiss()
        if plan.error is not None:
            raise plan.error
        if not plan.is_whole:
            raise self._failure()
        return self.report()

    def _supervise(self, plan: Plan, on_progress: Callable[[int], object]) -> int:
        """Keep sources at work until all is over, and tell of the progress; the bytes told of are returned."""
        waiting, told = list(self._workers), 0
        busy: list[_Worker] = []
        while not plan.is_over:
            busy = [worker for worker in busy if worker.is_busy]
            while waiting and len(busy) < MAX_SOURCES:
                busy.append(waiting.pop(0))
                busy[-1].start(plan)
            if not busy:
                break
            with plan.changed:
                if not plan.is_over:
                    plan.changed.wait(_TICK)
            told = _tell(on_progress, placed=plan.placed, told=told)
        return told

    def _dismiss(self) -> None:
        """Break off what still goes on; a thread that waits for a name is left behind, and changes nothing."""
        for worker in self._workers:
            worker.dismiss()
        until = time.monotonic() + _FAREWELL
        for worker in self._workers:
            worker.join(until - time.monotonic())

    def _failure(self) -> StoreError:
        verdicts = "; ".join(str(source) for source in self.report().sources)
        return StoreError(
            f"{self._cid} could not be fetched",
            why=verdicts or "there is no source to ask",
            remedy="name another source, or try again later: blocks that are in the store are not fetched again",
        )


def _tell(on_progress: Callable[[int], object], *, placed: int, told: int) -> int:
    if placed > told:
        on_progress(placed - told)
    return placed


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
class _Worker:
    """A source, and the thread that asks it."""

    source: Source
    limits: Limits
    is_alone: bool
    record: _Record = field(default_factory=_Record)
    _thread: threading.Thread | None = None
    _client: TrustlessClient | None = None

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, plan: Plan) -> None:
        self._client = TrustlessClient(self.source, self.limits)
        # A daemon, for no time limit holds while the system looks up a name.
        self._thread = threading.Thread(target=self._run, args=(plan, self._client), daemon=True)
        self._thread.start()

    def dismiss(self) -> None:
        """Break off what still goes on; a source that brought nothing is called by what is known of it."""
        since, record = self.record.asked_since, self.record
        if record.verdict == Verdict.UNUSED and record.failure is not None:
            record.verdict, record.reason = record.failure.verdict, record.failure.why
        elif record.verdict == Verdict.UNUSED and since and time.monotonic() - since > self.limits.patience:
            record.verdict, record.reason = Verdict.LATE, "the others were ready before it answered"
        if self._client is not None:
            self._client.abort()

    def join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))

    def report(self) -> SourceReport:
        record = self.record
        return SourceReport(self.source.url, record.size, record.seconds, record.verdict, record.reason)

    def _run(self, plan: Plan, client: TrustlessClient) -> None:
        try:
            with client:
                if self.is_alone and plan.root.codec != RAW and plan.is_untouched:
                    self._take_all(plan, client)
                self._take_blocks(plan, client)
        except BaseException as error:  # noqa: BLE001 - what a thread cannot handle is raised where the fetch was called
            plan.stop(error)

    def _take_all(self, plan: Plan, client: TrustlessClient) -> None:
        """Ask for a CAR; where there is none, or it breaks off, the blocks are asked for one by one."""
        self.record.begin()
        try:
            for block in client.blocks(plan.root, size=plan.size, earlier=plan.held):
                plan.arrived(block)
                self.record.served(block)
                if plan.is_over:
                    return
        except SourceError as error:
            if error.verdict != Verdict.GONE:
                self._leave(error, plan)
        finally:
            self.record.end()

    def _take_blocks(self, plan: Plan, client: TrustlessClient) -> None:
        failures = 0
        while self.record.verdict not in BAD and (cid := plan.take(self, patience=self._patience())) is not None:
            self.record.begin()
            try:
                block = client.block(cid)
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

    def _note(self, error: SourceError, plan: Plan) -> None:
        """Remember a failure that is the source's own: what breaks when all is over was broken off by us."""
        if not plan.is_over:
            self.record.failure = error

    def _leave(self, error: SourceError, plan: Plan) -> None:
        if error.verdict == Verdict.LIED or not plan.is_over:
            self.record.verdict, self.record.reason = error.verdict, error.why

    def _patience(self) -> float:
        """Twice the time that this source takes for a block: what others need longer for, it has sooner."""
        own = 2 * self.record.seconds / self.record.blocks if self.record.blocks else self.limits.patience
        return min(max(own, _TICK), self.limits.patience)
