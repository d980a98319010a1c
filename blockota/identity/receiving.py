"""Process the signed requests to an identity: parse, judge, execute, record and answer them.

Validators, gateways and the cloud use this module.

::

    receiver = RequestReceiver(Receiver(uuid, {"submit": frozenset({IdentityKind.GATEWAY})}), parts, keep=store)
    received = receiver.receive(body, address="10.64.0.7")
    respond(received.answer)

The steps for one request, or for several at once:

1. `read_request` parses the request, and `judge` checks it against the sender's record at the newest block. Both are in
   `blockota.model.request`.
2. `Keep` executes the accepted requests. The effects of the requests must be on the disk when `Keep` returns.
3. The ids of accepted requests, and the log entries of warnings about refused requests, are written to `RequestState`.
4. The answers are returned.

If a receiver is killed before step 3, the sender receives no answer, and repeats the request under the same id. `Keep`
may therefore be called twice for one id. The second call must not repeat the effect. The fault `SEEN` in an answer
means that the first request with this id was accepted and recorded, because every answer is sent after step 3.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any
from uuid import UUID

from blockota.errors import BlockOTAError, ChainError, RefusedError
from blockota.identity.registry import IdentityReader
from blockota.identity.request_state import KEPT_SECONDS, RequestName, RequestState
from blockota.identity.warnings import WarningMaker
from blockota.model.request import Fault, Receiver, RequestFaultError, SignedRequest, judge, read_request
from blockota.model.warning import RequestWarning

MQTT = "mqtt"
"""The address of a request from a message broker, which does not name the sender's address."""
Outcome = Mapping[str, Any] | RefusedError | ChainError
"""The result of a request as a JSON object, or why it cannot be carried out: for good, or because the registry does not
answer, so that the sender repeats it."""
Keep = Callable[[Sequence[SignedRequest]], Sequence[Outcome]]
"""Carries out accepted requests, and returns one outcome for each. If it raises a `BlockOTAError`, all of them are
answered with the fault `FAILED`, and their senders repeat them."""


@dataclass(frozen=True)
class Received:
    """A request that was received.

    Attributes:
        answer: the JSON-RPC response.
        request: the request if it was accepted and executed; None if it was refused.
        fault: why the request was refused; None if it was accepted.
        detail: the fault in detail.
        warning: the id of the warning about the request; empty if no warning exists.
    """

    answer: bytes = field(repr=False)
    request: SignedRequest | None = None
    fault: Fault | None = None
    detail: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Arrival:
    """A received request that was parsed, but not judged yet.

    Attributes:
        address: the network address of the client, or `MQTT`.
        request: the parsed request; None if the bytes could not be parsed.
        fault: why the bytes could not be parsed; None if they could be parsed.
        detail: the fault in detail.
    """

    address: str
    request: SignedRequest | None
    fault: Fault = Fault.NOT_JSON
    detail: str = ""


@dataclass(frozen=True)
class ReceiverParts:
    """The parts of a receiver.

    Attributes:
        registry: reads the records of senders.
        state: stores the ids of accepted requests, and log entries.
        warnings: creates the log entries of warnings.
        clock: returns Unix time.
    """

    registry: IdentityReader
    state: RequestState
    warnings: WarningMaker
    clock: Callable[[], int] = lambda: int(time.time())


@dataclass
class _RequestCase:
    """A request and the results of the steps so far."""

    address: str
    request: SignedRequest | None = None
    fault: Fault | None = None
    reason: str = ""
    detail: str = ""
    is_proven: bool = False
    result: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""

    def refuse(self, fault: Fault, detail: str, *, reason: str = "", is_proven: bool = False) -> None:
        self.fault, self.detail, self.is_proven = fault, detail, is_proven
        self.reason = reason or fault.reason()


