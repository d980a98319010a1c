"""Take requests from many connections at once, and give them to a `RequestReceiver` in batches.

While a thread judges one batch and flushes it to the disk, further requests wait for the next batch. So a thousand
requests in a second need far fewer flushes. Requests are read in the event loop: a thread that checks signatures
beside a busy loop would wait for the interpreter's lock at each of them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from blockota.formats.request_token import load_verifier
from blockota.identity.receiving import Arrival, Received, RequestReceiver

_BATCH, _MOST_WAITING = 256, 4096
"""The largest number of requests in a batch, and of requests that wait."""
_GATHER = 0.008
"""Seconds for which a batch gathers requests, so that there are at most about 100 flushes in a second."""


class BusyError(Exception):
    """Too many requests wait."""


class RequestIntake:
    """Takes requests in an event loop.

    Args:
        receiver: receives them. It is called in a thread of its own.
        most_waiting: the largest number of requests that wait.
    """

    def __init__(self, receiver: RequestReceiver, *, most_waiting: int = _MOST_WAITING) -> None:
        load_verifier()
        self._receiver, self._most = receiver, most_waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="receiver")
        self._waiting: list[tuple[Arrival, asyncio.Future[Received]]] = []
        self._working: asyncio.Task[None] | None = None

    async def receive(self, raw: bytes, *, address: str) -> Received:
        """Receive one request, and wait until its effect is on the disk.

        Args:
            raw: the bytes of the JSON-RPC request.
            address: the network address that they came from.

        Raises:
            BusyError: too many requests wait.
        """
        if len(self._waiting) >= self._most:
            raise BusyError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Received] = loop.create_future()
        self._waiting.append((self._receiver.read(raw, address=address), future))
        if self._working is None:
            self._working = loop.create_task(self._work())
        return await future

    def close(self) -> None:
        """End the thread after the batch that it works on. Requests that wait are not answered."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _work(self) -> None:
        """Receive all that wait. A caller that went away is received too."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await asyncio.sleep(_GATHER)
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                try:
                    received = await loop.run_in_executor(
                        self._thread, self._receiver.receive_all, [arrival for arrival, _ in batch]
                    )
                except Exception as error:  # noqa: BLE001 - each caller gets it
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), one in zip(batch, received, strict=True):
                        if not future.done():
                            future.set_result(one)
        finally:
            self._working = None
