"""Files that are whole or absent, and inputs that are read only where they make sense."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blockota.errors import UsageError
from blockota.files import home_path, read_input, whole_file, write_result


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    """While it is written nothing stands under its name; afterwards it stands there alone, readable by all."""
    path = tmp_path / "result"
    with whole_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert [found.name for found in tmp_path.iterdir()] == ["result"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever stops the writing, the file that stood there stays, and nothing else remains."""
    path = tmp_path / "result"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["result"]


def write_half(path: Path, error: type[BaseException]) -> None:
    """Write a file and be interrupted."""
    with whole_file(path) as file:
        file.write(b"half")
        raise error


def test_a_result_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A missing folder, a file in the folder's place and a folder in the file's place are named."""
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "missing" / "x", tmp_path / "file" / "x", tmp_path / "folder", Path("/proc/x")):
        with pytest.raises(UsageError, match=f"{path} cannot be written"):
            write_result(path, b"")


def test_an_input_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """The limit itself is allowed, a byte more is not."""
    path = tmp_path / "input"
    path.write_bytes(b"12345")
    assert read_input(path, limit=5) == b"12345"
    with pytest.raises(UsageError, match="is too large: files of more than 4 bytes"):
        read_input(path, limit=4)


def test_an_input_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a device, a pipe and a missing file are named; the pipe does not hold us up."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(UsageError, match=f"{path} is not a regular file"):
            read_input(path, limit=5)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_input(tmp_path / "missing", limit=5)


def test_a_tilde_stands_for_a_home() -> None:
    """The user's own is found, a stranger's is told."""
    assert home_path("~") == Path.home()
    with pytest.raises(UsageError, match="no home folder"):
        home_path("~nobody-of-that-name/x")
