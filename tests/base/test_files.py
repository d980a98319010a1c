"""Atomic writes of files, and reading of input files with a size limit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from blockota.errors import UsageError
from blockota.files import (
    check_new_file,
    home_path,
    read_input,
    refuse_overwriting,
    result_file,
    result_files,
    whole_file,
    write_durable,
    write_result,
)
from blockota.keys import account_of, create_keystore
from blockota.vendor.files import PACK_MARK, read_folder, refuse_to_replace
from blockota.vendor.queue import read_queue


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    """A file appears under its name only after it was completely written, and all users may read it."""
    path = tmp_path / "result"
    with whole_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert [found.name for found in tmp_path.iterdir()] == ["result"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    """An interrupted write keeps the old file and leaves no temporary file."""
    path = tmp_path / "result"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["result"]


def write_half(path: Path, error: type[BaseException]) -> None:
    """Write half of a file, then raise the error."""
    with whole_file(path) as file:
        file.write(b"half")
        raise error


def test_a_result_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """Writing into a missing folder, below a file, or over a folder fails with an error that names the path."""
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "missing" / "x", tmp_path / "file" / "x", tmp_path / "folder", Path("/proc/x")):
        with pytest.raises(UsageError, match=f"{path} cannot be written"):
            write_result(path, b"")


def test_a_name_that_the_system_refuses_is_a_usage_error(tmp_path: Path) -> None:
    """Each command reports a path with too long a name, instead of failing with an error of the operating system."""
    long = tmp_path / ("xy." * 100)
    check_new_file(long)  # the write reports this name
    refuse_overwriting(long, long.with_suffix(".json"), force=False)
    refuse_to_replace(long, PACK_MARK)
    assert read_queue(long) == {}
    for refused in (
        lambda: write_result(long, b""),
        lambda: check_new_file(long / "x"),
        lambda: read_input(long, limit=1),
        lambda: read_folder(long),
        lambda: create_keystore(long / "x", ask_password=str),
        lambda: account_of("xy." * 100, is_local_chain=True, ask_password=str),
    ):
        with pytest.raises(UsageError):
            refused()


def test_a_durable_file_has_durable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three flushes to the disk happen in order: the file, its name, and the names of the folders made for it."""
    flushed: list[os.stat_result] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle)))
    file = tmp_path / "new" / "inner" / "file"
    for folders in ([file.parent, file.parent.parent, tmp_path], [file.parent]):
        write_durable(file, b"whole", mode=0o600)
        assert [one.st_ino for one in flushed] == [path.stat().st_ino for path in (file, *folders)]
        flushed.clear()


def test_two_results_appear_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing the second of two result files is interrupted, both files are removed."""
    first, second = tmp_path / "first", tmp_path / "second"
    synced: list[int] = []

    def stop_at_second(handle: int) -> None:
        synced.append(handle)
        if len(synced) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop_at_second)
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117
        with result_files(first, second):
            pass
    assert len(synced) == 2
    assert not list(tmp_path.iterdir())


def test_an_input_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """An input file of the maximum size is read, and a file larger by one byte is refused."""
    path = tmp_path / "input"
    path.write_bytes(b"12345")
    assert read_input(path, limit=5) == b"12345"
    with pytest.raises(UsageError, match="is too large: files of more than 4 bytes"):
        read_input(path, limit=4)


def test_an_input_that_is_not_a_file_is_refused(tmp_path: Path) -> None:
    """A folder, device, pipe or missing file is refused as an input, and opening a pipe does not block."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(UsageError, match=f"{path} is not a regular file"):
            read_input(path, limit=5)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_input(tmp_path / "missing", limit=5)


def test_a_tilde_stands_for_a_home() -> None:
    """`~` expands to the user's home folder, and the home of an unknown user is an error."""
    assert home_path("~") == Path.home()
    with pytest.raises(UsageError, match="no user of that name"):
        home_path("~no-such-user/x")


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "Free space on the disk"), (errno.EACCES, "Name a file in another folder")]
)
def test_a_result_that_cannot_be_written_has_its_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    """For each cause, such as a full disk, the error for a file that cannot be written contains the fitting remedy."""
    with pytest.raises(UsageError, match=f"cannot be written: {os.strerror(number)}. {remedy}"):  # noqa: SIM117
        with result_file(tmp_path / "result"):
            raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())
