"""Files that a command writes: none over another, and all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blockota.errors import UsageError
from blockota.files import whole_file, write_result


def refuse_overwriting(output: Path, beside: Path | None, *, force: bool) -> None:
    """Refuse names under which something lies already, unless the person says so, and one name for two files.

    What is no regular file, a device or a folder, is never replaced: the new file would take its place.

    Raises:
        UsageError: a file would be lost.
    """
    if beside and beside.absolute() == output.absolute():
        raise UsageError("image and manifest cannot be one file", why=f"both are to be {output}")
    for path in (output, beside):
        if path and path.exists() and not path.is_file():
            raise UsageError(
                f"{path} is no regular file", why="it would be replaced by one", remedy="name another file"
            )
        if path and path.exists() and not force:
            raise UsageError(
                f"{path} already exists",
                why="what it holds would be lost",
                remedy="name another file, or say --force",
            )


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files; when one cannot be written, those before it are taken away again.

    Raises:
        UsageError: a folder does not exist or cannot be written.
    """
    written: list[Path] = []
    try:
        for path, data in files.items():
            write_result(path, data)
            written.append(path)
    except UsageError:
        for path in written:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def result_files(output: Path, beside: Path | None) -> Iterator[tuple[BinaryIO, BinaryIO | None]]:
    """Open the files that a command writes, for writing and reading; both appear when the block ends, or none.

    Args:
        output: the command's file.
        beside: the one that goes with it, if there is one.

    Raises:
        UsageError: a folder does not exist or cannot be written.
    """
    is_beside_there = False
    try:
        with _result_file(output) as file:
            if beside is None:
                yield file, None
            else:
                with _result_file(beside) as second:
                    yield file, second
                is_beside_there = True
    except UsageError:
        if beside and is_beside_there:
            beside.unlink(missing_ok=True)
        raise


@contextmanager
def _result_file(path: Path) -> Iterator[BinaryIO]:
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written", why=error.strerror or str(error), remedy="name a folder that exists"
        ) from error
