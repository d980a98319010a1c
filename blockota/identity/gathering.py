"""Gather requests that arrive at the same time, so that one flush to the disk serves all of them.

A durable commit takes some milliseconds, whether it is for one request or for hundreds. `RequestGatherer` passes the
requests that arrive within `GATHER_SECONDS`, or while the requests before them are carried out, to the receiver
together. Each caller has its answer after the commit.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Self

from blockota.errors import UnreachableError
from blockota.identity.receiving import Received

GATHER_SECONDS = 0.02
"""The longest time for which a request waits for others."""
MOST_GATHERED = 256
"""The largest number of requests that are received together."""
MOST_WAITING = 4 * MOST_GATHERED
"""The largest number of requests that wait; further ones are refused at once."""
ReceiveAll = Callable[[Sequence[tuple[bytes, str]]], Sequence[Received]]
"""Receives several requests, such as `RequestReceiver.receive_all`."""
_Waiting = tuple[tuple[bytes, str], "Future[Received]"]


class RequestGatherer:
    """Passes requests to a receiver in groups, in a thread of its own. Any thread may call `put`.

    Args:
        receive_all: receives a group.
        seconds: the longest time for which a request waits for others; 0 to gather only while a group is received.
    """

    def __init__(self, receive_all: ReceiveAll, *, seconds: float = GATHER_SECONDS) -> None:
        self._receive_all, self._seconds = receive_all, seconds
        self._queue = queue.Queue[_Waiting | None](MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="gatherer", daemon=True)
        self.groups = 0
        """The number of groups that were received."""

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Receive the requests that wait, and stop."""
        self._queue.put(None)
        self._thread.join()

    def put(self, raw: bytes, address: str) -> Future[Received]:
        """Hand over a request.

        Args:
            raw: the bytes of the request.
            address: the network address that they came from.

        Returns:
            What was received. The result is there when its effect is on the disk. A defect of the receiver is the
            exception of this request's group.

        Raises:
            UnreachableError: too many requests wait.
        """
        done = Future[Received]()
        try:
            self._queue.put_nowait(((raw, address), done))
        except queue.Full:
            why = f"{MOST_WAITING:,} requests wait"
            raise UnreachableError("the receiver is busy", why=why, remedy="send the request again later") from None
        return done

    def _run(self) -> None:
        is_open = True
        while is_open and (first := self._queue.get()):
            group, is_open = self._gather(first)
            self.groups += 1
            try:
                found = self._receive_all([arrival for arrival, _ in group])
            except Exception as error:  # noqa: BLE001 - a defect must not end the thread while callers wait
                for _, done in group:
                    if done.set_running_or_notify_cancel():
                        done.set_exception(error)
                continue
            for (_, done), received in zip(group, found, strict=True):
                # A caller whose client is gone may have cancelled its request.
                if done.set_running_or_notify_cancel():
                    done.set_result(received)

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """Return a group, and whether more can come after it."""
        group, until = [first], time.monotonic() + self._seconds
        while len(group) < MOST_GATHERED:
            try:
                found = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if found is None:
                return group, False
            group.append(found)
        return group, True
