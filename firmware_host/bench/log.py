"""The bench log: one JSON line for every board that was worked on, as a hash chain.

Every line names the SHA-256 of the line before it, and a head file beside the log repeats the last line, so that a line
that was removed, changed or inserted is detected, also at the end of the log. The head is written first. A crash or a
full disk in between leaves a line in the head alone, and the next writer appends it to the log. Someone who can write
both files can replace both: keep the number and hash of a line, which are printed with each result, elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blockota.errors import Action, ContentError, ProposalError, UsageError
from blockota.files import whole_file
from blockota.strict_json import digest, fault, integer, load_object, text

_NO_LINE = hashlib.sha256().digest()
"""Named by the first line as its predecessor."""
_NEWLINE = b"\n"
_TEXTS = ("operator", "board", "contract", "product", "before", "after", "sha256", "flash_sha256", "proof", "result")
_REMEDY = "compare it with a copy; anyone who can write the log can have changed it"


@dataclass(frozen=True)
class BenchEntry:
    """The work on one board.

    Attributes:
        time: when it ended, in Unix seconds.
        operator: who did it.
        board: the chip's unique id, in hexadecimal; empty if unknown.
        chip_id: the board's product id; None if unknown.
        chain_id: the chain whose record was believed.
        contract: the contract on it.
        product: the product to be written.
        before: the version that the board held, or ``blank``, ``unknown`` or ``half written``.
        after: the version that it is proven to hold; empty if nothing is proven.
        sha256: the release's digest, in hexadecimal.
        flash_sha256: the digest of the flash at the end; empty if unknown.
        proof: the method of that digest: ``stub``, ``read-back``, or empty.
        result: ``done``, ``already`` if nothing had to be written, or what failed.
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


