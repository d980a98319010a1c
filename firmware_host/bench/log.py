"""The bench log: one JSON line for each work on a board, as a hash chain.

Every log line contains the SHA-256 of the previous line. A head file beside the log repeats the last line. A log line
that was removed, changed or inserted is therefore detected, even at the end of the log.

The head file is written before the log. If a crash or a full disk prevents the write to the log, the next writer copies
the line from the head file to the log. An attacker who can write the log and the head file can replace both. A copy of
a log line's number and hash, which are printed with each result, reveals a replaced log.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from blockota.errors import Action, ContentError, ProposalError, UsageError
from blockota.file_locks import exclusive_lock
from blockota.files import is_disk_full, write_durable
from blockota.strict_json import digest, fault, integer, load_object, text

_NO_LINE = hashlib.sha256().hexdigest()
"""The previous hash in the first line of a log."""
_NEWLINE = b"\n"
_MODE = 0o644
_BINARY = getattr(os, "O_BINARY", 0)
"""On Windows, a file that is opened without this flag gets a carriage return before each newline."""
_GOOD = ("done", "already")
_REMEDY = "compare it with a copy; anyone who can write the log can have changed it"


@dataclass(frozen=True)
class BenchEntry:
    """A record of the work on one board; unknown texts are empty. Earlier versions omit the fields with a default.

    Attributes:
        time: the end of the work, in Unix seconds.
        board: the chip's unique id, in hexadecimal.
        chip_id: the board's product id.
        product: the product to be written.
        before: the installed version before the work, or ``blank``, ``unknown`` or ``half written``.
        after: the version that the flash is proven to contain; empty if nothing is proven.
        sha256: the release's digest, in hexadecimal.
        flash_sha256: the digest of the flash at the end, in hexadecimal.
        proof: the method that produced `flash_sha256`: ``stub``, ``read-back``, or empty.
        result: ``done``, ``already`` if nothing had to be written, or the error.
        version: the version to be written; empty if no release was proven.
        milliseconds: the time from the board's first answer until the end of the work.
        board_product: the product of the board's own image; empty if the image was not written and proven.
        board_image_proof: the method that proved that image.
        board_image_checks: the checks that this image passed, and why the others do not apply.
    """

    time: int
    operator: str
    board: str
    chip_id: int | None
    chain_id: int
    contract: str
    product: str
    before: str
    after: str
    sha256: str
    flash_sha256: str
    proof: str
    result: str
    version: str = ""
    port: str = ""
    milliseconds: int | None = None
    board_product: str = ""
    board_image_sha256: str = ""
    board_image_size: int | None = None
    board_image_proof: str = ""
    board_image_checks: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the flash was proven to contain the release, and the board's own image if there is one."""
        return self.result in _GOOD


@dataclass(frozen=True)
class Line:
    """One line of the bench log: its bytes without the newline, and its JSON; numbers count from 1 without a gap."""

    raw: bytes
    number: int
    fields: dict[str, Any]

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of the line's bytes, which the next line contains."""
        return hashlib.sha256(self.raw).digest()

    def entry(self) -> BenchEntry:
        """Decode the log line.

        Raises:
            ContentError: a field is missing or has a wrong value.
        """
        found = {field.name: field.default for field in fields(BenchEntry) if field.default is not MISSING}
        found |= self.fields
        try:
            return BenchEntry(**{field.name: _READERS[field.type](found, field.name) for field in fields(BenchEntry)})
        except (KeyError, TypeError, ValueError) as error:
            raise ContentError(
                f"cannot read line {self.number} of the bench log", why=fault(error), remedy=_REMEDY
            ) from error


