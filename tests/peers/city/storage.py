"""The cloud's database in the city: a primary of PostgreSQL and its synchronous standby, each on a host of its own."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.peers.city.members import Member
from tests.peers.postgresql.cluster import PostgresPair
from tests.support.waiting import eventually

_TIMEOUT = 10
"""Seconds within which a server must accept a connection."""
_FILE = "database"


@dataclass(frozen=True)
class FailOver:
    """The result of a kill of the primary.

    Attributes:
        seconds: the time from the kill to the first value that the cloud wrote on the promoted standby.
        kept: the number of values that were readable on the primary when it was killed. The standby has all of them.
    """

    seconds: float
    kept: int


class CloudStorage:
    """The database, which this class reads with psycopg instead of BlockOTA's own code.

    Args:
        pair: the servers.
    """

    def __init__(self, pair: PostgresPair) -> None:
        self._pair = pair
        self._connection = _connect(pair)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def write_place(self, cloud: Member) -> str:
        """Write the database URL with its password into a file of the cloud, and return the setting for the file."""
        file = cloud.folder / _FILE
        file.touch(0o600)
        file.write_text(f"{self._pair.url}\n")
        return f"file:{_FILE}"

    def values(self, name: str) -> dict[str, set[float]]:
        """Return the values of a quantity, by the number of the device."""
        found = defaultdict[str, set[float]](set)
        for thing, value in self._connection.execute("SELECT thing, value FROM reading WHERE name = %s", [name]):
            found[thing].add(value)
        return found

    def outcomes(self, device: int) -> list[str]:
        """Return the outcomes of the commands to a device."""
        asked = "SELECT text FROM reading WHERE thing = %s AND name LIKE 'command:%%'"
        return [text for (text,) in self._connection.execute(asked, [str(device)])]

    def fail_over(self, name: str) -> FailOver:
        """Kill the primary, promote the standby, and wait until the cloud writes there.

        A commit becomes visible on the primary only after the standby has acknowledged the commit. The cloud
        acknowledges the rows only after the commit. The standby must therefore have each value that was readable on the
        primary.

        Args:
            name: a quantity whose values arrive continuously.
        """
        before = self.values(name)
        self._pair.primary.kill()
        killed = time.monotonic()
        self._pair.promote()
        self.close()
        self._connection = _connect(self._pair)
        after = self.values(name)
        lost = {thing: values - after[thing] for thing, values in before.items() if values - after[thing]}
        assert not lost, f"the promoted standby lacks {lost}"
        eventually(lambda: self.values(name) != after, what="a new value on the promoted standby")
        return FailOver(time.monotonic() - killed, sum(map(len, before.values())))


def _connect(pair: PostgresPair) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect to the server that accepts writes."""
    return psycopg.connect(pair.url, target_session_attrs="read-write", connect_timeout=_TIMEOUT, autocommit=True)
