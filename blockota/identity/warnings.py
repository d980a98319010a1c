"""Create the log entries of warnings about refused requests."""

from __future__ import annotations

import secrets
import threading
from uuid import UUID

from blockota.model.receipt import EntryKind, LogEntry
from blockota.model.warning import RequestWarning, WarningLimits

_ID_SIZE = 8


class WarningMaker:
    """Creates log entries of warnings, within the limits of `WarningLimits`. Several threads may share it.

    Args:
        submitter: UUID of the identity whose log receives the entries.
    """

    def __init__(self, submitter: UUID) -> None:
        self._submitter = submitter
        self._limits = WarningLimits(lambda: secrets.token_hex(_ID_SIZE))
        self._lock = threading.Lock()

    def note(self, warning: RequestWarning, *, now: int) -> tuple[str, list[bytes]]:
        """Count a refused request.

        Args:
            warning: the warning about one request; the id and the count are ignored.
            now: Unix time.

        Returns:
            The id of the warning, and the entries to append to the log now.
        """
        with self._lock:
            found, warnings = self._limits.note(warning, now=now)
        return found, [self._entry(one, now) for one in warnings]

    def due(self, *, now: int) -> list[bytes]:
        """Return the entries of warnings that count refused requests, after the period of each warning has ended.

        A service calls this method every few seconds.
        """
        with self._lock:
            return [self._entry(one, now) for one in self._limits.due(now=now)]

    def _entry(self, warning: RequestWarning, now: int) -> bytes:
        return LogEntry(EntryKind.WARNING, now, gateway=self._submitter, source=warning.text).encode()
