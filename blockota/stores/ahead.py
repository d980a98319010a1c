"""Read from the network while what came before is checked and written: neither waits for the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Self

PARTS_AHEAD = 4
"""Parts that are read before anybody takes them."""


class ReadingAhead:
    """Parts that a thread of its own reads, a few before they are taken; leave the block to end it.

    Args:
        parts: what is read; what it raises is raised where the parts are taken.
        stop: makes it end soon; called where not all of it was taken.
    """

    def __init__(self, parts: Iterator[bytes], *, stop: Callable[[], object]) -> None:
        """Nothing is read yet."""
        self._parts, self._stop = parts, stop
        self._read: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(PARTS_AHEAD)
        self._is_over = self._is_left = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let nobody read any more."""
        self._is_left = True
        if not self._is_over:
            self._stop()
        self._room.release()
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        """The parts, once."""
        while isinstance(part := self._read.get(), bytes):
            self._room.release()
            yield part
        self._is_over = True
        if part is not None:
            raise part

    def _run(self) -> None:
        try:
            for part in self._parts:
                self._room.acquire()
                if self._is_left:
                    return
                self._read.put(part)
            self._read.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the parts are taken
            self._read.put(error)
