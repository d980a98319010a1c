"""A broker's state file: an SQLite file, written after each step and used by one run at a time.

The state file records the stage of each file and the time of the last verification of its copy. The file also records
announcements, events of the vendor's contract, and manifests of releases. For each wrong block, the file records the
source.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from blockota.broker.offences import Offence
from blockota.broker.plan import BrokerMemory, CopyStage
from blockota.chain.event_store import EVENT_TABLES, EventStore
from blockota.errors import Action, RefusedError
from blockota.formats.cid import CID
from blockota.model.rights import ReleaseFile
from blockota.sqlite_file import FileMark, SqliteFile

_MARK = FileMark(
    0x424F5442,
    1,
    "the state of a broker",
    use="another round is running",
    remedy="move the file away, so that all data is read and verified again, or use another state file",
    action=Action.NAME_STATE_FILE,
    old_table="identity",
)
_TABLES = """
CREATE TABLE IF NOT EXISTS identity (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    cid TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 BLOB, label TEXT NOT NULL, stage TEXT NOT NULL,
    is_foreign INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS announcements (
    number INTEGER PRIMARY KEY, url TEXT NOT NULL, "transaction" BLOB NOT NULL, block INTEGER NOT NULL
);
DROP TABLE IF EXISTS liars;
CREATE TABLE IF NOT EXISTS offences (url TEXT NOT NULL, cid TEXT NOT NULL, time REAL NOT NULL, why TEXT NOT NULL);
DROP TABLE IF EXISTS heads;
CREATE TABLE IF NOT EXISTS manifests (release TEXT PRIMARY KEY, cid TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS verifications (cid TEXT PRIMARY KEY, time REAL NOT NULL);
"""
_REMEMBERED = 86400.0


class BrokerState:
    """The open state file. A missing state file is created. The file is locked until `close` is called.

    Args:
        path: the file.
        identity: the values that identify the broker, such as the addresses of the broker and the contracts.

    Attributes:
        chain: the events and blocks of the chain that earlier runs read.

    Raises:
        RefusedError: another run has locked the file, or the file belongs to another broker, store or contract.
        StoreError: the file cannot be read or written, or is not a state file.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path = path
        self._file = SqliteFile(path, _MARK, _TABLES + EVENT_TABLES)
        try:
            self._check(identity)
        except BaseException:
            self._file.close()
            raise
        self.chain = EventStore(self._file)

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, which unlocks it."""
        self._file.close()

    def memory(self) -> BrokerMemory:
        """Read the records of earlier runs, from which the plan is derived."""
        files = {}
        for cid, size, digest, label, stage in self._file.execute("SELECT cid, size, sha256, label, stage FROM files"):
            address = CID.parse(cid)
            files[address] = ReleaseFile(address, size, digest, label), CopyStage(stage)
        rows = self._file.execute("SELECT url, cid, time FROM offences ORDER BY time")
        return BrokerMemory(files, tuple(Offence(url, CID.parse(cid), time) for url, cid, time in rows))

    def put(self, file: ReleaseFile, stage: CopyStage) -> None:
        """Record the stage of a file."""
        # An UPDATE keeps the value of is_foreign that `add` recorded; a REPLACE would delete it.
        self._file.execute(
            "INSERT INTO files (cid, size, sha256, label, stage) VALUES (?, ?, ?, ?, ?) ON CONFLICT (cid) DO UPDATE "
            "SET size = excluded.size, sha256 = excluded.sha256, label = excluded.label, stage = excluded.stage",
            (str(file.cid), file.size, file.sha256, file.label, stage.value),
        )

    def add(self, file: ReleaseFile, *, is_foreign: bool) -> None:
        """Record a file that is wanted for the first time, or wanted again.

        Args:
            file: the file.
            is_foreign: whether another program has already pinned the file. The pin must then stay.
        """
        self._file.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
            (str(file.cid), file.size, file.sha256, file.label, CopyStage.WANTED.value, is_foreign),
        )

    def is_begun(self, file: ReleaseFile) -> bool:
        """Whether a file is recorded and was not dropped."""
        known = self._file.execute("SELECT stage FROM files WHERE cid = ?", (str(file.cid),))
        return bool(known) and known != [(CopyStage.DROPPED.value,)]

    def is_foreign(self, file: ReleaseFile) -> bool:
        """Whether another program had pinned the file before the broker did."""
        return self._file.execute("SELECT is_foreign FROM files WHERE cid = ?", (str(file.cid),)) == [(1,)]

    def verified_at(self) -> dict[CID, float]:
        """Return the Unix time at which each copy was last verified. Copies that were never verified are omitted."""
        rows = self._file.execute("SELECT cid, time FROM verifications")
        return {CID.parse(cid): time for cid, time in rows}

    def put_verification(self, cid: CID, time: float) -> None:
        """Record that all bytes of a copy were verified."""
        self._file.execute("INSERT OR REPLACE INTO verifications VALUES (?, ?)", (str(cid), time))

    def put_announcement(self, number: int, url: str, *, transaction: bytes, block: int) -> None:
        """Record an announcement."""
        self._file.execute(
            "INSERT OR REPLACE INTO announcements VALUES (?, ?, ?, ?)", (number, url, transaction, block)
        )

    def put_offence(self, offence: Offence, *, why: str) -> None:
        """Record that a source served a wrong block, and delete all records that are more than a day old."""
        row = (offence.url, str(offence.cid), offence.time, why)
        self._file.execute("INSERT INTO offences VALUES (?, ?, ?, ?)", row)
        self._file.execute("DELETE FROM offences WHERE time < ?", (offence.time - _REMEMBERED,))

    def forgive(self) -> None:
        """Delete the records of wrong blocks of all sources."""
        self._file.execute("DELETE FROM offences", ())

    def forget_manifests(self) -> None:
        """Delete all manifest addresses, because a reorganisation may have changed them."""
        self._file.execute("DELETE FROM manifests", ())

    def manifest(self, release: str) -> CID | None:
        """Return the recorded manifest address of a release; None if the release has no manifest or no record."""
        rows = self._file.execute("SELECT cid FROM manifests WHERE release = ?", (release,))
        return CID.parse(rows[0][0]) if rows and rows[0][0] else None

    def put_manifest(self, release: str, address: CID | None) -> None:
        """Record the manifest address of a release, because a node may later drop the release's event."""
        text = str(address or "")
        if self._file.execute("SELECT cid FROM manifests WHERE release = ?", (release,)) != [(text,)]:
            self._file.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?)", (release, text))

    def _check(self, identity: Mapping[str, str]) -> None:
        known = dict(self._file.execute("SELECT key, value FROM identity"))
        for key, value in identity.items():
            if known.setdefault(key, value) != value:
                raise RefusedError(
                    f"{self.path} belongs to another {key}",
                    why=f"the file belongs to {known[key]}, not to {value}",
                    remedy=f"use the former {key}, or another state file",
                    action=Action.NAME_STATE_FILE,
                )
            self._file.execute("INSERT OR REPLACE INTO identity VALUES (?, ?)", (key, value))
