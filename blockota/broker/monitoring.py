"""The status of ``broker sync --every``, which is served at ``/health`` and ``/metrics``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blockota.broker.plan import AgreementState, Facts, state_of
from blockota.broker.sync import Done
from blockota.repository.metrics import Metrics, ServiceMetrics

_METRICS = ServiceMetrics("broker")


@dataclass(frozen=True)
class BrokerStatus:
    """The state after a round.

    Attributes:
        rounds: number of rounds since the start.
        failed_rounds: number of rounds that failed as a whole, for example because the chain was out of reach.
        steps: number of completed steps since the start, by the completed action.
        failed_steps: number of failed steps since the start, by the attempted action.
        agreements: number of agreements in each state; empty before the first reading.
        block: number of the confirmed block of the newest reading.
        block_time: the time of this block in Unix seconds.
        finished_at: Unix time at which the last round ended.
        last_failed: whether the last round, or a step of it, failed.
    """

    rounds: int = 0
    failed_rounds: int = 0
    steps: Mapping[str, int] = field(default_factory=dict)
    failed_steps: Mapping[str, int] = field(default_factory=dict)
    agreements: Mapping[str, int] = field(default_factory=dict)
    block: int = 0
    block_time: int = 0
    finished_at: float = 0
    last_failed: bool = False

    @property
    def word(self) -> str:
        """The status: ``starting`` until the first round ends, ``degraded`` after a failed round, else ``serving``."""
        if not self.rounds:
            return "starting"
        return "degraded" if self.last_failed else "serving"

    def as_fields(self) -> Mapping[str, Any]:
        """Return the JSON object of ``/health``."""
        return {
            "status": self.word,
            "rounds": self.rounds,
            "failedRounds": self.failed_rounds,
            "agreements": dict(self.agreements),
            "block": self.block,
        }

    def metrics(self) -> Metrics:
        """Return the metrics of ``/metrics``."""
        yield _METRICS.counter("rounds", "Rounds since the start.", self.rounds)
        text = "Rounds that failed as a whole, since the start."
        yield _METRICS.counter("failed_rounds", text, self.failed_rounds)
        text = "Steps since the start, by what was done."
        yield _METRICS.counters("steps", text, "did", self.steps)
        text = "Failed steps since the start, by what was tried."
        yield _METRICS.counters("failed_steps", text, "tried", self.failed_steps)

        yield _METRICS.gauge("troubles", "1 if the last round, or a step of it, failed.", self.last_failed)
        yield _METRICS.gauges("agreements", "Agreements of the broker by their state.", "state", self.agreements)
        yield _METRICS.gauge("confirmed_block", "Confirmed block that was read last.", self.block)

        age = max(time.time() - self.block_time, 0) if self.block_time else 0
        yield _METRICS.gauge("block_age_seconds", "Seconds since that block; 0 before the first reading.", age)
        text = "Unix time at which the last round ended; 0 before the first."
        yield _METRICS.gauge("last_round_timestamp_seconds", text, self.finished_at)


class BrokerWatch:
    """Counts the rounds of a broker. One thread records the rounds, and other threads read the status.

    Attributes:
        status: the present state.
    """

    def __init__(self) -> None:
        self.status = BrokerStatus()
        self._steps: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def record(self, steps: Sequence[Done], facts: Facts | None, *, has_failed: bool) -> None:
        """Record a round that has ended.

        Args:
            steps: the steps of the round.
            facts: the chain facts of the round; None if the chain could not be read.
            has_failed: whether the round failed as a whole.
        """
        for done in steps:
            (self._failed if done.error else self._steps)[done.verb.replace(" ", "-")] += 1

        before = self.status
        agreements, block, block_time = before.agreements, before.block, before.block_time
        if facts:
            found = Counter(state_of(one, facts.time) for one in facts.agreements)
            agreements = {str(state): found[state] for state in AgreementState}
            block, block_time = facts.block, facts.time

        self.status = BrokerStatus(
            rounds=before.rounds + 1,
            failed_rounds=before.failed_rounds + has_failed,
            steps=dict(self._steps),
            failed_steps=dict(self._failed),
            agreements=agreements,
            block=block,
            block_time=block_time,
            finished_at=time.time(),
            last_failed=has_failed or any(done.error for done in steps),
        )
