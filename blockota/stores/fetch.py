"""Fetch one file from many sources at once, none of which is believed.

One thread a source asks for block after block; the plan deals them out. A source that serves a bad block, stalls,
redirects where it may not or breaks off too often is left out, and the report says so. A single source is asked for a
CAR first, which is one request; when that breaks, the blocks that came stay, and the rest is asked for one by one.

A source can be slow on purpose, and never so slow that it is left out. So nobody is waited for: whenever those at work
bring too little, others join them, first those that waited for a place, then the next stage of the search.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from blockota.errors import StoreError
from blockota.formats.cid import CID
from blockota.stores.fetch_plan import Destination, Plan
from blockota.stores.source import Limits, Source, SourceReport
from blockota.stores.worker import Worker

MAX_SOURCES = 8
"""Sources that are asked at the same time; others take the place of those that were left out."""
MAX_SLOW_SOURCES = 32
"""Sources that are asked at the same time where they are slow."""
FAST_ENOUGH = 1 << 20
"""Bytes that sources bring together within `Limits.joining`, or others join them: one block."""
_TICK = 0.1
_FAREWELL = 1.0


@dataclass(frozen=True)
class Report:
    """What every source did, in the order in which they were named."""

    sources: tuple[SourceReport, ...]

    @property
    def bad(self) -> tuple[SourceReport, ...]:
        """Those that were left out."""
        return tuple(source for source in self.sources if source.is_bad)


class UnservedError(StoreError):
    """No source is left, and the file is not whole."""


def nobody_else() -> Iterable[Source] | None:
    """The sources that join a fetch which has no others."""
    return None


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
        UnservedError: no source is left, and the file is not whole; every source's verdict is in the sentence.
        StoreError: the destination cannot keep it.
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
        self._workers: dict[str, Worker] = {}
        self._waiting: deque[Worker] = deque()
        self._invite(sources)

    def report(self) -> Report:
        """What every source did so far."""
        return Report(tuple(worker.report() for worker in self._workers.values()))

    def run(
        self,
        on_progress: Callable[[int], object] = lambda _: None,
        *,
        more: Callable[[], Iterable[Source] | None] = nobody_else,
    ) -> Report:
        """Fetch the file.

        Args:
            on_progress: is told the bytes of the file that were added, in this thread.
            more: is called, in this thread, when those at work bring too little, or nobody is left: the sources that
                join them, or `None` when there are no others. Who was asked already is not asked again.

        Raises:
            UnservedError: no source is left, and the file is not whole.
            StoreError: the destination cannot keep it.
            ContentError: the blocks are right, and are not a file of this size.
        """
        plan = Plan(self._cid, size=self._size, destination=self._into)
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
        self, plan: Plan, on_progress: Callable[[int], object], *, more: Callable[[], Iterable[Source] | None]
    ) -> int:
        """Keep sources at work until all is over, and tell of the progress; the bytes told of are returned."""
        told, pace = 0, _Pace(self._limits.joining, placed=plan.placed)
        while not plan.is_over and self._staff(plan, is_slow=pace.is_slow(plan.placed), more=more):
            with plan.changed:
                if not plan.is_over:
                    plan.changed.wait(_TICK)
            told = _tell(on_progress, placed=plan.placed, told=told)
        return told

    def _staff(self, plan: Plan, *, is_slow: bool, more: Callable[[], Iterable[Source] | None]) -> bool:
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
