"""Files that are whole or absent: written under a temporary name, renamed when complete."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blockota.errors import Action, ImageError, ProposalError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_TEXTS = ("no space left on device", "disk is full")
"""Texts of a Kubo node's answer, and of SQLite."""


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file, for writing and reading, that appears at `path` only when the block ends without an error.

    Args:
        path: the file.
        mode: who may read and write it.

    Raises:
        OSError: the folder cannot be written.
    """
    # In the folder of the result: a rename is atomic only inside one file system.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)  # mkstemp lets the owner alone read it
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that caused it, is of a full disk, here or at a Kubo node."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) and cause not in causes:
        causes.append(cause)
    codes = {one.errno for one in causes if isinstance(one, OSError)}
    texts = " ".join(map(str, causes)).lower()
    return bool(codes & _FULL) or any(text in texts for text in _FULL_TEXTS)


def write_durable(path: Path, data: bytes, *, mode: int) -> None:
    """Write a whole file that survives a power cut; its folder is made if necessary.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, mode=mode) as file:
        file.write(data)
    # The new name is durable only once the folder itself is on the disk (fsync(2)).
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def result_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that the operator named, for writing and reading; it appears when the block ends without an error.

    Raises:
        UsageError: the folder does not exist or cannot be written.
    """
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "free space on the disk, or name another folder" if is_full else "name a folder that exists"
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error), remedy=remedy) from error


@contextmanager
def result_files(output: Path, companion: Path | None) -> Iterator[tuple[BinaryIO, BinaryIO | None]]:
    """Open one or two result files; both appear when the block ends without an error, or neither.

    Args:
        output: the main file.
        companion: the file that goes with it, if any.

    Raises:
        UsageError: a folder does not exist or cannot be written.
    """
    companion_written = False
    try:
        with result_file(output) as file:
            if companion is None:
                yield file, None
            else:
                with result_file(companion) as second:
                    yield file, second
                companion_written = True
    except UsageError:
        if companion and companion_written:
            companion.unlink(missing_ok=True)
        raise


def write_result(path: Path, data: bytes) -> None:
    """Write a file that the operator named; it is whole or absent.

    Raises:
        UsageError: the folder does not exist or cannot be written.
    """
    with result_file(path) as file:
        file.write(data)


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it, if they do not exist, and return it.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be made",
            why=error.strerror or str(error),
            remedy="run the command in a writable folder",
        ) from error
    return folder


def refuse_overwriting(output: Path, companion: Path | None, *, force: bool) -> None:
    """Refuse to overwrite files unless `force` is set, and refuse one name for two files.

    Devices and folders are never overwritten: the rename in `whole_file` would replace them by a regular file.

    Raises:
        UsageError: a file would be lost.
    """
    if companion and companion.absolute() == output.absolute():
        raise UsageError("image and manifest cannot be one file", why=f"{output} is named for both")
    for path in (output, companion):
        if path is None or not path.exists():
            continue
        if not path.is_file():
            raise UsageError(
                f"{path} is not a regular file", why="only regular files are overwritten", remedy="name another file"
            )
        if not force:
            raise UsageError(
                f"{path} already exists",
                why="its content would be lost",
                remedy="name another file, or allow overwriting",
                action=Action.OVERWRITE,
            )


def home_path(text: str) -> Path:
    """A path in which a leading ``~`` stands for a home folder.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{text!r} cannot be found", why="no user of that name has a home folder") from error


def read_input(path: Path, *, limit: int) -> bytes:
    """Read a file that the operator named.

    Args:
        path: the file.
        limit: the largest size to accept, in bytes.

    Raises:
        UsageError: it is missing, not a regular file, unreadable, or larger than `limit`.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a regular file", why="only regular files are read")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error), remedy="check the path") from error
    if len(data) > limit:
        raise UsageError(f"{path} is too large", why=f"files of more than {limit} bytes are not accepted here")
    return data


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Add the file's name to errors about its contents: commands read several files."""
    try:
        yield
    except (ImageError, ProposalError) as error:
        what = error.what if str(path) in error.what else f"{path} cannot be used, {error.what}"
        raise type(error)(what, why=error.why, remedy=error.remedy, action=error.action, values=error.values) from error
