"""Warnings about refused requests, and the limits on the number of their log entries. Pure.

A warning is an entry of the kind `EntryKind.WARNING`. The warning's time and keeper are items of the entry, and the
text of the entry is a JSON object::

    {"warning": ID, "address": ADDRESS, "node": UUID or null, "standing": "claimed" or "proven",
     "code": CODE of the JSON-RPC error, "reason": REASON, "detail": DETAIL, "count": NUMBER of requests}

Anyone can send any number of forged requests, and an entry cannot be removed from a log. `WarningLimits` therefore
allows at most one entry in `PERIOD` seconds for each offender and reason. The entry contains the number of requests
since the previous entry. A proven offender is identified by its UUID. An offender without proof is identified by its
network address. All offenders without proof together cause at most `MOST_CLAIMED` entries in `PERIOD` seconds. One
additional entry counts their further requests.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

from blockota.errors import BlockOTAError, plain
from blockota.strict_json import load_object

PERIOD = 60
"""Seconds between two entries about the same offender and reason."""
MOST_CLAIMED = 60
"""The largest number of entries about claimed offenders in `PERIOD` seconds."""
CLAIMED, PROVEN = "claimed", "proven"
_MAX_DETAIL, _MAX_ADDRESS = 300, 64
_OTHERS = "others"
"""The address in the entry that counts the requests above `MOST_CLAIMED`."""


@dataclass(frozen=True)
class RequestWarning:
    """A warning about refused requests.

    Attributes:
        id: the id of the warning, which the answer to the request also contains. Several entries can have the same id.
        address: the network address of the offender; ``mqtt`` for a request from a message broker.
        node: the UUID that the request named as its sender; None if the UUID could not be read.
        is_proven: whether it is proven that the node sent the request. Without this proof, the UUID is only claimed.
        code: the code of the JSON-RPC error.
        reason: why the request was refused.
        detail: the details of the reason, for the first of the requests.
        count: the number of requests.
    """

    id: str
    address: str
    node: UUID | None
    is_proven: bool
    code: int
    reason: str
    detail: str = ""
    count: int = 1

    @property
    def words(self) -> str:
        """The reason with its detail."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason

    @property
    def text(self) -> str:
        """The text of the entry."""
        node = str(self.node) if self.node else None
        fields = {
            "warning": self.id,
            "address": plain(self.address)[:_MAX_ADDRESS],
            "node": node,
            "standing": PROVEN if self.is_proven else CLAIMED,
            "code": self.code,
            "reason": self.reason,
            "detail": plain(self.detail)[:_MAX_DETAIL],
            "count": self.count,
        }
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the text of an entry. Returns None if the text belongs to another kind of warning."""
        try:
            return cls._of(load_object(text.encode("utf-8", "surrogatepass")))
        except (BlockOTAError, KeyError, TypeError, ValueError):
            return None

    @classmethod
    def _of(cls, fields: Mapping[str, Any]) -> Self:
        node, standing = fields["node"], fields["standing"]
        texts = [fields[name] for name in ("warning", "address", "reason", "detail", "standing")]
        if not all(isinstance(one, str) for one in texts) or standing not in {CLAIMED, PROVEN}:
            raise TypeError
        if not all(type(fields[name]) is int for name in ("code", "count")):
            raise TypeError

        return cls(
            id=fields["warning"],
            address=fields["address"],
            node=UUID(node) if node is not None else None,
            is_proven=standing == PROVEN,
            code=fields["code"],
            reason=fields["reason"],
            detail=fields["detail"],
            count=fields["count"],
        )


@dataclass
class _Open:
    """A logged warning, with the count of further requests since its last entry."""

    warning: RequestWarning
    written_at: int
    unwritten: int = 0


class WarningLimits:
    """Decides which warnings become log entries.

    Args:
        new_id: returns a new id.
    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._open: dict[tuple[object, ...], _Open] = {}
        self._claimed: deque[int] = deque()
        """The times of the entries about claimed offenders in the last `PERIOD` seconds."""

    def note(self, warning: RequestWarning, *, now: int) -> tuple[str, list[RequestWarning]]:
        """Count a refused request.

        Args:
            warning: the warning about one request; the id and the count are ignored.
            now: Unix time.

        Returns:
            The id of the warning, and the warnings to log now.
        """
        offender: object = warning.node if warning.is_proven else warning.address
        key: tuple[object, ...] = warning.is_proven, offender, warning.code, warning.reason

        # Offenders that are only claimed share one warning after the limit, because anyone can invent them.
        if key not in self._open and not warning.is_proven and self._claimed_since(now) >= MOST_CLAIMED - 1:
            key = (_OTHERS,)
            warning = replace(warning, address=_OTHERS, node=None, detail="")

        found = self._open.get(key)
        if found is None:
            first = replace(warning, id=self._new_id(), count=1)
            self._open[key] = _Open(first, now)
            self._count(first, now)
            return first.id, [first]
        found.unwritten += 1
        return found.warning.id, self._write(found, now)

    def due(self, *, now: int) -> Iterator[RequestWarning]:
        """Yield each warning that counted further requests, if its `PERIOD` is over.

        Close warnings without further requests.
        """
        for key, found in list(self._open.items()):
            if not found.unwritten and self._is_over(found, now):
                del self._open[key]
            yield from self._write(found, now)

    def _write(self, found: _Open, now: int) -> list[RequestWarning]:
        """Return the warning with the count of unlogged requests; an empty list if nothing must be logged now."""
        if not found.unwritten or not self._is_over(found, now):
            return []
        is_others = found.warning.address == _OTHERS
        if not found.warning.is_proven and not is_others and self._claimed_since(now) >= MOST_CLAIMED - 1:
            return []
        counted = replace(found.warning, count=found.unwritten)
        found.written_at, found.unwritten = now, 0
        self._count(counted, now)
        return [counted]

    def _count(self, warning: RequestWarning, now: int) -> None:
        if not warning.is_proven and warning.address != _OTHERS:
            self._claimed.append(now)

    def _claimed_since(self, now: int) -> int:
        """Return the number of entries about claimed offenders in the last `PERIOD` seconds."""
        while self._claimed and not 0 <= now - self._claimed[0] < PERIOD:
            self._claimed.popleft()
        return len(self._claimed)

    @staticmethod
    def _is_over(found: _Open, now: int) -> bool:
        # A clock that was set back must not silence an offender.
        return not 0 <= now - found.written_at < PERIOD
