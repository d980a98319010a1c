"""The threads of a service. Each thread repeats its work until the service stops, also after an error."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

from blockota.errors import BlockOTAError
from blockota.line_log import LineLog, sentence
from blockota.shutdown import Stop

_AGAIN = 5.0
"""Seconds before a thread whose work failed begins again."""


class ServiceThreads:
    """Runs threads.

    Args:
        lines: the operating log, which records failures and recoveries under the name of the thread.
        stop: ends the threads.
    """

    def __init__(self, lines: LineLog, stop: Stop) -> None:
        self._lines, self._stop = lines, stop
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[], object]) -> None:
        """Start a thread.

        Args:
            name: the name of the service's part that runs in the thread.
            work: does one step, and waits before it returns. The thread calls the function again until the service
                stops.
        """
        # A daemon: a name lookup cannot be interrupted, and must not keep the process.
        thread = threading.Thread(target=self._repeat, args=(name, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, seconds: float) -> None:
        """Wait until all threads have ended, for at most `seconds` in total."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))

    def _repeat(self, name: str, work: Callable[[], object]) -> None:
        while not self._stop.is_asked:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the service goes on
                if not self._stop.is_asked:  # at the end, a thread may meet files that are closed
                    self._lines.state(name, described(error))
                self._stop.wait(_AGAIN)
            else:
                self._lines.state(name, "")


def described(error: Exception) -> str:
    """Return an error as a sentence. A defect is returned with its traceback."""
    return sentence(error) if isinstance(error, BlockOTAError) else "".join(traceback.format_exception(error))
