"""Write the bench log.

Each job on a board appends its record and its receipt to a signed log. A bench without an identity generates its own
key at the first use, and derives the log's name from the key. This log is never anchored. An enrolled technician uses
the log of the table ``[log]``. The entries contain the technician's UUID. The technician's key, which the gateway chain
records, signs the log.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from blockota.errors import Action, BlockOTAError, ContentError, RefusedError, StoreError, UsageError
from blockota.ethereum import to_checksum_address
from blockota.file_locks import exclusive_lock
from blockota.files import home_path, is_disk_full, make_names_durable
from blockota.formats.notes import Checkpoint, NoteSigner, VerifierKey
from blockota.ledger.keys import create_log_key, open_log_key
from blockota.ledger.log_settings import load_log
from blockota.ledger.verify import keeper_in
from blockota.model.receipt import MAX_TEXT_SIZE, EntryKind, EvidenceLevel, LogEntry, ReleaseId
from blockota.model.release import Version
from blockota.settings import BENCH_FOLDER, BENCH_LOG_NAME, STATE_FOLDER, load_bench, settings_folder
from firmware_host.bench.log import LOG_FILES, BenchEntry, Line, LogLines, following

_KEY_NAME, _LOCK_NAME = "log-key.pem", "bench-lock"
_ROOM = 1 << 16
"""The free space in bytes that is required before a board is changed. It exceeds two entries of the largest size."""
_ORIGIN_DIGITS, _NAME_SIZE = 16, 4


def login_name() -> str:
    """Return the login name of the operator.

    Return the user's number or ``unknown`` if the system does not have a name.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # the user has no name, as in some containers; Windows has no numbers
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def bench_log_folder(config: Path | None, *, environment: Mapping[str, str]) -> Path:
    """Return the folder of the bench log that the settings name.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.

    Raises:
        UsageError: the settings cannot be read.
    """
    bench, beside = load_bench(config, environment=environment), settings_folder(config, environment=environment)
    if bench.log:
        return beside / home_path(bench.log)
    if bench.identity:
        return load_log(config, environment=environment).folder
    return beside / STATE_FOLDER / BENCH_FOLDER / BENCH_LOG_NAME


def open_bench_log(config: Path | None, *, environment: Mapping[str, str], folder: Path | None = None) -> BenchLog:
    """Open the bench log and its signing key; if `folder` is None, the settings name the folder of the log.

    Raises:
        UsageError: the settings or the key cannot be read.
        RefusedError: other users can read the key.
    """
    folder = folder or bench_log_folder(config, environment=environment)
    identity = load_bench(config, environment=environment).identity
    if identity is None:
        state = settings_folder(config, environment=environment) / STATE_FOLDER / BENCH_FOLDER
        return BenchLog(folder, own_signer(state / _KEY_NAME))

    uri, origin = load_log(config, environment=environment).signing()
    if (keeper := keeper_in(origin)) != identity:
        raise UsageError(
            "the bench log cannot be signed",
            why=f"[bench] has the identity {identity}, but the origin in [log] ends with {keeper or 'no UUID'}",
            remedy=f'set origin = "NAME/{identity.hex}" in [log]',
        )

    return BenchLog(folder, open_log_key(uri, origin, environment=environment), identity)


def own_signer(key: Path) -> NoteSigner:
    """Return the key of a bench without an identity.

    The key is generated at the first use, and the names of the bench's logs begin with the key's name.

    Raises:
        UsageError: the key cannot be made or read.
        RefusedError: other users can read the key.
    """
    try:
        key.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(key.with_name(f"{key.name}.lock")):
            if not key.exists():
                # The key gets its final name when it is complete, so that a stopped process never leaves half a key.
                new = key.with_name(f"{key.name}.new")
                new.unlink(missing_ok=True)  # of a process that was stopped
                create_log_key(new)
                new.rename(key)
                make_names_durable(key.parent)
    except OSError as error:
        raise UsageError(f"the key of the bench log {key} cannot be made", why=error.strerror or str(error)) from error

    signer = open_log_key(f"file:{key.absolute()}", "bench", environment={})
    public = signer.key
    return NoteSigner(replace(public, name=f"bench/{public.key.hex()[:_ORIGIN_DIGITS]}"), signer.sign)