class RequestReceiver:
    """Processes the requests to one identity. Several threads may call the methods; one batch is processed at a time.

    Args:
        receiver: the identity that receives the requests, and the methods that it offers.
        parts: the registry, the state, and the warnings.
        keep: executes accepted requests.

    Attributes:
        counts: the number of requests by fault; the key None counts the accepted requests.
    """

    def __init__(self, receiver: Receiver, parts: ReceiverParts, *, keep: Keep) -> None:
        self._receiver, self._parts, self._keep = receiver, parts, keep
        self._lock = threading.Lock()
        self.counts: Counter[Fault | None] = Counter()
        self._proven: dict[tuple[UUID, str, int | None], int] = {}
        """When a proven request was refused, by sender, name and time; the oldest first."""

    def receive(self, raw: bytes, *, address: str) -> Received:
        """Receive one request.

        Args:
            raw: the bytes of the JSON-RPC request.
            address: the network address of the client, or `MQTT`.
        """
        return self.receive_all([self.read(raw, address=address)])[0]

    def read(self, raw: bytes, *, address: str) -> Arrival:
        """Parse one request for a later call of `receive_all`.

        If the record of the sender is in memory, this method also checks the signature, and stores the result in the
        request. Most of the work is the check of the signature, which needs no lock.

        Args:
            raw: the bytes of the JSON-RPC request.
            address: the network address of the client, or `MQTT`.
        """
        try:
            request = read_request(raw, max_size=self._receiver.max_size)
        except RequestFaultError as error:
            return Arrival(address, None, error.fault, error.why)
        if identity := self._parts.registry.known(request.sender):
            request.is_signed_by(identity.keys.key)
        return Arrival(address, request)

    def receive_all(self, arrivals: Sequence[Arrival]) -> list[Received]:
        """Process several requests with one flush to the disk.

        Args:
            arrivals: the requests.

        Returns:
            One result for each request, in the same order.
        """
        with self._lock:
            now = self._parts.clock()
            # (1) Each request is judged; of two with the same name, the second was seen before.
            taken: dict[RequestName, _RequestCase] = {}
            cases = [self._judged(arrival, now, taken) for arrival in arrivals]
            # (2) The accepted ones are carried out.
            self._carry_out([case for case in cases if case.fault is None])
            for case in cases:
                first = taken.get((case.request.sender, case.request.name)) if case.request else None
                if case.fault is Fault.SEEN and first and first.fault is Fault.FAILED:
                    case.refuse(Fault.FAILED, first.detail)
            # (3) Names and warnings. A request that failed may come again, so its name is not remembered.
            entries = [entry for case in cases for entry in self._warn(case, now)]
            names = [name for name, case in taken.items() if case.fault is not Fault.FAILED]
            try:
                self._parts.state.commit(names, entries, now=now)
            except BlockOTAError as error:
                for case in cases:
                    case.refuse(Fault.FAILED, error.what)
            # (4) The answers.
            self.counts.update(case.fault for case in cases)
            return [_received(case) for case in cases]

    def write_due_warnings(self) -> None:
        """Write the warnings that count refused requests, after the period of each warning has ended.

        A service calls this method every few seconds.

        Raises:
            StoreError: the state cannot be written.
        """
        now = self._parts.clock()
        self._parts.state.commit((), self._parts.warnings.due(now=now), now=now)

    def _judged(self, arrival: Arrival, now: int, taken: dict[RequestName, _RequestCase]) -> _RequestCase:
        case = _RequestCase(arrival.address, arrival.request)
        request = arrival.request
        if request is None:
            case.refuse(arrival.fault, arrival.detail)
            return case

        try:
            reading = self._parts.registry.reading(request.sender, arrival.address)
        except ChainError as error:
            case.refuse(Fault.REGISTRY_STALE, error.why)
            return case

        name = request.sender, request.name
        verdict = judge(request, reading, self._receiver, now=now, seen=_Seen(self._parts.state, taken))
        if verdict.fault:
            # Only the first copy of a proven request counts as the sender's own fault.
            kind = reading.identity.kind if reading.identity else None
            is_proven = verdict.is_proven and self._is_first(request, now)
            case.refuse(verdict.fault, verdict.detail, reason=verdict.fault.reason(kind), is_proven=is_proven)
        elif not request.is_replayable:
            taken[name] = case
        return case

    def _is_first(self, request: SignedRequest, now: int) -> bool:
        """Whether a refused request arrives for the first time. Another party can record a request and send it again.

        The id is not stored as seen, because the sender may repeat the request under the same id with a new time.
        """
        old = [name for name, _ in takewhile(lambda one: one[1] < now - KEPT_SECONDS, self._proven.items())]
        for name in old:
            del self._proven[name]
        name = request.sender, request.name, request.time
        is_first = name not in self._proven
        self._proven.setdefault(name, now)
        return is_first

    def _carry_out(self, cases: Sequence[_RequestCase]) -> None:
        requests = [case.request for case in cases if case.request]
        if not requests:
            return
        try:
            # All accepted requests of the batch share one flush to the disk.
            outcomes = self._keep(requests)
        except BlockOTAError as error:
            for case in cases:
                case.refuse(Fault.FAILED, error.what)
            return

        for case, outcome in zip(cases, outcomes, strict=True):
            if isinstance(outcome, RefusedError):
                is_proven = case.request is not None and not case.request.is_replayable
                case.refuse(Fault.NOT_POSSIBLE, str(outcome), is_proven=is_proven)
            elif isinstance(outcome, ChainError):
                case.refuse(Fault.FAILED, f"{outcome.what}: {outcome.why}")
            else:
                case.result = outcome

    def _warn(self, case: _RequestCase, now: int) -> list[bytes]:
        """Count a refused request as a warning, store the warning's id in `case`, and return the new log entries."""
        if case.fault is None or case.fault.is_own:
            return []

        warning = RequestWarning(
            id="",
            address=case.address,
            node=case.request.sender if case.request else None,
            is_proven=case.is_proven,
            code=case.fault.code,
            reason=case.reason,
            detail=case.detail,
        )
        case.warning, entries = self._parts.warnings.note(warning, now=now)
        return entries


class _Seen:
    """The ids of all earlier requests, on the disk or in the same batch."""

    def __init__(self, state: RequestState, taken: Mapping[RequestName, _RequestCase]) -> None:
        self._state, self._taken = state, taken

    def __contains__(self, name: object) -> bool:
        return name in self._taken or name in self._state


def _received(case: _RequestCase) -> Received:
    response: dict[str, Any] = {"jsonrpc": "2.0", "id": case.request.id if case.request else None}
    if case.fault is None:
        raw = json.dumps(response | {"result": case.result}, separators=(",", ":")).encode()
        return Received(raw, case.request)

    data: dict[str, Any] = {"fault": case.fault.name, "detail": case.detail}
    if case.warning:
        data["warning"] = case.warning
    error = {"code": case.fault.code, "message": case.reason, "data": data}
    raw = json.dumps(response | {"error": error}, separators=(",", ":")).encode()
    return Received(raw, None, case.fault, case.detail, case.warning)
