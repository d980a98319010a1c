"""One source at work in a fetch: a thread that asks it for block after block, and what is known of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from blockota.formats.cid import RAW, Block
from blockota.stores.fetch_plan import Plan
from blockota.stores.gateway import TrustlessClient
from blockota.stores.source import BAD, Limits, Source, SourceError, SourceReport, Verdict

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

    def start(self, plan: Plan) -> None:
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
        elif record.verdict == Verdict.UNUSED and since and time.monotonic() - since > self.limits.patience:
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
                if plan.is_over or not self.is_alone:  # two must not send the same blocks
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
