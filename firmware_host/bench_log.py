"""The bench's log: one JSON line for each board that was worked on, from which a receipt can be made later.

Every line names the SHA-256 of the line before it, and a head file beside the log the SHA-256 of the last, so that a
line that was removed, changed or put in shows, at the end of the log too. Who can write both files can write both
anew: the number and hash of a line, printed with each result, are worth keeping elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blockota.errors import ContentError, ProposalError, UsageError
from blockota.files import whole_file
from blockota.strict_json import digest, integer, load_object

_NO_LINE = hashlib.sha256().digest()
"""What the first line names in the place of a line before it."""
_NEWLINE = b"\n"


@dataclass(frozen=True)
class BenchEntry:
    """What was done to one board.

    Attributes:
        time: when it ended, in seconds since 1970.
        operator: who did it.
        board: the chip's unique id, in hexadecimal; empty where the board did not tell.
        chip_id: the board's product id; None where the board did not tell.
        chain_id: the chain whose record was believed.
        contract: the contract on it.
        product: what was to be written.
        before: the version that the board held, or ``blank``, ``unknown`` or ``half written``.
        after: the version that it holds, proven; empty where it is not proven.
        sha256: the release's digest, in hexadecimal.
        flash_sha256: the digest of what the flash held at the end; empty where it is not known.
        proof: how that was read: ``stub``, ``read-back``, or empty.
        result: ``done``, ``already`` where nothing had to be written, or what failed.
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
    """A line of the log as it stands there.

    Attributes:
        number: from 1 on, without a gap.
        sha256: of the line's bytes, without the newline.
        fields: what it says.
    """

    number: int
    sha256: bytes
    fields: dict[str, Any]


class BenchLog:
    """A log and its head file; several processes may append.

    Args:
        path: the log; made with the first line. The head file bears its name and ``.head``.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is touched yet."""
        self.path = path
        self._head = path.with_name(f"{path.name}.head")

    def append(self, entry: BenchEntry) -> Line:
        """Write a line, and let it reach the disk.

        Returns:
            The line, whose number and hash are worth printing.

        Raises:
            ContentError: the log's end is not what the head file says; nothing was written.
            UsageError: the log cannot be written.
        """
        with self._locked() as file:
            last = self._whole_end(file)
            number = last.number + 1 if last else 1
            previous = last.sha256 if last else _NO_LINE
            fields = {"number": number, "previous": previous.hex(), **asdict(entry)}
            raw = json.dumps(fields, separators=(",", ":")).encode()
            _write(file, raw + _NEWLINE)
            line = Line(number, hashlib.sha256(raw).digest(), fields)
            self._write_head(line)
        return line

    def check(self) -> None:
        """Prove that the log is whole and can be written, before there is something that must be written.

        Raises:
            ContentError: it is not whole.
            UsageError: it cannot be written.
        """
        with self._locked() as file:
            self._whole_end(file)
            for _ in self.lines():
                pass

    def lines(self) -> Iterator[Line]:
        """Read the log, and prove that no line is missing, changed or put in.

        Yields:
            Each line, in order.

        Raises:
            ContentError: the log is not whole; its text names the first line that is wrong.
            UsageError: there is no log.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"the bench log {self.path} cannot be read", why=error.strerror or "", remedy="check the path"
            ) from error
        last: Line | None = None
        for raw in content.split(_NEWLINE)[:-1]:
            last = _successor(raw, last)
            yield last
        if content and not content.endswith(_NEWLINE):
            raise _broken(last.number + 1 if last else 1, "it is cut off")
        self._compare_head(last)

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
                f"the bench log {self.path} cannot be written",
                why=error.strerror or str(error),
                remedy="name a file in a folder that you may write with --log",
            ) from error

    def _whole_end(self, file: int) -> Line | None:
        """The last line; what a crash left of one is removed, because it was never told of."""
        content = self.path.read_bytes()
        whole = content.rpartition(_NEWLINE)[0]
        last = _parse(whole.rpartition(_NEWLINE)[2]) if whole else None
        self._compare_head(last)
        os.ftruncate(file, len(whole) + 1 if whole else 0)
        return last

    def _compare_head(self, last: Line | None) -> None:
        """A crash between line and head leaves the head one line behind, and nothing else does."""
        head = self._read_head()
        number, sha256 = (last.number, last.sha256) if last else (0, _NO_LINE)
        before = bytes.fromhex(last.fields["previous"]) if last else _NO_LINE
        if head not in ((number, sha256), (number - 1, before)):
            raise _broken(head[0], f"the head file says that it is the last, and the log ends with line {number}")

    def _read_head(self) -> tuple[int, bytes]:
        try:
            raw = self._head.read_bytes()
        except FileNotFoundError:
            return 0, _NO_LINE
        try:
            fields = load_object(raw)
            return integer(fields, "number"), digest(fields, "sha256", prefix="")
        except (ProposalError, KeyError, TypeError, ValueError) as error:
            raise ContentError(
                f"the head file {self._head} cannot be read",
                why=str(error),
                remedy="compare the log with the numbers and hashes that were printed",
            ) from error

    def _write_head(self, line: Line) -> None:
        with whole_file(self._head) as file:
            file.write(json.dumps({"number": line.number, "sha256": line.sha256.hex()}).encode() + _NEWLINE)


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def _successor(raw: bytes, last: Line | None) -> Line:
    line = _parse(raw)
    number, previous = (last.number + 1, last.sha256) if last else (1, _NO_LINE)
    if line.number != number:
        raise _broken(number, f"line {line.number} stands in its place")
    if line.fields.get("previous") != previous.hex():
        raise _broken(number, "it does not follow the line before it, one of the two was changed")
    return line


def _parse(raw: bytes) -> Line:
    try:
        fields = load_object(raw)
        digest(fields, "previous", prefix="")
        return Line(integer(fields, "number"), hashlib.sha256(raw).digest(), fields)
    except (ProposalError, KeyError, TypeError, ValueError) as error:
        raise ContentError(
            "the bench log is not whole",
            why=f"a line of it cannot be read ({error})",
            remedy="compare it with a copy; whoever can write the log can have changed it",
        ) from error


def _broken(number: int, why: str) -> ContentError:
    return ContentError(
        f"the bench log is not whole from line {number} on",
        why=why,
        remedy="compare it with a copy; whoever can write the log can have changed it",
    )
