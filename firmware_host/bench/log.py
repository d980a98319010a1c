"""The bench log: one record for each job on a board, in a log of `blockota.ledger`.

Each job on a board appends an entry of the kind event. The event's text is the record: one JSON line with all facts
about the job. If the flash is proven and the board has a readable unique id, the job also appends a receipt. The
receipt is an entry of the kind install, reinstall or equivalent, with the evidence level C. One call appends the
receipt and, directly after it, the event. The receipt can be given to others without the record, which contains the
operator's name.

Records are numbered from 1, and each record contains the SHA-256 of the previous record. Together with the tree and the
signed checkpoint of the log, these hashes reveal a record that was removed, changed or inserted. Each result is printed
with the number and the hash of its record. If the whole log was replaced, its record with this number has a different
hash than the printed result.

In BlockOTA 0.1, a bench log was a file with these JSON lines. A second file, the head file, repeated the last line.
BlockOTA still reads these logs, but does not write them.
"""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from blockota.errors import ContentError, ProposalError, UsageError
from blockota.formats.tlog import TreeEdge, TreeHead, leaf_hash
from blockota.ledger.log import TileLog
from blockota.model.receipt import EntryKind, event_text
from blockota.strict_json import digest, fault, integer, load_object, text

LOG_FILES = ("checkpoint", "pending")
"""The files of a log. The folder of a log has at least one of them."""
_RECEIPTS = (EntryKind.INSTALL, EntryKind.REINSTALL, EntryKind.EQUIVALENT)
_NO_LINE = hashlib.sha256().hexdigest()
"""The previous hash in the first line of a log."""
_NEWLINE = b"\n"
_BEGINNING = '{"number":'
"""The beginning of a line. An event that another program appended to the log has a different beginning."""
_GOOD = ("done", "already")
_REMEDY = "compare it with a copy; anyone who can write the log can have changed it"


@dataclass(frozen=True)
class BenchEntry:
    """The record of a job on one board.

    Unknown texts are empty. Records of earlier versions omit the fields that have a default.

    Attributes:
        time: the end of the job, in Unix seconds.
        board: the chip's unique id, in hexadecimal.
        chip_id: the board's product id.
        product: the product to be written.
        before: the installed version before the job, or ``blank``, ``unknown`` or ``half written``.
        after: the version that the flash is proven to contain; empty if no version is proven.
        sha256: the release's digest, in hexadecimal.
        flash_sha256: the digest of the flash at the end, in hexadecimal.
        proof: the method that produced `flash_sha256`: ``stub``, ``read-back``, or empty.
        result: ``done``, ``already`` if nothing had to be written, or the error.
        version: the version to be written; empty if no release was proven.
        milliseconds: the time from the board's first answer until the end of the job.
        device: the board's number in the registry of devices; 0 if it is not registered.
        before_sha256: the digest of the release that was installed before the job; empty if no release was installed.
        board_product: the product of the board's own image; empty if the image was not written and proven.
        board_image_proof: the method that proved the board's own image.
        board_image_checks: the checks that the board's own image passed, and why the other checks do not apply.
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
    device: int = 0
    before_sha256: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the flash was proven to contain the release, and the board's own image if there is one."""
        return self.result in _GOOD


@dataclass(frozen=True)
class Line:
    """One line of the bench log: its bytes without the newline, and its JSON.

    The numbers of the lines count from 1 without a gap.

    Attributes:
        receipt: the index of the line's receipt in the log; None if the line has no receipt.
    """

    raw: bytes
    number: int
    fields: dict[str, Any]
    receipt: int | None = None

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of the line's bytes, which the next line contains."""
        return hashlib.sha256(self.raw).digest()

    def as_fields(self) -> dict[str, Any]:
        """The JSON object that identifies the line."""
        return {"number": self.number, "sha256": self.sha256.hex(), "receipt": self.receipt}

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


def read_log(path: Path) -> Iterator[Line]:
    """Read the lines of a bench log in order, and verify that no line was removed, changed or inserted.

    Args:
        path: the folder of the log, or the file of an earlier version.

    Raises:
        ContentError: the log is damaged. The error names the first wrong line or file.
        UsageError: the log cannot be read.
    """
    try:
        if not path.is_dir():
            return _OldLog(path).lines()
        why = "" if any((path / name).exists() for name in LOG_FILES) else "the folder has no log"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise UsageError(f"cannot read the bench log {path}", why=why, remedy="check the path")
    return LogLines(path).read_on()


def confirmed_lines(path: Path) -> tuple[list[Line], ContentError | None]:
    """Read the confirmed lines of a bench log, even if the log is damaged.

    A line is confirmed if the next line contains its hash. The last line of an undamaged log is also confirmed. If the
    log is damaged, the line before the first damaged line is not confirmed, because it may also have been changed. The
    function returns the lines with the error of `read_log`.
    """
    found: list[Line] = []
    try:
        for line in read_log(path):
            found.append(line)  # noqa: PERF402 - the lines before an error count
    except ContentError as error:
        return found[:-1], error
    return found, None


