"""A simulated board with BlockOTA's agent: the board of `tests.support.smp_device` with SMP group 64.

The simulation is written from docs/device.md, and is stricter than the agent in C.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blockota.formats.delta import apply_patch
from tests.support.smp_device import BAD_STATE, BUSY, INVALID, NOT_SUPPORTED, TOO_LARGE, SmpDevice, only

GROUP = 64
STARTED, REFUSED, CONFIRMED = 1, 2, 3
TRIAL, ROLLED_BACK = 1, 2
RING = 16
PAGE_SIZE = 1024


@dataclass
class EventRing:
    """The newest events that a board stores in its flash.

    Attributes:
        number: number of the newest event.
        waiting: the events that are not acknowledged.
        in_answer: the maximum number of events in a response.
        acknowledged: the event numbers that the gateway acknowledged, in order.
        lost: how many of the next acknowledgements are lost.
        count: the function that returns the number of the next event; if None, the ring counts the events.
    """

    number: int = 0
    waiting: list[dict[str, Any]] = field(default_factory=list)
    in_answer: int = 4
    acknowledged: list[int] = field(default_factory=list)
    lost: int = 0
    count: Callable[[], int] | None = None

    def add(self, kind: int, detail: int, digest: bytes) -> None:
        """Add an event; the oldest is lost if the ring is full."""
        self.number = self.count() if self.count else self.number + 1
        event = {"number": self.number, "kind": kind, "detail": detail, "digest": digest}
        self.waiting = [*self.waiting, event][-RING:]

    def acknowledge(self, number: int) -> None:
        """Forget the events up to a number."""
        if not 0 < number <= self.number:
            raise ValueError(INVALID)
        self.acknowledged.append(number)
        self.waiting = [event for event in self.waiting if event["number"] > number]


@dataclass
class PatchBeingSent:
    """A patch of which the board has received a part. It is lost with the power.

    Attributes:
        head: size and SHA-256 of the patch's result, its base, and the size of the patch.
        content: the bytes so far.
    """

    head: dict[str, Any]
    content: bytes = b""


class AgentDevice(SmpDevice):
    """A board whose program has BlockOTA's agent.

    Attributes:
        events: the event ring of the board. They survive a power cut.
        patched: the number of patch bytes that the board received.
        spoils_patches: whether applying any patch produces a wrong file.
        refuses_patches: whether all patches are refused.
        spoiled_at: offset of a wrong byte in the first slot's flash; an exchange of the slots corrects the byte.
        lost_parts: numbers of the requests with patch parts that get no response.
        restarts_at: the board restarts before the request with this number; only requests with patch parts are counted.
    """

    has_group_errors = False

    def __init__(self, port: Path, image: bytes, **options: Any) -> None:
        super().__init__(port, image, **options)
        self.patched = 0
        self.spoiled_at: int | None = None
        self.lost_parts: set[int] = set()
        self.restarts_at = self._parts = 0
        self.spoils_patches = self.refuses_patches = False
        self._patch: PatchBeingSent | None = None
        self.events = self._ring()
        self.events.add(STARTED, 0, self.running or b"")

    def _ring(self) -> EventRing:
        return EventRing()

    def start(self) -> None:
        """Start the board, and record the start as an event."""
        before, was_pending = self.running, self.is_pending
        self._patch = None
        if self.is_pending:
            self.spoiled_at = None
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
            case (0, 0) if not body:
                return self._identity()
            case (1, 2):
                keys = {"off": int, "data": bytes, "len": int, "size": int, "sha": bytes, "base": bytes}
                return self._take_patch(only(body, keys, optional=("len", "size", "sha", "base")))
            case (2, 0) if not body:
                return {"events": self._listed_events()}
            case (2, 2):
                return self._acknowledge(only(body, {"number": int})["number"])
            case (3, 0):
                return self._hash_pages(only(body, {"nonce": bytes, "sectors": bytes}))
        raise ValueError(NOT_SUPPORTED)

    def _acknowledge(self, number: int) -> dict[str, Any] | None:
        if self.events.lost:
            self.events.lost -= 1
            return None
        self.events.acknowledge(number)
        return {}

    def _hash_pages(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the SHA-256 of the nonce and the requested flash pages.

        Each page must contain bytes of the image file.
        """
        flash = bytearray(self.slots[0])
        count = -(-len(flash) // PAGE_SIZE)
        if len(body["nonce"]) != 32 or not 1 <= len(body["sectors"]) <= 8 or max(body["sectors"]) >= count:
            raise ValueError(INVALID)
        if self.spoiled_at is not None:
            flash[self.spoiled_at] ^= 4
        content = bytes(flash).ljust(count * PAGE_SIZE, b"\xff")
        pages = (content[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] for page in body["sectors"])
        return {"digest": hashlib.sha256(body["nonce"] + b"".join(pages)).digest()}

    def _listed_events(self) -> list[dict[str, Any]]:
        return self.events.waiting[: self.events.in_answer]

    def _take_patch(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Store the next part of a patch. The answer to a part at a wrong offset is the offset of the next part."""
        self._parts += 1
        if self._parts == self.restarts_at:
            self.start()
        offset, data, head = body.pop("off"), body.pop("data"), body
        if self.is_pending or not self.is_confirmed:
            raise ValueError(BUSY)
        if offset == 0:
            if set(head) != {"len", "size", "sha", "base"} or not 0 < head["size"] <= self._slot_size:
                raise ValueError(INVALID)
            if self.refuses_patches or head["base"] != hashlib.sha256(self.slots[0]).digest():
                raise ValueError(BAD_STATE)
            if self._patch is None or self._patch.head != head:
                self._patch, self._upload, self.slots[1] = PatchBeingSent(head), None, b""
        elif head:
            raise ValueError(INVALID)
        if self._patch is None:
            raise ValueError(BAD_STATE)
        if offset == len(self._patch.content):
            self._patch.content += data
            self.patched += len(data)
        answer = self._answer_patch(self._patch)
        return None if self._parts in self.lost_parts else answer

    def _answer_patch(self, patch: PatchBeingSent) -> dict[str, Any]:
        size = len(patch.content)
        if size > patch.head["len"]:
            raise ValueError(TOO_LARGE)
        if size < patch.head["len"]:
            return {"off": size}
        self._patch = None
        kind = "crle" if patch.content[:1] == b"\x02" else "heatshrink"
        made = apply_patch(self.slots[0], patch.content, compression=kind, limit=self._slot_size)
        image = made[: -1 if self.spoils_patches else None]
        is_same = hashlib.sha256(image).digest() == patch.head["sha"]
        self.slots[1] = image if is_same else b""
        return {"off": size, "match": is_same}

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
