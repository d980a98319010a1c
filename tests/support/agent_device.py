"""A stand-in for a board with BlockOTA's agent: the board of `tests.support.smp_device` with the group 64 of SMP.

It is written from docs/device.md, and is stricter than the agent in C.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.smp_device import INVALID, NOT_SUPPORTED, SmpDevice, only

GROUP = 64
STARTED, REFUSED, CONFIRMED = 1, 2, 3
TRIAL, ROLLED_BACK = 1, 2
RING = 16


@dataclass
class EventRing:
    """The last events of a board, in its flash.

    Attributes:
        number: number of the newest event.
        waiting: the events that are not acknowledged.
        in_answer: the maximum number of events in an answer.
        acknowledged: the numbers that the gateway sent, in order.
    """

    number: int = 0
    waiting: list[dict[str, Any]] = field(default_factory=list)
    in_answer: int = 4
    acknowledged: list[int] = field(default_factory=list)

    def add(self, kind: int, detail: int, digest: bytes) -> None:
        """Add an event; the oldest is lost if the ring is full."""
        self.number += 1
        event = {"number": self.number, "kind": kind, "detail": detail, "digest": digest}
        self.waiting = [*self.waiting, event][-RING:]

    def acknowledge(self, number: int) -> None:
        """Forget the events up to a number."""
        if not 0 < number <= self.number:
            raise ValueError(INVALID)
        self.acknowledged.append(number)
        self.waiting = [event for event in self.waiting if event["number"] > number]


class AgentDevice(SmpDevice):
    """A board whose program has BlockOTA's agent.

    Attributes:
        events: the events of the board. They survive a power cut.
    """

    def __init__(self, port: Path, image: bytes, **options: Any) -> None:
        super().__init__(port, image, **options)
        self.events = EventRing()
        self.events.add(STARTED, 0, self.running or b"")

    def start(self) -> None:
        """Start the board, which records it."""
        before, was_pending = self.running, self.is_pending
        super().start()
        flags = (0 if self.is_confirmed else TRIAL) | (ROLLED_BACK if self._has_returned(before, was_pending) else 0)
        self.events.add(STARTED, flags, self.running or b"")

    def _has_returned(self, before: bytes | None, was_pending: bool) -> bool:  # noqa: FBT001
        return not was_pending and before != self.running

    def _mark(self, body: dict[str, Any]) -> dict[str, Any]:
        was_confirmed = self.is_confirmed
        answer = super()._mark(body)
        if self.is_confirmed and not was_confirmed:
            self.events.add(CONFIRMED, 0, self.running or b"")
        return answer

    def _handle(self, group: int, command: int, operation: int, body: dict[str, Any]) -> dict[str, Any] | None:
        if group != GROUP:
            return super()._handle(group, command, operation, body)
        match command, operation:
            case (0, 0):
                only(body, {})
                return self._identity()
            case (2, 0):
                only(body, {})
                return {"events": self.events.waiting[: self.events.in_answer]}
            case (2, 2):
                self.events.acknowledge(only(body, {"number": int})["number"])
                return {}
        raise ValueError(NOT_SUPPORTED)

    def _identity(self) -> dict[str, Any]:
        return {
            "board": "stand-in",
            "id": bytes(range(8)),
            "version": "1.0.0",
            "digest": self.running or b"",
            "counter": 1,
            "proof": "integrity only",
            "flags": 0,
            "refusal": 0,
            "slot": self._slot_size,
        }