class LogLines:
    """Reads the lines in the log of a folder.

    Each line is read once, even while other processes append lines.

    Attributes:
        log: the log.
        last: the newest line that was read.
    """

    def __init__(self, folder: Path) -> None:
        self.log = TileLog(folder)
        self.last: Line | None = None
        self._edge = TreeEdge()

    def read_on(self) -> Iterator[Line]:
        """Read the lines that were added since the last call.

        The lines are verified only after the iterator has ended without an error.

        Raises:
            ContentError: the log is damaged.
            StoreError: the folder cannot be read.
        """
        first = self._edge.size
        entries, head, error = self._new_entries(first)
        is_receipt = False
        for index, raw in enumerate(entries, first):
            words = event_text(raw) or ""
            if words.startswith(_BEGINNING):
                line = successor(words.encode(), self.last, self.log.folder)
                self.last = replace(line, receipt=index - 1 if is_receipt else None)
                yield self.last
            is_receipt = raw[1] in _RECEIPTS

        self._grow(entries[: max(head.size - first, 0)])
        if not error and self._edge.size == head.size and self._edge.head() != head:
            error = self.log.published.damaged("its entries do not have the root in the checkpoint")
        self._grow(entries[max(head.size - first, 0) :])
        if error:
            raise error

    def _new_entries(self, first: int) -> tuple[list[bytes], TreeHead, ContentError | None]:
        """Return the entries from an index on, the published tree, and the error that ended the reading."""
        while True:
            head, found, error = self.log.published.head(), list[bytes](), None
            try:
                for entry in self.log.entries(first):
                    found.append(entry)
            except ContentError as caught:
                error = caught
            if self.log.published.head() == head:  # otherwise, files were replaced while they were read
                return found, head, error

    def _grow(self, entries: list[bytes]) -> None:
        for _ in self._edge.grow(map(leaf_hash, entries)):
            pass


class _OldLog:
    """A log of an earlier version: a file with one line for each job on a board, and a head file."""

    def __init__(self, path: Path) -> None:
        self._path, self._head = path, path.with_name(f"{path.name}.head")

    def lines(self) -> Iterator[Line]:
        """Read the lines, as `read_log` does."""
        if self._path.exists() and not stat.S_ISREG(self._path.stat().st_mode):  # reading a pipe may never end
            raise OSError(errno.EINVAL, "it is not a regular file")
        *whole, rest = self._path.read_bytes().split(_NEWLINE)
        return self._verified(whole, rest)

    def _verified(self, whole: list[bytes], rest: bytes) -> Iterator[Line]:
        last: Line | None = None
        for raw in whole:
            last = successor(raw, last, self._path)
            yield last
        if missing := self._missing(last, rest):
            yield missing

    def _missing(self, last: Line | None, rest: bytes) -> Line | None:
        """Return the line of the head file if the log does not have this line; otherwise None.

        BlockOTA 0.1 wrote a line to the head file first, and then to the log. If a crash or a full disk prevented the
        second write, only the head file has the line. `rest` is the incomplete line at the end of the log.
        """
        head: Line | None = None
        try:
            with suppress(FileNotFoundError):
                head = _parse(self._head.read_bytes().removesuffix(_NEWLINE), 0, self._path)
        except ContentError as error:
            what = f"the head file {self._head} cannot be read"
            remedy = "compare the log with the line numbers and hashes that were printed"
            raise error.revised(what=what, remedy=remedy) from error
        # The usual case: the log ends with a complete line, which the head file repeats.
        if not rest and head == last:
            return None
        if head and (head.number, head.fields["previous"]) == following(last) and head.raw.startswith(rest):
            return head

        in_head = head.number if head else 0
        in_log = last.number if last else 0
        if in_head == in_log:
            raise _broken(in_log, "it differs from the line in the head file", self._path)
        end = f"the log ends with line {in_log}" if in_log else "the log is empty"
        in_file = f"the head file has line {in_head}" if head else f"the head file {self._head} is missing"
        raise _broken(min(in_head, in_log) + 1, f"{in_file}, and {end}", self._path)


def following(last: Line | None) -> tuple[int, str]:
    """Return the number of the next line, and the hash that it must contain."""
    return (last.number + 1, last.sha256.hex()) if last else (1, _NO_LINE)


def successor(raw: bytes, last: Line | None, path: Path) -> Line:
    """Decode the line after `last` in the log at `path`.

    Raises:
        ContentError: `raw` is not the line that follows `last`.
    """
    number, previous = following(last)
    line = _parse(raw, number, path)
    if line.number != number:
        raise _broken(number, f"line {line.number} is in its place", path)
    if line.fields["previous"] != previous:
        why = "it does not contain the hash of the previous line; one of the two lines was changed"
        raise _broken(number, why, path)
    return line


def _parse(raw: bytes, number: int, path: Path) -> Line:
    try:
        fields = load_object(raw)
        digest(fields, "previous", prefix="")
        return Line(raw, integer(fields, "number"), fields)
    except (ProposalError, KeyError, TypeError, ValueError) as error:
        raise _broken(number, f"it is not a line of a bench log: {fault(error)}", path) from error


def _broken(number: int, why: str, path: Path) -> ContentError:
    return ContentError(f"the bench log {path} is damaged from line {number} on", why=why, remedy=_REMEDY)


def _optional(fields: Mapping[str, Any], name: str) -> int | None:
    return None if fields[name] is None else integer(fields, name)


_READERS: Mapping[Any, Callable[[Mapping[str, Any], str], Any]] = {"str": text, "int": integer, "int | None": _optional}
"""The functions that decode a field of a line, by the type of the entry's field."""
