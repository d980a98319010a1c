"""The operating log of a service: one line of JSON for each event, failure and recovery.

The operating log is separate from the append-only log of entries.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from blockota.errors import BlockOTAError
from blockota.url_secrets import without_secrets

_MAX_TEXT = 1000


class LineLog:
    """Writes lines of JSON, and remembers which parts have failed.

    Any thread may call its methods.

    Args:
        write: writes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._troubles: dict[str, str] = {}

    @property
    def troubles(self) -> dict[str, str]:
        """The parts that have failed, each with the reason."""
        return dict(self._troubles)

    def event(self, part: str, event: str, **fields: object) -> None:
        """Write a line about an event."""
        given = {name: value for name, value in fields.items() if value is not None}
        texts = {name: _shown(value) if isinstance(value, str) else value for name, value in given.items()}
        self._write(json.dumps({"time": _now(), "part": part, "event": event, **texts}))

    def state(self, part: str, trouble: str) -> None:
        """Write a line if a part of the service failed, recovered, or failed for a different reason.

        Args:
            part: the part, such as ``producer chain 1337``.
            trouble: why the part failed; empty if it works.
        """
        trouble = _shown(trouble)  # the pages of a service show the stored text
        if trouble == self._troubles.get(part, ""):
            return
        if trouble:
            self._troubles[part] = trouble
        else:
            self._troubles.pop(part, None)
        self._write(event_line(part, trouble))


def event_line(part: str, trouble: str) -> str:
    """Format the line for a part of a service that failed or recovered.

    Args:
        part: the part, such as ``store``.
        trouble: the reason of the failure; empty after a recovery.
    """
    fields = {"time": _now(), "event": "trouble" if trouble else "recovered", "part": part}
    return json.dumps(fields | ({"trouble": trouble} if trouble else {}))


def sentence(error: BlockOTAError) -> str:
    """Return an error as one sentence that states what happened and why."""
    return f"{error.what}: {error.why}" if error.why else error.what


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _shown(text: str) -> str:
    return without_secrets(text)[:_MAX_TEXT]
