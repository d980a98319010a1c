"""Files that a command writes: none over another, and all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blockota.errors import UsageError
from blockota.files import write_result


def refuse_overwriting(output: Path, beside: Path | None, *, force: bool) -> None:
    """Refuse names under which something lies already, unless the person says so, and one name for two files.

    Raises:
        UsageError: a file would be lost.
    """
    if beside and beside.absolute() == output.absolute():
        raise UsageError("image and manifest cannot be one file", why=f"both are to be {output}")
    for path in (output, beside):
        if path and path.exists() and not force:
            raise UsageError(
                f"{path} is there already",
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
