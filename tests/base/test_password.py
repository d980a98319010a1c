"""Passwords by file descriptor or terminal: real pipes, real terminals, no password in a sentence."""

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

Pipe = Callable[[bytes], int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Makes a descriptor from which those bytes can be read, and then no more."""
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
    """Its end does not belong to it; everything else does."""
    assert read_password(pipe(content)) == password


def test_what_follows_the_line_stays(pipe: Pipe) -> None:
    """Two commands that share a descriptor read a line each."""
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
def test_what_is_no_password_is_told(content: bytes, why: str, pipe: Pipe) -> None:
    """The sentence says what is wrong with it, and nothing of what it is."""
    with pytest.raises(UsageError, match=why) as refused:
        read_password(pipe(content))
    printed = "".join(traceback.format_exception(refused.value))
    assert not any(piece in printed for piece in ("xxxx", "secret", "\\xff"))


def test_a_descriptor_that_is_not_open_is_told(pipe: Pipe) -> None:
    """The shell has to open it; so has one that is open for writing alone."""
    reader, writer = os.pipe()
    os.close(reader)
    for descriptor in (reader, writer, 999_999):
        with pytest.raises(
            UsageError, match=r"Bad file descriptor. Open it in the shell, as in --password-fd 3 3< FILE"
        ):
            read_password(descriptor)
    os.close(writer)
    assert read_password(pipe(b"still there")) == "still there"


def test_a_folder_is_told(tmp_path: Path) -> None:
    """A descriptor may be of anything."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(UsageError, match="Is a directory"):
            read_password(descriptor)
    finally:
        os.close(descriptor)


@click.command()
@key_option("Whose")
def command(key: str, password_fd: int | None) -> None:
    """Show what the options give."""
    click.echo(f"{key} {password_fd}")


def test_the_options_give_a_key_and_a_descriptor() -> None:
    """Without a descriptor the terminal is asked."""
    runner = CliRunner()
    assert runner.invoke(command, ["--key", "dev:1", "--password-fd", "3"]).output == "dev:1 3\n"
    assert runner.invoke(command, ["--key", "dev:1"]).output == "dev:1 None\n"
    assert runner.invoke(command, []).exit_code == 2


@pytest.mark.parametrize("typed", ["correct-horse", "-1", "3x", "", "9" * 40])
def test_a_password_in_the_place_of_the_descriptor_is_not_repeated(typed: str) -> None:
    """Logs of a CI keep what a command prints."""
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
    """What is typed does not appear, and nothing of the question is on standard output."""
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
        while b"Password of a.json: " not in asked:  # the space comes when the echo is off
            asked += os.read(ours, 1024)
        os.write(ours, b"correct horse\n")
        printed, _ = process.communicate(timeout=30)
        os.set_blocking(ours, False)
        shown = asked + os.read(ours, 1024)
    assert (printed, b"horse" in shown) == ("13\n", False)


def test_without_a_terminal_the_other_ways_are_told() -> None:
    """A CI has none."""
    code = "from blockota.cli.keys import ask_password; ask_password('Password of a.json: ')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT, text=True, check=False
    )
    assert "Password of a.json. Give it through a file descriptor with --password-fd" in done.stderr
