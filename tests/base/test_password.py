"""Passwords from a file descriptor or a terminal; no error contains a password."""

from __future__ import annotations

import os
import pty
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
from tests.support.waiting import DEADLINE

Pipe = Callable[[bytes], int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Factory of descriptors from which the given bytes can be read."""
    opened: list[int] = []

    def make(content: bytes) -> int:
        reader, writer = os.pipe()
        with closing(os.fdopen(writer, "wb")) as file:
            file.write(content)
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
    """The password is the first line without its line ending."""
    assert read_password(pipe(content)) == password


def test_what_follows_the_line_stays(pipe: Pipe) -> None:
    """Two commands that share a descriptor read one line each."""
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
    """The error gives the reason and does not contain the input."""
    with pytest.raises(UsageError, match=why) as refused:
        read_password(pipe(content))
    printed = "".join(traceback.format_exception(refused.value))
    assert not any(piece in printed for piece in ("xxxx", "secret", "\\xff"))


def test_a_descriptor_that_is_not_open_is_reported(pipe: Pipe) -> None:
    """A descriptor that is closed or open only for writing is an error."""
    reader, writer = os.pipe()
    os.close(reader)
    for descriptor in (reader, writer, 999_999):
        with pytest.raises(
            UsageError, match=r"Bad file descriptor. Open it in the shell, as in --password-fd 3 3< FILE"
        ):
            read_password(descriptor)
    os.close(writer)
    assert read_password(pipe(b"still there")) == "still there"


def test_a_folder_is_reported(tmp_path: Path) -> None:
    """A descriptor of a folder is an error."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(UsageError, match="Is a directory"):
            read_password(descriptor)
    finally:
        os.close(descriptor)


@click.command()
@key_option("Whose")
def command(key: str, password_fd: int | None) -> None:
    """A command that prints its options."""
    click.echo(f"{key} {password_fd}")


def test_the_options_give_a_key_and_a_descriptor() -> None:
    """Without a descriptor the password is read from the terminal."""
    runner = CliRunner()
    assert runner.invoke(command, ["--key", "dev:1", "--password-fd", "3"]).output == "dev:1 3\n"
    assert runner.invoke(command, ["--key", "dev:1"]).output == "dev:1 None\n"
    assert runner.invoke(command, []).exit_code == 2


@pytest.mark.parametrize("typed", ["correct-horse", "-1", "3x", "", "9" * 40])
def test_a_password_in_the_place_of_the_descriptor_is_not_repeated(typed: str) -> None:
    """The error does not contain a password given in place of the descriptor."""
    refused = CliRunner().invoke(command, ["--key", "dev:1", f"--password-fd={typed}"])
    assert refused.exit_code == 2
    assert "what was typed is not shown" in " ".join(refused.output.split())
    assert not typed or typed not in refused.output


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_the_terminal_is_asked_without_echo() -> None:
    """The input is not echoed, and the prompt is not on stdout."""
    code = "from blockota.cli.keys import ask_password; print(len(ask_password('Password of a.json: ')))"
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
        asked = b""
        while b"Password of a.json: " not in asked:  # the trailing space is printed after the echo is off
            asked += os.read(ours, 1024)
        os.write(ours, b"correct horse\n")
        printed, _ = process.communicate(timeout=DEADLINE)
        os.set_blocking(ours, False)
        shown = asked + os.read(ours, 1024)
    assert (printed, b"horse" in shown) == ("13\n", False)


def test_a_missing_terminal_is_reported() -> None:
    """Without a terminal, as in CI, the error names the other ways to pass a password."""
    code = "from blockota.cli.keys import ask_password; ask_password('Password of a.json: ')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT, text=True, check=False
    )
    assert "Password of a.json. Give it through a file descriptor with --password-fd" in done.stderr