class BenchLog:
    """The bench log in a folder.

    The folder is created if it does not exist. Several processes may append to the log.

    Args:
        folder: the folder of the log; its parent folder must exist.
        signer: the key that signs the checkpoints of the log.
        identity: the UUID of the enrolled technician who keeps the log.
    """

    def __init__(self, folder: Path, signer: NoteSigner, identity: UUID | None = None) -> None:
        self.folder = folder
        self._signer, self._identity = signer, identity
        self._lines = LogLines(folder)
        # The images by release of each board, the newest last: they decide between install, reinstall and equivalent.
        self._boards: dict[str, dict[tuple[Any, ...], str]] = {}

    @property
    def key(self) -> VerifierKey:
        """The public key that verifies the checkpoints of the log.

        It is known after `check`.
        """
        return self._signer.key

    def check(self) -> None:
        """Verify the log, publish entries that a stopped process left, and check that the log can be written.

        Lines that an earlier call has verified are not read again.

        Raises:
            ContentError: the log is damaged.
            RefusedError: another key signed the log.
            UsageError: the log cannot be written.
        """
        with self._locked():
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(bytes(_ROOM))
                file.flush()
            self._read_on()
            self._lines.log.publish(self._signer)

    def append(self, entry: BenchEntry) -> Line:
        """Append a line durably, together with its receipt, and return the line.

        The caller should print the line's number and hash.

        Raises:
            ContentError: the log is damaged. Nothing was written.
            UsageError: the log cannot be written.
        """
        with self._locked():
            self._read_on()
            line = _fitting_line(entry, self._lines.last)
            event = self._log_entry(entry, EntryKind.EVENT, source=line.raw.decode())
            receipt = self._receipt(entry)
            entries = [receipt, event] if receipt else [event]
            first, *rest = self._lines.log.append(one.encode() for one in entries)
            # The entries are durable: if they cannot be published now, the next check does it, or reports why not.
            with suppress(BlockOTAError):
                self._lines.log.publish(self._signer)
        # A receipt that equals one of the newest entries, after two runs in one second, is not appended again.
        return replace(line, receipt=first if rest == [first + 1] else None)

    def _read_on(self) -> None:
        self._take_name()
        for line in self._lines.read_on():
            if line.receipt is not None:
                fields = line.fields
                self._boards.setdefault(fields["board"], {})[_release_in(fields)] = fields["sha256"]

    def _take_name(self) -> None:
        """Set the signer's name to the name of the existing log.

        A new log of a bench without an identity gets a new name. With the same name and key, two logs would look like
        two histories of one log.
        """
        note, name = self._lines.log.published.note(), self.key.name
        if note:
            origin = Checkpoint.parse(note.text).origin
        else:
            origin = name if self._identity else f"{name}/{secrets.token_hex(_NAME_SIZE)}"

        if origin != name and (self._identity or not origin.startswith(f"{name}/")):
            raise RefusedError(
                f"the bench log {self.folder} belongs to another bench or key",
                why=f"its name is {origin}, but the name of this bench is {name}",
                remedy="choose the folder of this bench's log, or a new folder",
                action=Action.NAME_LOG,
            )
        self._signer = NoteSigner(replace(self.key, name=origin), self._signer.sign)

    def _receipt(self, entry: BenchEntry) -> LogEntry | None:
        """Return the receipt of a job; None if the flash is not proven, or if the board has no unique id."""
        if not (entry.is_good and entry.after and entry.board):
            return None
        before = self._boards.get(entry.board, {})
        kind = EntryKind.INSTALL
        if _release_in(asdict(entry)) in before:
            kind = EntryKind.REINSTALL
        elif entry.result == "already" and entry.sha256 in before.values():
            kind = EntryKind.EQUIVALENT
        previous = bytes.fromhex(entry.before_sha256) or None
        return replace(self._log_entry(entry, kind), previous=previous)

    def _log_entry(self, entry: BenchEntry, kind: EntryKind, *, source: str | None = None) -> LogEntry:
        release, image = None, None
        if version := entry.version or entry.after:
            contract = to_checksum_address(bytes.fromhex(entry.contract[2:]))
            release = ReleaseId(entry.chain_id, contract, entry.product, Version.parse(version))
        if kind.names_running_image:
            image = bytes.fromhex(entry.sha256)

        return LogEntry(
            kind,
            entry.time,
            entry.device,
            release=release,
            image=image,
            level=EvidenceLevel.C if image else None,
            unique_id=bytes.fromhex(entry.board) or None,
            gateway=self._identity,
            source=source,
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other bench processes from using the log, and translate the errors of the log."""
        try:
            self._make_folder()
            with exclusive_lock(self.folder / _LOCK_NAME):
                yield
        except (OSError, StoreError) as error:
            why = error.why if isinstance(error, StoreError) else error.strerror or str(error)
            full = "free space on its disk, or choose a folder on another disk"
            remedy = full if is_disk_full(error) else "choose a folder that this user may write"
            what = f"cannot write the bench log {self.folder}"
            raise UsageError(what, why=why, remedy=remedy, action=Action.NAME_LOG) from error
        except ContentError as error:
            remedy = f"{error.remedy}; or start a new log"
            raise error.revised(remedy=remedy, action=Action.NAME_LOG) from error

    def _make_folder(self) -> None:
        why = ""
        if self.folder.is_file():
            why = "it is a file, as earlier versions wrote it; it can still be read, and a log is a folder now"
        else:
            self.folder.mkdir(exist_ok=True)
            names = {path.name for path in self.folder.iterdir()}
            if names and not names & {_LOCK_NAME, *LOG_FILES}:
                why = "the folder has other files"

        if why:
            what = f"the bench log {self.folder} cannot be continued"
            raise UsageError(what, why=why, remedy="choose another folder", action=Action.NAME_LOG)


def _release_in(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values that identify the proven release of a line."""
    return tuple(fields[name] for name in ("chain_id", "contract", "product", "after"))


def _fitting_line(entry: BenchEntry, last: Line | None) -> Line:
    """Return the next line, with long texts shortened until it fits into an entry."""
    number, previous = following(last)
    values: dict[str, Any] = {"number": number, "previous": previous, **asdict(entry)}
    while len(raw := json.dumps(values, separators=(",", ":"))) > MAX_TEXT_SIZE:
        longest = max((name for name in values if isinstance(values[name], str)), key=lambda name: len(values[name]))
        values[longest] = f"{values[longest][: len(values[longest]) // 2]}…"
    return Line(raw.encode(), number, values)
