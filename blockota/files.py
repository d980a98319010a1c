"""Files that are whole or absent: written under a temporary name, renamed when complete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blockota.errors import UsageError


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file, for writing and reading, that appears at `path` only when the block ends without an error.

    Args:
        path: the file.
        mode: who may read and write it.

    Raises:
        OSError: the folder cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_result(path: Path, data: bytes) -> None:
    """Write a file that the person named; it is whole or absent.

    Raises:
        UsageError: the folder does not exist or cannot be written.
    """
    try:
        with whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written", why=error.strerror or str(error), remedy="name a folder that exists"
        ) from error


def home_path(text: str) -> Path:
    """A path in which a leading ``~`` stands for a home folder.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{text!r} cannot be found", why="there is no home folder of that name") from error


def read_input(path: Path, *, limit: int) -> bytes:
    """Read a file that the person named.

    Args:
        path: the file.
        limit: the largest size, in bytes, that makes sense for it.

    Raises:
        UsageError: it is missing, no regular file, unreadable, or larger than `limit`.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no file", why="a regular file is needed")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error), remedy="check the path") from error
    if len(data) > limit:
        raise UsageError(f"{path} is too large", why=f"more than {limit} bytes cannot be what is asked for here")
    return data
