"""The journal of sent transactions: each is written down before it leaves, and taken out when it is confirmed.

So a command that was ended in between finds its own transaction again, and sends no second one. A transaction is one
file, ``<folder>/<chain id>/<sender>-<nonce>.json``. It holds the signed bytes, which are no secret: whoever has them
can do nothing but send them, once. What else the file says is there for people, and must agree with the bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from blockota.chain.transaction import SignedTransaction
from blockota.errors import RefusedError, UsageError
from blockota.files import read_input, whole_file
from blockota.strict_json import check_depth

_MAX_FILE_SIZE = 1 << 22
_MODE = 0o600
_LOCK_POLL = 0.05


@dataclass(frozen=True)
class Entry:
    """A transaction that is not confirmed yet, as far as the journal knows.

    Attributes:
        attempts: the signed transaction, then others of the same nonce that offer more; at most one gets into a block.
        purpose: the command that sent it.
        written: when it was written down, in Unix seconds.
    """

    attempts: tuple[SignedTransaction, ...]
    purpose: str
    written: int

    @property
    def newest(self) -> SignedTransaction:
        """The attempt that offers most."""
        return self.attempts[-1]

    @property
    def hash(self) -> str:
        """Hash of the newest attempt, with 0x."""
        return f"0x{self.newest.hash.hex()}"

    @property
    def sender(self) -> str:
        """Who signed it."""
        return self.newest.sender

    def matches(self, data: bytes, *, to: str | None) -> bool:
        """Whether it carries this calldata to this contract (None: creates one)."""
        return self.newest.data == data and (self.newest.to or "").lower() == (to or "").lower()

    def with_attempt(self, attempt: SignedTransaction) -> Entry:
        """The same, with one more attempt."""
        return replace(self, attempts=(*self.attempts, attempt))

    @property
    def fields(self) -> dict[str, Any]:
        """What the file says."""
        newest = self.newest
        return {
            "format": "blockota-transaction-1",
            "purpose": self.purpose,
            "written": self.written,
            "chainId": newest.chain_id,
            "from": self.sender,
            "nonce": newest.nonce,
            "to": newest.to,
            "dataSha256": sha256(newest.data).hexdigest(),
            "attempts": [{"hash": f"0x{one.hash.hex()}", "raw": f"0x{one.raw.hex()}"} for one in self.attempts],
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Entry:
        """Read what a file says.

        Raises:
            ValueError: something in it is not what the signed bytes say.
        """
        attempts = tuple(SignedTransaction.decode(bytes.fromhex(one["raw"][2:])) for one in fields["attempts"])
        entry = cls(attempts, fields["purpose"], fields["written"])
        places = {(one.chain_id, one.sender, one.nonce, one.to, one.data) for one in attempts}
        is_same = len(places) == 1 and entry.fields == fields and type(entry.written) is int
        _require(is_same and isinstance(entry.purpose, str), "what it says is not what was signed")
        return entry


class Journal:
    """The unconfirmed transactions of one chain.

    Args:
        folder: where the journals of all chains lie; None keeps none.
        chain_id: the chain.
    """

    def __init__(self, folder: Path | None, chain_id: int) -> None:
        """Remember both; nothing is read or made yet."""
        self._folder = folder / str(chain_id) if folder else None
        self._chain_id = chain_id

    @property
    def is_kept(self) -> bool:
        """Whether anything is written down at all."""
        return self._folder is not None

    def entries(self) -> list[Entry]:
        """All of them, by sender and nonce.

        Raises:
            RefusedError: a file cannot be read, so nobody knows what was sent.
        """
        paths = self._folder.glob("0x*-*.json") if self._folder else []
        found = [self._read(path) for path in paths]
        return sorted(found, key=lambda entry: (entry.sender, entry.newest.nonce))

    def find(self, transaction: str) -> Entry:
        """The entry that has an attempt of this hash.

        Raises:
            UsageError: there is none.
        """
        for entry in self.entries():
            if transaction.lower() in {f"0x{attempt.hash.hex()}" for attempt in entry.attempts}:
                return entry
        raise UsageError(
            f"the journal has no transaction {transaction}",
            why=f"on chain {self._chain_id} it was confirmed, forgotten, or never sent from this folder",
            remedy="see `blockota transaction list`",
        )

    def write(self, entry: Entry) -> None:
        """Write an entry down; it survives the machine's next moment.

        Raises:
            RefusedError: it cannot be written; then nothing may be sent.
        """
        if self._folder is None:
            return
        data = (json.dumps(entry.fields, indent=2) + "\n").encode()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self._path(entry), mode=_MODE) as file:
                file.write(data)
            _flush_names(self._folder)
        except OSError as error:
            raise self._unwritable(error) from error

    def remove(self, entry: Entry) -> None:
        """Take an entry out.

        Raises:
            UsageError: its file cannot be removed.
        """
        if self._folder is None:
            return
        path = self._path(entry)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be removed, though its transaction is settled",
                why=error.strerror or str(error),
                remedy="remove it by hand",
            ) from error

    @contextmanager
    def locked(self, sender: str, *, timeout: float) -> Iterator[None]:
        """Let no other process send from this account while the block runs.

        Raises:
            RefusedError: another one does so for longer than `timeout` seconds, or the folder cannot be written.
        """
        if self._folder is None:
            yield
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / f"{sender.lower()}.lock").open("wb")
        except OSError as error:
            raise self._unwritable(error) from error
        with lock:
            _take(lock, sender, timeout=timeout)
            yield

    def _path(self, entry: Entry) -> Path:
        if self._folder is None:
            raise AssertionError("a journal that is not kept has no files")
        return self._folder / f"{entry.sender.lower()}-{entry.newest.nonce}.json"

    def _read(self, path: Path) -> Entry:
        try:
            document = read_input(path, limit=_MAX_FILE_SIZE).decode()
            check_depth(document)
            entry = Entry.from_fields(json.loads(document))
            _require(self._chain_id == entry.newest.chain_id and self._path(entry) == path, "it lies in a wrong place")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, UsageError) as error:
            raise RefusedError(
                f"{path} cannot be read, so nobody knows what was sent",
                why=str(error).rstrip("."),
                remedy="look the account's newest transactions up in a block explorer, then move the file away",
            ) from error
        return entry

    def _unwritable(self, error: OSError) -> RefusedError:
        return RefusedError(
            "the transaction was not sent, because it cannot be written down first",
            why=f"{self._folder}: {error.strerror or error}",
            remedy="free some space or make the folder writable, and run it again",
        )


def _require(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def _flush_names(folder: Path) -> None:
    """Put the folder itself on the disk, so that a power cut does not undo the new name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take(lock: BinaryIO, sender: str, *, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RefusedError(
                    "another command is sending from the same account",
                    why=f"it has not ended in {timeout:.0f} s, and transactions of {sender} have an order",
                    remedy="wait until it ends, then run this one again",
                ) from None
            time.sleep(_LOCK_POLL)
        else:
            return