def login_name() -> str:
    """Return the login name of the operator; a user's number or ``unknown`` if there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # the user has no name, as in some containers; Windows has no numbers
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


class BenchLog:
    """A bench log and its head file. Several processes may append to the log.

    Args:
        path: the log file, created with the first line. The names of the head file and of the lock file are
            that of the log with ``.head`` and ``.lock`` appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_name(f"{path.name}.head")
        self._proven: tuple[int, Line | None] = 0, None

    def append(self, entry: BenchEntry) -> Line:
        """Append a log line durably, and return it; the caller should print its number and hash.

        Raises:
            ContentError: the end of the log differs from the head file; nothing was written.
            UsageError: the log cannot be written.
        """
        with self._locked() as file:
            number, previous = _next(self._mended_end(file))
            fields = {"number": number, "previous": previous, **asdict(entry)}
            line = Line(json.dumps(fields, separators=(",", ":")).encode(), number, fields)
            # (1) Write the head file, (2) the log: after a crash in between, the head file has the missing line.
            write_durable(self._head, line.raw + _NEWLINE, mode=_MODE)
            # The line is durable in the head file: if writing the log fails, the next writer appends it.
            with suppress(OSError):
                _write(file, line.raw + _NEWLINE)
        return line

    def check(self) -> None:
        """Verify the hash chain of the log, and that the log can be written.

        Log lines that an earlier call has verified are not parsed again.

        Raises:
            ContentError: the hash chain is broken.
            UsageError: the log cannot be written.
        """
        with self._locked() as file:
            self._mended_end(file)
            content = self.path.read_bytes()
            start, last = self._proven if self._proven[0] <= len(content) else (0, None)
            for raw in content[start:].split(_NEWLINE)[:-1]:
                last = self._successor(raw, last)
            self._proven = len(content), last

    def lines(self) -> Iterator[Line]:
        """Read the lines of the log in order, and verify that none was removed, changed or inserted.

        Raises:
            ContentError: the hash chain is broken; the error names the first wrong line.
            UsageError: the log cannot be read.
        """
        try:
            if self.path.exists():  # otherwise reading reports the missing file
                _require_regular(self.path.stat().st_mode)
            content = self.path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"cannot read the bench log {self.path}", why=error.strerror or "", remedy="check the path"
            ) from error
        *whole, rest = content.split(_NEWLINE)
        last: Line | None = None
        for raw in whole:
            last = self._successor(raw, last)
            yield last
        if missing := self._missing(last, rest):
            yield missing

    def confirmed(self) -> tuple[list[Line], ContentError | None]:
        """Read the lines that are confirmed, also from a log whose hash chain is broken.

        A line is confirmed by its hash in the next line, or in the head file. The last line before a break is therefore
        not confirmed: that line itself may have been changed. The error that `lines` raises is returned as well.
        """
        found: list[Line] = []
        try:
            for line in self.lines():
                found.append(line)  # noqa: PERF402 - the lines before an error count
        except ContentError as error:
            return found[:-1], error
        return found, None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            with exclusive_lock(self.path.with_name(f"{self.path.name}.lock")):
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, _MODE)
                try:
                    _require_regular(os.fstat(file).st_mode)
                    yield file
                finally:
                    os.close(file)
        except OSError as error:
            remedy = "free space on its disk, or choose a log file on another disk"
            raise UsageError(
                f"cannot write the bench log {self.path}",
                why=error.strerror or str(error),
                remedy=remedy if is_disk_full(error) else "choose a log file in a writable folder",
                action=Action.NAME_LOG,
            ) from error
        except ContentError as error:
            raise error.revised(remedy=f"{error.remedy}; or start a new log", action=Action.NAME_LOG) from error

    def _mended_end(self, file: int) -> Line | None:
        """Return the last log line, after appending it to the log if only the head file has it."""
        whole, _, rest = self.path.read_bytes().rpartition(_NEWLINE)
        last = self._parse(whole.rpartition(_NEWLINE)[2], whole.count(_NEWLINE) + 1) if whole else None
        if missing := self._missing(last, rest):
            os.ftruncate(file, len(whole) + 1 if whole else 0)
            _write(file, missing.raw + _NEWLINE)
        return missing or last

    def _missing(self, last: Line | None, rest: bytes) -> Line | None:
        """Return the line that only the head file has, or None.

        `rest` is the incomplete line at the end of the log; a full disk can leave the beginning of the missing line.
        """
        head: Line | None = None
        try:
            with suppress(FileNotFoundError):
                head = self._parse(self._head.read_bytes().removesuffix(_NEWLINE), 0)
        except ContentError as error:
            what = f"the head file {self._head} cannot be read"
            remedy = "compare the log with the line numbers and hashes that were printed"
            raise error.revised(what=what, remedy=remedy) from error
        # The usual case: the log ends with a complete line, which the head file repeats.
        if not rest and head == last:
            return None
        # The head file is one line ahead if a crash or a full disk prevented the write to the log.
        if head and (head.number, head.fields["previous"]) == _next(last) and head.raw.startswith(rest):
            return head

        in_head, in_log = head.number if head else 0, last.number if last else 0
        if in_head == in_log:
            raise self._broken(in_log, "it differs from the line in the head file")
        end = f"the log ends with line {in_log}" if in_log else "the log is empty"
        in_file = f"the head file has line {in_head}" if head else f"the head file {self._head} is missing"
        raise self._broken(min(in_head, in_log) + 1, f"{in_file}, and {end}")

    def _successor(self, raw: bytes, last: Line | None) -> Line:
        number, previous = _next(last)
        line = self._parse(raw, number)
        if line.number != number:
            raise self._broken(number, f"line {line.number} is in its place")
        if line.fields["previous"] != previous:
            why = "it does not contain the hash of the previous line; one of the two lines was changed"
            raise self._broken(number, why)
        return line

    def _parse(self, raw: bytes, number: int) -> Line:
        try:
            fields = load_object(raw)
            digest(fields, "previous", prefix="")
            return Line(raw, integer(fields, "number"), fields)
        except (ProposalError, KeyError, TypeError, ValueError) as error:
            raise self._broken(number, f"it is not a line of a bench log: {fault(error)}") from error

    def _broken(self, number: int, why: str) -> ContentError:
        return ContentError(f"the bench log {self.path} is damaged from line {number} on", why=why, remedy=_REMEDY)


def _optional(fields: Mapping[str, Any], name: str) -> int | None:
    return None if fields[name] is None else integer(fields, name)


_READERS: Mapping[Any, Callable[[Mapping[str, Any], str], Any]] = {"str": text, "int": integer, "int | None": _optional}
"""The functions that decode a field of a line, by the type of the entry's field."""


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def _next(last: Line | None) -> tuple[int, str]:
    """The number of the next line, and the hash that it must contain."""
    return (last.number + 1, last.sha256.hex()) if last else (1, _NO_LINE)


def _require_regular(mode: int) -> None:
    """Refuse devices and pipes: reading one may never end."""
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # for a folder, the system reports the error
        raise OSError(errno.EINVAL, "it is not a regular file")