@dataclass(frozen=True)
class Line:
    """One line of the log.

    Attributes:
        raw: its bytes, without the newline.
        number: from 1 on, without a gap.
        fields: the line as JSON.
    """

    raw: bytes
    number: int
    fields: dict[str, Any]

    @property
    def sha256(self) -> bytes:
        """The digest of its bytes, which the next line names."""
        return hashlib.sha256(self.raw).digest()

    def entry(self) -> BenchEntry:
        """The work that it records.

        Raises:
            ContentError: a field is missing or has a wrong value.
        """
        fields = self.fields
        try:
            chip_id = None if fields["chip_id"] is None else integer(fields, "chip_id")
            return BenchEntry(
                time=integer(fields, "time"),
                chip_id=chip_id,
                chain_id=integer(fields, "chain_id"),
                **{name: text(fields, name) for name in _TEXTS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ContentError(
                f"cannot read line {self.number} of the bench log", why=fault(error), remedy=_REMEDY
            ) from error


class BenchLog:
    """A log and its head file; several processes may append.

    Args:
        path: the log; made with the first line. The head file has its name with ``.head`` appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_name(f"{path.name}.head")
        self._proven: tuple[int, Line | None] = 0, None

    def append(self, entry: BenchEntry) -> Line:
        """Append a line durably.

        Returns:
            The line; print its number and hash.

        Raises:
            ContentError: the end of the log differs from the head file; nothing was written.
            UsageError: the log cannot be written.
        """
        with self._locked() as file:
            last = self._mended_end(file)
            number, previous = (last.number + 1, last.sha256) if last else (1, _NO_LINE)
            fields = {"number": number, "previous": previous.hex(), **asdict(entry)}
            line = Line(json.dumps(fields, separators=(",", ":")).encode(), number, fields)
            # (1) The head, (2) the log: after a crash in between, the head has the line that is missing.
            with whole_file(self._head) as head:
                head.write(line.raw + _NEWLINE)
            # The line is kept from here on: if the log cannot take it, the next writer appends it.
            with suppress(OSError):
                _write(file, line.raw + _NEWLINE)
        return line

    def check(self) -> None:
        """Prove that the log is whole and can be written.

        Lines that an earlier call has proven are not parsed again.

        Raises:
            ContentError: it is not whole.
            UsageError: it cannot be written.
        """
        with self._locked() as file:
            self._mended_end(file)
            content = self.path.read_bytes()
            start, last = self._proven if self._proven[0] <= len(content) else (0, None)
            for raw in content[start:].split(_NEWLINE)[:-1]:
                last = _successor(raw, last)
            self._proven = len(content), last

    def lines(self) -> Iterator[Line]:
        """Read the log, and prove that no line was removed, changed or inserted.

        Yields:
            Each line, in order.

        Raises:
            ContentError: the log is not whole; the error names the first wrong line.
            UsageError: the log cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"cannot read the bench log {self.path}", why=error.strerror or "", remedy="check the path"
            ) from error
        *whole, rest = content.split(_NEWLINE)
        last: Line | None = None
        for raw in whole:
            last = _successor(raw, last)
            yield last
        if missing := self._missing(last, rest):
            yield missing

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise UsageError(
                f"cannot write the bench log {self.path}",
                why=error.strerror or str(error),
                remedy="name a file in a writable folder",
                action=Action.NAME_LOG,
            ) from error

    def _mended_end(self, file: int) -> Line | None:
        """The last line; if only the head has it, it is appended to the log."""
        whole, _, rest = self.path.read_bytes().rpartition(_NEWLINE)
        last = _parse(whole.rpartition(_NEWLINE)[2]) if whole else None
        if missing := self._missing(last, rest):
            os.ftruncate(file, len(whole) + 1 if whole else 0)
            _write(file, missing.raw + _NEWLINE)
        return missing or last

    def _missing(self, last: Line | None, rest: bytes) -> Line | None:
        """The line that only the head has; `rest` may be its beginning, if the disk was full."""
        head: Line | None = None
        try:
            head = _parse(self._head.read_bytes().removesuffix(_NEWLINE))
        except FileNotFoundError:
            pass
        except ContentError as error:
            raise ContentError(
                f"the head file {self._head} cannot be read",
                why=error.why,
                remedy="compare the log with the numbers and hashes that were printed",
            ) from error
        # The usual case: the log ends with a whole line, which the head repeats.
        if not rest and (head.raw if head else None) == (last.raw if last else None):
            return None
        number, previous = (last.number + 1, last.sha256) if last else (1, _NO_LINE)
        # The head is one line ahead where a crash or a full disk came between the two writes.
        is_next = head and (head.number, head.fields["previous"]) == (number, previous.hex())
        if head and is_next and head.raw.startswith(rest):
            return head

        in_head, in_log = head.number if head else 0, number - 1
        if in_head == in_log:
            raise _broken(in_log, "it differs from the line in the head file")
        end = f"the log ends with line {in_log}" if in_log else "the log is empty"
        raise _broken(min(in_head, in_log) + 1, f"the head file has line {in_head}, and {end}")


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def _successor(raw: bytes, last: Line | None) -> Line:
    line = _parse(raw)
    number, previous = (last.number + 1, last.sha256) if last else (1, _NO_LINE)
    if line.number != number:
        raise _broken(number, f"line {line.number} is in its place")
    if line.fields.get("previous") != previous.hex():
        raise _broken(number, "it does not name the hash of the line before it; one of the two was changed")
    return line


def _parse(raw: bytes) -> Line:
    try:
        fields = load_object(raw)
        digest(fields, "previous", prefix="")
        return Line(raw, integer(fields, "number"), fields)
    except (ProposalError, KeyError, TypeError, ValueError) as error:
        raise ContentError(
            "the bench log is not whole",
            why=f"one of its lines cannot be read ({error})",
            remedy=_REMEDY,
        ) from error


def _broken(number: int, why: str) -> ContentError:
    return ContentError(
        f"the bench log is not whole from line {number} on",
        why=why,
        remedy=_REMEDY,
    )
