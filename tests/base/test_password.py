"""Passwords from a file descriptor or a terminal; no error message contains a password."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from blockota.cli.keys import key_option, read_password
from blockota.errors import UsageError
from tests.conftest import ROOT
from tests.support.descriptors import inherit
from tests.support.waiting import DEADLINE

Pipe = Callable[[bytes], int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Return a function that makes a file descriptor from which the given bytes can be read."""
    opened: list[int] = []

    def make(content: bytes) -> int:
        reader, writer = os.pipe()
        with closing(os.fdopen(writer, "wb")) as file:
            file.write(content)
        inherit(reader)
        opened.append(reader)
        return reader

    yield make
    for descriptor in opened:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"correct horse", "correct horse"),
        (b"correct horse\n", "correct horse"),
        (b"correct horse\r\n", "correct horse"),
        (b" spaces stay \nnext line", " spaces stay "),
        ("Pässwörter\n".encode(), "Pässwörter"),
        (b"x" * 1024 + b"\n", "x" * 1024),
        (b"x" * 1024, "x" * 1024),
    ],
    ids=["end", "newline", "windows", "spaces", "umlauts", "longest", "longest end"],
)
def test_the_first_line_is_the_password(content: bytes, password: str, pipe: Pipe) -> None:
    """The password is the first line read from the file descriptor, without its line ending."""
    assert read_password(pipe(content)) == password


def test_what_follows_the_line_stays(pipe: Pipe) -> None:
    """Reading a password leaves the following lines in the file descriptor for the next command."""
    descriptor = pipe(b"first\nsecond\nrest")
    assert [read_password(descriptor), read_password(descriptor), os.read(descriptor, 9)] == [
        "first",
        "second",
        b"rest",
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "its first line is empty"),
        (b"\nsecret-below", "its first line is empty"),
        (b"\r\n", "its first line is empty"),
        (b"x" * 1025, "longer than 1024 bytes"),
        (b"secret\xff\n", "is not UTF-8"),
    ],
    ids=["nothing", "empty line", "windows", "long", "bytes"],
)
def test_an_invalid_password_is_reported(content: bytes, why: str, pipe: Pipe) -> None:
    """An empty, overlong or non-UTF-8 password is refused, and the error does not contain the password."""
    with pytest.raises(UsageError, match=why) as refused:
        read_password(pipe(content))
    printed = "".join(traceback.format_exception(refused.value))
    assert not any(piece in printed for piece in ("xxxx", "secret", "\\xff"))


def test_a_descriptor_that_is_not_open_is_reported(pipe: Pipe) -> None:
    """A file descriptor that is closed or open only for writing is refused."""
    reader, writer = os.pipe()
    inherit(writer)
    os.close(reader)
    for descriptor in (reader, writer, 999_999):
        with pytest.raises(
            UsageError, match=r"Bad file descriptor. Open the descriptor in the shell, as in --password-fd 3 3< FILE"
        ):
            read_password(descriptor)
    os.close(writer)
    assert read_password(pipe(b"still there")) == "still there"


def test_a_descriptor_of_this_process_is_not_read() -> None:
    """A file descriptor that this process opened itself is refused, because a read from it may never end."""
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(UsageError, match="the caller did not open it"):
        read_password(reader)
    os.close(reader)


def test_a_folder_is_reported(tmp_path: Path) -> None:
    """A file descriptor of a folder is refused."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    inherit(descriptor)
    try:
        with pytest.raises(UsageError, match="Is a directory"):
            read_password(descriptor)
    finally:
        os.close(descriptor)


@click.command()
@key_option("Whose")
def command(key: str, password_fd: int | None) -> None:
    """Print the key URI and the number of the password's file descriptor."""
    click.echo(f"{key} {password_fd}")


def test_the_options_give_a_key_and_a_descriptor() -> None:
    """The option --key is required, and the option --password-fd is optional."""
    runner = CliRunner()
    assert runner.invoke(command, ["--key", "dev:1", "--password-fd", "3"]).output == "dev:1 3\n"
    assert runner.invoke(command, ["--key", "dev:1"]).output == "dev:1 None\n"
    assert runner.invoke(command, []).exit_code == 2


@pytest.mark.parametrize("typed", ["correct-horse", "-1", "3x", "", "9" * 40])
def test_a_password_in_the_place_of_the_descriptor_is_not_repeated(typed: str) -> None:
    """A password given in place of the file descriptor's number does not appear in the error."""
    refused = CliRunner().invoke(command, ["--key", "dev:1", f"--password-fd={typed}"])
    assert refused.exit_code == 2
    assert "the input is not shown" in " ".join(refused.output.split())
    assert not typed or typed not in refused.output


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal, and yield its two ends."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("is_new", "typed"),
    [
        (False, ["correct horse"]),
        (True, ["correct horse", "correct horse"]),
        (True, ["mistyped horse", "correct horse", "correct horse", "correct horse"]),
    ],
    ids=["once", "twice", "until both agree"],
)
def test_the_terminal_is_asked_without_echo(typed: list[str], *, is_new: bool) -> None:
    """A typed password is not echoed, a new password must be typed twice, and prompts do not appear on stdout."""
    asking = f"ask_password('Password of a.json: ', is_new={is_new})"
    code = f"from blockota.cli.keys import ask_password; print(len({asking}))"
    with terminal() as (ours, theirs):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            cwd=ROOT,
            text=True,
            start_new_session=True,
        )
        shown = b""
        for word in typed:
            asked = b""
            while not asked.endswith((b"a.json: ", b"confirmation: ")):  # the prompts are printed after the echo is off
                assert select.select([ours], [], [], DEADLINE)[0], shown + asked
                asked += os.read(ours, 1024)
            os.write(ours, word.encode() + b"\n")
            shown += asked
        printed, _ = process.communicate(timeout=DEADLINE)
        os.set_blocking(ours, False)
        shown += os.read(ours, 1024)
    assert (printed, b"horse" in shown) == ("13\n", False)


def test_a_missing_terminal_is_reported() -> None:
    """Without a terminal, the error names the option that passes a password by file descriptor."""
    code = "from blockota.cli.keys import ask_password; ask_password('Password of a.json: ')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT, text=True, check=False
    )
    assert "Password of a.json. Give the password through a file descriptor with --password-fd" in done.stderr
