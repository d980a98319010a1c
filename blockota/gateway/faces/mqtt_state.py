"""The MQTT face's data on disk: executions of jobs, shadows, and the number of published log entries.

The images that devices run are in the core's state. If data of this file are lost, devices repeat their reports, and
the gateway publishes log entries a second time. A commit therefore does not wait for the disk. No data are lost by
SIGKILL, but the data of the last seconds may be lost by a power failure.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

from blockota.errors import StoreError
from blockota.messaging.documents import JobExecution, JobStatus, Shadow

_SCHEMA = """
CREATE TABLE IF NOT EXISTS execution (thing INTEGER, product TEXT, fields TEXT, PRIMARY KEY (thing, product));
CREATE TABLE IF NOT EXISTS shadow (thing INTEGER PRIMARY KEY, version INTEGER, desired TEXT, reported TEXT);
CREATE TABLE IF NOT EXISTS published (one INTEGER PRIMARY KEY CHECK (one = 1), entries INTEGER);
"""


class ThingStore:
    """The executions and shadows of all devices, in memory and in an SQLite file.

    Args:
        path: the SQLite file, which is created if necessary.

    Attributes:
        published: index of the first log entry that may not have been published yet.

    Raises:
        StoreError: the file cannot be opened, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Like the core, the face uses the database in one thread, which is not the thread that opened it.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
            self._executions: defaultdict[int, dict[str, JobExecution]] = defaultdict(dict)
            for thing, product, fields in self._database.execute("SELECT thing, product, fields FROM execution"):
                self._executions[thing][product] = _execution(json.loads(fields))
            rows = self._database.execute("SELECT thing, version, desired, reported FROM shadow")
            self._shadows = {row[0]: Shadow(row[1], json.loads(row[2]), json.loads(row[3])) for row in rows}
            row = self._database.execute("SELECT entries FROM published").fetchone()
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise self._unusable(error) from error
        self.published: int = row[0] if row else 0

    def execution(self, thing: int, product: str) -> JobExecution | None:
        """Return a device's last job execution for a product; None if the product had no job."""
        return self._executions[thing].get(product)

    def execution_of(self, thing: int, job: int) -> tuple[str, JobExecution] | None:
        """Return the product and the execution of a job; None if the job is not the device's last job for a product."""
        return next(((product, one) for product, one in self._executions[thing].items() if one.job == job), None)

    def put_execution(self, product: str, execution: JobExecution) -> None:
        """Store an execution."""
        self._executions[execution.thing][product] = execution
        self._write(
            "INSERT OR REPLACE INTO execution VALUES (?, ?, ?)",
            execution.thing,
            product,
            json.dumps(vars(execution) | {"details": dict(execution.details)}),
        )

    def shadow(self, thing: int) -> Shadow:
        """Return the shadow of a device."""
        return self._shadows.get(thing, Shadow())

    def put_shadow(self, thing: int, shadow: Shadow) -> None:
        """Store a shadow."""
        self._shadows[thing] = shadow
        values = shadow.version, json.dumps(shadow.desired), json.dumps(shadow.reported)
        self._write("INSERT OR REPLACE INTO shadow VALUES (?, ?, ?, ?)", thing, *values)

    def put_published(self, entries: int) -> None:
        """Store the number of log entries that were published."""
        self.published = entries
        self._write("INSERT OR REPLACE INTO published VALUES (1, ?)", entries)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _write(self, statement: str, *values: object) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"the state of the MQTT face in {self._path} cannot be used",
            why=str(error),
            remedy="check the disk; without the file, devices report again and the whole log is published again",
        )


def _execution(fields: dict[str, Any]) -> JobExecution:
    return JobExecution(**fields | {"status": JobStatus(fields["status"])})
