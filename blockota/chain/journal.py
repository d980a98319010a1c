"""The journal of sent transactions. A transaction is recorded before it is sent, and removed when it is confirmed.

A command that is repeated after an interruption finds its own transaction in the journal, and does not send a second
transaction. Each transaction has one file with the signed bytes, ``<folder>/<chain id>/<sender>-<nonce>.json``. The
signed bytes are not secret: their only use is to submit the transaction, which a chain accepts only once. The file's
other fields describe the transaction for people, and must agree with the signed bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from blockota.chain.transaction import SignedTransaction
from blockota.errors import Action, RefusedError, UsageError
from blockota.file_locks import LockHeldError, exclusive_lock
from blockota.files import read_input, write_durable
from blockota.strict_json import check_depth

_MAX_FILE_SIZE = 1 << 22
_MODE = 0o600


@dataclass(frozen=True)
class SentTransaction:
    """A recorded transaction.

    Attributes:
        attempts: the signed transaction, then its replacements with higher fees and the same nonce. The chain includes
            at most one attempt.
        purpose: the command that sent the transaction.
        written: Unix time at which the transaction was recorded, in seconds.
    """

    attempts: tuple[SignedTransaction, ...]
    purpose: str
    written: int

    @property
    def newest(self) -> SignedTransaction:
        """The newest attempt, which offers the highest fee."""
        return self.attempts[-1]

    @property
    def hash(self) -> str:
        """The hash of the newest attempt, with 0x."""
        return f"0x{self.newest.hash.hex()}"

    @property
    def sender(self) -> str:
        """The account that signed the transaction."""
        return self.newest.sender

    def matches(self, data: bytes, *, to: str | None) -> bool:
        """Whether the transaction sends `data` to the contract `to`, or creates a contract if `to` is None."""
        return self.newest.data == data and (self.newest.to or "").lower() == (to or "").lower()

    def with_attempt(self, attempt: SignedTransaction) -> SentTransaction:
        """Return a copy of the entry with one more attempt."""
        return replace(self, attempts=(*self.attempts, attempt))

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the entry's file."""
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
    def from_fields(cls, fields: dict[str, Any]) -> SentTransaction:
        """Decode the fields of an entry's file.

        Raises:
            ValueError: a field does not agree with the signed bytes.
        """
        attempts = tuple(SignedTransaction.decode(bytes.fromhex(one["raw"][2:])) for one in fields["attempts"])
        entry = cls(attempts, fields["purpose"], fields["written"])

        # People read the fields, and the chain executes the signed bytes, so both must agree.
        places = {(one.chain_id, one.sender, one.nonce, one.to, one.data) for one in attempts}
        is_same = len(places) == 1 and entry.fields == fields and type(entry.written) is int
        if not is_same or not isinstance(entry.purpose, str):
            raise ValueError("the file's fields do not agree with the signed bytes")
        return entry


class Journal:
    """The unconfirmed transactions of one chain.

    Args:
        folder: the folder with the journals of all chains; None means that no transaction is recorded.
        chain_id: the chain's id.
    """

    def __init__(self, folder: Path | None, chain_id: int) -> None:
        self._folder = folder / str(chain_id) if folder else None
        self._chain_id = chain_id

    @property
    def is_kept(self) -> bool:
        """Whether transactions are recorded."""
        return self._folder is not None

    def entries(self) -> list[SentTransaction]:
        """Return all entries, sorted by sender and nonce.

        Raises:
            RefusedError: a file cannot be read, so its transaction is unknown.
        """
        found = []
        for path in self._folder.glob("0x*-*.json") if self._folder else []:
            try:
                found.append(self._read(path))
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError, UsageError) as error:
                raise RefusedError(
                    f"{path} cannot be read, so its transaction is unknown",
                    why=str(error).rstrip("."),
                    remedy="look up the account's newest transactions in a block explorer, then move the file away",
                ) from error

        return sorted(found, key=lambda entry: (entry.sender, entry.newest.nonce))

    def find(self, transaction: str) -> SentTransaction:
        """Find the entry of a transaction by the hash of any of its attempts.

        Raises:
            UsageError: the journal has no attempt with this hash.
        """
        for entry in self.entries():
            if transaction.lower() in {f"0x{attempt.hash.hex()}" for attempt in entry.attempts}:
                return entry
        raise UsageError(
            f"the journal has no transaction {transaction}",
            why=f"on chain {self._chain_id}, the transaction was confirmed, forgotten, or never sent from this folder",
            remedy="check the hash",
            action=Action.LIST_TRANSACTIONS,
        )

    def write(self, entry: SentTransaction) -> None:
        """Record an entry durably.

        Raises:
            RefusedError: the entry cannot be written, so its transaction must not be sent.
        """
        if self._folder is None:
            return
        data = (json.dumps(entry.fields, indent=2) + "\n").encode()
        try:
            write_durable(self._folder / _file_name(entry), data, mode=_MODE)
        except OSError as error:
            raise self._unwritable(error) from error

    def remove(self, entry: SentTransaction) -> None:
        """Remove an entry.

        Raises:
            UsageError: the entry's file cannot be removed.
        """
        if self._folder is None:
            return

        path = self._folder / _file_name(entry)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be removed, although its transaction is settled",
                why=error.strerror or str(error),
                remedy="remove the file by hand",
            ) from error

    @contextmanager
    def locked(self, sender: str, *, timeout: float) -> Iterator[None]:
        """Lock an account while the ``with`` block runs, so that one process at a time sends from the account.

        Raises:
            RefusedError: another process has the lock for longer than `timeout` seconds, or the folder cannot be
                written.
        """
        if self._folder is None:
            yield
            return

        with ExitStack() as held:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(exclusive_lock(self._folder / f"{sender.lower()}.lock", timeout=timeout))
            except OSError as error:
                raise self._unwritable(error) from error
            except LockHeldError as error:
                raise RefusedError(
                    "another command is sending from the same account",
                    why=f"that command has not ended in {timeout:.0f} s, and {sender} sends one transaction at a time",
                    remedy="wait until the other command ends, then run this command again",
                ) from error
            yield

    def _unwritable(self, error: OSError) -> RefusedError:
        return RefusedError(
            "the transaction was not sent, because it cannot be recorded first",
            why=f"{self._folder}: {error.strerror or error}",
            remedy="free some space or make the folder writable, and try again",
        )

    def _read(self, path: Path) -> SentTransaction:
        document = read_input(path, limit=_MAX_FILE_SIZE).decode()
        check_depth(document)
        entry = SentTransaction.from_fields(json.loads(document))
        if self._chain_id != entry.newest.chain_id or path.name != _file_name(entry):
            raise ValueError("the file's name belongs to another transaction")
        return entry


def _file_name(entry: SentTransaction) -> str:
    return f"{entry.sender.lower()}-{entry.newest.nonce}.json"
