"""The MQTT face's data on disk: executions of jobs, shadows, and the number of published log entries.

The images that devices run are in the core's state. If data of this file are lost, devices repeat their reports, and
the gateway publishes log entries a second time. A commit therefore does not wait for the disk. SIGKILL loses no data,
but a power failure can lose the data of the last seconds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from blockota.messaging.documents import JobExecution, JobStatus, Shadow
from blockota.sqlite_file import FileMark, SqliteFile

_MARK = FileMark(
    0x424F544D,
    1,
    "the state of an MQTT face",
    remedy="move the file away; without it, devices report again and the whole log is published again",
    old_table="execution",
    is_flushed=False,
)
_TABLES = """
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
        RefusedError: another program, or a newer version of BlockOTA, wrote the file.
        StoreError: the file is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _MARK, _TABLES, is_owner=False)
        self._executions: defaultdict[int, dict[str, JobExecution]] = defaultdict(dict)

        executions = self._file.execute("SELECT thing, product, fields FROM execution")
        shadows = self._file.execute("SELECT thing, version, desired, reported FROM shadow")
        published = self._file.execute("SELECT entries FROM published")
        try:
            for thing, product, text in executions:
                fields = json.loads(text)
                status = JobStatus(fields["status"])
                self._executions[thing][product] = JobExecution(**fields | {"status": status})
            self._shadows = {row[0]: Shadow(row[1], json.loads(row[2]), json.loads(row[3])) for row in shadows}
        except (ValueError, TypeError, KeyError) as error:
            raise self._file.damaged(str(error)) from error
        self.published: int = published[0][0] if published else 0

    def execution(self, thing: int, product: str) -> JobExecution | None:
        """Return a device's last job execution for a product; None if the product had no job."""
        return self._executions[thing].get(product)

    def execution_of(self, thing: int, job: int) -> tuple[str, JobExecution] | None:
        """Return the product and the execution of a job; None if the job is not the last job of any product."""
        return next(((product, one) for product, one in self._executions[thing].items() if one.job == job), None)

    def put_execution(self, product: str, execution: JobExecution) -> None:
        """Store an execution."""
        self._executions[execution.thing][product] = execution
        fields = json.dumps(vars(execution) | {"details": dict(execution.details)})
        self._file.execute("INSERT OR REPLACE INTO execution VALUES (?, ?, ?)", (execution.thing, product, fields))

    def shadow(self, thing: int) -> Shadow:
        """Return the shadow of a device."""
        return self._shadows.get(thing, Shadow())

    def put_shadow(self, thing: int, shadow: Shadow) -> None:
        """Store a shadow."""
        self._shadows[thing] = shadow
        values = thing, shadow.version, json.dumps(shadow.desired), json.dumps(shadow.reported)
        self._file.execute("INSERT OR REPLACE INTO shadow VALUES (?, ?, ?, ?)", values)

    def put_published(self, entries: int) -> None:
        """Store the number of log entries that were published."""
        self.published = entries
        self._file.execute("INSERT OR REPLACE INTO published VALUES (1, ?)", (entries,))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
