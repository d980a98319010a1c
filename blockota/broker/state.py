"""What a broker remembers between runs: one SQLite file, written after each step, and used by one run at a time.

It tells what is wanted, fetched, pinned, announced and dropped, which blocks of the chain that was decided upon, and
which sources lied, with what, and until when they are not asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from blockota.broker.plan import File, Memory, Stage
from blockota.chain import BlockHead
from blockota.errors import BlockOTAError, RefusedError, StoreError
from blockota.formats.cid import CID

_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    cid TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 BLOB, label TEXT NOT NULL, stage TEXT NOT NULL,
    is_foreign INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS announcements (
    number INTEGER PRIMARY KEY, url TEXT NOT NULL, "transaction" BLOB NOT NULL, block INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS liars (url TEXT PRIMARY KEY, why TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS heads (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, time INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS manifests (release TEXT PRIMARY KEY, cid TEXT NOT NULL);
"""
_HEADS = 64
_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


class BrokerState:
    """The file; it is made where it is missing, and belongs to this object until that is closed.

    Args:
        path: the file.
        identity: what it is about, such as the broker's and the contracts' addresses.

    Raises:
        RefusedError: another run uses it, or it is about something else.
        StoreError: it cannot be read or written, or is no such file.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        """Open the file, and keep others out."""
        self.path = path
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=0.2, isolation_level=None)
        try:
            with self._translated():
                self._take()
            self._check(identity)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        """Nothing more is opened."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let others use the file."""
        self._database.close()

    def memory(self) -> Memory:
        """All that the plan has to know."""
        files = {}
        for cid, size, digest, label, stage in self._rows("SELECT cid, size, sha256, label, stage FROM files"):
            address = CID.parse(cid)
            files[address] = File(address, size, digest, label), Stage(stage)
        return Memory(files, dict(self._rows("SELECT url, until FROM liars")))

    def put(self, file: File, stage: Stage) -> None:
        """Remember how far a file came."""
        self._write(
            "INSERT INTO files (cid, size, sha256, label, stage) VALUES (?, ?, ?, ?, ?) ON CONFLICT (cid) DO UPDATE "
            "SET size = excluded.size, sha256 = excluded.sha256, label = excluded.label, stage = excluded.stage",
            (str(file.cid), file.size, file.sha256, file.label, stage.value),
        )

    def begin(self, file: File, *, is_foreign: bool) -> None:
        """Remember a file that is wanted for the first time, or again.

        Args:
            file: the file.
            is_foreign: whether it is pinned now, so that the pin is somebody else's, and not ours to take away.
        """
        self._write(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
            (str(file.cid), file.size, file.sha256, file.label, Stage.WANTED.value, is_foreign),
        )

    def is_ours(self, file: File) -> bool:
        """Whether there is something of a file that a run of this broker began with."""
        known = self._rows("SELECT stage FROM files WHERE cid = ?", (str(file.cid),))
        return bool(known) and known != [(Stage.DROPPED.value,)]

    def is_foreign(self, file: File) -> bool:
        """Whether somebody else had pinned the file before."""
        return self._rows("SELECT is_foreign FROM files WHERE cid = ?", (str(file.cid),)) == [(1,)]

    def announced(self, number: int, url: str, *, transaction: bytes, block: int) -> None:
        """Remember an announcement."""
        self._write(
            "INSERT OR REPLACE INTO announcements VALUES (?, ?, ?, ?)",
            (number, url, transaction, block),
        )

    def leave_out(self, url: str, *, why: str, until: float) -> None:
        """Remember a source that lied, and until when it is not asked, in Unix seconds."""
        self._write("INSERT OR REPLACE INTO liars VALUES (?, ?, ?)", (url, why, until))

    def forgive(self) -> None:
        """Forget who lied, so that all are asked again."""
        self._write("DELETE FROM liars", ())

    def heads(self) -> list[BlockHead]:
        """The confirmed blocks that were decided upon, newest first; the chain's first block comes last."""
        rows = self._rows("SELECT number, time, hash FROM heads ORDER BY number DESC")
        return [BlockHead(*row) for row in rows]

    def saw(self, head: BlockHead) -> None:
        """Remember a confirmed block; the oldest ones are forgotten, but for the chain's first."""
        self._write("INSERT OR REPLACE INTO heads VALUES (?, ?, ?)", (head.number, head.hash, head.time))
        self._write(
            "DELETE FROM heads WHERE number != 0 AND number NOT IN "
            "(SELECT number FROM heads ORDER BY number DESC LIMIT ?)",
            (_HEADS,),
        )

    def forget_chain(self) -> None:
        """Forget what was read of a chain that was rewritten."""
        with self._translated():
            self._database.executescript("BEGIN; DELETE FROM heads; DELETE FROM manifests; COMMIT;")

    def manifest(self, release: str) -> str | None:
        """The manifest's address of a release, as it was read once: empty where it has none, None where unknown."""
        rows = self._rows("SELECT cid FROM manifests WHERE release = ?", (release,))
        return str(rows[0][0]) if rows else None

    def put_manifest(self, release: str, address: str) -> None:
        """Remember a release's manifest; empty is none."""
        self._write("INSERT OR REPLACE INTO manifests VALUES (?, ?)", (release, address))

    def _take(self) -> None:
        """Lock the file as long as it is open, and flush each step to disk."""
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("BEGIN EXCLUSIVE")
        self._database.execute("COMMIT")
        self._database.executescript(_SCHEMA)

    def _check(self, identity: Mapping[str, str]) -> None:
        known = dict(self._rows("SELECT key, value FROM identity"))
        for key, value in identity.items():
            if known.setdefault(key, value) != value:
                raise RefusedError(
                    f"{self.path} is about another {key}",
                    why=f"it is about {known[key]}, not {value}",
                    remedy=f"name the {key} of before, or another file with --state",
                )
            self._write("INSERT OR REPLACE INTO identity VALUES (?, ?)", (key, value))

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._translated():
            return self._database.execute(statement, values).fetchall()

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._translated():
            self._database.execute(statement, values)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error | OSError) -> BlockOTAError:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return RefusedError(
                "another `blockota broker sync` is at work",
                why=f"it uses {self.path}",
                remedy="wait for it, or stop it first",
            )
        remedy = "check its folder and the disk, or name another file with --state"
        if isinstance(error, OSError) or self.path.is_dir():
            why = (error.strerror if isinstance(error, OSError) else "") or "it is a folder"
        elif isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", None) in _DAMAGED:
            why = f"it is damaged, or another program's: {error}"
            remedy = "put it aside, or name another file with --state: everything is read and checked again then"
        else:
            why = str(error)
        return StoreError(f"the state file {self.path} cannot be used", why=why, remedy=remedy)
