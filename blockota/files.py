"""Write files so that an interrupted write leaves no incomplete file.

Each file is written under a temporary name and then renamed.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from blockota.errors import Action, ImageError, ProposalError, UsageError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FULL_TEXTS = ("no space left on device", "disk is full")
"""Error texts of Kubo nodes and of SQLite for a full disk."""


@contextmanager
def whole_file(path: Path, *, mode: int = 0o644, staging: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing and reading. The file appears at `path` only if the ``with`` block ends without an error.

    Args:
        path: the file.
        mode: the file's permission bits.
        staging: the folder of the temporary file, on the same file system; by default the folder of `path`.

    Raises:
        OSError: the folder cannot be written.
    """
    # The temporary file is in the folder of the result, because a rename is atomic only inside one file system.
    handle, name = tempfile.mkstemp(dir=staging or path.parent, prefix=f".{path.name}.", suffix=".partial")

    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)  # mkstemp makes the file readable by its owner only
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether an error or one of its causes reports a full disk, on this machine or on a Kubo node."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) and cause not in causes:
        causes.append(cause)
    codes = {one.errno for one in causes if isinstance(one, OSError)}
    texts = " ".join(map(str, causes)).lower()
    return bool(codes & _FULL) or any(text in texts for text in _FULL_TEXTS)


def write_durable(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file durably, so that it survives a power cut. The file's folder is created if necessary.

    Raises:
        OSError: the file cannot be written.
    """
    new = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, mode=mode) as file:
        file.write(data)
    for folder in (path.parent, *(one.parent for one in new)):
        make_names_durable(folder)


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Write a new file durably. An existing file is never replaced, not even a file that appears during the write.

    Raises:
        FileExistsError: the file exists.
        OSError: the file cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    make_names_durable(path.parent)


def make_names_durable(folder: Path) -> None:
    """Sync a folder to the disk (fsync(2)), so that the names of its new files survive a power cut."""
    if sys.platform == "win32":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def result_file(path: Path) -> Iterator[BinaryIO]:
    """Open an output file that the operator named. The file appears only if the ``with`` block ends without an error.

    Raises:
        UsageError: the folder does not exist or cannot be written.
    """
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        is_full = error.errno in _FULL
        remedy = "free space on the disk, or name another folder" if is_full else "name a file in another folder"
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error), remedy=remedy) from error


@contextmanager
def result_files(output: Path, companion: Path | None) -> Iterator[tuple[BinaryIO, BinaryIO | None]]:
    """Open one or two output files. No output file appears if the ``with`` block ends with an error.

    Args:
        output: the main file.
        companion: the second file, such as the manifest of an image; None if only one file is written.

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
    except BaseException:
        if companion and companion_written:
            companion.unlink(missing_ok=True)
        raise


def write_result(path: Path, data: bytes) -> None:
    """Write an output file that the operator named.

    An interrupted write leaves no incomplete file.

    Raises:
        UsageError: the folder does not exist or cannot be written.
    """
    with result_file(path) as file:
        file.write(data)


def check_new_file(path: Path, *, why: str = "owners may have signed it, so it is not overwritten") -> None:
    """Check, before the work starts, that a new proposal file or signature file can be written.

    Raises:
        UsageError: the file exists, or its folder does not exist or cannot be written.
    """
    if os.path.lexists(path) and path.is_dir():
        remedy = "name a file in it"
        raise UsageError(f"{path} cannot be written", why="it is a folder", remedy=remedy, action=Action.CHOOSE_OUTPUT)
    if os.path.lexists(path):
        remedy = "choose another file, or remove this file"
        raise UsageError(f"{path} already exists", why=why, remedy=remedy, action=Action.CHOOSE_OUTPUT)

    if not os.access(path.parent, os.W_OK):
        obstacle = "cannot be written" if os.path.lexists(path.parent) else "does not exist"
        raise UsageError(
            f"{path} cannot be written",
            why=f"its folder {obstacle}",
            remedy="name a file in another folder",
            action=Action.CHOOSE_OUTPUT,
        )


def make_folder(folder: Path) -> Path:
    """Create a folder and its parents if they do not exist, and return the folder.

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

    A device file is refused even with `force`, because the rename in `whole_file` would replace it by a regular file.

    Raises:
        UsageError: a file would be overwritten, a path is not a regular file, or both paths are the same.
    """
    if companion and companion.absolute() == output.absolute():
        raise UsageError("image and manifest cannot be one file", why=f"{output} is given for both")

    for path in (output, companion):
        if path is None or not os.path.lexists(path):
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
    """Return a path with a leading ``~`` replaced by the home folder.

    Raises:
        UsageError: the named user does not exist.
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
        UsageError: the file is missing, not a regular file, unreadable, or larger than `limit`.
    """
    with reading(path):
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a regular file", why="only regular files are read")
        with path.open("rb") as file:
            data = file.read(limit + 1)

    if len(data) > limit:
        raise UsageError(
            f"{path} is too large",
            why=f"files of more than {limit:,} bytes are not accepted here",
            remedy="check the path",
        )
    return data


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Translate errors of the operating system while a file that the operator named is read.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        yield
    except OSError as error:
        remedy = find_similar(path, remedy="check the path")
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error), remedy=remedy) from error


def find_similar(path: Path, *, remedy: str) -> str:
    """Add a similar file name to the remedy for a missing file, such as 1.4.0.json for 1.4.0."""
    try:
        names = [] if os.path.lexists(path) else sorted(other.name for other in path.parent.iterdir())
    except OSError:
        return remedy
    begun = sorted((name for name in names if name.startswith(f"{path.name}.")), key=len)  # .json before .pack
    similar = begun or get_close_matches(path.name, names, n=1, cutoff=0.8)
    return f"{remedy}; a similar file is {path.parent / similar[0]}" if similar else remedy


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Add a file's name to errors about its contents, because a command can read several files."""
    try:
        yield
    except (ImageError, ProposalError) as error:
        what = error.what if str(path) in error.what else f"{path} cannot be used, {error.what}"
        raise error.revised(what=what) from error
