"""Collect requests from many connections, and pass them to a `RequestReceiver` in batches.

While a thread processes one batch and flushes it to the disk, further requests wait for the next batch. A thousand
requests in a second therefore need far fewer than a thousand flushes. Requests are parsed, and most signatures are
checked, in the event loop. In another thread, each check of a signature would wait for Python's global interpreter
lock.
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
    """A request is refused, because the maximum number of requests is already waiting."""


class RequestIntake:
    """Accepts requests in an event loop.

    Args:
        receiver: processes the requests, in a separate thread.
        most_waiting: the maximum number of waiting requests.
    """

    def __init__(self, receiver: RequestReceiver, *, most_waiting: int = _MOST_WAITING) -> None:
        load_verifier()
        self._receiver, self._most = receiver, most_waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="receiver")
        self._waiting: list[tuple[Arrival, asyncio.Future[Received]]] = []
        self._working: asyncio.Task[None] | None = None

    async def receive(self, raw: bytes, *, address: str) -> Received:
        """Pass one request to the receiver, and wait until its effect is on the disk.

        Args:
            raw: the bytes of the JSON-RPC request.
            address: the network address of the client.

        Raises:
            BusyError: the maximum number of requests is already waiting.
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
        """End the thread after its current batch. Waiting requests are not answered."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _work(self) -> None:
        """Process all waiting requests, including requests of cancelled callers."""
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
